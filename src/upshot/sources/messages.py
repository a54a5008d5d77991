"""Messages as the large interfaces write them, which most logs repeat: OpenAI's chat and responses,
Anthropic's blocks, Gemini's parts, and their mixtures.

One such message may hold several of ours: the results of tools that stand in a user's turn are the
tools' messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from upshot.errors import RecordError
from upshot.io.json_values import as_object, is_array, is_object
from upshot.records import RawMessage, Role, ToolCall
from upshot.sources import fields
from upshot.sources.notes import note, skip

_CALLS = frozenset(
    {
        "tool_use",
        "tool_call",
        "tool-call",
        "function_call",
        "functioncall",
        "tool-use",
        "toolcall",
        "server_tool_use",
        "mcp_tool_use",
        "custom_tool_call",
        "local_shell_call",
        "mcp_call",
        "web_search_call",
        "file_search_call",
        "computer_call",
        "code_interpreter_call",
        "image_generation_call",
        "tool_calls",
    }
)
_RESULTS = frozenset(
    {
        "tool_result",
        "tool-result",
        "toolresult",
        "function_call_output",
        "function_response",
        "functionresponse",
        "tool_call_response",
        "tool_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "mcp_tool_result",
        "web_search_tool_result",
        "code_execution_tool_result",
        "computer_call_output",
        "tool_response",
    }
)
_THOUGHTS = frozenset(
    {
        "thinking",
        "reasoning",
        "redacted_thinking",
        "thought",
        "redacted_reasoning",
        "step-start",
        "encrypted_content",
        "reasoning_content",
        "think",
    }
)
_MEDIA = {
    "image": "image",
    "img": "image",
    "photo": "image",
    "audio": "audio",
    "video": "video",
    "file": "file",
    "document": "file",
    "pdf": "file",
    "media": "file",
}
_TEXTS = (
    "text",
    "content",
    "value",
    "output_text",
    "input_text",
    "refusal",
    "transcript",
    "data",
    "result",
    "summary_text",
)


class ToolResult(NamedTuple):
    """What a tool answered."""

    text: str
    id: str = ""
    """Of the call."""
    name: str = ""
    failed: bool | None = None
    """As the log says it; None where it does not."""


class Parts(NamedTuple):
    """The content of one message, taken apart; thoughts are left out."""

    text: str
    calls: tuple[ToolCall, ...]
    results: tuple[ToolResult, ...]


class _Mark(str):
    """Stands for a part without words, so that a message is not silently empty."""

    __slots__ = ()


def read_content(content: Any) -> Parts:
    """Take a content apart: a string, a part, a list of parts, or JSON inside a string.

    >>> read_content([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]).text
    'a\\n<image>'
    """
    texts: list[str] = []
    calls: list[ToolCall] = []
    results: list[ToolResult] = []
    for part in content if is_array(content) else [content]:
        _read_part(part, texts, calls, results)
    marks = [text for text in texts if isinstance(text, _Mark)]
    if len(marks) < len(texts) or calls or results:  # words are there: marks only say what is not
        texts = [text for text in texts if not isinstance(text, _Mark)]
    return Parts("\n".join(text for text in texts if text), tuple(calls), tuple(results))


def _read_part(
    part: Any, texts: list[str], calls: list[ToolCall], results: list[ToolResult]
) -> None:
    if part is None:
        return
    if isinstance(part, str):
        texts.append(part)
        return
    if is_array(part):
        for item in part:
            _read_part(item, texts, calls, results)
        return
    if not is_object(part):
        texts.append(str(part))
        return
    kind = str(part.get("type") or part.get("kind") or _guess_kind(part)).lower()
    if kind in _THOUGHTS or part.get("thought") is True:
        return
    if _is_run_tool(kind, part):
        call, result = _read_run_tool(kind, part)
        calls.append(call)
        if result is not None:
            results.append(result)
    elif kind in _CALLS or _is_wrapped(part, _CALL_KEYS) or _is_function_call(kind, part):
        calls.append(read_call(part))
    elif kind in _RESULTS or _is_wrapped(part, _RESULT_KEYS):
        results.append(_read_result(part))
    elif not kind and any(name in part for name in _WITHOUT_WORDS):
        return
    elif (media := _name_media(kind, part)) is not None:
        texts.append(media)
    else:
        name = next((n for n in _TEXTS if isinstance(part.get(n), (str, list, dict))), None)
        if name is not None:
            _read_part(part[name], texts, calls, results)
        elif kind:
            note(f"a part of type {kind!r} without text")
            texts.append(_Mark(f"<{kind}>"))
        elif part:
            texts.append(to_json(part))


_CALL_KEYS = ("functionCall", "function_call", "toolUse")
_RESULT_KEYS = ("functionResponse", "function_response", "toolResult")
_WITHOUT_WORDS = ("reasoningContent", "cachePoint", "cache_control", "thoughtSignature")
"""Keys of parts without a type that hold no words: Bedrock's and Gemini's."""
_MEDIA_KEYS = ("image", "document", "video", "audio")


def _is_run_tool(kind: str, part: Mapping[str, Any]) -> bool:
    """Whether a part is a call with its result, as Vercel's interface keeps them."""
    if kind == "tool-invocation":
        return is_object(part.get("toolInvocation"))
    named = kind == "dynamic-tool" or (kind.startswith("tool-") and kind not in _CALLS | _RESULTS)
    return named and "toolCallId" in part


