"""Shapes of logs as people have them, several of each kind: read whole and by the right speaker.

An outline has a part for each message: P for a person, M for a model, T for a tool, S for a
system, - for a machine; `||` stands between conversations, `~2` before a branch that left at 2.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from upshot.records import BadRecord, RawConversation
from upshot.sources.reading import read
from upshot.sources.speakers import words_of


def lines(*rows: object) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n"


def said(text: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **more}


def answer(text: Any, **more: Any) -> dict[str, Any]:
    return said(text, "assistant", **more)


def chat(name: str, *texts: str) -> dict[str, Any]:
    turns = [said(t) if i % 2 == 0 else answer(t) for i, t in enumerate(texts)]
    return {"id": name, "messages": turns}


def outline(path: Path, **options: Any) -> str:
    return " || ".join(_outline_item(item) for item in read([path], **options))


def _outline_item(item: RawConversation | BadRecord) -> str:
    if isinstance(item, BadRecord):
        return "bad"
    parts: list[str] = []
    for message in item.messages[item.branch_at if item.branch_of else 0 :]:
        words = words_of(message).strip() if message.role == "user" else message.content.strip()
        is_machine = message.role == "user" and (message.author == "machine" or not words)
        mark = "-" if is_machine else {"user": "P", "assistant": "M", "tool": "T"}.get(message.role)
        calls = "".join(f" {call.name}()" for call in message.tool_calls)
        text = "" if is_machine else words.replace("\n", "/")
        parts.append(f"{mark or 'S'} {text}{calls}".strip().replace("  ", " "))
    return (f"~{item.branch_at} " if item.branch_of else "") + "|".join(parts)


def claude(kind: str, name: str, parent: str | None, content: Any, **more: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "type": kind,
        "sessionId": "s1",
        "uuid": name,
        "parentUuid": parent,
        "timestamp": f"2026-05-01T10:00:{ord(name) % 60:02d}Z",
    }
    if kind in ("user", "assistant"):
        record["message"] = {"role": kind, "content": content}
    else:
        record["content"] = content
    return {**record, **more}


def words(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


DENIED = (
    "The user doesn't want to proceed with this tool use. The tool use was rejected. To tell you"
    " how to proceed, the user said:\nuse spaces"
)
CLAUDE_CODE = {
    "P fix it|M ok|-|P now test it|M done": [
        claude("user", "a", None, "fix it"),
        claude("assistant", "b", "a", words("ok")),
        claude("system", "c", None, "compacted", subtype="compact_boundary", logicalParentUuid="b"),
        claude("user", "d", "c", "This session is being continued …", isCompactSummary=True),
        claude("user", "e", "d", "now test it"),
        claude("assistant", "f", "e", words("done")),
    ],
    "P make test|T 2 failed|P why?|M because": [
        claude("user", "a", None, "<bash-input>make test</bash-input>"),
        claude("user", "b", "a", "<bash-stdout>2 failed</bash-stdout><bash-stderr></bash-stderr>"),
        claude("user", "c", "b", "why?"),
        claude("assistant", "d", "c", words("because")),
    ],
    "P commit|M done|-|M fixed lint|P thanks": [
        claude("user", "a", None, "commit"),
        claude("assistant", "b", "a", words("done")),
        claude("user", "c", "b", "Stop hook feedback:\n[check.sh]: lint failed", isMeta=True),
        claude("assistant", "d", "c", words("fixed lint")),
        claude("user", "e", "d", "thanks"),
    ],
    "P edit it|M Edit()|T *|P use spaces|M ok": [
        claude("user", "a", None, "edit it"),
        claude("assistant", "b", "a", [{"type": "tool_use", "id": "t", "name": "Edit"}]),
        claude(
            "user",
            "c",
            "b",
            [{"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": DENIED}],
        ),
        claude("assistant", "d", "c", words("ok")),
    ],
    "P explain this|M it sorts": [
        claude(
            "user",
            "a",
            None,
            [*words("<ide_opened_file>/w/a.py</ide_opened_file>"), *words("explain this")],
        ),
        claude("assistant", "b", "a", words("it sorts")),
    ],
    "P /review/only the parser|-|M 3 bugs": [
        claude(
            "user",
            "a",
            None,
            "<command-message>review</command-message>\n<command-name>/review</command-name>\n"
            "<command-args>only the parser</command-args>",
        ),
        claude("user", "b", "a", words("# Review\nRead all files."), isMeta=True),
        claude("assistant", "c", "b", words("3 bugs")),
    ],
    "P hi|M read()|T txt|M done": [  # Cursor's agent prints calls with their results
        {"type": "user", "message": said(words("hi")), "session_id": "c"},
        {
            "type": "tool_call",
            "subtype": "completed",
            "call_id": "t",
            "tool_call": {"readToolCall": {"args": {"path": "a"}, "result": {"success": "txt"}}},
            "session_id": "c",
        },
        {"type": "assistant", "message": answer(words("done")), "session_id": "c"},
    ],
}


@pytest.mark.parametrize("wanted", CLAUDE_CODE)
def test_sessions_of_claude_code_and_its_kin(tmp_path: Path, wanted: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(lines(*CLAUDE_CODE[wanted]))
    shown = outline(path)
    start, star, end = wanted.partition("*")
    assert shown == wanted or (star and shown.startswith(start) and shown.endswith(end))


ROWS = {
    "times out of order": (
        "a.csv",
        "chat_id,sender,message,sent_at\nk,bot,second,2026-05-01T10:00:05Z\n"
        "k,customer,first,2026-05-01T10:00:00Z\n",
        "P first|M second",
    ),
    "another name of the time": (
        "a.jsonl",
        lines(
            {"thread_id": 1, "sender": "bot", "body": "b", "occurredAt": "2026-05-01T10:00:00Z"},
            {"thread_id": 1, "sender": "guest", "body": "a", "occurredAt": "2026-05-01T09:00:00Z"},
        ).replace("occurredAt", "event_time"),
        "P a|M b",
    ),
    "semicolons": ("a.csv", 'conversation;role;text\n1;user;"a; b"\n1;assistant;c\n', "P a; b|M c"),
    "a message inside the row": (
        "a.jsonl",
        lines(
            {"conversation_id": "a", "message": said("hi")},
            {"conversation_id": "a", "message": answer("yo")},
            {"conversation_id": "b", "turn": said("solo")},
        ),
        "P hi|M yo || P solo",
    ),
    "ids of two users": (
        "a.jsonl",
        lines(
            *(
                {"conversation_id": 1, "user": user, "role": role, "content": f"{role[0]} {user}"}
                for user in ("ann", "bob")
                for role in ("user", "assistant")
            )
        ),
        "P u ann|M a ann || P u bob|M a bob",
    ),
    "messages in a text of JSON": (
        "a.jsonl",
        lines({"id": "a", "messages": json.dumps([said("hi"), answer("yo")])}),
        "P hi|M yo",
    ),
    "a transcript": (
        "a.csv",
        'id,transcript\n1,"User: hi\nAssistant: yo\nUser: bye"\n',
        "P hi|M yo|P bye",
    ),
    "a transcript with times": (
        "a.jsonl",
        lines(
            {"id": 1, "conversation": "[10:02] Customer: no card\n[10:03] Bot: sorry\nabout that"}
        ),
        "P no card|M sorry/about that",
    ),
    "a transcript in bold": (
        "a.jsonl",
        lines({"id": 1, "dialogue": "**Human:** hi\n\n**AI:** yo"}),
        "P hi|M yo",
    ),
    "comments of a ticket": (
        "a.jsonl",
        lines(
            {
                "ticket_id": 5,
                "comments": [
                    {"author": {"role": "end-user"}, "body": "broken"},
                    {"author": {"role": "agent"}, "body": "restart"},
                ],
            }
        ),
        "P broken|M restart",
    ),
    "a history beside the exchange": (
        "a.jsonl",
        lines(
            {
                "message": "more",
                "chat_history": [
                    {"role": "USER", "message": "hi"},
                    {"role": "CHATBOT", "message": "yo"},
                ],
                "response": "sure",
            }
        ),
        "P hi|M yo|P more|M sure",
    ),
    "speakers by their names": (
        "a.jsonl",
        lines(
            {
                "id": "n",
                "messages": [
                    {"speaker": "Ann", "text": "hi"},
                    {"speaker": "HelpBot", "text": "yo"},
                    {"speaker": "Ann", "text": "thanks"},
                ],
            },
            {
                "id": "o",
                "messages": [{"from": "Bo", "text": "hi"}, {"from": "My GPT", "text": "yo"}],
            },
        ),
        "P hi|M yo|P thanks || P hi|M yo",
    ),
    "a direction and a payload": (
        "a.csv",
        'conversationId,direction,payload\nc,incoming,"{""text"":""hi""}"\n'
        'c,outgoing,"{""text"":""yo""}"\n',
        "P hi|M yo",
    ),
    "exchanges of a session": (
        "a.jsonl",
        lines(
            {"session": "s", "queryText": "hi", "fulfillmentText": "yo"},
            {"session": "s", "queryText": "more", "fulfillmentText": "sure"},
        ),
        "P hi|M yo|P more|M sure",
    ),
    "events of a bot": (
        "a.jsonl",
        lines(
            {"sender_id": "s", "event": "user", "text": "hi", "timestamp": 2},
            {"sender_id": "s", "event": "bot", "text": "hello", "timestamp": 3},
            {"sender_id": "t", "event": "user", "text": "other", "timestamp": 3},
        ),
        "P hi|M hello || P other",
    ),
    "events of a bot in a database": (
        "a.csv",
        'id,sender_id,type_name,data\n1,s,user,"{""event"":""user"",""text"":""hi""}"\n'
        '2,s,bot,"{""event"":""bot"",""text"":""hello""}"\n',
        "P hi|M hello",
    ),
    "spellings of one name": (
        "a.jsonl",
        lines(
            {**chat("1", "x", "y"), "user": "Zoe\u0308"},
            {**chat("1", "x", "y", "z"), "user": "Zo\u00eb"},
        ),
        "P x|M y|P z",
    ),
    "a heading before the lines": (
        "a.jsonl",
        "# exported on Monday\n" + lines(chat("1", "x", "y"), chat("2", "z", "w")),
        "P x|M y || P z|M w",
    ),
    "a broken first line": (
        "a.jsonl",
        '{"id": "0", "mess\n' + lines(chat("1", "x", "y"), chat("2", "z", "w")),
        "bad || P x|M y || P z|M w",
    ),
    "nothing in the first line": (
        "a.jsonl",
        lines({"id": "0", "messages": []}, chat("1", "x", "y")),
        "bad || P x|M y",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_many_shapes(tmp_path: Path, name: str) -> None:
    file, content, wanted = ROWS[name]
    (tmp_path / file).write_text(content)
    assert outline(tmp_path / file) == wanted


BROKEN_TABLES = {
    "a quote that is not closed": (
        'c,role,content\n1,user,"cut off\n1,assistant,"whole, and fine"\n2,user,"hi, there"\n',
        "bad || M whole, and fine || P hi, there",
    ),
    "a quote that is not closed before plain rows": (
        'c,role,content\n1,user,"cut off\n1,assistant,whole\n1,user,again\n2,user,"hi, there"\n',
        "bad || M whole|P again || P hi, there",
    ),
    "a row that is too short": (
        "c,role,content\n1,user\n1,assistant,whole\n",
        "bad || M whole",
    ),
    "a quote that is open at the end": (
        'c,role,content\n1,user,hi\n1,assistant,"cut o',
        "bad || P hi",
    ),
    "text behind a quote": ('c,role,content\n1,user,"say "hi" now"\n', 'P say hi" now"'),
}


@pytest.mark.parametrize("name", BROKEN_TABLES)
def test_one_bad_row_of_a_table_is_one_bad_record(tmp_path: Path, name: str) -> None:
    table, wanted = BROKEN_TABLES[name]
    (tmp_path / "a.csv").write_text(table.replace("c,role", "conversation_id,role"))
    assert outline(tmp_path / "a.csv") == wanted


def test_structs_of_parquet_are_messages(tmp_path: Path) -> None:
    turns = [said("hi"), answer("yo"), said("solo")]
    table = pa.table({"conversation_id": ["a", "a", "b"], "message": turns})
    pq.write_table(table, tmp_path / "a.parquet")
    assert outline(tmp_path / "a.parquet") == "P hi|M yo || P solo"


@pytest.mark.parametrize("request_name", ["body", "request", "request_payload"])
def test_logs_of_requests_under_many_names(tmp_path: Path, request_name: str) -> None:
    rows = [
        {
            request_name: {"model": "m", "system": words("be brief"), "messages": turns},
            "response": {"role": "assistant", "content": words(reply), "type": "message"},
        }
        for turns, reply in (
            ([said("hi")], "hello"),
            ([said("hi"), answer(words("hello")), said("more")], "sure"),
        )
    ]
    (tmp_path / "a.jsonl").write_text(lines(*rows))
    assert outline(tmp_path / "a.jsonl") == "S be brief|P hi|M hello|P more|M sure"


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_traces_of_mlflow_are_read_in_their_envelope_and_without(
    tmp_path: Path, is_wrapped: bool
) -> None:
    inputs, outputs = {"messages": [said("hi")]}, {"choices": [{"message": answer("yo")}]}
    span = {
        "trace_id": "tr",
        "span_id": "s",
        "name": "chat",
        "start_time_unix_nano": 1777629600000000000,
        "attributes": {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.spanInputs": json.dumps(inputs),
            "mlflow.spanOutputs": json.dumps(outputs),
        },
    }
    trace = {"info": {"trace_id": "tr"}, "data": {"spans": [span]}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(trace if is_wrapped else [span]))
    assert outline(path) == "P hi|M yo"


MAIL = "From: Bob Stone\nSent: Monday\nTo: Ann\nSubject: order\n\nIt still does not work."
FORWARDED = {
    f"please answer this:\n\n{MAIL}": "P please answer this:",
    f"Bitte:\n\n{MAIL.replace('From', 'Von').replace('Sent', 'Gesendet')}": "P Bitte:",
    f"see below\n\n-----Original Message-----\n{MAIL}": "P see below",
    f"{MAIL}\n\nanswer it kindly": "P It still does not work.//answer it kindly",
}


@pytest.mark.parametrize("text", FORWARDED)
def test_a_forwarded_mail_is_not_the_persons_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(lines(chat("1", text, "ok")))
    assert outline(tmp_path / "a.jsonl") == f"{FORWARDED[text]}|M ok"


def window(first: int, last: int) -> dict[str, Any]:
    """A request that holds exchanges from `first` on, and its answer."""
    turns = [
        turn
        for number in range(first, last)
        for turn in (
            said(f"what is item number {number} of it?"),
            answer(f"answer number {number}."),
        )
    ]
    return {
        "id": f"r{last}",
        "request": {"messages": [*turns, said(f"what is item number {last} of it?")]},
        "response": {"choices": [{"message": answer(f"answer number {last}.")}]},
    }


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_sliding_window_without_a_session_is_one_conversation(tmp_path: Path, size: int) -> None:
    rows = [window(max(0, last - size), last) for last in range(6)]
    (tmp_path / "a.jsonl").write_text(lines(*rows))
    wanted = [f"P what is item number {n} of it?|M answer number {n}." for n in range(6)]
    assert outline(tmp_path / "a.jsonl") == "|".join(wanted)


def test_two_chats_that_end_and_begin_with_a_greeting_stay_apart(tmp_path: Path) -> None:
    def record(name: str, *texts: str) -> dict[str, Any]:
        turns: Sequence[dict[str, Any]] = chat(name, *texts)["messages"]
        reply = {"choices": [{"message": turns[-1]}]}
        return {"id": name, "request": {"messages": turns[:-1]}, "response": reply}

    rows = [
        record("a", "sort a list", "use sorted", "ok", "Great!"),
        record("b", "ok", "Great!", "parse a date", "use strptime"),
    ]
    (tmp_path / "a.jsonl").write_text(lines(*rows))
    assert outline(tmp_path / "a.jsonl").count("||") == 1


def test_records_inside_a_larger_value_are_mapped(tmp_path: Path) -> None:
    turns = [{"by": "client", "said": {"txt": "hi"}}, {"by": "agent", "said": {"txt": "yo"}}]
    chats = [{"ref": f"x{n}", "who": {"mail": "a@b.c"}, "log": turns} for n in range(2)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": {"chats": chats}}))
    mapping = {
        "records": "data.chats[*]",
        "messages": "log[*]",
        "role": "by",
        "content": "said.txt",
        "id": "ref",
    }
    assert outline(path, mapping=mapping) == "P hi|M yo || P hi|M yo"
    assert outline(path, mapping={**mapping, "records": "data.none[*]"}) == "bad"


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_lines_of_an_archive_are_read_as_its_files(tmp_path: Path, ending: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("a", "b"):
            data = lines(chat(name, f"from {name}", "yo")).encode()
            info = tarfile.TarInfo(f"logs/{name}.jsonl")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = buffer.getvalue()
    path = tmp_path / f"logs{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    assert outline(path) == "P from a|M yo || P from b|M yo"
    path.write_bytes(gzip.compress(data)[:-20] if ending.endswith("gz") else data[:1700])
    assert outline(path).split(" || ") in (
        ["P from a|M yo", "bad"],
        ["P from a|M yo", "P from b|M yo", "bad"],
    )


def test_what_was_attached_without_a_word_is_not_the_persons(tmp_path: Path) -> None:
    turns = [
        {
            "uuid": "1",
            "sender": "human",
            "text": "",
            "content": [],
            "attachments": [{"file_name": "a.txt", "extracted_content": "it never worked"}],
        },
        {"uuid": "2", "sender": "assistant", "text": "I see.", "content": words("I see.")},
    ]
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([{"uuid": "c", "account": {"uuid": "a"}, "chat_messages": turns}]))
    assert outline(path) == "-|M I see."
