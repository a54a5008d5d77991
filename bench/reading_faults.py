"""Broken input for the readers: mutated files, and files of which one line is damaged; a part of
`reading.py`.

A mutated file must bring no traceback, end in time, and be read or told. Of a file with one damaged
line everything must be there that its other lines hold, and what the line held must be there or its
loss be told.
"""

from __future__ import annotations

import random
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType

from upshot.errors import UpshotError
from upshot.records import RawConversation
from upshot.sources.notes import collect_notes
from upshot.sources.reading import read

LIMIT = 5
"""Seconds for one mutated file of a few kilobytes."""
LINED = (".jsonl", ".csv")
"""Endings of files of which every line is a record."""
LINES = 8
"""Damaged lines tried per file, for each hundred mutations of it."""


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A file with one to three faults of kinds that real files have."""
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(max(1, len(data)))
        kind = rng.randrange(9)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
        elif kind == 2:
            data = data[:place] + data[place + rng.randrange(1, 200) :]
        elif kind == 3:
            end = place + rng.randrange(1, 400)
            data = data[:end] + data[place:end] + data[end:]
        elif kind == 4:
            data = rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"[", b"warning: x\n", b"\0"]) + data
        else:
            data = replace_value(data, rng)
    return data


_VALUE = re.compile(rb':\s*("(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null)')
ODD = [
    b"null",
    b"5",
    b"-1",
    b'""',
    b"[]",
    b"{}",
    b"true",
    b"[null]",
    b"1e999",
    b"NaN",
    b'"\\ud800"',
    b"9" * 400,
    b'{"a": {"b": []}}',
    b"[[[[]]]]",
    b'"x"',
    b"0.5",
]
"""Values of other types."""


def replace_value(data: bytes, rng: random.Random) -> bytes:
    """A value of the file becomes one of another type."""
    values = list(_VALUE.finditer(data))
    if not values:
        return data
    match = rng.choice(values)
    return data[: match.start(1)] + rng.choice(ODD) + data[match.end(1) :]


class Hang(BaseException):
    """It takes too long; no reader may catch it."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise Hang


def find_fault(path: Path) -> tuple[str, str] | None:
    """(kind, reason) of what goes wrong in reading a file; None where nothing does."""
    signal.alarm(LIMIT)
    try:
        with collect_notes() as notes:
            items = list(read([path]))
        return None if items or notes.skipped else ("silent", "")
    except UpshotError:
        return None
    except Hang:
        return "hang", ""
    except Exception as error:  # noqa: BLE001  # that is what is counted
        return "traceback", f"{error!r:.120}"
    finally:
        signal.alarm(0)


def is_read_or_refused(path: Path) -> bool:
    """Whether a broken file is read or refused in words, in time."""
    signal.signal(signal.SIGALRM, _stop)
    return find_fault(path) is None


def try_mutations(path: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """(kind, what) of what went wrong in mutations of a file."""
    signal.signal(signal.SIGALRM, _stop)
    rng = random.Random(f"{seed}/{path.name}")
    data = path.read_bytes()
    out: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as room:
        for number in range(count):
            target = Path(room, f"{number}{path.suffix}")
            target.write_bytes(mutate(data, rng))
            if (fault := find_fault(target)) is not None:
                out.append((fault[0], f"{path.name} {number} {fault[1]}"))
            target.unlink()
    return out


def _contents(path: Path) -> tuple[Counter[str], Counter[str]] | None:
    """The texts of a file's messages, and what was told of it; None where it is refused."""
    with collect_notes() as notes:
        try:
            items = list(read([path]))
        except UpshotError:
            return None
    texts: Counter[str] = Counter()
    for item in items:
        if isinstance(item, RawConversation):
            own = item.messages[item.branch_at if item.branch_of else 0 :]
            texts.update(message.content.strip() for message in own)
    bad = sum(not isinstance(item, RawConversation) for item in items)
    return texts, Counter({"bad": bad, **notes.skipped, **notes.notes})


def _damage(line: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(1, len(line) + 1)
    kind = rng.randrange(4)
    if kind < 2:
        return line[:place]
    if kind == 2:
        return line[: place - 1] + bytes([rng.randrange(32, 127)]) + line[place:]
    return replace_value(line, rng)


def try_lines(path: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """(kind, what) of losses where one line of a file is damaged."""
    rng = random.Random(f"{seed}/{path.name}")
    lines = path.read_bytes().split(b"\n")
    body = [number for number, line in enumerate(lines) if line.strip()]
    out: list[tuple[str, str]] = []
    if path.suffix not in LINED or len(body) < 3:
        return out
    with tempfile.TemporaryDirectory() as room:
        target = Path(room, f"x{path.suffix}")
        for _ in range(count):
            place = rng.choice(body)
            versions: list[tuple[Counter[str], Counter[str]] | None] = []
            for own in ([lines[place]], [], [_damage(lines[place], rng)]):
                target.write_bytes(b"\n".join([*lines[:place], *own, *lines[place + 1 :]]))
                versions.append(_contents(target))
            whole, without, damaged = versions
            if whole is None or without is None:
                continue
            if damaged is None:
                out.append(("lost", f"{path.name} line {place + 1}: all is refused"))
            elif missing := (without[0] & whole[0]) - damaged[0]:
                out.append(("lost", f"{path.name} line {place + 1}: {len(missing)} of others"))
            elif damaged[0].total() < whole[0].total() and not damaged[1] - without[1]:
                out.append(("lost", f"{path.name} line {place + 1}: not told"))
    return out


def fuzz(files: Sequence[Path], inputs: int, seed: int) -> dict[str, float]:
    """Mutations of many files, shared out over two processes."""
    each = max(1, inputs // max(1, len(files)))
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(partial(try_mutations, count=each, seed=seed), files))
        count = max(1, each * LINES // 100)
        results += list(pool.map(partial(try_lines, count=count, seed=seed), files))
    faults = [fault for result in results for fault in result]
    for kind, what in faults[:20]:
        print(kind, what, file=sys.stderr)
    kinds = Counter(kind for kind, _ in faults)
    return {
        "fuzz.inputs": float(each * len(files)),
        **{f"fuzz.{kind}": float(kinds[kind]) for kind in ("traceback", "hang", "silent", "lost")},
    }
