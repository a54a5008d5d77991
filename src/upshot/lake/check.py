"""Is a lake whole? Its logs, its files, and the messages of each conversation."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

import msgspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from upshot.errors import LakeError
from upshot.lake.checksums import TABLE as CHECKSUMS
from upshot.lake.checksums import checksum_of
from upshot.lake.tables import Lake
from upshot.records import SCHEMAS


class Damage(msgspec.Struct, frozen=True):
    """One thing that is not whole."""

    table: str
    place: str
    """The file below the lake's folder, or the id of a conversation."""
    problem: str
    lost: str = ""
    """After a repair: what is gone; empty: nothing is."""


class LakeCheck(msgspec.Struct, frozen=True):
    """What a check looked at, and what is damaged."""

    lake: str
    tables: int
    files: int
    mb: float
    checksums: int
    """Files that were compared with a checksum; the others were decoded."""
    damages: list[Damage]
    is_repaired: bool = False
    """What is whole was restored; `lost` says what is gone."""


class TableFiles(NamedTuple):
    """What the log of a table says, as far as it can be read."""

    live: dict[str, None]
    """Paths of files whose rows count."""
    removed: set[str]
    version: int
    damages: list[Damage]


def has_tables(lake: Lake) -> bool:
    """Whether there is a lake, damaged or not."""
    filesystem, root = lake.open_filesystem()
    infos = filesystem.get_file_info(pyarrow.fs.FileSelector(root, allow_not_found=True))
    return any(info.base_name in SCHEMAS for info in infos)


def check_lake(lake: Lake) -> LakeCheck:
    """Look at every log and every file of a lake, and count the messages of each conversation.

    Raises:
        LakeError: it is not there any more, or another process changed it meanwhile.
    """
    with lake.pinned():
        return _check(lake)


def _check(lake: Lake) -> LakeCheck:
    damages: list[Damage] = []
    checksums, versions, unreadable = read_checksums(lake)
    damages += unreadable
    tables = files = compared = size = 0
    for table in SCHEMAS:
        content = read_log(lake, table)
        damages += content.damages
        if content.version < versions.get(table, -1) and not content.damages:
            damages.append(Damage(table, f"{table}/_delta_log", "its last entries are missing"))
        tables += content.version >= 0
        for path in content.live:
            files += 1
            problem, read = examine_file(lake, table, path, checksums.get((table, path)))
            size += read
            compared += (table, path) in checksums
            if problem:
                damages.append(Damage(table, f"{table}/{path}", problem))
    if not {"conversations", "messages"} & {damage.table for damage in damages}:
        damages += find_short_conversations(lake)
    return LakeCheck(lake.root, tables, files, round(size / 1e6, 3), compared, damages)


def read_checksums(
    lake: Lake,
) -> tuple[dict[tuple[str, str], bytes], dict[str, int], list[Damage]]:
    """Checksums by table and path, and the version that each table had reached."""
    try:
        rows = lake.read(CHECKSUMS, 0).to_pylist() if lake.exists(CHECKSUMS) else []
    except LakeError as error:
        return {}, {}, [Damage(CHECKSUMS, CHECKSUMS, str(error))]
    checksums = {(row["table"], row["path"]): row["checksum"] for row in rows}
    versions: dict[str, int] = {}
    for row in rows:
        versions[row["table"]] = max(row["version"], versions.get(row["table"], -1))
    return checksums, versions, []


