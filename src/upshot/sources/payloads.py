"""Requests and answers of the large interfaces, as gateways and observability tools log them.

Read are chat completions, OpenAI's responses, Anthropic's messages, Gemini's contents, Bedrock,
LangChain's messages, streams of events, and plain texts; also as JSON inside a string.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from upshot.errors import RecordError
from upshot.io.json_text import decode
from upshot.io.json_values import is_array, is_object
from upshot.records import RawMessage, Role
from upshot.sources import fields
from upshot.sources.messages import drop_thoughts, read_content, read_message, to_json
from upshot.sources.notes import skip

EMPTY: Mapping[str, Any] = {}
"""An object without fields, for fields that are none."""
_NESTED = 3
"""Times that JSON may stand as a string inside JSON: exporters of exporters do it twice."""
_SYSTEM = ("system", "instructions", "system_prompt", "systemInstruction", "system_instruction")
_LISTS = ("messages", "contents", "chat_history", "history", "conversation", "input_messages")
_NEWEST = ("new_message", "newMessage", "message", "prompt", "input", "question", "query", "inputs")
_TEXTS = (
    "user_input",
    "user_message",
    "human_input",
    "chat_input",
    "inputText",
    "text",
    "content",
    "prompts",
    "task",
    "value",
)
_ANSWERS = (
    "completion",
    "generation",
    "outputText",
    "generated_text",
    "output_text",
    "response",
    "answer",
    "result",
    "results",
    "reply",
    "text",
    "output",
    "content",
    "value",
    "outputs",
    "data",
    "body",
)
_ROLES = frozenset(
    {"system", "developer", "user", "human", "assistant", "ai", "model", "tool", "function", "chat"}
)
_NO_MESSAGES = frozenset(
    {
        "reasoning",
        "item_reference",
        "mcp_list_tools",
        "mcp_approval_request",
        "remove",
        "compaction",
    }
)
_LINE = re.compile(
    r"^(system|developer|user|human|assistant|ai|tool|function): ?", re.MULTILINE | re.IGNORECASE
)
_SPEAKER = re.compile(
    r"^(?:\[[^\]\n]{1,30}\] ?)?\*{0,2}(system|user|human|assistant|ai|customer|agent|bot|chatbot"
    r"|client|visitor|member)\*{0,2} ?:\*{0,2} ?",
    re.MULTILINE | re.IGNORECASE,
)
"""Who speaks, in a text that is a conversation and nothing else: with a time or in bold, too."""
_FIELD = r"=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|None|\[.*?\]) "
_PRINTED = re.compile(r"^role='(\w+)' content" + _FIELD, re.DOTALL)
_PRINTED_CALLS = re.compile(r" tool_calls" + _FIELD, re.DOTALL)
_PRINTED_ID = re.compile(r" tool_call_id" + _FIELD, re.DOTALL)


def decode_nested(value: Any) -> Any:
    """A value that may stand as JSON inside a string; other texts as they are.

    >>> decode_nested('"{\\\\"a\\\\": 1}"'), decode_nested("[not JSON")
    ({'a': 1}, '[not JSON')
    """
    for _ in range(_NESTED):
        if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "[", '"'):
            break
        try:
            inner = decode(value.encode("utf-8", "replace"))
        except ValueError:
            break
        if not isinstance(inner, (str, list, dict)):
            break
        value = cast(Any, inner)
    return value


def read_request(value: Any) -> list[RawMessage]:
    """The messages of a request, the system prompt first; empty where it holds none.

    >>> [(m.role, m.content) for m in read_request({"system": "Be brief.", "prompt": "hi"})]
    [('system', 'Be brief.'), ('user', 'hi')]
    """
    value = decode_nested(value)
    if isinstance(value, str):
        return read_transcript(value) or ([RawMessage("user", value)] if value.strip() else [])
    if is_array(value):
        return _read_list(value, "user")
    if not is_object(value):
        return []
    if _is_message(value):
        return list(_read_one(value, "user"))
    for name in ("kwargs", "args") if "kwargs" in value and "args" in value else ():
        if value.get(name) and (messages := read_request(value[name])):
            return messages
    system = _read_system(value)
    messages = _read_turns(value)
    if any(message.role == "system" for message in messages[:1]):
        system = []
    return [*system, *messages]


def read_answer(value: Any) -> list[RawMessage]:
    """The messages of an answer: mostly one, with its calls; empty where there is none.

    >>> read_answer({"choices": [{"message": {"role": "assistant", "content": "yo"}}]})[0].content
    'yo'
    """
    value = decode_nested(value)
    if isinstance(value, str):
        if value.startswith(("data: ", "event: ")):
            return read_answer(_decode_events(value))
        text = drop_thoughts(value)
        return [RawMessage("assistant", text)] if text.strip() else []
    if is_array(value):
        return merge_answers(_read_answers(value))
    if not is_object(value):
        return []
    return merge_answers(_read_answer_object(value))


def merge_answers(messages: Sequence[RawMessage]) -> list[RawMessage]:
    """Parts of one answer that stand in a row, as one message."""
    merged: list[RawMessage] = []
    for message in messages:
        if merged and message.role == "assistant" and merged[-1].role == "assistant":
            last = merged[-1]
            merged[-1] = msgspec.structs.replace(
                last,
                content="\n".join(text for text in (last.content, message.content) if text),
                tool_calls=(*last.tool_calls, *message.tool_calls),
                refs={**message.refs, **last.refs},
            )
        else:
            merged.append(message)
    return [m for m in merged if m.content or m.tool_calls or m.role == "tool"]


def read_transcript(text: str, *, is_whole: bool = False) -> list[RawMessage]:
    """The messages of a text that names who speaks at the beginning of lines; else none.

    `is_whole`: the text is a conversation and nothing else, so that more names of speakers count.
    An answer of which the text says only `None` is a call that was left out.

    >>> [(m.role, m.content) for m in read_transcript("user: hi\\nassistant: hello\\nyou")]
    [('user', 'hi'), ('assistant', 'hello\\nyou')]
    """
    pattern = _SPEAKER if is_whole else _LINE
    if not pattern.match(text):
        return []
    marks = list(pattern.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    messages: list[RawMessage] = []
    for mark, end in zip(marks, ends, strict=True):
        content = text[mark.end() : end].strip("\n")
        role = fields.role(mark.group(1))
        if role == "assistant" and content.strip() == "None":
            skip("transcripts", "calls that the text leaves out")
            content = ""
        messages.append(RawMessage(role, content))
    return messages


def find_text(record: Any, *names: str) -> str:
    """The first of some fields that is a text or a number; a name with dots goes deeper.

    >>> find_text({"user": None, "metadata": {"user_id": 7}}, "user", "metadata.user_id")
    '7'
    """
    for name in names:
        value = record
        if not (is_object(record) and name in record):
            for part in name.split("."):
                value = value.get(part) if is_object(value) else None
        else:
            value = record[name]
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return ""


def _is_message(value: Mapping[str, Any]) -> bool:
    if is_array(value.get("id")) and is_object(value.get("kwargs")):
        return True
    role = value.get("role")
    if isinstance(role, str) and any(
        n in value for n in ("content", "parts", "tool_calls", "text")
    ):
        return True
    kind = str(value.get("type") or "").lower()
    return (kind in _ROLES or kind.endswith(("message", "messagechunk"))) and (
        "content" in value or "data" in value or "kwargs" in value
    )


def _unwrap(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message without the wrappers of LangChain and others."""
    kwargs, data, inner = item.get("kwargs"), item.get("data"), item.get("message")
    if is_object(kwargs) and is_array(item.get("id")):
        item = {"role": _role_of_class(item["id"]), **kwargs}
    elif is_object(data) and isinstance(item.get("type"), str):
        item = {**data, "role": item["type"]}
    elif is_object(inner) and "role" not in item and "content" not in item:
        return _unwrap(inner)
    if item.get("type") == "constructor":
        item = {name: value for name, value in item.items() if name != "type"}
    if item.get("role") == "chat" or item.get("type") == "chat":
        item = {**item, "role": item.get("role", "user")}
    extra = item.get("additional_kwargs")
    if is_object(extra) and not item.get("tool_calls"):
        calls = {n: extra[n] for n in ("tool_calls", "function_call") if extra.get(n)}
        item = {**item, **calls}
    return item


