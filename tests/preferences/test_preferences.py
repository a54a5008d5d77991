"""Verdicts become pairs and examples: what may be chosen, the split by user, what trainers read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import upshot
from upshot.api import judging, opening
from upshot.errors import FormatError, InputError, NotFoundError, RecordError
from upshot.preferences import balance
from upshot.preferences.balance import assign_side
from upshot.preferences.importers import read_preferences
from upshot.records import BadRecord, Place, Preference, RawConversation, Source, Turn
from upshot.sources.ingest import Cleaning, ingest

Chat = Callable[..., RawConversation]


def lake_of(folder: Path, *chats: Any) -> Path:
    """A judged lake of chats, or of raw records."""
    target = folder / "lake"
    if isinstance(chats[0], dict):
        (folder / "chats.jsonl").write_text("\n".join(json.dumps(chat) for chat in chats))
        upshot.run(folder / "chats.jsonl", target)
    else:
        ingest(
            iter(chats),
            opening.open_lake(target),
            Cleaning("a key for these tests", True, True, ""),
        )
        judging.link_lake(target)
        judging.judge_lake(target)
    return target


def pair(
    better: str,
    worse: str,
    prompt: str = "how?",
    users: tuple[str, ...] = ("u",),
    kind: str = "thread",
) -> Preference:
    return Preference(
        (Turn("user", prompt),),
        (Turn("assistant", better),),
        (Turn("assistant", worse),),
        0.5,
        0.5,
        Source(kind, users),
    )


def texts_of(row: Preference) -> tuple[str, str, str]:
    return row.prompt[-1].content, row.chosen[0].content, row.rejected[0].content


def test_what_finally_worked_is_chosen_over_what_failed_for_the_first_request(
    chat: Chat, tmp_path: Path
) -> None:
    lake = lake_of(
        tmp_path,
        chat(
            "u: how do I parse the CSV file with pandas?",
            "a: call pandas.parse_file on the CSV",
            "u: that does not work, AttributeError: no attribute parse_file",
            "a: use pandas.read_csv on the CSV file instead",
            "u: perfect, that worked!",
        ),
    )
    (row,) = upshot.pairs(lake, ["thread"])
    assert texts_of(row) == (
        "how do I parse the CSV file with pandas?",
        "use pandas.read_csv on the CSV file instead",
        "call pandas.parse_file on the CSV",
    )
    assert len(row.prompt) == 1
    assert row.margin > 0.3
    assert row.source.chosen is not None
    assert (row.source.chosen.index, row.source.kind) == (3, "thread")


def test_an_answer_that_needed_what_the_user_told_later_is_not_chosen(
    chat: Chat, tmp_path: Path
) -> None:
    lake = lake_of(
        tmp_path,
        chat(
            "u: book me a table",
            "a: booked for two at Luigi's",
            "u: wrong, I meant the Golden Dragon for seven people on Saturday evening",
            "a: Golden Dragon, seven people, Saturday evening: booked",
            "u: perfect, that worked, thank you!",
        ),
    )
    assert list(upshot.pairs(lake, ["thread"])) == []


def test_a_users_correction_is_never_chosen_and_their_edit_is(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "translate: good evening"},
        {"role": "assistant", "content": "bonjour", "feedback": {"edit": "bonsoir"}},
        {"role": "user", "content": "no, the right answer is bonsoir"},
    ]
    lake = lake_of(tmp_path, {"id": "c", "user": "u", "messages": turns})
    rows = list(upshot.pairs(lake))
    assert [texts_of(row) for row in rows] == [("translate: good evening", "bonsoir", "bonjour")]
    assert rows[0].source.kind == "edit"
    assert rows[0].source.chosen is None


def branch(name: str, answer: str, reaction: str | None, **more: object) -> dict[str, object]:
    turns = [
        {"role": "user", "content": "write a haiku about rain"},
        {"role": "assistant", "content": answer},
    ]
    return {
        "id": name,
        "user": "u",
        "messages": turns + ([{"role": "user", "content": reaction}] if reaction else []),
        **more,
    }


def test_siblings_are_pairs_where_both_have_verdicts(tmp_path: Path) -> None:
    good, bad = "Soft rain on the roof", "Rain is wet."
    lake = lake_of(
        tmp_path,
        branch("c", bad, "no, that's wrong, that is not a haiku"),
        branch("c~1", good, "perfect, exactly what I wanted", branch_of="c", branch_at=1),
    )
    assert [texts_of(row)[1:] for row in upshot.pairs(lake, ["sibling"])] == [(good, bad)]


def test_silence_does_not_make_an_answer_the_worse_one(tmp_path: Path) -> None:
    lake = lake_of(
        tmp_path,
        branch("c", "Rain is wet.", None),
        branch("c~1", "Soft rain", "perfect, exactly what I wanted", branch_of="c", branch_at=1),
    )
    assert list(upshot.pairs(lake)) == []


def test_politeness_alone_makes_nothing_chosen(tmp_path: Path) -> None:
    lake = lake_of(
        tmp_path,
        branch("c", "Rain is wet.", "no, that's wrong"),
        branch("c~1", "Soft rain", "thanks", branch_of="c", branch_at=1),
    )
    assert list(upshot.pairs(lake)) == []


def test_no_pair_across_users_has_fewer_than_k_people_behind_it(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"c{i}",
            "user": f"u{i}",
            "messages": [
                {"role": "user", "content": f"How do I undo the last git commit? ({i})"},
                {"role": "assistant", "content": f"answer {'good' if i % 2 else 'bad'} {'x' * i}"},
                {
                    "role": "user",
                    "content": "that worked, thanks" if i % 2 else "that does not work, same error",
                },
            ],
        }
        for i in range(6)
    ]
    lake = lake_of(tmp_path, *rows)
    pairs = list(upshot.pairs(lake, ["across"], least_users=6, test_share=0.0))
    assert pairs
    assert all(
        "good" in row.chosen[0].content
        and "bad" in row.rejected[0].content
        and len(row.source.users) == 6
        for row in pairs
    )
    assert list(upshot.pairs(lake, ["across"], least_users=7)) == []
    with pytest.raises(InputError, match="there are sibling, thread, edit, across"):
        list(upshot.pairs(lake, ["sideways"]))


def test_what_failed_stays_in_the_context_and_is_not_imitated(chat: Chat, tmp_path: Path) -> None:
    lake = lake_of(
        tmp_path,
        chat(
            "u: fix my parser",
            "a: strip it",
            "u: it still crashes",
            "a: read it line by line",
            "u: that worked, thanks",
        ),
    )
    (conversation,) = upshot.examples(lake, masked=True)
    assert [
        turn.content
        for turn, is_trained in zip(conversation.completion, conversation.train, strict=True)
        if is_trained
    ] == ["read it line by line"]
    scored = {row.completion[0].content: row for row in upshot.examples(lake)}
    assert scored["strip it"].score < 0.4 < 0.6 < scored["read it line by line"].score
    assert scored["strip it"].tags["style"] == "prose"


def test_balanced_positions_leaves_as_many_later_as_earlier() -> None:
    rows = [pair(f"good {i}", f"bad {i}") for i in range(12)]
    placed = [
        msgspec.structs.replace(
            row,
            source=msgspec.structs.replace(
                row.source,
                chosen=Place("c", 3 if i < 8 else 1),
                rejected=Place("c", 1 if i < 8 else 3),
            ),
        )
        for i, row in enumerate(rows[:10])
    ]
    balanced = balance.balance_position([*placed, *rows[10:]])
    later = [
        p.source.chosen.index > p.source.rejected.index
        for p in balanced
        if p.source.chosen and p.source.rejected
    ]
    assert (sum(later), len(later), len(balanced)) == (2, 4, 6)


@given(
    st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5),
    st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5),
    st.floats(0, 1),
)
def test_no_user_is_on_both_sides_of_a_split(
    first: list[str], second: list[str], share: float
) -> None:
    sides = {assign_side(users, "", share) for users in (first, second)} - {""}
    if set(first) & set(second):
        assert len(sides) <= 1
    assert assign_side([], "t", share) in ("train", "test")


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=40))
def test_balanced_lengths_leaves_as_many_longer_as_shorter(sizes: list[tuple[int, int]]) -> None:
    rows = [pair("a" * a, "b" * b, f"{i}") for i, (a, b) in enumerate(sizes)]
    balanced = balance.balance_length(rows)
    longer = sum(len(r.chosen[0].content) > len(r.rejected[0].content) for r in balanced)
    shorter = sum(len(r.chosen[0].content) < len(r.rejected[0].content) for r in balanced)
    assert longer == shorter
    assert balance.balance_length(rows) == balanced


def test_near_duplicates_count_once_and_are_reported() -> None:
    rows = [pair("Do 12 of it!", "x"), pair("do 99 of it", "x"), pair("else", "x")]
    assert len(list(balance.drop_duplicates(rows))) == 2
    assert balance.measure_balance(rows).near_duplicates == pytest.approx(1 / 3, abs=1e-3)


@pytest.fixture
def judged(chat: Chat, tmp_path: Path) -> Path:
    return lake_of(
        tmp_path,
        *(
            chat(
                f"u: how do I parse file {n}?",
                f"a: call parse_all {n}",
                "u: that does not work",
                f"a: call the parse file helper {n}",
                "u: great, that worked",
                id=f"c{n}",
                user=f"u{n}",
            )
            for n in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
        ),
    )


def test_trainers_read_what_is_exported(judged: Path, tmp_path: Path) -> None:
    for form in ("trl", "openrlhf", "llamafactory", "jsonl", "kto", "sft", "examples"):
        report = upshot.export_pairs(judged, tmp_path / f"{form}.jsonl", form, test_share=0.0)
        rows = [json.loads(line) for line in (tmp_path / f"{form}.jsonl").read_text().splitlines()]
        assert len(rows) == report.train > 0
        first = rows[0]
        if form == "trl":
            assert [first[key][0]["role"] for key in ("prompt", "chosen", "rejected")] == [
                "user",
                "assistant",
                "assistant",
            ]
        if form == "kto":
            assert {type(row["label"]) for row in rows} == {bool}
        if form == "openrlhf":
            assert first["chosen"][:-1] == first["rejected"][:-1]
        if form == "sft":
            assert len(first["train"]) == len(first["messages"])
    entry = json.loads((tmp_path / "dataset_info.json").read_text())["llamafactory"]
    assert entry["ranking"] is True
    assert (tmp_path / entry["file_name"]).is_file()


def test_parquet_is_read_by_hugging_face_datasets(judged: Path, tmp_path: Path) -> None:
    for form in ("parquet", "verl"):
        report = upshot.export_pairs(judged, tmp_path / f"{form}.parquet", form, test_share=0.0)
        assert pq.read_table(tmp_path / f"{form}.parquet").num_rows == report.train
    datasets = pytest.importorskip("datasets", reason="the train extra is not installed")
    assert (
        datasets.Dataset.from_parquet(str(tmp_path / "verl.parquet"), cache_dir=str(tmp_path))[0][
            "prompt"
        ][0]["role"]
        == "user"
    )
    with pytest.raises(InputError, match="name a file"):
        upshot.export_pairs(judged, "-", "verl")
    with pytest.raises(InputError, match="there are jsonl"):
        upshot.export_pairs(judged, tmp_path / "x", "alpaca")


def test_the_test_side_goes_to_its_own_file(judged: Path, tmp_path: Path) -> None:
    report = upshot.export_pairs(judged, tmp_path / "p.jsonl", test_share=0.5)
    assert report.test > 0
    users = [
        {
            u
            for line in Path(name).read_text().splitlines()
            for u in json.loads(line)["source"]["users"]
        }
        for name in (tmp_path / "p.jsonl", report.test_file)
    ]
    assert not users[0] & users[1]
    rows = list(read_preferences(tmp_path / "p.jsonl"))
    assert rows == [
        row for row in upshot.pairs(judged, test_share=0.5) if row.source.split == "train"
    ]


def test_a_lake_without_verdicts_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="upshot judge --lake"):
        list(upshot.pairs(tmp_path / "nothing"))


SHAPES: dict[str, tuple[Any, list[tuple[str, str, str]]]] = {
    "hh": (
        {
            "chosen": "\n\nHuman: hi\n\nAssistant: hello",
            "rejected": "\n\nHuman: hi\n\nAssistant: go away",
        },
        [("hi", "hello", "go away")],
    ),
    "trl": ({"prompt": "hi", "chosen": "hello", "rejected": "no"}, [("hi", "hello", "no")]),
    "llmbar": (
        {"input": "hi", "output_1": "no", "output_2": "hello", "label": 2},
        [("hi", "hello", "no")],
    ),
    "panel": (
        {
            "instruction": "hi",
            "input": "",
            "response1": "hello",
            "response2": "no",
            "annotator1": 1,
            "annotator2": 1,
            "annotator3": 2,
        },
        [("hi", "hello", "no")],
    ),
    "tie": (
        {
            "instruction": "hi",
            "input": "",
            "response1": "hello",
            "response2": "no",
            "annotator1": 1,
            "annotator2": 0,
            "annotator3": 2,
        },
        [],
    ),
    "votes": (
        {
            "question": "hi",
            "answers": [{"text": "no", "pm_score": 0}, {"text": "hello", "pm_score": 9}],
        },
        [("hi", "hello", "no")],
    ),
    "shp": (
        {
            "history": "hi",
            "human_ref_A": "no",
            "human_ref_B": "hello",
            "labels": 0,
            "score_A": 2,
            "score_B": 30,
        },
        [("hi", "hello", "no")],
    ),
    "arena": (
        {
            "conversation_a": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "no"},
            ],
            "conversation_b": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "hello"},
            ],
            "winner": "model_b",
        },
        [("hi", "hello", "no")],
    ),
    "scores": (
        {
            "instruction": "hi",
            "completions": [
                {"response": "no", "overall_score": 3},
                {"response": "hello", "overall_score": 8},
            ],
        },
        [("hi", "hello", "no")],
    ),
    "aspects": (
        {
            "instruction": "hi",
            "completions": [
                {"response": "no", "annotations": {"h": {"Rating": "1"}, "t": {"Rating": "N/A"}}},
                {"response": "hello", "annotations": {"h": {"Rating": "5"}}},
            ],
        },
        [("hi", "hello", "no")],
    ),
    "tree": (
        {
            "message_tree_id": "t",
            "prompt": {
                "role": "prompter",
                "text": "hi",
                "replies": [
                    {"role": "assistant", "text": "no", "rank": 1, "replies": []},
                    {"role": "assistant", "text": "hello", "rank": 0, "replies": []},
                ],
            },
        },
        [("hi", "hello", "no")],
    ),
    "quality": (
        {
            "message_tree_id": "t",
            "prompt": {
                "role": "prompter",
                "text": "hi",
                "replies": [
                    {"role": "assistant", "text": "no", "labels": {"quality": {"value": 0.1}}},
                    {
                        "role": "assistant",
                        "text": "hello",
                        "labels": {"name": ["spam", "quality"], "value": [0, 0.9]},
                    },
                ],
            },
        },
        [("hi", "hello", "no")],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_existing_preference_data_is_read(name: str, tmp_path: Path) -> None:
    record, expected = SHAPES[name]
    (tmp_path / "d.jsonl").write_text(json.dumps(record) + "\n")
    rows = list(read_preferences(tmp_path / "d.jsonl"))
    assert [texts_of(row) for row in rows] == expected
    assert all(0 <= row.margin <= 1 for row in rows)


def test_a_flat_tree_is_put_together(tmp_path: Path) -> None:
    rows = [
        {"message_id": "1", "parent_id": None, "role": "prompter", "text": "hi"},
        {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "no", "rank": 1},
        {"message_id": "3", "parent_id": "1", "role": "assistant", "text": "hello", "rank": 0},
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [texts_of(row) for row in read_preferences(tmp_path / "d.jsonl")] == [
        ("hi", "hello", "no")
    ]


def test_unreadable_records_are_reported_with_their_place_and_lose_nothing(tmp_path: Path) -> None:
    good = json.dumps(SHAPES["trl"][0])
    (tmp_path / "d.jsonl").write_text(f'{good}\n{{"prompt": 7}}\nnot json\n{good}\n')
    bad: list[BadRecord] = []
    assert len(list(read_preferences(tmp_path / "d.jsonl", bad.append))) == 2
    assert [record.position for record in bad] == ["line 2", "line 3"]
    with pytest.raises(RecordError, match="line 2"):
        list(read_preferences(tmp_path / "d.jsonl"))
    (tmp_path / "e.jsonl").write_text('{"colour": "blue"}\n')
    with pytest.raises(FormatError, match="no known shape"):
        list(read_preferences(tmp_path / "e.jsonl"))
