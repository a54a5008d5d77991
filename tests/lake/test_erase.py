"""No byte of an erased user is left, whoever writes beside and whatever is killed; others lose
nothing.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import upshot
from upshot.api.opening import exported
from upshot.errors import ConfigError, ErasureError, InputError, NotFoundError
from upshot.lake import Lake, write_mark
from upshot.lake.traces import Traces, cut_text, unfold
from upshot.privacy import Pseudonyms
from upshot.records import SCHEMAS, CleanTable, RawConversation

SECRET = "the purple giraffe sleeps in Lisbon"


def pseudonym_of(name: str, lake: Path) -> str:
    return Pseudonyms(lake.with_name(f"{lake.name}.key").read_text().strip()).user(name)


def write_log(path: Path, users: list[str], sessions: int = 1) -> Path:
    """Sessions of some users, each with a reaction."""
    with open(path, "w") as file:
        for user in users:
            for number in range(sessions):
                turns = [
                    {"role": "user", "content": f"{user} asks {number} in {path.stem}"},
                    {"role": "assistant", "content": f"answer {number}"},
                    {"role": "user", "content": "thanks, that worked"},
                ]
                name = f"{path.stem}-{user}-{number}"
                file.write(json.dumps({"id": name, "user": user, "messages": turns}) + "\n")
    return path


def test_erasure_leaves_no_byte_of_the_user_in_any_file(two_users: tuple[Path, Path]) -> None:
    log, lake = two_users
    settings = upshot.load(lake={"buckets": 1})
    upshot.run(log, lake, settings)
    upshot.ingest(log, lake, settings)
    pseudonym = Pseudonyms((lake.parent / "lake.key").read_text().strip()).user("ana")
    proof = upshot.erase("ana", lake, settings)
    assert proof.rows["messages"] == 3
    assert proof.files_scanned > 0
    import pyarrow.parquet as pq

    for path in lake.rglob("*"):
        if path.is_file():
            view = path.read_bytes()
            if path.suffix == ".parquet":
                view += str(pq.read_table(path).to_pylist()).encode()
            for trace in (b"giraffe", b"chat-ana-1", pseudonym.encode()):
                assert trace not in view, path
    store = Lake(lake)
    assert store.read("messages").num_rows == 3
    assert len(list(upshot.verdicts(lake))) == 1
    upshot.run(log.parent / "log.jsonl", lake, settings)


def test_others_keep_what_they_wrote_alike_when_a_user_is_erased(tmp_path: Path) -> None:
    same = "this very sentence was written by everybody here"
    turns = [{"role": "user", "content": same}, {"role": "assistant", "content": f"noted: {same}"}]
    rows = [{"id": f"session-{n}", "user": f"user {n}", "messages": turns} for n in range(1, 40)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lake = tmp_path / "lake"
    upshot.run(tmp_path / "log.jsonl", lake)
    assert upshot.erase("user 3", lake).rows["messages"] == 2
    assert Lake(lake).read("messages").num_rows == 2 * 38, (
        "session-30 to session-39 begin like session-3, and are others'"
    )


def test_a_name_that_is_left_between_other_bytes_is_found(two_users: tuple[Path, Path]) -> None:
    log, lake = two_users
    upshot.run(log, lake)
    pseudonym = Pseudonyms((lake.parent / "lake.key").read_text().strip()).user("ana")
    (lake / "left.bin").write_bytes(b"x" + pseudonym.encode() + b"y")
    with pytest.raises(ErasureError, match=r"left\.bin"):
        upshot.erase("ana", lake)


@pytest.fixture
def lake_of_two(two_users: tuple[Path, Path]) -> Path:
    log, lake = two_users
    upshot.run(log, lake, upshot.load(lake={"buckets": 2}))
    return lake


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        json.dumps({"x": SECRET.replace(" ", "\n", 0) + '"'}).encode(),
        SECRET.replace("r", r"\u0072").encode(),
        SECRET.replace("r", r"\\u0072").encode(),
        gzip.compress(f"a {SECRET} b".encode()),
        zstandard.compress(SECRET.encode()),
        gzip.compress(zstandard.compress(SECRET.replace("r", r"\u0072").encode())),
    ],
    ids=["plain", "json", "escaped", "escaped twice", "gzip", "zstd", "all"],
)
def test_a_text_that_is_left_in_any_dress_fails_the_proof(
    lake_of_two: Path, content: bytes
) -> None:
    (lake_of_two / "left.bin").write_bytes(content)
    with pytest.raises(ErasureError, match=r"left\.bin"):
        upshot.erase("ana", lake_of_two)


@pytest.mark.parametrize("name", ["ana", " ANA", "pseudonym"])
def test_a_user_column_of_any_parquet_file_in_the_folder_is_searched(
    lake_of_two: Path, name: str
) -> None:
    owner = pseudonym_of("ana", lake_of_two) if name == "pseudonym" else name
    (lake_of_two / "copies").mkdir()
    copy = lake_of_two / "copies" / "rows.parquet"
    pq.write_table(pa.table({"user": ["ben", owner], "n": [1, 2]}), copy)
    with pytest.raises(ErasureError, match=r"rows\.parquet"):
        upshot.erase("ana", lake_of_two)
    copy.unlink()
    assert upshot.erase("ana", lake_of_two).files_scanned, "the same call finishes it"


def test_the_scan_takes_thousands_of_texts(tmp_path: Path) -> None:
    turns = [
        {"role": "user" if n % 2 == 0 else "assistant", "content": f"a long remark of number {n}."}
        for n in range(5000)
    ]
    log, lake = tmp_path / "log.jsonl", tmp_path / "lake"
    log.write_text(json.dumps({"id": "c1", "user": "ana", "messages": turns}))
    upshot.ingest(log, lake)
    (lake / "left.txt").write_text("see: a long remark of number 4998.")
    with pytest.raises(ErasureError, match=r"left\.txt"):
        upshot.erase("ana", lake)
    (lake / "left.txt").unlink()


def test_who_has_a_row_in_any_table_can_be_erased(tmp_path: Path) -> None:
    log, lake = write_log(tmp_path / "log.jsonl", ["ben"]), tmp_path / "lake"
    upshot.ingest(log, lake)
    for table in ("messages", "events", "threads", "verdicts", "replies", "quarantine"):
        user = pseudonym_of(f"stray in {table}", lake)
        row = {
            field.name: user if field.name == "user" else 3 if field.name == "bucket" else None
            for field in SCHEMAS[table]
        }
        rows = CleanTable(pa.Table.from_pylist([row], schema=SCHEMAS[table]))
        Lake(lake).append(table, rows, (f"stray/{table}", 1))
        assert upshot.erase(f"stray in {table}", lake).rows[table] == 1
    assert Lake(lake).read("messages").num_rows == 3


def test_only_where_nothing_at_all_is_left_is_there_nobody_to_erase(lake_of_two: Path) -> None:
    with pytest.raises(NotFoundError, match="holds nothing of that user"):
        upshot.erase("carl", lake_of_two)
    (lake_of_two / "notes.txt").write_text(f"of {pseudonym_of('carl', lake_of_two)}")
    with pytest.raises(ErasureError, match=r"notes\.txt"):
        upshot.erase("carl", lake_of_two)


def test_later_runs_leave_the_erased_out_until_they_are_allowed_again(
    two_users: tuple[Path, Path], lake_of_two: Path
) -> None:
    log, lake = two_users
    upshot.erase("ana", lake)
    report = upshot.ingest(log, lake)
    assert (report.conversations, report.known, report.erased) == (0, 1, 1)
    assert upshot.erase("ana", lake).rows["conversations"] == 0, "it can be repeated"
    assert upshot.erase("Ana", lake, allow_again=True).is_allowed_again
    assert upshot.ingest(log, lake).conversations == 1
    upshot.judge(lake=lake)
    assert upshot.erase("ana", lake).rows["messages"] == 3
    upshot.erase("ana", lake, allow_again=True)
    with pytest.raises(NotFoundError, match="nobody of that name was erased"):
        upshot.erase("ana", lake, allow_again=True)


def test_a_writer_that_began_before_the_erasure_writes_no_row_of_the_user(
    lake_of_two: Path,
) -> None:
    store, user = Lake(lake_of_two), pseudonym_of("ana", lake_of_two)
    messages = store.read("messages")
    upshot.erase("ana", lake_of_two)
    store.append("messages", messages, ("late", 1))
    users = Lake(lake_of_two).read_all_versions("messages", None, ["user"])["user"].to_pylist()
    assert user not in users
    assert len(users) == 6


def test_an_erasure_waits_for_who_reads(lake_of_two: Path) -> None:
    store, order = Lake(lake_of_two), list[str]()

    def erase() -> None:
        upshot.erase("ana", lake_of_two)
        order.append("erased")

    with store.pinned():
        before = store.read("messages").num_rows
        thread = threading.Thread(target=erase)
        thread.start()
        thread.join(0.5)
        order.append("read")
        assert store.read_all_versions("messages", None).num_rows == before
    thread.join()
    assert order == ["read", "erased"]


def test_what_an_erased_user_said_to_another_is_blanked(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "name": "ben", "content": "is it raining where you are just now?"},
        {"role": "user", "name": "ana", "content": SECRET},
        {"role": "assistant", "content": "I see"},
    ]
    log, lake = tmp_path / "log.jsonl", tmp_path / "lake"
    log.write_text(json.dumps({"id": "c1", "user": "ben", "messages": turns}))
    upshot.ingest(log, lake)
    upshot.erase("ana", lake)
    texts = map(str, Lake(lake).read("messages")["text"].to_pylist())
    assert sorted(texts) == ["I see", "[ERASED]", "is it raining where you are just now?"]


def test_exports_that_hold_the_user_are_named_as_long_as_they_are_there(tmp_path: Path) -> None:
    log, lake = write_log(tmp_path / "log.jsonl", ["ana", "ben"], 2), tmp_path / "lake"
    upshot.run(log, lake)
    upshot.export_pairs(lake, tmp_path / "all.jsonl", "examples", test_share=0.0)
    assert upshot.erase("ana", lake).exports == [str(tmp_path / "all.jsonl")]
    assert upshot.erase("ana", lake).exports == [str(tmp_path / "all.jsonl")]
    upshot.export_pairs(lake, tmp_path / "all.jsonl", "examples", test_share=0.0)
    assert upshot.erase("ana", lake).exports == []


def test_users_whose_names_look_like_pseudonyms(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    upshot.ingest(write_log(tmp_path / "a.jsonl", ["u_17", "ana"]), lake)
    assert upshot.erase("u_17", lake).rows["conversations"] == 1
    twin = pseudonym_of("ana", lake)
    turns = [{"role": "user", "content": "who am I?"}, {"role": "assistant", "content": "You."}]
    row = {"id": "c1", "user": twin, "messages": turns}
    (tmp_path / "b.jsonl").write_text(json.dumps(row))
    upshot.ingest(tmp_path / "b.jsonl", lake)
    with pytest.raises(InputError, match="--pseudonym"):
        upshot.erase(twin, lake)
    upshot.erase(twin, lake, pseudonym=True)
    users = Lake(lake).read("conversations")["user"].to_pylist()
    assert users == [pseudonym_of(twin, lake)]


def test_a_lake_refuses_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (write_log(tmp_path / f"{name}.jsonl", ["ben"]) for name in "ab")
    lake = tmp_path / "lake"
    monkeypatch.setenv("UPSHOT_KEY", "the first key of the lake")
    upshot.ingest(first, lake)
    assert lake.stat().st_mode & 0o777 == 0o700
    upshot.lake_rebucket(lake, 3)
    monkeypatch.setenv("UPSHOT_KEY", "another key of the lake")
    for verb in (lambda: upshot.ingest(second, lake), lambda: upshot.erase("ben", lake)):
        with pytest.raises(ConfigError, match="made with another"):
            verb()
    monkeypatch.delenv("UPSHOT_KEY")
    with pytest.raises(ConfigError, match="set it to the key"):
        upshot.ingest(second, lake)
    assert not lake.with_name("lake.key").exists()
    monkeypatch.setenv("UPSHOT_KEY", "the first key of the lake")
    assert upshot.ingest(second, lake).conversations == 1


def run_script(name: str, *arguments: object) -> list[dict[str, object]]:
    script = Path(__file__).with_name(name)
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_killed_at_any_step_the_same_call_finishes_and_others_lose_nothing(tmp_path: Path) -> None:
    lake = tmp_path / "template"
    log = write_log(tmp_path / "log.jsonl", ["ana", "ben", "carl"], 2)
    upshot.run(log, lake, upshot.load(lake={"buckets": 1}))
    upshot.export_pairs(lake, tmp_path / "all.jsonl", "examples")
    (tmp_path / "work").mkdir()
    steps = run_script("killed_erasure.py", lake, tmp_path / "work", pseudonym_of("ana", lake))
    assert len(steps) >= 10
    for step in steps:
        assert step["rows"] == {"conversations": 4, "messages": 12, "verdicts": 4}, step
        assert step["traces"] == []


def test_beside_run_and_judge_no_row_of_the_user_stays_and_none_of_others_goes(
    tmp_path: Path,
) -> None:
    lake, others = tmp_path / "template", [f"user {n}" for n in range(8)]
    chosen = upshot.load(lake={"buckets": 4})
    upshot.run(write_log(tmp_path / "one.jsonl", ["ana", *others], 4), lake, chosen)
    log = write_log(tmp_path / "two.jsonl", ["ana", *others], 4)
    (tmp_path / "work").mkdir()
    user = pseudonym_of("ana", lake)
    for row in run_script("erase_beside.py", lake, log, tmp_path / "work", user, 3, 11):
        assert row["codes"] == [0, 0, 0, 0, 0], row
        rows = row["rows"]
        assert isinstance(rows, dict)
        assert (rows["conversations"], rows["messages"], rows["verdicts"]) == (
            [64, 0],
            [192, 0],
            [64, 0],
        )


WORDS = st.text('ab cd\\"/\nü\U0001f600', min_size=30, max_size=300)


@settings(deadline=None)
@given(text=WORDS, before=st.text(max_size=50), layers=st.integers(0, 2))
def test_every_piece_of_a_text_is_found_through_two_layers_of_json(
    text: str, before: str, layers: int
) -> None:
    content = before + text
    for _ in range(layers):
        content = json.dumps({"x": content})
    pieces = set(cut_text(text))
    traces = Traces((), pieces)
    matches = set[bytes]()
    for layer in unfold(content.encode("utf-8", "replace")):
        matches |= traces.search(layer)
    assert matches == pieces


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_ids_and_texts_are_found_wherever_they_are_and_ids_only_whole(seed: int) -> None:
    draw = random.Random(seed)
    texts = {draw.randbytes(draw.randint(24, 60)) for _ in range(50)}
    ids = {f"id-{draw.randrange(10**9):09}".encode() for _ in range(50)}
    traces = Traces(ids, texts)
    chosen = draw.sample(sorted(texts | ids), 10)
    filling = [draw.randbytes(draw.randint(0, 300_000)) + b" " for _ in chosen]
    content = b"".join(b for pair in zip(filling, chosen, strict=True) for b in pair) + b" "
    assert traces.search(content) >= {*chosen} - ids
    assert Traces(ids, ()).search(b" ".join(ids)) == ids
    assert Traces(ids, ()).search(b"x".join(ids)) == set()


def test_who_is_erased_while_an_ingest_runs_is_not_counted_as_written(
    lake_of_two: Path, chat: Callable[..., RawConversation]
) -> None:
    ana = pseudonym_of("ana", lake_of_two)

    def read() -> Iterator[RawConversation]:
        yield chat("u: is it done?", "a: yes", id="new-1", user="ana")
        write_mark(Lake(lake_of_two), ana, allowed=False)  # as an erasure does first
        yield chat("u: is it done now?", "a: yes", id="new-2", user="ana")
        yield chat("u: and mine?", "a: no", id="new-3", user="ben")

    report = upshot.ingest(read(), lake_of_two)
    assert (report.conversations, report.known, report.erased, report.messages) == (1, 0, 2, 2)
    assert "new-1" not in Lake(lake_of_two).read("conversations")["id"].to_pylist()


QUOTE = "that broke the lighthouse again, wrong answer"


def write_group_chat(path: Path) -> Path:
    """A conversation of ben's in which ana speaks too, and says how an answer fared."""
    turns = [
        {"role": "user", "name": "ben", "content": "please fix the failing lighthouse test"},
        {"role": "assistant", "content": "Done, I renamed the date."},
        {"role": "user", "name": "ana", "content": f"no, {QUOTE}, it still fails with an error"},
        {"role": "assistant", "content": "Now it is right."},
        {"role": "user", "name": "ben", "content": "that worked, thank you!"},
    ]
    path.write_text(json.dumps({"id": "group-chat", "user": "ben", "messages": turns}))
    return path