def read_log(lake: Lake, table: str) -> TableFiles:
    """Replay the log of a table, passing over what cannot be read."""
    filesystem, root = lake.open_filesystem()
    log = f"{root}/{table}/_delta_log".removeprefix("/" if not root else "")
    selector = pyarrow.fs.FileSelector(log, allow_not_found=True)
    infos = {info.base_name: info for info in filesystem.get_file_info(selector)}
    names = sorted(name for name in infos if name.endswith(".json") and name[:20].isdigit())
    points = sorted(name for name in infos if name.endswith(".checkpoint.parquet"))
    result = TableFiles({}, set(), -1, [])
    if not names and not points:
        is_there = (
            filesystem.get_file_info(log.rpartition("/")[0]).type != pyarrow.fs.FileType.NotFound
        )
        problem = [Damage(table, f"{table}/_delta_log", "it has no entry")] if is_there else []
        return result._replace(damages=problem)
    start = -1
    for name in reversed(points):
        with filesystem.open_input_file(f"{log}/{name}") as handle:
            actions = _read_checkpoint(handle.read())
        if actions is not None:
            _replay(result, actions)
            start = int(name[:20])
            break
        result.damages.append(Damage(table, f"{table}/_delta_log/{name}", "it cannot be read"))
    entries = {int(name[:20]): name for name in names}
    last = max([start, *entries])
    for version in range(start + 1, last + 1):
        place = f"{table}/_delta_log/{version:020d}.json"
        if version not in entries:
            result.damages.append(Damage(table, place, "it is missing"))
            continue
        with filesystem.open_input_file(f"{log}/{entries[version]}") as handle:
            actions = _read_entry(handle.read())
        if actions is None:
            result.damages.append(Damage(table, place, "it is cut off or changed"))
        else:
            _replay(result, actions)
    return result._replace(version=last)


def _read_entry(content: bytes) -> list[dict[str, Any]] | None:
    """The actions of a commit; None: it is not whole."""
    try:
        actions = [json.loads(line) for line in content.splitlines() if line.strip()]
    except (UnicodeDecodeError, ValueError):
        return None
    return actions if any("commitInfo" in action for action in actions) else None


def _read_checkpoint(content: bytes) -> list[dict[str, Any]] | None:
    try:
        rows = cast(Any, pq).read_table(io.BytesIO(content), columns=["add"])
    except (pa.ArrowException, OSError):
        return None
    return [{"add": add} for add in rows["add"].to_pylist() if add and add.get("path")]


def _replay(result: TableFiles, actions: list[dict[str, Any]]) -> None:
    for action in actions:
        if removed := action.get("remove"):
            path = unquote(removed["path"])
            result.live.pop(path, None)
            result.removed.add(path)
        if added := action.get("add"):
            path = unquote(added["path"])
            result.live[path] = None
            result.removed.discard(path)


def examine_file(lake: Lake, table: str, path: str, checksum: bytes | None) -> tuple[str, int]:
    """What is wrong with a file (empty: nothing), and how many bytes were read."""
    filesystem, root = lake.open_filesystem()
    place = f"{root}/{table}/{path}".removeprefix("/" if not root else "")
    info = filesystem.get_file_info(place)
    if info.type == pyarrow.fs.FileType.NotFound:
        return "it is missing", 0
    if checksum is not None:
        return (
            "" if checksum_of(Path(place)) == checksum else "bytes of it have changed"
        ), info.size
    try:
        with filesystem.open_input_file(place) as handle:
            cast(Any, pq).read_table(handle).validate(full=True)
    except (pa.ArrowException, OSError) as error:
        return f"it cannot be read: {str(error).splitlines()[0]}", info.size
    return "", info.size


def find_short_conversations(lake: Lake) -> list[Damage]:
    """Conversations of which the lake has not as many messages as they had."""
    damages: list[Damage] = []
    for bucket in range(lake.buckets):
        present = lake.read("conversations", bucket, ["id", "digest", "messages"])
        counts = count_messages(lake.read_all_versions("messages", bucket, ["digest", "index"]))
        for row in present.to_pylist():
            if counts[row["digest"]] != row["messages"]:
                problem = name_shortness(counts[row["digest"]], row["messages"])
                damages.append(Damage("messages", row["id"], problem))
    return damages


def count_messages(messages: pa.Table) -> Counter[str]:
    """Messages by the digest of their conversation, each once."""
    places = zip(messages["digest"].to_pylist(), messages["index"].to_pylist(), strict=True)
    return Counter(str(digest) for digest, _ in set(places))


def name_shortness(count: int, wanted: int) -> str:
    """In words.

    >>> name_shortness(1, 3)
    '1 of its 3 messages are in the lake'
    """
    return f"{count} of its {wanted} messages are in the lake"