def _role_of_class(path: Sequence[Any]) -> str:
    name = str(path[-1]) if path else ""
    return name.replace("MessageChunk", "").replace("Message", "").lower()


def _read_one(item: Mapping[str, Any], default: Role) -> Iterator[RawMessage]:
    item = _unwrap(item)
    kind = item.get("type")
    if kind in _NO_MESSAGES:
        skip("messages", kind)
        return
    if _is_definition(item):
        skip("messages", "definitions of tools")
        return
    if not any(item.get(n) for n in ("role", "from", "sender", "speaker", "author", "type")):
        item = {**item, "role": default}
    yield from read_message(item)


def _is_definition(item: Mapping[str, Any]) -> bool:
    content = decode_nested(item.get("content")) if item.get("role") == "tool" else None
    return (
        is_object(content)
        and content.get("type") == "function"
        and is_object(content.get("function"))
        and "tool_call_id" not in item
    )


def _read_pairs(pairs: Sequence[Sequence[str]]) -> list[RawMessage]:
    """The messages of a history of pairs: what was typed, what was answered."""
    messages: list[RawMessage] = []
    for typed, answer in pairs:
        messages += [RawMessage("user", typed), RawMessage("assistant", answer)]
    return [message for message in messages if message.content.strip()]


def _read_list(items: Sequence[Any], default: Role) -> list[RawMessage]:
    if items and all(map(is_array, items)) and not any(map(_is_pair, items)):
        if all(len(item) == 2 and all(isinstance(t, str) for t in item) for item in items):
            return _read_pairs(items)
        if len(items) > 1:
            skip("requests", "further prompts of a batch", len(items) - 1)
        return _read_list(items[0], default)
    objects = [item for item in items if is_object(item)]
    if objects and not any(map(_is_turn, objects)):
        parts = read_content(items)  # parts of one message
        return list(read_message({"role": default, "content": items})) if any(parts) else []
    messages: list[RawMessage] = []
    for item in items:
        if is_object(item):
            messages += _read_one(item, default)
        elif isinstance(item, str) and item.strip():
            messages += _read_printed(item) or [RawMessage(default, item)]
        elif _is_pair(item):
            messages.append(RawMessage(fields.role(item[0]), item[1]))
        elif is_array(item):
            messages += _read_list(item, default)
    return messages