def quotes_of_ana(lake: Path) -> set[str]:
    rows = Lake(lake).read_all_versions("verdicts", None).to_pylist()
    return {e["quote"] for row in rows for e in row["evidence"] if e["index"] == 2}


def test_what_an_erased_user_said_is_in_no_verdict_of_another(tmp_path: Path) -> None:
    log, lake, out = write_group_chat(tmp_path / "log.jsonl"), tmp_path / "lake", tmp_path / "out"
    upshot.run(log, lake)
    assert "broke" in quotes_of_ana(lake)
    before = Lake(lake)
    stale = before.read("verdicts")
    with exported(lake, out, "verdicts"):
        out.write_text("what they said")
    proof = upshot.erase("ana", lake)
    assert proof.exports == [str(out)]
    assert quotes_of_ana(lake) == {"[ERASED]"}
    before.append("verdicts", stale, ("late", 1))  # a judge that had read them before
    assert quotes_of_ana(lake) == {"[ERASED]"}
    files = [path for path in lake.rglob("*") if path.is_file()]
    assert not any(b"lighthouse again" in path.read_bytes() for path in files)
    upshot.judge(lake=lake)
    quotes = {
        e["quote"] for row in Lake(lake).read("verdicts").to_pylist() for e in row["evidence"]
    }
    assert "broke" not in quotes
