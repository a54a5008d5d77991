"""Variants of chats and rows that real files have: whole, and by the right speaker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from upshot.io import json_lines
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources.interchange import format_conversation
from upshot.sources.reading import read
from upshot.sources.speakers import mark_author, words_of

LETTERS = {"person": "P", "model": "M", "tool": "T", "machine": "-"}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def chat(*messages: Any, **others: Any) -> dict[str, Any]:
    return {"messages": list(messages), **others}


def read_text(folder: Path, content: str | bytes) -> list[RawConversation | BadRecord]:
    path = folder / "log"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read(path))


def read_records(folder: Path, *records: Any) -> list[RawConversation]:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    items = read_text(folder, lines)
    assert not [item for item in items if isinstance(item, BadRecord)]
    return [item for item in items if isinstance(item, RawConversation)]


def outline(items: list[Any]) -> list[str]:
    return [
        f"{item.id}: "
        + " ".join(LETTERS[m.written_by] + m.content.replace(" ", "_") for m in item.messages)
        for item in items
    ]


TABLES = {
    "columns of Excel": (
        'Conversation ID,Sender,Message\n1,Customer,"late\norder"\n1,Agent,sorry\n',
        ["1: Plate\norder Msorry"],
    ),
    "semicolons and a byte order mark": (
        "\ufeffsession_id;role;text\r\ns;user;a\r\ns;assistant;b\r\n",
        ["s: Pa Mb"],
    ),
    "ids that rows share": (
        "id,role,content\n1,user,a\n1,assistant,b\n2,user,c\n2,assistant,d\n",
        ["1: Pa Mb", "2: Pc Md"],
    ),
    "people by their names": (
        "chat_id,sender,text\n1,Ann,a\n1,bot,b\n2,Bob,c\n2,bot,d\n",
        ["1: Pa Mb", "2: Pc Md"],
    ),
    "a column that says whether a bot spoke": (
        "session_id,is_bot,text\n1,false,a\n1,true,b\n",
        ["1: Pa Mb"],
    ),
    "directions": ("chat_id,direction,body\n1,inbound,a\n1,outbound,b\n", ["1: Pa Mb"]),
    "one id of two users": (
        "session_id,user_id,role,content\n1,x,user,a\n1,y,user,b\n1,x,assistant,c\n"
        "1,y,assistant,d\n",
        ["1: Pa Mc", "1: Pb Md"],
    ),
    "cells as pandas writes them": (
        "id,messages\n1,\"[{'role': 'user', 'content': 'a'}, "
        "{'role': 'assistant', 'content': 'it is'}]\"\n",
        ["1: Pa Mit_is"],
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_by_its_columns(tmp_path: Path, name: str) -> None:
    text, expected = TABLES[name]
    assert outline(read_text(tmp_path, text)) == expected


def test_a_table_in_a_western_encoding_keeps_its_letters(tmp_path: Path) -> None:
    table = "id;role;text\n1;user;café\n1;assistant;sí\n".encode("latin-1")
    assert outline(read_text(tmp_path, table)) == ["1: Pcafé Msí"]


WRAPPED = {
    "in data": {"data": [chat(user("a"), bot("b"), id="1"), chat(user("c"), bot("d"), id="2")]},
    "by their ids": {"1": chat(user("a"), bot("b")), "2": chat(user("c"), bot("d"))},
    "lists by their ids": {"1": [user("a"), bot("b")], "2": [user("c"), bot("d")]},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_chats_inside_one_object_are_all_read(tmp_path: Path, name: str) -> None:
    assert outline(read_records(tmp_path, WRAPPED[name])) == ["1: Pa Mb", "2: Pc Md"]


def test_objects_without_a_line_between_are_all_read(tmp_path: Path) -> None:
    first, second = chat(user("a"), bot("b"), id="1"), chat(user("c"), bot("d"), id="2")
    items = read_text(tmp_path, json.dumps(first) + json.dumps(second))
    assert outline(items) == ["1: Pa Mb", "2: Pc Md"]


def test_sliding_windows_of_one_session_are_one_line(tmp_path: Path) -> None:
    turns = [user("1"), bot("2"), user("3"), bot("4"), user("5"), bot("6")]
    windows = [chat(*turns[start : start + 4], session_id="s") for start in (0, 2)]
    assert outline(read_records(tmp_path, *windows)) == ["s: P1 M2 P3 M4 P5 M6"]


def test_an_edited_copy_of_one_id_is_the_line_and_the_older_one_a_branch(tmp_path: Path) -> None:
    start = [user("a"), bot("b")]
    copies = [chat(*start, user(f"c{n}"), bot(f"d{n}"), id="s") for n in (1, 2)]
    main, branch = read_records(tmp_path, *copies)
    assert outline([main, branch]) == ["s: Pa Mb Pc2 Md2", "s~1: Pa Mb Pc1 Md1"]
    assert (main.fork, branch.branch_of, branch.branch_at) == (2, "s", 2)
    assert [s.kind for s in branch.messages[3].signals] == ["regenerate"]


@pytest.mark.parametrize("where", ["chat", "rows"])
def test_answers_to_one_message_are_branches(tmp_path: Path, where: str) -> None:
    parents = [("1", "", user("q")), ("2", "1", bot("a")), ("3", "1", bot("b"))]
    rows = [{**message, "id": name, "parent_id": parent} for name, parent, message in parents]
    records = (
        [chat(*rows, id="x")]
        if where == "chat"
        else [{"session_id": "x", "message": row["content"], **row} for row in rows]
    )
    assert outline(read_records(tmp_path, *records)) == ["x: Pq Mb", "x~2: Pq Ma"]


def test_tenants_with_the_same_ids_stay_apart(tmp_path: Path) -> None:
    records = [chat(user(t), bot("b"), id="1", user_id="5", tenant_id=t) for t in ("x", "y")]
    assert outline(read_records(tmp_path, *records)) == ["1: Px Mb", "1: Py Mb"]


LANGCHAIN = {
    "data": chat(
        {"type": "human", "data": {"content": "a"}}, {"type": "ai", "data": {"content": "b"}}
    ),
    "constructors": chat(
        {"type": "constructor", "id": ["x", "HumanMessage"], "kwargs": {"content": "a"}},
        {"type": "constructor", "id": ["x", "AIMessage"], "kwargs": {"content": "b"}},
    ),
}


@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchain_messages_have_their_words(tmp_path: Path, name: str) -> None:
    assert outline(read_records(tmp_path, {**LANGCHAIN[name], "id": "1"})) == ["1: Pa Mb"]


def test_a_tool_part_is_its_call_and_then_its_result(tmp_path: Path) -> None:
    part = {"type": "tool-time", "toolCallId": "t", "input": {}, "output": "noon"}
    answer = {"role": "assistant", "parts": [part, {"type": "text", "text": "It is noon"}]}
    (item,) = read_records(tmp_path, chat(user("when?"), answer, id="1"))
    assert [m.role for m in item.messages] == ["user", "assistant", "tool", "assistant"]
    assert (item.messages[1].tool_calls[0].name, item.messages[2].content) == ("time", "noon")


@pytest.mark.parametrize(
    "columns", [{"thumbs_down": 1}, {"liked": False, "vote": "down"}, {"feedback": "negative"}]
)
def test_a_thumb_counts_wherever_it_stands(tmp_path: Path, columns: dict[str, Any]) -> None:
    places = [
        chat(user("q"), bot("a"), id="1", **columns),
        {"prompt": "q", "response": "a", **columns},
    ]
    for record in places:
        (item,) = read_records(tmp_path, record)
        assert [(s.kind, s.value) for s in item.messages[1].signals] == [("thumb", -1.0)]


@pytest.mark.parametrize("name", ["chatcmpl-1", "1"])
def test_plain_chats_are_openai_chat(tmp_path: Path, name: str) -> None:
    records = [chat(user(f"q{n}"), bot("a"), id=f"{name}{n}") for n in range(3)]
    assert {item.source for item in read_records(tmp_path, *records)} == {"openai-chat"}


TYPED = [
    "what does the <output> tag do? and </output>?",
    "use <question>how</question> here",
    "<context>my thesis</context> summarize",
    "-----\nhello\n-----\nbye\n-----",
    "--- please\n+++ now\n-5 points\n@@ me",
    "- first\n+ and\n- done",
]


@pytest.mark.parametrize("text", TYPED)
def test_what_a_person_typed_is_theirs(text: str) -> None:
    assert words_of(mark_author(RawMessage("user", text))) == text


PASTED = [
    ("On Monday Bob wrote:\n> can you?\n\nwhat now?", "what now?"),
    ("From: a\nSent: b\nSubject: c\n\nwhat does he want?", "what does he want?"),
    ("<context>\nfile words\n</context>\nsummarize", "summarize"),
]


@pytest.mark.parametrize(("text", "words"), PASTED)
def test_what_a_person_pasted_is_not_theirs(text: str, words: str) -> None:
    assert words_of(mark_author(RawMessage("user", text))).strip() == words


def test_conversations_that_were_written_are_read_as_they_were(tmp_path: Path) -> None:
    copies = [chat(user("a"), bot("b"), user(f"c{n}"), bot("d"), id="s") for n in (1, 2)]
    first = read_records(tmp_path, *copies)
    written = [format_conversation(item) for item in [*first, *first[:1]]]
    json_lines.write(written, tmp_path / "out")
    again = [format_conversation(item) for item in read(tmp_path / "out")]  # type: ignore[arg-type]
    assert again == written
