"""Each format is recognised by its content and read with the signals that it carries."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from upshot.errors import FormatError, NotFoundError
from upshot.io.files import open_input
from upshot.records import BadRecord, RawConversation, ToolCall
from upshot.sources.formats import FORMATS
from upshot.sources.reading import detect, read, read_file

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def write(path: Path, *records: object) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return path


def conversations(path: Path | str) -> list[RawConversation]:
    items = list(read(path))
    assert not [item for item in items if isinstance(item, BadRecord)], items
    return [item for item in items if isinstance(item, RawConversation)]


def signals(conversation: RawConversation) -> list[tuple[int, str, float]]:
    return [(i, s.kind, s.value) for i, m in enumerate(conversation.messages) for s in m.signals]


def test_openai_chat_accepts_every_spelling_and_keeps_unknown_fields(tmp_path: Path) -> None:
    record = {
        "session_id": "s1",
        "user_id": "u",
        "created_at": 60,
        "messages": TURNS,
        "tenant": "t",
    }
    (found,) = conversations(write(tmp_path / "a.jsonl", record))
    assert (found.id, found.user, found.started_at, found.metadata["tenant"]) == (
        "s1",
        "u",
        60.0,
        "t",
    )


def test_openai_chat_reads_parts_tool_calls_and_feedback(tmp_path: Path) -> None:
    call = {"function": {"name": "run", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "run it"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call],
            "feedback": {"thumb": "down", "rating": 2, "range": [1, 5]},
        },
        {"role": "tool", "content": "==== 2 failed, 1 passed in 0.1s ===="},
    ]
    (found,) = conversations(write(tmp_path / "a.jsonl", {"messages": messages}))
    assert found.messages[1].content == ""
    assert found.messages[1].tool_calls == (ToolCall("run", "{}"),)
    assert signals(found) == [(1, "thumb", -1.0), (1, "rating", -0.5), (1, "test", -0.5)]


def test_a_broken_line_is_quarantined_with_its_place_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        json.dumps({"messages": TURNS})
        + '\n{"messages": [\n'
        + json.dumps({"messages": [{"role": "", "content": ""}]})
        + "\n\n"
        + json.dumps({"messages": TURNS})
    )
    items = list(read(path))
    bad = [item for item in items if isinstance(item, BadRecord)]
    assert len(items) == 4
    assert [record.position for record in bad] == ["line 2", "line 3"]
    assert "not JSON" in bad[0].reason
    assert "no role" in bad[1].reason


def test_sharegpt(tmp_path: Path) -> None:
    record = [
        {
            "id": "x",
            "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
        }
    ]
    (found,) = conversations(write(tmp_path / "a.json", record))
    assert [(m.role, m.content) for m in found.messages] == [("user", "a"), ("assistant", "b")]


def test_chatgpt_export_keeps_regenerated_siblings_as_branches(examples: Path) -> None:
    main, branch = conversations(examples / "chatgpt-export" / "conversations.json")
    assert main.fork == branch.branch_at == 1
    assert branch.branch_of == main.id
    assert main.messages[0].content == branch.messages[0].content
    assert main.messages[1].content != branch.messages[1].content
    assert signals(branch) == [(1, "regenerate", -0.6)]


def test_chatgpt_export_with_a_circle_is_one_bad_record(tmp_path: Path) -> None:
    node = {
        "message": {"author": {"role": "user"}, "content": {"parts": ["x"]}},
        "children": ["n"],
        "parent": "n",
    }
    (found,) = list(
        read(write(tmp_path / "a.json", [{"mapping": {"n": node}, "current_node": "n"}]))
    )
    assert isinstance(found, BadRecord)


def test_claude_export(tmp_path: Path) -> None:
    turns = [
        {
            "uuid": "1",
            "sender": "human",
            "text": "a",
            "created_at": "2026-01-01T00:00:00Z",
            "parent_message_uuid": "0",
        },
        {"uuid": "2", "sender": "assistant", "text": "b", "parent_message_uuid": "1"},
        {"uuid": "3", "sender": "assistant", "text": "c", "parent_message_uuid": "1"},
    ]
    main, branch = conversations(
        write(tmp_path / "a.json", [{"uuid": "k", "name": "n", "chat_messages": turns}])
    )
    assert (main.messages[1].content, branch.messages[1].content) == ("c", "b")
    assert signals(branch) == [(1, "regenerate", -0.6)]


def test_claude_code_joins_tool_results_and_sees_interrupts(tmp_path: Path) -> None:
    def line(kind: str, content: object, **more: object) -> dict[str, object]:
        return {
            "type": kind,
            "sessionId": "s",
            "uuid": "u",
            "cwd": "/p",
            "message": {"role": kind, "content": content},
            **more,
        }

    path = write(
        tmp_path / "s.jsonl",
        line("user", "fix it", timestamp="2026-01-01T00:00:00Z"),
        line(
            "assistant",
            [
                {"type": "text", "text": "ok"},
                {"type": "tool_use", "name": "Bash", "input": {"command": "make"}},
            ],
        ),
        line("user", [{"type": "tool_result", "content": "make: *** no rule", "is_error": True}]),
        line("user", [{"type": "text", "text": "[Request interrupted by user]"}]),
    )
    (found,) = conversations(path)
    assert [m.role for m in found.messages] == ["user", "assistant", "tool", "user"]
    assert {kind for _, kind, _ in signals(found)} == {"exit", "interrupt"}


def test_codex_reads_calls_outputs_and_exit_codes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.jsonl",
        {
            "type": "session_meta",
            "payload": {"id": "s", "timestamp": "2026-01-01T00:00:00Z", "cwd": "/p"},
        },
        {
            "type": "response_item",
            "payload": {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "go"}],
            },
        },
        {
            "type": "response_item",
            "payload": {"type": "function_call", "name": "shell", "arguments": "{}"},
        },
        {
            "type": "response_item",
            "payload": {
                "type": "function_call_output",
                "output": json.dumps({"output": "no", "metadata": {"exit_code": 2}}),
            },
        },
    )
    (found,) = conversations(path)
    assert [m.role for m in found.messages] == ["user", "assistant", "tool"]
    assert signals(found) == [(1, "exit", -0.5)]


AIDER = """
# aider chat started at 2026-01-02 10:00:00

