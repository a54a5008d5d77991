"""One bad record is one bad record, whatever is wrong with it, and nothing is lost in silence."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import upshot
from upshot.errors import FormatError
from upshot.io.json_text import Bad, read_values
from upshot.io.streams import Limits, Stream
from upshot.lake import Lake
from upshot.records import BadRecord, RawConversation
from upshot.sources.detection import complete
from upshot.sources.notes import collect_notes
from upshot.sources.reading import read


def chat(name: str = "c1", *texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {
        "id": name,
        "user": "wendy",
        "messages": [
            {"role": roles[i % 2], "content": text}
            for i, text in enumerate(texts or ("how?", "thus."))
        ],
    }


def values(data: bytes, block: int = 7, **limits: int) -> list[tuple[str, Any]]:
    parts = [data[i : i + block] for i in range(0, len(data), block)]
    return list(read_values(Stream(iter(parts)), Limits(**limits)))


GOOD = json.dumps(chat("good", "a question", "an answer")).encode()

BROKEN_LINES = {
    "cut": b'{"id": "x", "messages": [{"role": "user", "con',
    "open": b'{"id": "x", "messages": [',
    "nan": b'{"id": "x", "messages": [], "score": NaN}',
    "infinity": b'{"id": "x", "messages": [], "score": -Infinity}',
    "deep": b'{"a":' * 30_000,
    "digits": b'{"id": "x", "n": ' + b"9" * 5000 + b"}",
    "latin": b'{"id": "caf\xe9", "messages": []}',
    "no messages": b'{"id": "x", "messages": []}',
    "a number": b"17",
    "a number of calls": b'{"messages": 5}',
}


@pytest.mark.parametrize("line", BROKEN_LINES.values(), ids=BROKEN_LINES)
def test_a_broken_line_is_one_bad_record_and_its_neighbours_are_read(
    line: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([GOOD, line, GOOD.replace(b"good", b"also"), b""]))
    items = list(read(path))
    assert [item.id for item in items if isinstance(item, RawConversation)] == ["good", "also"]
    (bad,) = [item for item in items if isinstance(item, BadRecord)]
    assert bad.position == "line 2"
    assert bad.reason
    assert "question" not in bad.reason


def test_bad_records_are_in_quarantine_once_however_often_the_file_is_ingested(
    tmp_path: Path,
) -> None:
    path, lake = tmp_path / "log.jsonl", tmp_path / "lake"
    path.write_bytes(b"\n".join([GOOD, *BROKEN_LINES.values()]))
    for _ in range(2):
        report = upshot.ingest(path, lake)
        assert report.quarantined == len(BROKEN_LINES)
    assert Lake(lake).read("quarantine").num_rows == len(BROKEN_LINES)
    assert Lake(lake).read("conversations").num_rows == 1


SPELLINGS = {
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "utf-16": GOOD.decode().encode("utf-16"),
    "utf-32": GOOD.decode().encode("utf-32"),
    "pretty": json.dumps(json.loads(GOOD), indent=2).encode(),
    "an array": b"[" + GOOD + b"]",
    "an array a line": b"[" + GOOD + b"]\n[" + GOOD.replace(b"good", b"also") + b"]\n",
    "an array, then a line": b"[\n" + GOOD + b"\n]\n" + GOOD.replace(b"good", b"also"),
    "windows": GOOD + b"\r\n\r\n" + GOOD.replace(b"good", b"also") + b"\r\n",
    "pretty, one after another": b"\n".join(
        json.dumps(json.loads(GOOD.replace(b"good", name)), indent=1).encode()
        for name in (b"good", b"also")
    ),
}


@pytest.mark.parametrize("data", SPELLINGS.values(), ids=SPELLINGS)
def test_values_are_read_however_they_stand_in_a_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    names = [item.id for item in read(path) if isinstance(item, RawConversation)]
    assert names in (["good"], ["good", "also"])
    assert len(names) == max(data.count(b"an answer"), 1)


def test_a_lone_surrogate_becomes_a_replacement_character(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"messages": [{"role": "user", "content": "so \\ud83d sad"}]}')
    (item,) = read(path)
    assert isinstance(item, RawConversation)
    assert item.messages[0].content == "so \ufffd sad"


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=4), inner, max_size=3)
            ),
            max_leaves=6,
        ).filter(lambda value: isinstance(value, dict)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([None, 1, 2]),
    st.integers(3, 60),
)
def test_values_come_back_whatever_their_layout(
    items: list[Any], indent: int | None, block: int
) -> None:
    lines = "\n".join(json.dumps(item, indent=indent) for item in items).encode()
    array = json.dumps(items, indent=indent).encode()
    assert [value for _, value in values(lines, block)] == items
    assert [value for _, value in values(array, block)] == items


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.integers(1, 40))
def test_any_bytes_are_read_without_an_error(data: bytes, block: int) -> None:
    for _, value in values(b"{" + data, block):
        assert value is None or isinstance(value, (Bad, dict, list, str, int, float, bool))


def test_time_is_linear_in_a_file_of_broken_lines() -> None:
    line = b'{"a": [1, {"b": "unfinished'
    seconds = []
    for count in (2_000, 16_000):
        before = time.process_time()
        assert len(values(b"\n".join([line] * count), 1 << 20)) == count
        seconds.append(time.process_time() - before)
    assert seconds[1] < 30 * max(seconds[0], 0.01)  # eight times the lines; squared: 64


def test_what_was_whole_in_a_cut_archive_is_kept(tmp_path: Path) -> None:
    lines = b"\n".join(
        json.dumps(chat(f"c{n}", f"question {n}", "x" * 50)).encode() for n in range(3000)
    )
    for name, data in (
        ("a.gz", gzip.compress(lines)),
        ("a.zst", zstandard.ZstdCompressor().compress(lines)),
    ):
        path = tmp_path / name
        path.write_bytes(data[: len(data) * 2 // 3])
        items = list(read(path))
        good = [item for item in items if isinstance(item, RawConversation)]
        assert len(good) > 1000, name
        assert isinstance(items[-1], BadRecord), name


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(GOOD + b"\n" + b" " * 30_000_000))
    items = list(read(path, limits=Limits(decompressed_mb=5)))
    assert isinstance(items[0], RawConversation)
    assert isinstance(items[-1], BadRecord)
    assert "more than 5 MB" in items[-1].reason


def test_a_line_over_the_limit_is_one_bad_record() -> None:
    data = GOOD + b'\n{"x": "' + b"y" * 3_000_000 + b'"}\n' + GOOD
    kinds = [type(value).__name__ for _, value in values(data, 1 << 16, line_mb=1)]
    assert kinds == ["dict", "Bad", "dict"]


def zip_of(files: dict[str, bytes]) -> bytes:
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return room.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    room = io.BytesIO()
    with tarfile.open(fileobj=room, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return room.getvalue()


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_archives_are_read_with_what_lies_beside_a_file(pack: Any, tmp_path: Path) -> None:
    node = {
        "id": "m",
        "parent": None,
        "children": [],
        "message": {
            "id": "m",
            "author": {"role": "assistant"},
            "content": {"content_type": "text", "parts": ["Hello."]},
        },
    }
    export = {
        "out/conversations.json": json.dumps([{"id": "k", "mapping": {"m": node}}]).encode(),
        "out/user.json": b'{"id": "account-7"}',
        "out/message_feedback.json": json.dumps(
            [{"id": "m", "conversation_id": "k", "rating": "thumbs_down"}]
        ).encode(),
        "out/chat.html": b"<html></html>",
    }
    (tmp_path / "export").write_bytes(pack(export))
    items = list(read(tmp_path / "export"))
    (item,) = items
    assert isinstance(item, RawConversation)
    assert item.user == "account-7"
    assert [(s.kind, s.value) for s in item.messages[0].signals] == [("thumb", -1.0)]


def test_an_unknown_file_is_refused_with_its_fields_and_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "inhouse.jsonl"
    path.write_text('{"dialog_log": [{"who": "client", "words": "hi"}], "customer": {"id": 4}}')
    with pytest.raises(FormatError) as error:
        list(read(path))
    assert "`dialog_log`" in str(error.value)
    assert "--map messages=dialog_log[*],role=who" in str(error.value)


def test_a_recognised_file_without_a_conversation_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    path.write_text('[{"uuid": "k", "chat_messages": []}]')
    with pytest.raises(FormatError, match="claude-export, but holds no conversation"):
        list(read(path))


def test_what_is_passed_over_is_counted_by_kind(tmp_path: Path) -> None:
    export = [
        {"uuid": "k", "chat_messages": []},
        {"uuid": "m", "chat_messages": [{"uuid": "1", "sender": "human", "text": "hi"}]},
    ]
    (tmp_path / "conversations.json").write_text(json.dumps(export))
    with collect_notes() as notes:
        assert len(list(read(tmp_path / "conversations.json"))) == 1
    assert notes.skipped == {"claude-export: a conversation without a message": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "b": {"c": [1, 2', {"a": 1, "b": {"c": [1]}}),
        ('[{"a": "x"}, {"b": "cut in the m', [{"a": "x"}, {}]),
        ('{"a": "x", "k', {"a": "x"}),
    ],
)
def test_a_cut_value_is_completed_for_detection(text: str, expected: Any) -> None:
    assert json.loads(complete(text)) == expected


def test_one_long_object_is_recognised_by_its_beginning(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "x" * 1000}, {"role": "assistant", "content": "y"}] * 1500
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"id": "long", "messages": turns}, indent=1))
    (item,) = read(path)
    assert isinstance(item, RawConversation)
    assert len(item.messages) == 3000
