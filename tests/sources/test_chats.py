"""Exports of chats and rows of messages: each of `files/`, read whole and by the right speaker.

An outline has a line for each conversation and message: who wrote it, what, which calls it makes,
and which signals stand on it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from upshot.records import BadRecord, RawConversation
from upshot.sources.history import Node, join_requests, unfold
from upshot.sources.reading import read
from upshot.sources.speakers import mark_author, words_of

FILES = Path(__file__).parent / "files"
AUTHORS = {"person": "P", "model": "M", "tool": "T", "machine": "-"}


def outline(path: Path, **options: dict[str, str]) -> list[str]:
    lines: list[str] = []
    for item in read(path, **options):  # type: ignore[arg-type]
        assert isinstance(item, RawConversation), item
        branch = f" branch of {item.branch_of} at {item.branch_at}" if item.branch_of else ""
        lines.append(f"{item.id or '?'} by {item.user or '?'}{branch}")
        for message in item.messages:
            calls = "".join(f" {call.name}({call.arguments})" for call in message.tool_calls)
            signals = "".join(f" [{s.kind} {s.value:g}]" for s in message.signals)
            name = f" {message.name}:" if message.role == "tool" else ""
            text = message.content.replace("\n", "|")
            lines.append(f"{AUTHORS[message.written_by]}{name} {text}{calls}{signals}")
    return lines


OUTLINES = {
    "chatgpt-export.json": """
        gpt-1 by ?
        P <image: 2,048 bytes>|is this dough ready?
        M  web.search({"q": "dough"})
        T web.search: Dough|Let it rest.
        M Give it an hour.
        P that worked|<audio: 900 bytes>
        gpt-1~a1 by ? branch of gpt-1 at 1
        P <image: 2,048 bytes>|is this dough ready?
        M No. [regenerate -0.6]""",
    "claude-export.json": """
        cl-1 by acc-9
        P total?|3 apples, 2 each
        M I compute. calc({"x":"3*2"}) [exit -0.5]
        T calc: boom
        M Six.
        P <file: photo.png>
        M An apple. [thumb -1]""",
    "open-webui.json": """
        ow-1 by u-1
        P 2+2?
        M  add("2")
        T add: "4"
        M It is 4. [thumb 1] [rating 1] [comment 0]
        ow-1~b1 by u-1 branch of ow-1 at 1
        P 2+2?
        M 5 [regenerate -0.6]""",
    "librechat.json": """
        lc-1 by 66f0
        - Be brief.
        P hi
        M Hello. clock({})
        T clock: noon
        M It is noon. [thumb 1]
        P thanks
        lc-1~b by 66f0 branch of lc-1 at 2
        - Be brief.
        P hi
        M yo [regenerate -0.6]""",
    "slack": """
        help-desk/1777629610.0001 by U1
        P the build fails
        M Clear the cache. [thumb 1]
        P that fixed it
        help-desk by U2
        P lunch?
        M Deploy done.""",
    "discord.json": """
        77 by 11
        P how long?|<file: loaf.png>
        M An hour. [thumb -1]""",
    "intercom.json": """
        147 by u9
        P my card was declined|why?
        M Try another one. [rating -0.5] [comment 0]""",
    "rasa.json": """
        s-5 by s-5
        P book a table
        M When?|noon
        P nonsense
        M What? [undo -1]
        P noon""",
    "oasst.jsonl": """
        t1 by ?
        P name a fruit
        M a pear [comment 0]
        P another
        t1~r2 by ? branch of t1 at 1
        P name a fruit
        M a stone [comment 0]""",
    "sharegpt.json": """
        sg-1 by ?
        - Be kind.
        P list files
        M  ls({"path":"."})
        T ls: a.txt
        M One: a.txt
        sg-2 by ?
        P hi
        M hello
        sg-3 by ?
        P hi
        M hello""",
    "openai-chat.jsonl": """
        oc-1 by u-3
        - Be brief.
        P look|<image>
        M  zoom({"x": 2})
        T zoom: closer
        M A cat. [rating 1]
        oc-2 by u-4
        P my card was declined
        M Try another.
        P same error
        M Call your bank.
        oc-3 by ?
        - hm
        P hi
        M hello""",
    "message-rows.csv": """
        7 by u-5
        P hi, there
        M hello
        8 by u-6
        P where is my parcel?
        M On its way.|It comes tomorrow.""",
    "prompt-rows.jsonl": """
        ? by u-7
        P hi
        M hello [thumb 1]
        ? by ?
        P translate|cat
        M Katze
        s-1 by ?
        P what is cat?
        M Katze
        P and dog?
        M Hund""",
}


@pytest.mark.parametrize("name", OUTLINES)
def test_a_file_is_read_whole_and_by_the_right_speaker(name: str) -> None:
    wanted = [line.strip() for line in OUTLINES[name].strip().splitlines()]
    assert outline(FILES / name) == wanted


@pytest.mark.parametrize("name", ["sharegpt.json", "openai-chat.jsonl", "message-rows.csv"])
def test_rows_are_read_from_parquet_as_from_text(name: str, tmp_path: Path) -> None:
    source = FILES / name
    text = source.read_text()
    if name.endswith(".csv"):
        import csv

        rows = list(csv.DictReader(text.splitlines()))
        rows = rows[:3]  # the last has a line break
    elif name.endswith(".jsonl"):
        rows = [json.loads(line) for line in text.splitlines()][1:3]
    else:
        rows = json.loads(text)[:1]
        rows[0]["conversations"] = [dict(turn) for turn in rows[0]["conversations"]]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    wanted = outline(source)
    read_lines = outline(path)
    assert len(read_lines) >= 3
    assert set(read_lines) <= set(wanted)


def test_any_other_shape_is_read_by_a_mapping(tmp_path: Path) -> None:
    record = {
        "case": {"no": 12},
        "customer": {"id": "u-8"},
        "log": {
            "turns": [
                {"who": "client", "words": "hi", "at": 1777629600},
                {"who": "bot", "words": "hello"},
            ]
        },
    }
    path = tmp_path / "inhouse.jsonl"
    path.write_text(json.dumps(record))
    mapping = {
        "messages": "log.turns[*]",
        "role": "who",
        "content": "words",
        "time": "at",
        "id": "case.no",
        "user": "customer.id",
    }
    assert outline(path, mapping=mapping) == ["12 by u-8", "P hi", "M hello"]


def test_a_mapping_groups_rows_that_are_messages(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("call,step,side,line\n4,2,bot,hello\n4,1,client,hi\n5,1,client,yo\n")
    mapping = {"id": "call", "index": "step", "role": "side", "content": "line"}
    assert outline(path, mapping=mapping) == ["4 by ?", "P hi", "M hello", "5 by ?", "P yo"] or (
        outline(path, mapping=mapping) == ["4 by ?", "M hello", "P hi", "5 by ?", "P yo"]
    )


def test_a_bad_node_or_row_is_one_bad_record(tmp_path: Path) -> None:
    export = json.loads((FILES / "chatgpt-export.json").read_text())
    circle = json.loads(json.dumps(export[0]))
    circle["mapping"]["root"]["parent"] = "u2"
    for node in circle["mapping"].values():
        node["parent"] = node["parent"] or "u2"
    del circle["mapping"]["a1"]
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([circle, {"mapping": 5}, *export]))
    items = list(read(path))
    assert [type(item) for item in items].count(BadRecord) == 2
    assert [item.id for item in items if isinstance(item, RawConversation)] == ["gpt-1", "gpt-1~a1"]


def node(name: str, parent: str, role: str, text: str) -> Node:
    from upshot.records import RawMessage

    return Node(name, parent, (RawMessage(role, text),))  # type: ignore[arg-type]


def test_an_edited_request_is_a_branch_whose_answer_was_taken_back() -> None:
    nodes = [
        node("u1", "", "user", "old words"),
        node("a1", "u1", "assistant", "old answer"),
        node("u2", "", "user", "new words"),
        node("a2", "u2", "assistant", "new answer"),
    ]
    line, (branch,), fork = unfold(nodes, "a2")
    assert [m.content for m in line.messages] == ["new words", "new answer"]
    assert (branch.branch_at, fork) == (0, 0)
    assert [(s.kind, s.value) for s in branch.messages[1].signals] == [("regenerate", -0.3)]


def test_requests_that_repeat_their_context_are_one_conversation() -> None:
    from upshot.records import RawMessage

    def say(*texts: str) -> list[RawMessage]:
        return [
            RawMessage("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)
        ]

    requests = [
        say("a", "b"),
        say("a", "b", "c", "d"),
        say("x", "y"),
        say("a", "b", "c", "d", "e", "f"),
        say("c", "d", "e", "f", "g", "h"),
    ]
    threads = [t for t in join_requests(requests) if t.branch_of < 0]
    assert [[m.content for m in t.messages] for t in threads] == [list("abcdefgh"), list("xy")]


PASTED = {
    "a traceback": (
        "it fails:\n\nTraceback (most recent call last):\n"
        '  File "a.py", line 3, in <module>\n    run()\nValueError: no\n\nany idea?',
        ["it fails:", "any idea?"],
    ),
    "a log": (
        "see\n\n2026-05-01 10:00:00 INFO start\n2026-05-01 10:00:01 WARN slow\n"
        "2026-05-01 10:00:02 ERROR stop\n\nwhy",
        ["see", "why"],
    ),
    "a diff": (
        "review\n\n```diff\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n```\nok?",
        ["review", "ok?"],
    ),
    "a quotation": ("> you said no\nbut why?", ["but why?"]),
    "a reminder": ("<system-reminder>be nice</system-reminder>fix it", ["fix it"]),
    "a command": (
        "<command-name>/review</command-name><command-args>PR 12</command-args>",
        ["/review PR 12"],
    ),
}


@pytest.mark.parametrize(("text", "words"), PASTED.values(), ids=PASTED)
def test_what_a_person_pasted_is_not_their_words(text: str, words: list[str]) -> None:
    from upshot.records import RawMessage

    marked = mark_author(RawMessage("user", text))
    assert (
        words_of(marked).split("\n") == words
        or [line for line in words_of(marked).splitlines() if line.strip()] == words
    )


@pytest.mark.parametrize(
    "text",
    [
        "please write a function f(x)",
        "error: what does it mean?",
        "a list:\n- one\n- two\n- three",
        "```python\nprint(1)\n```",
        "x < y and y > z",
        "is 10:30 fine? or 11:00? or 12:00?",
    ],
)
def test_what_a_person_typed_stays_theirs(text: str) -> None:
    from upshot.records import RawMessage

    marked = mark_author(RawMessage("user", text))
    assert (marked.author, marked.spans) == ("", ())


CARD: dict[str, object] = {"type": "message", "subtype": "bot_message", "bot_id": "B9", "text": ""}


def write_day(folder: Path, *messages: dict[str, object]) -> Path:
    day = folder / "general" / "2026-05-01.json"
    day.parent.mkdir(exist_ok=True)
    day.write_text(json.dumps(messages))
    return day


def test_a_bot_of_slack_that_only_posts_cards_is_a_machine(tmp_path: Path) -> None:
    person: dict[str, object] = {
        "type": "message",
        "user": "U1",
        "ts": "1777629601.5",
        "text": "who broke it?",
    }
    push = {**CARD, "ts": "1777629601.1", "attachments": [{"text": "1 new commit"}]}
    day = write_day(tmp_path, push, person, {**push, "ts": "1777629602.1"})
    assert outline(day)[1:] == ["- 1 new commit", "P who broke it?", "- 1 new commit"]


@pytest.mark.parametrize(
    "answer", [{"text": "It was me."}, {"thread_ts": "1777629600.1"}, {"blocks": [{"text": "Me."}]}]
)
def test_a_bot_of_slack_that_ever_answers_is_a_model(
    tmp_path: Path, answer: dict[str, object]
) -> None:
    card = {**CARD, "ts": "1777629601.1", "attachments": [{"text": "Deploy done."}]}
    day = write_day(tmp_path, card, {**card, "ts": "1777629602.1", **answer})
    assert not [line for line in outline(day) if line.startswith("-")]


def test_a_branch_of_an_openassistant_branch_says_which_it_left(tmp_path: Path) -> None:
    parents = {"q": None, "a": "q", "b": "q", "c": "b", "d": "c", "e": "c"}
    rows = [
        {
            "message_id": name,
            "parent_id": parent,
            "message_tree_id": "q",
            "role": "prompter" if name in "qc" else "assistant",
            "text": f"text {name}",
            "rank": 0 if name == "a" else None,
        }
        for name, parent in parents.items()
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    branches = [line for line in outline(tmp_path / "rows.jsonl") if "branch" in line]
    assert branches == ["q~d by ? branch of q at 1", "q~e by ? branch of q~d at 3"]
