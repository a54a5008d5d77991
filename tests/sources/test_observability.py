"""Logs of tracers, gateways, APIs and evaluations: who spoke, in which conversation, once."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from upshot.errors import FormatError
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources.notes import collect_notes
from upshot.sources.payloads import read_answer, read_request
from upshot.sources.reading import read

FILES = Path(__file__).parent / "files"
Turns = list[tuple[str, str]]


def write(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return path


def conversations(*paths: Path) -> list[RawConversation]:
    items = list(read([str(path) for path in paths]))
    assert not [item for item in items if isinstance(item, BadRecord)], items
    return [item for item in items if isinstance(item, RawConversation)]


def talk(conversation: RawConversation) -> Turns:
    return [(m.role, m.content) for m in conversation.messages]


def signals(conversation: RawConversation) -> list[tuple[int, str, float]]:
    return [(i, s.kind, s.value) for i, m in enumerate(conversation.messages) for s in m.signals]


def wrap(value: Any) -> dict[str, Any]:
    """A value as OTLP has it."""
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": k, "value": wrap(v)} for k, v in value.items()]}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [wrap(item) for item in value]}}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": wrap(value)} for key, value in values.items()]


def span(
    trace: str, at: int, values: dict[str, Any], *, name: str = "", parent: str = ""
) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": name or f"{trace}-{at}",
        "parentSpanId": parent,
        "name": "call",
        "startTimeUnixNano": str((1_780_000_000 + at) * 10**9),
        "endTimeUnixNano": str((1_780_000_001 + at) * 10**9),
        "attributes": attributes(values),
    }


def otlp(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def parts(turns: Turns) -> str:
    return json.dumps(
        [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in turns]
    )


def chat(trace: str, at: int, turns: Turns, answer: str, session: str = "S") -> dict[str, Any]:
    values = {
        "gen_ai.input.messages": parts(turns),
        "gen_ai.output.messages": parts([("assistant", answer)]),
        **({"gen_ai.conversation.id": session} if session else {}),
    }
    return span(trace, at, values)


def exchange(turns: Turns, answer: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": role, "content": text} for role, text in turns]
    choice = {"message": {"role": "assistant", "content": answer}}
    return {"request": {"messages": messages}, "response": {"choices": [choice]}, **more}


# Conventions --------------------------------------------------------------------------------------

PLAIN = [("user", "open today?"), ("assistant", "until six")]
MESSAGES = [{"role": "user", "content": "open today?"}]
CONVENTIONS: dict[str, dict[str, Any]] = {
    "gen_ai": {
        "gen_ai.input.messages": parts(PLAIN[:1]),
        "gen_ai.output.messages": parts(PLAIN[1:]),
    },
    "gen_ai, structured": {
        "gen_ai.input.messages": [
            {"role": "user", "parts": [{"type": "text", "content": "open today?"}]}
        ],
        "gen_ai.output.messages": [
            {"role": "assistant", "parts": [{"type": "text", "content": "until six"}]}
        ],
    },
    "gen_ai, older": {
        "gen_ai.prompt": json.dumps(MESSAGES),
        "gen_ai.completion": json.dumps({"text": "until six", "finish_reason": "stop"}),
    },
    "traceloop": {
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "open today?",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "until six",
    },
    "openinference": {
        "openinference.span.kind": "LLM",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.contents.0.message_content.type": "text",
        "llm.input_messages.0.message.contents.0.message_content.text": "open today?",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "until six",
    },
    "openinference, values only": {
        "openinference.span.kind": "LLM",
        "input.value": json.dumps({"messages": MESSAGES}),
        "output.value": "until six",
    },
    "vercel": {"ai.prompt.messages": json.dumps(MESSAGES), "ai.response.text": "until six"},
    "vercel, outer": {
        "ai.prompt": json.dumps({"prompt": "open today?"}),
        "ai.response.text": "until six",
    },
    "adk": {
        "gcp.vertex.agent.llm_request": json.dumps(
            {"contents": [{"role": "user", "parts": [{"text": "open today?"}]}]}
        ),
        "gcp.vertex.agent.llm_response": json.dumps(
            {"content": {"role": "model", "parts": [{"text": "until six"}]}}
        ),
    },
    "langfuse's own": {
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": json.dumps(MESSAGES),
        "langfuse.observation.output": json.dumps({"role": "assistant", "content": "until six"}),
    },
    "mlflow": {
        "mlflow.spanType": '"CHAT_MODEL"',
        "mlflow.spanInputs": json.dumps({"messages": MESSAGES}),
        "mlflow.spanOutputs": json.dumps(
            {"choices": [{"message": {"role": "assistant", "content": "until six"}}]}
        ),
    },
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_otel_reads_every_convention(name: str, tmp_path: Path) -> None:
    (one,) = conversations(write(tmp_path / "a", otlp(span("t", 0, CONVENTIONS[name]))))
    assert talk(one) == PLAIN
    assert one.messages[1].refs == {"trace": "t", "span": "t-0"}
    assert one.messages[0].time == 1_780_000_000
    assert one.messages[1].time == 1_780_000_001


SPAN = {"gen_ai.input.messages": parts(PLAIN[:1]), "gen_ai.output.messages": parts(PLAIN[1:])}
ENVELOPES: dict[str, list[Any]] = {
    "otlp": [otlp(span("t", 0, SPAN))],
    "otlp in snake case": [
        {"resource_spans": [{"scope_spans": [{"spans": [span("t", 0, SPAN)]}]}]}
    ],
    "instrumentation libraries": [
        {"batches": [{"instrumentationLibrarySpans": [{"spans": [span("t", 0, SPAN)]}]}]}
    ],
    "a trace of Tempo": [{"trace": {"resourceSpans": otlp(span("t", 0, SPAN))["resourceSpans"]}}],
    "the console of Python": [
        {"name": "chat", "context": {"trace_id": "t", "span_id": "s"}, "attributes": SPAN}
    ],
    "readable spans": [
        [{"name": "chat", "spanContext": {"traceId": "t", "spanId": "s"}, "attributes": SPAN}]
    ],
    "rows of ClickHouse": [{"TraceId": "t", "SpanId": "s", "SpanAttributes": SPAN}],
    "columns of Honeycomb": [{"trace.trace_id": "t", "trace.span_id": "s", **SPAN}],
    "tags of Zipkin": [{"traceId": "t", "id": "s", "name": "chat", "tags": SPAN}],
    "log records of the console": [
        {
            "event_name": "gen_ai.user.message",
            "trace_id": "t",
            "span_id": "s",
            "body": {"content": "open today?"},
            "attributes": {"gen_ai.system": "openai"},
        },
        {
            "event_name": "gen_ai.choice",
            "trace_id": "t",
            "span_id": "s",
            "body": {"index": 0, "message": {"role": "assistant", "content": "until six"}},
            "attributes": {},
        },
    ],
    "attributes alone": [{**SPAN, "gen_ai.request.model": "m"}],
    "nested attributes": [
        {
            "context": {"trace_id": "t", "span_id": "s"},
            "attributes": {
                "llm": {
                    "input_messages": [{"message": MESSAGES[0]}],
                    "output_messages": [{"message": {"role": "assistant", "content": "until six"}}],
                }
            },
        }
    ],
    "columns of a table": [
        {
            "context.trace_id": "t",
            "context.span_id": "s",
            "attributes.llm.input_messages": [
                {"message.role": "user", "message.content": "open today?"}
            ],
            "attributes.llm.output_messages": [
                {"message.role": "assistant", "message.content": "until six"}
            ],
        }
    ],
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_otel_reads_every_envelope(name: str, tmp_path: Path) -> None:
    (one,) = conversations(write(tmp_path / "a", *ENVELOPES[name]))
    assert talk(one) == PLAIN


def test_otel_reads_events_of_spans_and_of_logs(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    events = [
        ("gen_ai.system.message", {"content": "Be brief."}),
        ("gen_ai.user.message", {"content": "stock?"}),
        ("gen_ai.assistant.message", {"tool_calls": [call]}),
        ("gen_ai.tool.message", {"id": "c", "content": "4"}),
        ("gen_ai.choice", {"index": 0, "message": {"role": "assistant", "content": "four"}}),
    ]
    on_span = span("t", 0, {"gen_ai.operation.name": "chat"})
    on_span["events"] = [{"name": n, "attributes": attributes(values)} for n, values in events]
    records = [
        {
            "timeUnixNano": "1780000000000000000",
            "eventName": n,
            "traceId": "t",
            "spanId": "s",
            "body": wrap(values),
        }
        for n, values in events
    ]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    for envelope in (otlp(on_span), logs):
        (one,) = conversations(write(tmp_path / "a", envelope))
        assert [m.role for m in one.messages] == [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
        ]
        assert one.messages[2].tool_calls[0].name == "look"
        assert one.messages[3].refs == {"call": "c"}
        assert one.messages[3].content == "4"


def test_a_picture_in_a_part_is_a_mark_and_a_thought_is_left_out(tmp_path: Path) -> None:
    question = [
        {"type": "text", "content": "what is it?"},
        {"type": "blob", "mime_type": "image/png", "modality": "image", "content": "A" * 99},
    ]
    answer = [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "a loaf"}]
    values = {
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": question}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": answer}]),
    }
    (one,) = conversations(write(tmp_path / "a", otlp(span("t", 0, values))))
    assert one.messages[0].content.startswith("what is it?\n<image")
    assert "AAA" not in str(one)
    assert one.messages[1].content == "a loaf"


def test_jaegers_export_is_read_and_one_without_messages_is_named(tmp_path: Path) -> None:
    (one,) = conversations(FILES / "jaeger.json")
    assert talk(one) == PLAIN
    empty = {"data": [{"traceID": "1", "spans": [{"operationName": "get", "tags": []}]}]}
    with pytest.raises(FormatError, match="jaeger"):
        list(read(str(write(tmp_path / "a", empty))))


# Sessions -----------------------------------------------------------------------------------------


def test_side_calls_are_conversations_of_their_own_by_a_machine() -> None:
    main, side = conversations(FILES / "otel.json")
    assert [m.content for m in main.messages] == [
        "You help bakers.",
        "my sourdough is flat",
        "Let it rise longer.",
        "it rose, thank you",
        "Enjoy it.",
    ]
    assert main.user == "nora"
    assert main.id == "bakery-7"
    assert side.parent == "bakery-7"
    assert side.messages[0].written_by == "machine"


def test_a_title_made_in_a_trace_of_its_own_is_no_turn(tmp_path: Path) -> None:
    title = "### Task:\nGenerate a title.\n<chat>\nUSER: how do I sort rows\n</chat>"
    path = write(
        tmp_path / "a",
        otlp(
            chat("1", 0, [("user", "how do I sort rows")], "sort()"),
            chat("2", 2, [("user", title)], "Sorting"),
            chat("3", 9, [("user", "by date please")], "sort_values()"),
        ),
    )
    main, side = conversations(path)
    assert len(main.messages) == 4
    assert side.parent == main.id


@pytest.mark.parametrize(("pause", "count"), [(30, 1), (1, 3)])
def test_a_trace_that_is_a_whole_chat_is_told_from_a_chain_by_the_pauses(
    pause: int, count: int, tmp_path: Path
) -> None:
    spans = [chat("t", pause * n, HISTORY[2 * n : 2 * n + 1], f"a {n}") for n in range(3)]
    assert len(conversations(write(tmp_path / "a", otlp(*spans)))) == count


def test_who_says_the_same_in_more_words_is_still_the_person(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a",
        otlp(
            chat("1", 0, [("user", "how do I sort rows")], "sort()"),
            chat("2", 9, [("user", "how do I sort rows by date, I mean")], "sort_values()"),
        ),
    )
    (one,) = conversations(path)
    assert [m.written_by for m in one.messages] == ["person", "model"] * 2


HISTORY: Turns = [
    (role, f"{text} {n}") for n in range(5) for role, text in (("user", "q"), ("assistant", "a"))
]


@pytest.mark.parametrize(
    "context",
    [
        lambda n: HISTORY[: 2 * n + 1],
        lambda n: [("system", f"It is day {n}."), *HISTORY[: 2 * n + 1]],
        lambda n: [("system", "S"), *HISTORY[max(0, 2 * n - 4) : 2 * n + 1]],
        lambda n: HISTORY[2 * n : 2 * n + 1],
        lambda n: [("system", "S"), HISTORY[2 * n]],
    ],
    ids=["whole history", "changing system prompt", "window", "turns alone", "turns with a system"],
)
def test_a_session_is_one_conversation_however_its_requests_repeat_it(
    context: Callable[[int], Turns], tmp_path: Path
) -> None:
    spans = [chat(str(n), 60 * n, context(n), HISTORY[2 * n + 1][1]) for n in range(5)]
    (one,) = conversations(write(tmp_path / "a", otlp(*spans)))
    assert [pair for pair in talk(one) if pair[0] != "system"] == HISTORY
    assert sum(m.role == "system" for m in one.messages) <= 1


def test_a_history_without_the_steps_of_tools_is_the_same_conversation(tmp_path: Path) -> None:
    calls = [{"id": "c", "name": "w", "arguments": {}, "type": "tool_call"}]
    asked = [{"role": "user", "parts": [{"type": "text", "content": "weather?"}]}]
    called = [*asked, {"role": "assistant", "parts": calls}]
    result = {"type": "tool_call_response", "id": "c", "response": "3"}
    answered = [*called, {"role": "tool", "parts": [result]}]
    first = span(
        "1",
        0,
        {
            "session.id": "S",
            "gen_ai.input.messages": json.dumps(asked),
            "gen_ai.output.messages": json.dumps(called[1:]),
        },
        name="a",
    )
    second = span(
        "1",
        2,
        {
            "session.id": "S",
            "gen_ai.input.messages": json.dumps(answered),
            "gen_ai.output.messages": parts([("assistant", "3 degrees")]),
        },
        name="b",
    )
    shown = [("user", "weather?"), ("assistant", "3 degrees"), ("user", "thanks")]
    (one,) = conversations(write(tmp_path / "a", otlp(first, second, chat("2", 60, shown, "bye"))))
    roles = ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [m.role for m in one.messages] == roles
    assert signals(one) == []


@pytest.mark.parametrize("context", ["the call and its result", "the result alone"])
def test_a_request_with_only_the_last_step_goes_on_from_the_one_before(
    context: str, tmp_path: Path
) -> None:
    call = {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "c", "name": "w", "arguments": {}}],
    }
    result = {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "c", "response": "3"}],
    }
    first = {
        "gen_ai.input.messages": parts([("user", "weather?")]),
        "gen_ai.output.messages": json.dumps([call]),
    }
    second = {
        "gen_ai.input.messages": json.dumps([call, result] if "call and" in context else [result]),
        "gen_ai.output.messages": parts([("assistant", "3 degrees")]),
    }
    (one,) = conversations(write(tmp_path / "a", otlp(span("t", 0, first), span("t", 5, second))))
    assert [m.role for m in one.messages] == ["user", "assistant", "tool", "assistant"]


def test_parallel_calls_that_a_history_tells_one_after_another_are_there_once(
    tmp_path: Path,
) -> None:
    def call(name: str) -> dict[str, Any]:
        return {"type": "function", "id": name, "function": {"name": name, "arguments": "{}"}}

    question = {"role": "user", "content": "greet and part"}
    history = [
        question,
        {"role": "tool", "content": [call("hello")]},
        {"role": "tool", "content": "Hello!"},
        {"role": "tool", "content": [call("bye")]},
        {"role": "tool", "content": "Bye!"},
    ]
    answers = [{"role": "assistant", "content": [call(name)]} for name in ("hello", "bye")]
    path = write(
        tmp_path / "a",
        row(id="1", startTime="2026-06-01T08:00:00Z", input=[question], output=answers),
        row(id="2", startTime="2026-06-01T08:00:09Z", input=history, output="Hello and bye!"),
    )
    (one,) = conversations(path)
    roles = ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert [m.role for m in one.messages] == roles
    assert [call.name for m in one.messages for call in m.tool_calls] == ["hello", "bye"]


def test_a_request_that_is_edited_or_sent_again_leaves_a_branch(tmp_path: Path) -> None:
    for last, value, at in (("q2 better", -0.3, 4), ("q2", -0.6, 4)):
        turns: Turns = [("system", "S"), ("user", "q1"), ("assistant", "a1")]
        path = write(
            tmp_path / "a",
            otlp(
                chat("1", 0, turns[:2], "a1"),
                chat("2", 9, [*turns, ("user", "q2")], "a2"),
                chat("3", 20, [*turns, ("user", last)], "a2 again"),
            ),
        )
        main, branch = conversations(path)
        assert main.messages[-1].content == "a2 again"
        assert main.fork == branch.branch_at
        assert branch.branch_of == main.id
        assert signals(branch) == [(at, "regenerate", value)]


def test_a_sub_agent_is_a_conversation_of_its_own(tmp_path: Path) -> None:
    call = json.dumps(
        [
            {
                "role": "assistant",
                "parts": [{"type": "tool_call", "id": "1", "name": "sub", "arguments": {}}],
            }
        ]
    )
    head = [("system", "You lead."), ("user", "research cats")]
    whole = json.loads(parts(head)) + json.loads(call)
    whole.append(
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "purr"}]}
    )
    path = write(
        tmp_path / "a",
        otlp(
            span("t", 0, {"gen_ai.operation.name": "invoke_agent", "session.id": "S"}, name="root"),
            span(
                "t",
                1,
                {"gen_ai.input.messages": parts(head), "gen_ai.output.messages": call},
                name="m1",
                parent="root",
            ),
            span("t", 3, {"gen_ai.operation.name": "execute_tool"}, name="tool", parent="root"),
            span(
                "t",
                4,
                {
                    "gen_ai.input.messages": parts(
                        [("system", "You dig."), ("user", "facts on cats")]
                    ),
                    "gen_ai.output.messages": parts([("assistant", "purr")]),
                },
                name="s",
                parent="tool",
            ),
            span(
                "t",
                9,
                {
                    "gen_ai.input.messages": json.dumps(whole),
                    "gen_ai.output.messages": parts([("assistant", "Cats purr.")]),
                },
                name="m2",
                parent="root",
            ),
        ),
    )
    main, sub = conversations(path)
    assert [m.role for m in main.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert (sub.parent, sub.parent_at) == (main.id, 2)
    assert sub.messages[1].written_by == "machine"


def test_a_call_that_an_sdk_and_a_framework_record_is_there_once(tmp_path: Path) -> None:
    outer = {"ai.prompt": json.dumps({"prompt": "open today?"}), "ai.response.text": "until six"}
    inner = {"ai.prompt.messages": json.dumps(MESSAGES), "ai.response.text": "until six"}
    path = write(
        tmp_path / "a",
        otlp(span("t", 0, outer, name="o"), span("t", 0, inner, name="i", parent="o")),
    )
    (one,) = conversations(path)
    assert talk(one) == PLAIN
    assert one.messages[1].refs["span"] == "i"


def test_one_session_id_of_two_users_is_two_conversations(tmp_path: Path) -> None:
    spans = [
        chat("1", 0, [("user", "hi")], "hello", "1"),
        chat("2", 5, [("user", "hi")], "hello", "1"),
    ]
    for one, user in zip(spans, ("ann", "bob"), strict=True):
        one["attributes"] += attributes({"user.id": user})
    assert [c.user for c in conversations(write(tmp_path / "a", otlp(*spans)))] == ["ann", "bob"]


def test_equal_chats_without_a_session_stay_apart_and_what_goes_on_joins_the_last(
    tmp_path: Path,
) -> None:
    hello: Turns = [("user", "hi"), ("assistant", "hello")]
    spans = [
        chat("1", 0, hello[:1], "hello", ""),
        chat("2", 5, hello[:1], "hello", ""),
        chat("3", 9, [*hello, ("user", "more")], "ok", ""),
    ]
    first, second = conversations(write(tmp_path / "a", otlp(*spans)))
    assert len(first.messages) == 2
    assert len(second.messages) == 4


@pytest.mark.parametrize("reader", ["otel", "langfuse"])
def test_what_a_template_puts_around_the_words_is_the_machines(reader: str, tmp_path: Path) -> None:
    if reader == "langfuse":
        path = FILES / "langfuse.json"
    else:
        prompt = "Use it.\n<doc>Long.</doc>\nQuestion: which flour for brioche?"
        path = write(
            tmp_path / "a",
            otlp(
                span(
                    "t",
                    0,
                    {
                        "openinference.span.kind": "CHAIN",
                        "input.value": "which flour for brioche?",
                        "output.value": "x",
                    },
                    name="r",
                ),
                span(
                    "t",
                    1,
                    {
                        "gen_ai.input.messages": parts([("user", prompt)]),
                        "gen_ai.output.messages": parts([("assistant", "x")]),
                    },
                    parent="r",
                ),
            ),
        )
    (one,) = conversations(path)
    message = next(m for m in one.messages if m.role == "user")
    (template,) = message.spans
    assert template.author == "machine"
    assert message.content[template.end :] == "which flour for brioche?"


# Langfuse -----------------------------------------------------------------------------------------


def test_langfuse_joins_the_traces_of_a_session_and_puts_scores_on_their_responses() -> None:
    (one,) = conversations(FILES / "langfuse.json")
    assert one.id == "se-1"
    assert one.user == "nora"
    assert signals(one) == [(2, "thumb", 1.0), (4, "thumb", -1.0)]
    assert one.messages[4].refs["trace"] == "tr-2"


def row(**fields: Any) -> dict[str, Any]:
    return {"id": "o", "traceId": "t", "type": "GENERATION", "projectId": "p", **fields}


INPUTS: dict[str, tuple[Any, Any]] = {
    "openai": ({"messages": MESSAGES}, {"role": "assistant", "content": "until six"}),
    "parts": (
        [{"role": "user", "parts": [{"type": "text", "content": "open today?"}]}],
        "until six",
    ),
    "anthropic": (
        {"system": None, "messages": MESSAGES},
        {"role": "assistant", "content": [{"type": "text", "text": "until six"}]},
    ),
    "gemini": (
        {"contents": "open today?"},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "until six"}]}}]},
    ),
    "adk": (
        {"contents": [{"role": "user", "parts": [{"text": "open today?"}]}]},
        {"content": {"role": "model", "parts": [{"text": "until six"}]}},
    ),
    "langchain": (
        [{"type": "human", "content": "open today?"}],
        {"type": "ai", "content": "until six"},
    ),
    "langchain, serialised": (
        {
            "messages": [
                [
                    {
                        "lc": 1,
                        "type": "constructor",
                        "id": ["HumanMessage"],
                        "kwargs": {"content": "open today?"},
                    }
                ]
            ]
        },
        {"generations": [[{"text": "until six"}]]},
    ),
    "autogen": ("user: open today?", "until six"),
    "agno": (
        {"messages": ["role='user' content='open today?' name=None"]},
        {"choices": [{"message": {"role": "assistant", "content": "until six"}}]},
    ),
    "responses": (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "open today?"}]}]},
        {
            "output": [
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "until six"}],
                }
            ]
        },
    ),
    "twice JSON": (
        json.dumps(json.dumps(MESSAGES)),
        json.dumps({"content": "until six", "role": "assistant"}),
    ),
    "kwargs": ({"args": [], "kwargs": {"messages": MESSAGES}}, "until six"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_langfuse_reads_the_input_of_every_framework(name: str, tmp_path: Path) -> None:
    given, answer = INPUTS[name]
    (one,) = conversations(write(tmp_path / "a", row(input=given, output=answer)))
    assert talk(one) == PLAIN
    assert one.source == "langfuse"


def test_definitions_of_tools_among_the_messages_are_no_messages(tmp_path: Path) -> None:
    tool = {
        "role": "tool",
        "content": {"type": "function", "function": {"name": "w", "parameters": {}}},
    }
    with collect_notes() as notes:
        (one,) = conversations(
            write(tmp_path / "a", row(input=[*MESSAGES, tool], output="until six"))
        )
    assert talk(one) == PLAIN
    assert notes.skipped["messages: definitions of tools"] == 1


def test_langfuse_reads_rows_in_either_case_csv_and_the_batches_of_sdks(tmp_path: Path) -> None:
    snake = {
        "id": "o",
        "trace_id": "t",
        "session_id": "S",
        "user_id": "u",
        "type": "GENERATION",
        "start_time": "2026-06-01 08:00:00.000000",
        "input": json.dumps(MESSAGES),
        "output": '"until six"',
        "provided_model_name": "m",
    }
    batch = {
        "batch": [
            {
                "id": "1",
                "type": "trace-create",
                "body": {"id": "t", "userId": "u", "sessionId": "S"},
            },
            {
                "id": "2",
                "type": "generation-create",
                "body": {"id": "g", "input": MESSAGES, "model": "m"},
            },
            {"id": "3", "type": "generation-update", "body": {"id": "g", "output": "until six"}},
        ]
    }
    table = tmp_path / "b"
    table.write_text(
        "id,timestamp,name,userId,sessionId,input,output\n"
        't,2026-06-01T08:00:00Z,chat,u,S,"[{""role"":""user"",""content"":""open today?""}]",'
        "until six\n"
    )
    for path in (write(tmp_path / "a", snake), write(tmp_path / "c", batch), table):
        (one,) = conversations(path)
        assert talk(one) == PLAIN
        assert (one.id, one.user, one.source) == ("S", "u", "langfuse")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([{"name": "user-feedback", "value": 0}], ("thumb", -1.0)),
        ([{"name": "user-feedback", "value": True}], ("thumb", 1.0)),
        ([{"name": "ok", "value": 0, "dataType": "BOOLEAN"}], ("thumb", -1.0)),
        (
            [{"name": "user-feedback", "value": 1}, {"name": "user-feedback", "value": 4}],
            ("comment", 0.0),
        ),
        ([{"name": "quality", "value": 1}], ("comment", 0.0)),
        ([{"name": "stars", "value": 1}], ("rating", -1.0)),
        (
            [{"name": "quality", "value": 3, "config": {"minValue": 1, "maxValue": 5}}],
            ("rating", 0.0),
        ),
        ([{"name": "toxicity", "value": 1, "source": "EVAL"}], ("comment", 0.0)),
        ([{"name": "verdict", "stringValue": "bad", "dataType": "CATEGORICAL"}], ("thumb", -1.0)),
    ],
)
def test_a_score_counts_on_the_scale_that_it_states(
    scores: list[dict[str, Any]], expected: tuple[str, float], tmp_path: Path
) -> None:
    trace = {
        "id": "t",
        "projectId": "p",
        "observations": [],
        "input": "q",
        "output": "a",
        "scores": scores,
    }
    (one,) = conversations(write(tmp_path / "a", trace))
    assert signals(one)[0] == (1, *expected)


# LangSmith, gateways, APIs ------------------------------------------------------------------------


def test_langsmith_joins_the_runs_of_a_thread_and_keeps_calls_and_results() -> None:
    (one,) = conversations(FILES / "langsmith.jsonl")
    assert [m.role for m in one.messages] == ["user", "assistant", "tool", "assistant"]
    assert one.id == "th-1"
    assert signals(one) == [(3, "thumb", 1.0)]


def test_langsmith_completes_what_was_posted_by_what_was_patched(tmp_path: Path) -> None:
    name = "0d0d0d0d-0000-4000-8000-000000000001"
    posted = {"id": name, "run_type": "llm", "inputs": {"messages": MESSAGES}, "outputs": {}}
    patch = {
        "dotted_order": f"20260601T080000000000Z{name}",
        "outputs": {"choices": [{"message": {"role": "assistant", "content": "until six"}}]},
    }
    (one,) = conversations(write(tmp_path / "a", {"post": [posted], "patch": [patch]}))
    assert talk(one) == PLAIN


BODY, ANSWER = (
    {"messages": MESSAGES},
    {"choices": [{"message": {"role": "assistant", "content": "until six"}}]},
)
STREAM = "\n\n".join(
    f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}" for text in ("until", " six")
)
GATEWAYS: dict[str, dict[str, Any]] = {
    "plain": {"request": BODY, "response": ANSWER},
    "a body inside": {
        "request": {"method": "POST", "body": BODY},
        "response": {"status": 200, "body": ANSWER},
    },
    "texts": {
        "id": "1",
        "provider": "openai",
        "request": json.dumps(BODY),
        "response": json.dumps(ANSWER),
    },
    "a stream": {"request": BODY, "response": STREAM},
    "helicone": {"request_id": "1", "request_body": BODY, "response_body": ANSWER},
    "litellm": {"id": "1", "call_type": "acompletion", "messages": MESSAGES, "response": ANSWER},
    "litellm, a text": {
        "id": "1",
        "call_type": "acompletion",
        "messages": MESSAGES,
        "response": "until six",
    },
    "anthropic": {
        "request": {"system": "", "messages": MESSAGES},
        "response": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": "until six"}],
        },
    },
    "gemini": {
        "request": {"contents": [{"role": "user", "parts": [{"text": "open today?"}]}]},
        "response": {
            "candidates": [{"content": {"parts": [{"text": "until six"}], "role": "model"}}]
        },
    },
    "ollama": {
        "request": BODY,
        "response": {"message": {"role": "assistant", "content": "until six"}, "done": True},
    },
    "bedrock": {
        "schemaType": "ModelInvocationLog",
        "requestId": "1",
        "input": {
            "inputBodyJson": {"messages": [{"role": "user", "content": [{"text": "open today?"}]}]}
        },
        "output": {
            "outputBodyJson": {
                "output": {"message": {"role": "assistant", "content": [{"text": "until six"}]}}
            }
        },
    },
    "kong": {
        "ai": {"proxy": {"payload": {"request": json.dumps(BODY), "response": json.dumps(ANSWER)}}}
    },
    "a cassette": {
        "interactions": [
            {
                "request": {"method": "POST", "uri": "/", "body": json.dumps(BODY)},
                "response": {"status": {"code": 200}, "body": {"string": json.dumps(ANSWER)}},
            }
        ]
    },
    "a HAR file": {
        "log": {
            "entries": [
                {
                    "startedDateTime": "2026-06-01T08:00:00Z",
                    "request": {"method": "POST", "postData": {"text": json.dumps(BODY)}},
                    "response": {"status": 200, "content": {"text": json.dumps(ANSWER)}},
                }
            ]
        }
    },
    "weave": {"op_name": "chat", "inputs": BODY, "output": ANSWER},
    "braintrust": {
        "span_attributes": {"type": "llm"},
        "input": MESSAGES,
        "output": [{"message": {"role": "assistant", "content": "until six"}}],
    },
}


@pytest.mark.parametrize("name", GATEWAYS)
def test_gateways_of_every_make_are_read(name: str, tmp_path: Path) -> None:
    (one,) = conversations(write(tmp_path / "a", GATEWAYS[name]))
    assert talk(one) == PLAIN
    assert one.source == "gateways"


def test_a_request_that_failed_and_was_sent_again_is_one_question(tmp_path: Path) -> None:
    failed = exchange([("user", "open today?")], "", id="1", created_at="2026-06-01T08:00:00Z")
    failed["response"] = {"error": {"message": "overloaded"}}
    again = exchange([("user", "open today?")], "until six", created_at="2026-06-01T08:00:09Z")
    (one,) = conversations(write(tmp_path / "a", failed, again))
    assert talk(one) == PLAIN


def test_a_record_of_bedrock_is_read_out_of_cloudwatchs_envelope(tmp_path: Path) -> None:
    record = {
        "schemaType": "ModelInvocationLog",
        "requestId": "1",
        "input": {"inputBodyJson": {"inputText": "open today?"}},
        "output": {"outputBodyJson": {"results": [{"outputText": "until six"}]}},
    }
    (one,) = conversations(write(tmp_path / "a", {"timestamp": 1, "message": json.dumps(record)}))
    assert talk(one) == PLAIN


def test_requests_of_a_gateway_that_repeat_one_another_are_one_conversation() -> None:
    (one,) = conversations(FILES / "gateway.jsonl")
    assert [m.content for m in one.messages] == [
        "price of a roll?",
        "80 cents",
        "and of two?",
        "1.60",
    ]
    assert one.user == "nora"
    assert one.messages[3].refs["request"] == "call-2"


def test_responses_follow_the_one_that_they_name(tmp_path: Path) -> None:
    (one,) = conversations(FILES / "openai_api.jsonl")
    assert [m.content for m in one.messages] == [
        "Be brief.",
        "a name for my shop?",
        "Crumb",
        "another",
        "Crust",
    ]
    pairs = [
        {
            "request": {"input": "hi"},
            "response": {
                "id": "resp_1",
                "created_at": 1780000000,
                "output": [
                    {
                        "type": "function_call",
                        "call_id": "c",
                        "id": "fc",
                        "name": "w",
                        "arguments": "{}",
                    }
                ],
            },
        },
        {
            "request": {
                "input": [{"type": "function_call_output", "call_id": "c", "output": "3"}],
                "previous_response_id": "resp_1",
            },
            "response": {
                "id": "resp_2",
                "created_at": 1780000009,
                "output": [
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "3 degrees"}],
                    }
                ],
            },
        },
    ]
    (one,) = conversations(write(tmp_path / "a", *pairs))
    assert [m.role for m in one.messages] == ["user", "assistant", "tool", "assistant"]
    assert one.messages[1].tool_calls[0].id == one.messages[2].refs["call"] == "c"


@pytest.mark.parametrize("ids", [("chatcmpl-1", "chatcmpl-2"), ("req-1", "req-2")])
def test_chats_that_grow_under_new_ids_are_requests_of_one(
    ids: Sequence[str], tmp_path: Path
) -> None:
    turns = [{"role": role, "content": text} for role, text in HISTORY[:4]]
    rows = [{"id": name, "user": "u", "messages": turns[: 2 * n]} for n, name in enumerate(ids, 1)]
    (one,) = conversations(write(tmp_path / "a", *rows))
    assert talk(one) == HISTORY[:4]


def test_a_batch_joins_requests_and_results_in_whichever_order_they_are_given() -> None:
    files = [FILES / "batch_requests.jsonl", FILES / "batch_results.jsonl"]
    for paths in (files, files[::-1], files[1:]):
        assert [talk(c) for c in conversations(*paths)] == [
            [("user", "name a bread"), ("assistant", "Baguette")],
            [("user", "name a cake"), ("assistant", "Sacher")],
        ]


def test_requests_of_a_batch_without_results_are_questions_without_answers(tmp_path: Path) -> None:
    lines = (FILES / "batch_requests.jsonl").read_text()
    (tmp_path / "a.jsonl").write_text(lines)
    assert [talk(c) for c in conversations(tmp_path / "a.jsonl")] == [
        [("user", "name a bread")],
        [("user", "name a cake")],
    ]


def test_batches_of_other_makes_are_read(tmp_path: Path) -> None:
    anthropic = (
        {"custom_id": "1", "params": {"messages": MESSAGES}},
        {
            "custom_id": "1",
            "result": {
                "type": "succeeded",
                "message": {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "until six"}],
                },
            },
        },
    )
    gemini = (
        {
            "key": "1",
            "request": {"contents": [{"role": "user", "parts": [{"text": "open today?"}]}]},
        },
        {
            "key": "1",
            "response": {
                "candidates": [{"content": {"role": "model", "parts": [{"text": "until six"}]}}]
            },
        },
    )
    for number, (request, result) in enumerate((anthropic, gemini)):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / "x.jsonl", request)
        (one,) = conversations(write(folder / "y.jsonl", result))
        assert talk(one) == PLAIN


def test_gemini_contents_hold_calls_results_and_no_thoughts() -> None:
    (one,) = conversations(FILES / "gemini_api.jsonl")
    assert [m.role for m in one.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert one.messages[1].content == "what is this?\n<image: 150 bytes>"
    assert "a guess" not in str(one.messages)


# Evaluations --------------------------------------------------------------------------------------


def test_inspect_reads_json_and_eval_archives_with_scores_as_outcomes(tmp_path: Path) -> None:
    log = json.loads((FILES / "inspect.json").read_text())
    with zipfile.ZipFile(tmp_path / "a.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2, "eval": log["eval"]}))
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
        archive.writestr("summaries.json", "[]")
    for path in (FILES / "inspect.json", tmp_path / "a.eval"):
        first, second = conversations(path)
        assert talk(first) == [("user", "name a rye bread"), ("assistant", "Pumpernickel")]
        assert signals(first) == [(1, "outcome", 1.0)]
        assert signals(second) == [(1, "outcome", -1.0), (1, "comment", 0.0)]
        assert first.model == "lab/small-1"
        assert first.id == "run-1/1/1"


def test_tau_bench_says_the_reward_as_the_outcome_of_the_last_answer(tmp_path: Path) -> None:
    (one,) = conversations(FILES / "tau_bench.json")
    assert [m.role for m in one.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert signals(one) == [(4, "outcome", -1.0)]
    shown = {
        "messages_display": "user: cancel\nassistant: None\ntool: ok\nassistant: Done,\nall of it."
    }
    (one,) = conversations(write(tmp_path / "a", shown))
    assert talk(one) == [
        ("user", "cancel"),
        ("assistant", ""),
        ("tool", "ok"),
        ("assistant", "Done,\nall of it."),
    ]


# Whatever a value is ------------------------------------------------------------------------------

JUNK: list[Any] = [
    None,
    5,
    -1,
    "x",
    "",
    [],
    {},
    [[]],
    [None],
    {"a": None},
    True,
    "[",
    "[[[[",
    1e308,
]


def mutate(value: Any, chance: random.Random) -> Any:
    """The same with one value replaced."""
    if isinstance(value, str) and value[:1] in "[{" and len(value) > 2:
        return json.dumps(mutate(json.loads(value), chance))
    if isinstance(value, (dict, list)) and value and chance.random() < 0.85:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[key] = mutate(value[key], chance)
        return copy
    return chance.choice(JUNK)


@pytest.mark.parametrize(
    "name",
    [
        "otel.json",
        "jaeger.json",
        "langfuse.json",
        "langsmith.jsonl",
        "gateway.jsonl",
        "inspect.json",
        "openai_api.jsonl",
        "batch_results.jsonl",
        "gemini_api.jsonl",
        "tau_bench.json",
    ],
)
def test_no_value_in_the_wrong_place_ends_the_run(name: str, tmp_path: Path) -> None:
    text = (FILES / name).read_text()
    records = (
        [json.loads(line) for line in text.splitlines()]
        if name.endswith("l")
        else [json.loads(text)]
    )
    (probe,) = {
        item.source for item in read(str(FILES / name)) if isinstance(item, RawConversation)
    }
    chance = random.Random(name)
    for _ in range(60):
        place = chance.randrange(len(records))
        rows = [mutate(r, chance) if n == place else r for n, r in enumerate(records)]
        try:
            for item in read(str(write(tmp_path / "a", *rows)), probe):
                assert isinstance(item, (RawConversation, BadRecord))
        except FormatError:
            pass


def test_a_history_of_pairs_is_what_was_typed_and_what_was_answered() -> None:
    messages = read_request({"question": "and now?", "chat_history": [["hi", "hello"]]})
    assert [(m.role, m.content) for m in messages] == [
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", "and now?"),
    ]


@pytest.mark.parametrize("reader", [read_request, read_answer])
@pytest.mark.parametrize("value", JUNK)
def test_a_payload_of_any_kind_is_messages_or_none(
    reader: Callable[[Any], list[RawMessage]], value: Any
) -> None:
    assert all(isinstance(message, RawMessage) for message in reader(value))