def _read_run_tool(kind: str, part: Mapping[str, Any]) -> tuple[ToolCall, ToolResult | None]:
    inner = part["toolInvocation"] if kind == "tool-invocation" else part
    named = inner.get("toolName") or str(part.get("type") or "").removeprefix("tool-")
    call = read_call({**inner, "name": str(named)})
    error = inner.get("errorText")
    content = next((v for n in ("output", "result") if (v := inner.get(n)) is not None), error)
    if content is None:
        return call, None
    return call, ToolResult(read_output(content), call.id, call.name, True if error else None)


def _is_function_call(kind: str, part: Mapping[str, Any]) -> bool:
    """Whether a part is a call as OpenAI's `tool_calls` have it; a definition has no arguments."""
    inner = part.get("function")
    return kind == "function" and is_object(inner) and "arguments" in inner


def _is_wrapped(part: Mapping[str, Any], keys: Sequence[str]) -> bool:
    return any(is_object(part.get(key)) for key in keys)


def _guess_kind(part: Mapping[str, Any]) -> str:
    if "text" not in part and (
        name := next((n for n in _MEDIA_KEYS if is_object(part.get(n))), None)
    ):
        return name
    if "inlineData" in part or "inline_data" in part or "fileData" in part:
        names = ("inlineData", "inline_data", "fileData")
        data = as_object(next((part[name] for name in names if part.get(name)), None))
        return str(data.get("mimeType") or data.get("mime_type") or "file")
    return ""


def _name_media(kind: str, part: Mapping[str, Any]) -> str | None:
    """`<image>` with its size where the log says it; None where the part is no media."""
    if kind in ("blob", "uri") and isinstance(part.get("modality"), str):  # OpenTelemetry
        kind = part["modality"]
    elif kind in ("blob", "uri"):
        kind = str(part.get("mime_type") or "file")
    word = kind.replace("/", "_").replace("-", "_").split("_")
    name = next((_MEDIA[w] for w in word if w in _MEDIA), None)
    if name is None or kind.endswith("text"):
        return None
    if isinstance(part.get("text"), str) and part["text"]:
        return str(part["text"])
    if name == "audio" and isinstance(part.get("transcript"), str):
        return str(part["transcript"])
    inner = as_object(next((value for value in part.values() if is_object(value)), None))
    size: Any = next(
        (
            place[n]
            for place in (part, inner)
            for n in ("size_bytes", "size", "file_size")
            if n in place
        ),
        None,
    )
    data = inner.get("data") or part.get("data")
    if size is None and isinstance(data, str) and len(data) > 64:  # base64
        size = len(data) * 3 // 4
    return f"<{name}: {size:,} bytes>" if fields.is_count(size) else f"<{name}>"


def read_call(part: Mapping[str, Any]) -> ToolCall:
    """A call, in any of its spellings."""
    inner = next(
        (
            part[name]
            for name in (
                "function",
                "functionCall",
                "function_call",
                "toolCall",
                "tool_call",
                "toolUse",
                "custom",
            )
            if is_object(part.get(name))
        ),
        part,
    )
    arguments: Any = next(
        (
            inner[name]
            for name in ("arguments", "input", "args", "parameters", "params", "action")
            if inner.get(name) is not None
        ),
        "",
    )
    names = (inner.get(n) for n in ("name", "toolName", "tool_name", "tool", "function"))
    name = next((name for name in names if isinstance(name, str) and name), None)
    return ToolCall(
        str(name or inner.get("type") or ""),
        arguments if isinstance(arguments, str) else to_json(arguments),
        str(
            part.get("call_id")
            or part.get("id")
            or part.get("toolCallId")
            or part.get("tool_call_id")
            or inner.get("id")
            or inner.get("toolUseId")
            or inner.get("tool_call_id")
            or ""
        ),
    )