> Model: m with diff edit format@@

#### add a flag@@

Sure.

> Applied edit to a.py@@
> Commit abc1234 feat: add a flag@@

#### /undo@@
> Removed: abc1234 feat: add a flag@@
> HEAD is: fff0000 before@@

# aider chat started at 2026-01-03 10:00:00

#### #### not a heading of markdown@@

> a quotation in the answer
""".replace("@@", "  ")  # aider ends these lines with two spaces


def test_aider_tells_user_tool_and_answer_apart(tmp_path: Path) -> None:
    path = tmp_path / "h.md"
    path.write_text(AIDER)
    first, second = conversations(path)
    assert [m.role for m in first.messages] == ["tool", "user", "assistant", "tool", "user", "tool"]
    assert [(i, k) for i, k, _ in signals(first)] == [(2, "commit"), (5, "undo"), (5, "head")]
    assert first.model == "m"
    assert [m.role for m in second.messages] == ["user", "assistant"]


def test_swe_agent(tmp_path: Path) -> None:
    steps = [
        {"action": "ls", "observation": "a.py", "thought": "look", "response": "look\n```\nls\n```"}
    ]
    history = [{"role": "system", "content": "s"}, {"role": "user", "content": "task"}]
    (found,) = conversations(
        write(
            tmp_path / "t.traj",
            {"trajectory": steps, "history": history, "info": {"exit_status": "exit_cost"}},
        )
    )
    assert [m.role for m in found.messages] == ["system", "user", "assistant", "tool"]
    assert signals(found) == [(2, "exit", -0.3)]


def test_otel_joins_the_calls_of_one_conversation(tmp_path: Path) -> None:
    def span(*messages: dict[str, object]) -> dict[str, object]:
        attributes = [
            {"key": "gen_ai.conversation.id", "value": {"stringValue": "k"}},
            {"key": "gen_ai.input.messages", "value": {"stringValue": json.dumps(messages[:-1])}},
            {"key": "gen_ai.output.messages", "value": {"stringValue": json.dumps(messages[-1:])}},
        ]
        return {"traceId": "t", "startTimeUnixNano": "60000000000", "attributes": attributes}

    def said(role: str, text: str) -> dict[str, object]:
        return {"role": role, "parts": [{"type": "text", "content": text}]}

    first = span(said("user", "a"), said("assistant", "b"))
    second = span(
        said("user", "a"), said("assistant", "b"), said("user", "c"), said("assistant", "d")
    )
    (found,) = conversations(
        write(
            tmp_path / "o.json", {"resourceSpans": [{"scopeSpans": [{"spans": [first, second]}]}]}
        )
    )
    assert [m.content for m in found.messages] == ["a", "b", "c", "d"]
    assert found.started_at == 60.0


def test_langfuse_counts_the_scores_of_people_only(tmp_path: Path) -> None:
    scores = [{"value": 0, "source": "API"}, {"value": 1, "source": "EVAL", "name": "toxicity"}]
    trace = {
        "id": "t",
        "observations": [],
        "input": TURNS[:1],
        "output": "hello",
        "scores": scores,
        "projectId": "p",
    }
    (found,) = conversations(write(tmp_path / "l.json", [trace]))
    assert signals(found) == [(1, "thumb", -1.0), (1, "comment", 0.0)]


@pytest.mark.parametrize("name", ["conversation_hash", "conversation_id"])
def test_parquet_knows_wildchat_and_lmsys(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.Table.from_pylist([{name: "k", "conversation": TURNS, "model": "m"}]), path)
    (found,) = conversations(path)
    assert (found.id, len(found.messages)) == ("k", 2)


def test_parquet_with_other_columns_asks_for_a_map(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    turns = [{"who": turn["role"], "words": turn["content"]} for turn in TURNS]
    pq.write_table(pa.Table.from_pylist([{"talk": turns}]), path)
    with pytest.raises(FormatError, match=r"--map messages=talk\[\*\],role=who"):
        list(read(path))
    mapping = {"messages": "talk[*]", "role": "who", "content": "words"}
    (found,) = list(read_file(str(path), mapping=mapping))
    assert isinstance(found, RawConversation)
    assert [message.content for message in found.messages] == ["hi", "hello"]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_compressed_files_are_known_by_their_first_bytes(tmp_path: Path, compress: object) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(compress(json.dumps({"messages": TURNS}).encode()))  # type: ignore[operator]
    assert len(conversations(path)) == 1


def test_folders_and_globs(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"messages": TURNS})
    (tmp_path / "notes.txt").write_text("nothing")
    items = list(read(tmp_path))
    assert sum(isinstance(item, RawConversation) for item in items) == 1
    assert sum(isinstance(item, BadRecord) for item in items) == 1
    assert len(conversations(str(tmp_path / "*.jsonl"))) == 1


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(json.dumps({"messages": TURNS}).encode())

    monkeypatch.setattr(sys, "stdin", Stdin())
    assert len(conversations("-")) == 1


def test_a_wrong_file_gets_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\x00\x01garbage")
    with pytest.raises(FormatError, match="in no format that Upshot knows"):
        list(read(tmp_path / "x.bin"))
    with pytest.raises(NotFoundError, match="no such file"):
        list(read(tmp_path / "missing"))


def test_a_broken_item_of_an_array_does_not_lose_the_others(tmp_path: Path) -> None:
    good = json.dumps({"id": "a", "conversations": [{"from": "human", "value": "x"}]})
    (tmp_path / "a.json").write_text(f'[{good}, {{"conversations": oops}}, {good}]')
    items = list(read(tmp_path / "a.json"))
    assert [type(item).__name__ for item in items] == [
        "RawConversation",
        "BadRecord",
        "RawConversation",
    ]


def test_every_format_has_one_name() -> None:
    names = [FORMATS.load(name).NAME for name in FORMATS.names]
    assert names == list(FORMATS.names)
    assert len(names) == len(set(names))


def test_real_files_are_known(data: Path) -> None:
    found: dict[str, str] = {}
    for path in [
        *sorted((data / "formats").iterdir()),
        data / "coding-chats" / "aider-chat-history.md",
    ]:
        source = open_input(str(path))
        found[path.suffix] = detect(source)
        source.close()
    assert found == {".json": "sharegpt", ".traj": "swe-agent", ".md": "aider"}
