"""Which conversation a log speaks of: nothing is lost, nothing is there twice, and the report names
what clashes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upshot
from upshot.config import load
from upshot.lake import Lake
from upshot.privacy import Pseudonyms
from upshot.records import RawConversation, RawMessage
from upshot.sources.identity import Identities, make_chain

KEY = "a key for tests, long enough"


def chat(name: str, user: str, *texts: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"id": name, "user": user, "messages": messages, **more}


def ingest(lake: Path, *rows: dict[str, Any], buckets: int = 16, workers: int = 1) -> Any:
    log = lake.with_name(f"log-{len(list(lake.parent.iterdir()))}.jsonl")
    log.write_text("\n".join(json.dumps(row) for row in rows))
    settings = load(None, lake={"buckets": buckets}, engine={"workers": workers})
    return upshot.ingest(log, lake, settings)


def contents(lake: Path) -> list[list[str]]:
    """The texts of every conversation of a lake."""
    texts: dict[str, list[tuple[int, str]]] = {}
    for row in Lake(lake).read("messages").to_pylist():
        texts.setdefault(row["id"], []).append((row["index"], row["text"]))
    return sorted([text for _, text in sorted(rows)] for rows in texts.values())


@pytest.mark.parametrize("buckets", [1, 16])
def test_two_users_with_the_same_ids_keep_their_conversations(tmp_path: Path, buckets: int) -> None:
    lake = tmp_path / "lake"
    ingest(
        lake, *(chat(str(n), "ann", f"a question {n}", "yes") for n in range(5)), buckets=buckets
    )
    report = ingest(
        lake,
        *(chat(str(n), "bob", f"another question {n}", "no", "thanks") for n in range(5)),
        buckets=buckets,
    )
    assert (report.conversations, report.messages, report.clashes) == (5, 15, 5)
    assert len(contents(lake)) == 10
    proof = upshot.erase("ann", lake)
    assert proof.rows["conversations"] == 5
    assert contents(lake) == [[f"another question {n}", "no", "thanks"] for n in range(5)]


def test_a_version_that_goes_on_counts_instead_of_the_shorter(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(lake, chat("c1", "u", "a", "b"))
    report = ingest(lake, chat("c1", "u", "a", "b", "c"))
    assert (report.conversations, report.messages, report.clashes) == (1, 3, 0)
    assert contents(lake) == [["a", "b", "c"]]


def test_an_older_version_that_comes_later_is_known(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(lake, chat("c1", "u", "a", "b", "c"))
    report = ingest(lake, chat("c1", "u", "a", "b"))
    assert (report.conversations, report.known) == (0, 1)
    assert contents(lake) == [["a", "b", "c"]]


def test_a_longer_version_that_differs_stays_beside_the_other(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(lake, chat("c1", "u", "a", "b"))
    report = ingest(lake, chat("c1", "u", "other", "words", "here"))
    assert report.clashes == 1
    assert report.clash.startswith("c1~")
    assert contents(lake) == [["a", "b"], ["other", "words", "here"]]
    again = ingest(lake, chat("c1", "u", "other", "words", "here", "now"))
    assert (again.conversations, again.clashes) == (1, 0)
    assert contents(lake) == [["a", "b"], ["other", "words", "here", "now"]]


@pytest.mark.parametrize(
    "fact",
    [
        {"feedback": "up"},
        {"time": "2026-05-01T10:00:00Z"},
        {"model": "m-2"},
    ],
    ids=str,
)
def test_new_facts_of_the_same_text_update_it(tmp_path: Path, fact: dict[str, Any]) -> None:
    lake, row = tmp_path / "lake", chat("c1", "u", "a", "b")
    row["messages"][1]["feedback"] = "down"
    ingest(lake, row)
    row["messages"][1].update(fact)
    report = ingest(lake, row)
    assert (report.conversations, report.known, report.clashes) == (1, 0, 0)
    assert contents(lake) == [["a", "b"]]
    (event,) = Lake(lake).read("events").to_pylist()
    assert event["value"] == (1.0 if "feedback" in fact else -1.0)


def test_conversations_without_an_id_that_begin_alike_all_stay(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    rows = [chat("", "u", "hi", "hello", f"question {n}", "answer") for n in range(20)]
    rows += [chat("", "u", "hi", "hello") for _ in range(3)]
    for row in rows:
        del row["id"]
    report = ingest(lake, *rows)
    assert report.conversations == 23
    again = ingest(lake, *rows)
    assert (again.conversations, again.known) == (0, 23)


def test_a_branch_refers_to_the_name_its_origin_has_in_the_lake(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(lake, chat("c1", "ann", "x", "y"))
    ingest(
        lake,
        chat("c1", "bob", "a", "b", "c"),
        chat("c1~b", "bob", "a", "other", branch_of="c1", branch_at=1),
    )
    rows = Lake(lake).read("conversations").to_pylist()
    (branch,) = [row for row in rows if row["branch_of"]]
    (origin,) = [row for row in rows if row["id"] == branch["branch_of"]]
    assert origin["user"] == branch["user"]


def test_two_workers_give_the_same_lake_as_one(tmp_path: Path) -> None:
    rows = [chat(str(n // 3), f"user{n % 3}", f"q{n}", "a", *["more"] * (n % 4)) for n in range(40)]
    lakes = [tmp_path / "one", tmp_path / "two"]
    for lake, workers in zip(lakes, (1, 2), strict=True):
        ingest(lake, *rows, workers=workers)
    assert contents(lakes[0]) == contents(lakes[1])
    assert len(contents(lakes[0])) == 40


def test_spellings_of_a_users_name_are_one_user(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    spellings = ("Jane Roe", " jane  roe", "JANE\u00a0ROE", "Ｊane Roe")
    ingest(lake, *(chat(f"c{n}", name, "a", "b") for n, name in enumerate(spellings)))
    assert len(set(Lake(lake).read("conversations")["user"].to_pylist())) == 1
    assert upshot.erase("jane ROE", lake).rows["conversations"] == 4


texts = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)


@settings(deadline=None, max_examples=200)
@given(st.lists(texts, min_size=1, max_size=8))
def test_every_history_that_no_other_continues_is_there_once(histories: list[list[str]]) -> None:
    identities = Identities(Pseudonyms(KEY))
    held: dict[str, tuple[str, ...]] = {}
    for history in histories:
        messages = tuple(RawMessage("user", text) for text in history)
        placed, relation = identities.place(RawConversation(messages, "c1", "u"))
        if relation not in ("older", "same"):
            held[placed.conversation.id] = tuple(history)
    wanted = {tuple(h) for h in histories}
    longest = {h for h in wanted if not any(len(o) > len(h) and o[: len(h)] == h for o in wanted)}
    assert longest <= set(held.values())
    assert all(history in wanted for history in held.values())


@given(texts, texts)
def test_chains_agree_as_far_as_histories_do(first: list[str], second: list[str]) -> None:
    def chain(history: list[str]) -> bytes:
        messages = tuple(RawMessage("user", text) for text in history)
        return make_chain(RawConversation(messages), Pseudonyms(KEY))

    shared = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )
    a, b = chain(first), chain(second)
    assert a[: 4 * shared] == b[: 4 * shared]
    if shared < min(len(first), len(second)):
        assert a[4 * shared : 4 * shared + 4] != b[4 * shared : 4 * shared + 4]