def _read_result(part: Mapping[str, Any]) -> ToolResult:
    inner = next((part[key] for key in _RESULT_KEYS if is_object(part.get(key))), part)
    content: Any = next(
        (
            inner[name]
            for name in ("content", "output", "result", "response", "text")
            if inner.get(name) is not None
        ),
        "",
    )
    failed = _failure_of(inner if "status" in inner else part)
    if failed is None and is_object(content) and str(content.get("type")).startswith("error"):
        failed = True
    return ToolResult(
        read_output(content),
        str(
            part.get("tool_use_id")
            or part.get("call_id")
            or part.get("toolCallId")
            or part.get("tool_call_id")
            or inner.get("id")
            or inner.get("toolUseId")
            or ""
        ),
        str(inner.get("name") or part.get("toolName") or ""),
        failed,
    )


_FAILURES: Mapping[Any, bool] = {"error": True, "success": False}
"""What the field `status` of a tool's result says; it says more of other things."""


def _failure_of(value: Mapping[str, Any]) -> bool | None:
    """Whether a tool's result says that the call failed; None where it does not say."""
    failed = value.get("is_error", value.get("isError", value.get("tool_call_error")))
    if isinstance(failed, bool):
        return failed
    status = value.get("status")
    return _FAILURES.get(status) if isinstance(status, str) else None


def read_output(content: Any) -> str:
    """The text of a tool's answer; objects that hold none stay JSON."""
    if is_object(content) and not isinstance(content.get("text"), str) and "type" not in content:
        inner = [content[n] for n in ("output", "result", "content") if content.get(n) is not None]
        if len(inner) == 1 and len(content) <= 2:
            return read_output(inner[0])
        return to_json(content)
    return read_content(content).text


def to_json(value: Any) -> str:
    """Compact JSON."""
    return msgspec.json.encode(value, enc_hook=str).decode("utf-8", "replace")


def read_message(value: Any, *, time: float | None = None) -> Iterator[RawMessage]:
    """The messages that one message of a log holds.

    Raises:
        RecordError: it is no object.
    """
    if not is_object(value):
        raise RecordError(f"a message is {type(value).__name__}, not an object")
    value = _unwrap(value)
    role = _role_of(value)
    content = _content_of(value)
    parts = read_content(content)
    if role == "assistant":
        parts = parts._replace(text=drop_thoughts(parts.text))
    calls = [*parts.calls, *(read_call(call) for call in _calls_of(value))]
    moment = fields.epoch(_first(value, fields.TIMES)) or time
    name = value.get("name")
    refs = {"message": str(value["id"])} if isinstance(value.get("id"), (str, int)) else {}
    if role == "tool" and parts.calls and not parts.text and not parts.results:
        role = "assistant"  # some write a call under the tool's role
    if role == "tool" and not parts.results:
        called = name or value.get("tool_name") or value.get("function") or ""
        yield make_tool_message(
            ToolResult(
                parts.text,
                str(value.get("tool_call_id") or value.get("call_id") or ""),
                called if isinstance(called, str) else "",
                _failure_of(value),
            ),
            time=moment,
        )
        return
    if role == "assistant" and parts.results and parts.calls and is_array(content):
        model = str(value.get("model") or "")
        for message in read_blocks(content, time=moment, model=model):
            own = message.role == "assistant"
            yield msgspec.structs.replace(message, refs=refs) if own and refs else message
        return
    for result in parts.results:
        yield make_tool_message(result, time=moment)
    if parts.text or calls or not parts.results:
        yield RawMessage(
            role,
            parts.text,
            moment,
            name=name if isinstance(name, str) and not _is_call(value) else "",
            model=str(value.get("model") or "") if role == "assistant" else "",
            tool_calls=tuple(calls),
            refs=refs,
        )