def _is_turn(item: Mapping[str, Any]) -> bool:
    kind = str(item.get("type") or "")
    return (
        _is_message(item)
        or "role" in item
        or is_object(item.get("message"))
        or kind in _NO_MESSAGES
        or kind.endswith(("_call", "_output", "call_output"))
    )


def _is_pair(item: Any) -> bool:
    return (
        is_array(item)
        and len(item) == 2
        and all(isinstance(part, str) for part in item)
        and str(item[0]).lower() in _ROLES
    )


def _read_printed(text: str) -> list[RawMessage]:
    """A message as Python prints one of agno: `role='user' content='hi' name=None …`."""
    match = _PRINTED.match(text)
    if match is None:
        return []
    message: dict[str, Any] = {"role": match.group(1), "content": _read_literal(match.group(2))}
    for name, pattern in (("tool_calls", _PRINTED_CALLS), ("tool_call_id", _PRINTED_ID)):
        if (field := pattern.search(text)) is not None:
            message[name] = _read_literal(field.group(1))
    return list(_read_one(message, "user"))


def _read_literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _read_system(value: Mapping[str, Any]) -> list[RawMessage]:
    names = ("config", "generationConfig")
    config = next((value[n] for n in names if is_object(value.get(n))), EMPTY)
    for holder in (value, config):
        for name in _SYSTEM:
            content = holder.get(name)
            if is_object(content) and is_array(content.get("parts")):
                content = content["parts"]
            text = read_content(content).text if content else ""
            if text:
                return [RawMessage("system", text)]
    return []


def _read_turns(value: Mapping[str, Any]) -> list[RawMessage]:
    messages: list[RawMessage] = []
    for name in _LISTS:
        inner = decode_nested(value.get(name))
        if is_array(inner) and inner:
            messages = _read_list(inner, "user")
        elif isinstance(inner, str) and inner.strip() and name in ("contents", "messages"):
            messages = [RawMessage("user", inner)]
        elif name == "contents" and is_object(inner):
            messages = list(_read_one(inner, "user"))
        if messages:
            break
    if messages and messages[-1].role in ("user", "tool"):
        return messages
    for name in (*_NEWEST, *_TEXTS):
        if value.get(name) and (newest := read_request(value[name])):
            return [*messages, *newest]
    if messages:
        return messages
    texts = [inner for inner in value.values() if isinstance(inner, str) and inner.strip()]
    return [RawMessage("user", texts[0])] if len(texts) == 1 and len(value) == 1 else []


def _read_answer_object(value: Mapping[str, Any]) -> list[RawMessage]:
    choices = value.get("choices")
    if is_array(choices):
        if len(choices) > 1:
            skip("answers", "further choices", len(choices) - 1)
        return _read_choice(choices[0]) if choices else []
    for name in ("candidates", "generations"):
        inner = value.get(name)
        if is_array(inner):
            while is_array(inner) and inner:
                inner = inner[0]
            return _read_choice(inner) if is_object(inner) else []
    if _is_message(value):
        return list(_read_one(value, "assistant"))
    message = value.get("message")
    if message and not value.get("error"):
        return read_answer(message)
    for name in ("messages", "output"):
        inner = decode_nested(value.get(name))
        if is_array(inner) and inner and any(is_object(item) for item in inner):
            return _read_answers(inner)
        if is_object(inner) and inner:
            return read_answer(inner)
    content = value.get("content")
    if is_object(content) or is_array(content):
        return _read_answers([{"role": "assistant", "content": content, **_parts_of(content)}])
    for name in _ANSWERS:
        if value.get(name) and (answers := read_answer(value[name])):
            return answers
    if "error" in value or not value:
        return []
    return [RawMessage("assistant", to_json(value))]