def _unwrap(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """LangChain's messages, whose fields stand in `data` or, as constructors, in `kwargs`."""
    inner, path = value.get("kwargs"), value.get("id")
    if value.get("type") == "constructor" and is_object(inner) and is_array(path) and path:
        return {**inner, "type": str(path[-1])}
    inner = value.get("data")
    if "content" not in value and is_object(inner) and "content" in inner:
        return {**inner, "type": value.get("type")} if isinstance(value.get("type"), str) else value
    return value


_THOUGHT = re.compile(r"<(think|thinking)>.*?(?:</\1>\s*|\Z)", re.DOTALL)


def drop_thoughts(text: str) -> str:
    """An answer without the thoughts that a model wrote into it, also where their beginning stood
    in the prompt.

    >>> drop_thoughts("<think>6 times 7</think>42"), drop_thoughts("6 times 7</think>\\n42")
    ('42', '42')
    """
    if "think" not in text:
        return text
    text = _THOUGHT.sub("", text)
    for mark in ("</think>", "</thinking>"):
        if mark in text:
            text = text.rpartition(mark)[2].lstrip()
    return text


def make_tool_message(result: ToolResult, *, time: float | None = None) -> RawMessage:
    """The message of a tool."""
    return RawMessage(
        "tool",
        result.text,
        time,
        name=result.name,
        refs={"call": result.id} if result.id else {},
        status=None if result.failed is None else int(result.failed),
    )


def read_messages(values: Iterable[Any]) -> list[RawMessage]:
    """The messages of a list; those that cannot be read are counted and left out.

    Raises:
        RecordError: none of them can be read.
    """
    messages: list[RawMessage] = []
    reason = "there are no messages"
    for value in values:
        try:
            messages += read_message(value)
        except RecordError as error:
            reason = str(error)
            skip("messages", reason)
    if not messages:
        raise RecordError(reason)
    return messages


def _role_of(value: Mapping[str, Any]) -> Role:
    kind = str(value.get("type") or "").lower()
    if kind in _CALLS:
        return "assistant"
    if kind in _RESULTS:
        return "tool"
    raw = _first(value, ("role", "from", "sender", "speaker", "author", "type"))
    if is_object(raw):
        raw = raw.get("role") or raw.get("name") or raw.get("type")
    return fields.role(raw)


def _is_call(value: Mapping[str, Any]) -> bool:
    """Whether a message is a call itself, so that its name is the tool's."""
    return str(value.get("type") or "").lower() in _CALLS


def _content_of(value: Mapping[str, Any]) -> Any:
    kind = str(value.get("type") or "").lower()
    if kind in _CALLS or kind in _RESULTS:
        return [value]
    content = _first(value, ("content", "parts", "text", "value", "message", "body"))
    if content is None or content == "":
        audio = value.get("audio")
        spoken = audio.get("transcript") if is_object(audio) else None
        return value.get("refusal") or spoken or content
    return content


def _calls_of(value: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    calls = value.get("tool_calls") or value.get("toolCalls") or value.get("function_call") or ()
    if is_object(calls):
        calls = [calls]
    return [call for call in calls if is_object(call)] if is_array(calls) else []


def _first(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def name_results(messages: Sequence[RawMessage]) -> list[RawMessage]:
    """The messages, tools' answers under the names of the tools that were called."""
    names: dict[str, str] = {}
    waiting: list[str] = []
    named: list[RawMessage] = []
    for message in messages:
        if message.tool_calls:
            names.update((call.id, call.name) for call in message.tool_calls if call.id)
            waiting = [call.name for call in message.tool_calls]
        elif message.role == "tool" and not message.name:
            name = names.get(message.refs.get("call", ""), "")
            if not name and len(set(waiting)) == 1:
                name = waiting[0]
            if name:
                named.append(msgspec.structs.replace(message, name=name))
                continue
        elif message.role == "user":
            waiting = []
        named.append(message)
    return named


def read_blocks(
    content: Any, *, role: Role = "assistant", time: float | None = None, model: str = ""
) -> Iterator[RawMessage]:
    """The messages of a response whose blocks hold results of tools too, in the order in which they
    came: words and calls, the tools' answers, words.
    """
    waiting: list[Any] = []
    for part in content if is_array(content) else [content]:
        parts = read_content(part)
        if parts.calls or not parts.results:
            waiting.append(part)
        if not parts.results:
            continue
        yield from _flush(waiting, role, time, model)
        waiting = []
        for result in parts.results:
            yield make_tool_message(result, time=time)
    yield from _flush(waiting, role, time, model)


def _flush(parts: list[Any], role: Role, time: float | None, model: str) -> Iterator[RawMessage]:
    inner = read_content(parts)
    if inner.text or inner.calls:
        yield RawMessage(role, inner.text, time, model=model, tool_calls=inner.calls)