def _parts_of(content: Any) -> dict[str, Any]:
    """What Gemini's content object holds: its parts are the content."""
    return {"content": content["parts"]} if is_object(content) and "parts" in content else {}


def _read_choice(choice: Any) -> list[RawMessage]:
    if not is_object(choice):
        return read_answer(choice)
    for name in ("message", "delta", "content"):
        inner = choice.get(name)
        if is_object(inner):
            inner = _unwrap(inner)
            if "role" not in inner or inner["role"] is None:
                inner = {**inner, "role": "assistant"}
            answers = list(_read_one(inner, "assistant"))
            if any(m.content or m.tool_calls for m in answers):
                return answers
    text = choice.get("text")
    return read_answer(text) if isinstance(text, str) else []


def _read_answers(items: Sequence[Any]) -> list[RawMessage]:
    if any(is_object(item) and is_array(item.get("choices")) for item in items):
        return _read_chunks(items)
    if any(is_object(item) and str(item.get("type", "")).startswith(_EVENTS) for item in items):
        return _read_events(items)
    if items and all(is_object(item) and "generated_text" in item for item in items):
        return read_answer(items[0])
    if any(is_object(i) and ("candidates" in i or "outputText" in i) for i in items):
        return [answer for item in items for answer in read_answer(item)]
    return _read_list(items, "assistant")


_EVENTS = ("message_start", "content_block", "message_delta", "response.")


def _decode_events(text: str) -> list[Any]:
    values: list[Any] = []
    for line in text.splitlines():
        if line.startswith("data: ") and line[6:7] == "{":
            try:
                values.append(decode(line[6:].encode("utf-8", "replace")))
            except ValueError:
                skip("answers", "events that are not JSON")
    return values


def _read_chunks(chunks: Sequence[Any]) -> list[RawMessage]:
    """The answer that the chunks of a chat completion make."""
    texts: list[str] = []
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        choices = chunk.get("choices") if is_object(chunk) else None
        choice = choices[0] if is_array(choices) and choices else None
        if not is_object(choice):
            continue
        delta = choice.get("delta") or choice.get("message") or EMPTY
        if not is_object(delta):
            continue
        texts.append(str(delta.get("content") or choice.get("text") or ""))
        for number, call in enumerate(delta.get("tool_calls") or ()):
            function = call.get("function") if is_object(call) else None
            if not is_object(function):
                continue
            place = call.get("index", number)
            entry = calls.setdefault(place, {"id": "", "name": "", "arguments": ""})
            entry["id"] = entry["id"] or str(call.get("id") or "")
            entry["name"] += str(function.get("name") or "")
            entry["arguments"] += str(function.get("arguments") or "")
    message = {"role": "assistant", "content": "".join(texts), "tool_calls": list(calls.values())}
    return list(_read_one(message, "assistant"))


def _read_events(events: Sequence[Any]) -> list[RawMessage]:
    """The answer that the events of Anthropic's or OpenAI's streams make."""
    blocks: dict[int, dict[str, Any]] = {}
    for event in events:
        if not is_object(event):
            continue
        if event.get("type") in ("response.completed", "response.done"):
            return read_answer(event.get("response"))
        place = event.get("index")
        if not isinstance(place, int):
            continue
        start, delta = event.get("content_block"), event.get("delta")
        if is_object(start):
            blocks[place] = {**start, "input": "" if "input" in start else None}
        if is_object(delta) and place in blocks:
            block = blocks[place]
            block["text"] = str(block.get("text") or "") + str(delta.get("text") or "")
            if "partial_json" in delta:
                block["input"] = str(block.get("input") or "") + str(delta["partial_json"] or "")
    content = [{n: v for n, v in b.items() if v is not None} for b in blocks.values()]
    return list(_read_one({"role": "assistant", "content": content}, "assistant"))


def require_messages(messages: Sequence[RawMessage], what: str) -> Sequence[RawMessage]:
    """The messages, where there are any.

    Raises:
        RecordError: there are none.
    """
    if not messages:
        raise RecordError(f"{what} holds no messages")
    return messages
