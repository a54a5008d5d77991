"""Reading what an endpoint answers to a chat completion: texts and counts, or a fault.

The protocol is read as it is spoken, not as it is written: content in parts or as JSON, refusals,
thoughts in fields of their own, streams that nobody asked for, errors inside a 200, counts that are
missing or nonsense. Nothing here raises for anything that a server may send.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from upshot.io.json_text import decode
from upshot.io.json_values import as_object, is_array, is_number, is_object
from upshot.llm.faults import Fault, find_error, is_withheld, read_error
from upshot.llm.model_json import strip_thoughts

_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Of a message: DeepSeek and vLLM; OpenRouter, Groq and Ollama; others."""
_THOUGHT_PARTS = frozenset(("thinking", "reasoning", "redacted_thinking", "reasoning_content"))
"""Types of the parts of a content that are no answer."""
_STREAM = re.compile(rb"\s*(?:data|event|id|retry)?:")
_EVENT_END = re.compile(r"\r\n|\r|\n")
_MAX_COUNT = 10_000_000
"""Tokens; no model has a larger context, so a larger count is nonsense."""
_LONE_ERROR_ENDS = ("error", "abort", "aborted", "cancelled")
"""Reasons to end an answer that mean that the server failed over it."""


class Usage(NamedTuple):
    """Tokens that the server counted; None: it did not say, or not a possible number."""

    prompt: int | None = None
    cached: int = 0
    completion: int | None = None


class Answer(NamedTuple):
    """One response to one request."""

    texts: tuple[str, ...] = ()
    """Samples with something in them; one that was cut off is included as far as it goes."""
    choices: int = 0
    """Samples, usable or not."""
    usage: Usage = Usage()
    generated: int | None = None
    """Bytes of all that the model wrote, thoughts and refusals included; None: not known."""
    fault: Fault | None = None
    """Why there is no text; None where there is one."""
    is_cut: bool = False
    """Whether there is no text because the thoughts used up the tokens."""


class _Sample(NamedTuple):
    text: str
    written: int
    refusal: str
    finish: str


def read_answer(content: bytes) -> Answer:
    """What the body of a 200 says.

    >>> read_answer(b'{"choices": [{"message": {"content": "hi"}}]}').texts
    ('hi',)
    >>> read_answer(b'{"choices": []}').fault.problem
    'an answer without choices'
    """
    try:
        if (answer := _take_usual(_USUAL.decode(content))) is not None:
            return answer
    except (msgspec.DecodeError, RecursionError):
        pass
    if not content.strip():
        return Answer(fault=Fault("passing", "an empty answer"))
    if _STREAM.match(content):
        body, problem = _join_stream(_decode_text(content))
        answer = _read_completion(body)
        broken = problem and (answer.fault is None or not find_error(body))
        if not broken:
            return answer
        return answer._replace(texts=(), generated=None, fault=Fault("passing", problem))
    try:
        body = decode_body(content)
    except ValueError:
        start = " ".join(_decode_text(content[:200]).split())
        return Answer(fault=Fault("passing", f"an answer that is not JSON: {start[:120]!r}"))
    if is_array(body) and len(body) == 1:
        body = body[0]
    return _read_completion(body)


class _Message(msgspec.Struct):
    content: str
    refusal: None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: Literal["stop", "length"] | None = None
    error: None = None


class _Counts(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int = 0
    prompt_tokens_details: dict[str, Any] | None = None


class _Completion(msgspec.Struct):
    """A completion as the protocol has it, which most are; read in a tenth of the time."""

    choices: list[_Choice]
    usage: _Counts
    error: None = None


_USUAL = msgspec.json.Decoder(_Completion)


def _take_usual(completion: _Completion) -> Answer | None:
    """The answer of a completion in which nothing is unusual; None where something is."""
    texts = tuple([choice.message.content for choice in completion.choices])
    if not texts or not all(text[:1] in _JSON_STARTS for text in texts) or "" in texts:
        return None
    usage = completion.usage
    cached = (usage.prompt_tokens_details or {}).get("cached_tokens")
    total = usage.total_tokens or usage.prompt_tokens + usage.completion_tokens
    counts = (usage.prompt_tokens, usage.completion_tokens, cached or 0)
    if (
        not all(isinstance(count, int) and 0 <= count <= _MAX_COUNT for count in counts)
        or total != usage.prompt_tokens + usage.completion_tokens
        or counts[2] > counts[0]
    ):
        return None
    written = len("".join(texts).encode("utf-8", "replace"))
    return Answer(texts, len(texts), Usage(counts[0], counts[2], counts[1]), written)


_JSON_STARTS = frozenset("{[")


def decode_body(content: bytes) -> Any:
    """A body as JSON: any Unicode encoding, byte order marks, NaN (as null), lone surrogates.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return decode(content)
    except ValueError:
        pass
    text = content.decode(json.detect_encoding(content), "replace")
    return decode(_NOT_A_NUMBER.sub(lambda match: match[1] or "null", text).encode())


_NOT_A_NUMBER = re.compile(r'("(?:[^"\\]|\\.)*")|-?\b(?:NaN|Infinity)\b', re.DOTALL)


def _decode_text(content: bytes) -> str:
    return content.decode("utf-8-sig", "replace")


def _read_completion(body: Any) -> Answer:
    body = as_object(body)
    usage = _read_usage(as_object(body.get("usage")))
    samples = [_read_choice(choice) for choice in _list_choices(body.get("choices"))]
    written = sum(sample.written for sample in samples)
    error = find_error(body) or next(
        (
            choice["error"]
            for choice in map(as_object, _list_choices(body.get("choices")))
            if choice.get("error")
        ),
        None,
    )
    if error:
        return Answer((), len(samples), usage, written, read_error(error))
    usable = [s for s in samples if strip_thoughts(s.text) and not _is_withheld(s)]
    if usable:
        return Answer(tuple(s.text for s in usable), len(samples), usage, written)
    # Something may have been written and dropped, so what it cost is not known.
    return Answer((), len(samples), usage, None, _explain_lack(samples), _is_cut(samples))


def _list_choices(choices: Any) -> Sequence[Any]:
    if is_object(choices):
        return [choices] if "message" in choices or "text" in choices else list(choices.values())
    return choices if is_array(choices) else []


def _read_choice(choice: Any) -> _Sample:
    choice = as_object(choice)
    finish = choice.get("finish_reason") or choice.get("stop_reason") or ""
    message = choice.get("message") or choice.get("delta")
    if isinstance(message, str) or not is_object(message):
        text = message if isinstance(message, str) else choice.get("text")
        message = {"content": text}
    text, refusal, thoughts = _read_content(message.get("content"))
    thoughts += "".join(_read_thought(message.get(name)) for name in _THOUGHT_FIELDS)
    refusal = message["refusal"] if isinstance(message.get("refusal"), str) else refusal
    if not text.strip() and not refusal:
        text = _read_elsewhere(message, thoughts)
    written = sum(len(part.encode("utf-8", "replace")) for part in (text, refusal, thoughts))
    return _Sample(text, written, refusal, finish if isinstance(finish, str) else "")


def _read_content(content: Any) -> tuple[str, str, str]:
    """Text, refusal and thoughts of a content: text, parts, or JSON that was decoded already."""
    if content is None or isinstance(content, str):
        return content or "", "", ""
    if is_object(content) and isinstance(content.get("text"), str):
        return content["text"], "", ""
    parts = content if is_array(content) else []
    if not parts or not all(isinstance(part, str) or _is_part(part) for part in parts):
        return msgspec.json.encode(content).decode(), "", ""
    text, refusal, thoughts = "", "", ""
    for part in parts:
        if isinstance(part, str):
            text += part
        elif part.get("type") in _THOUGHT_PARTS:
            thoughts += msgspec.json.encode(part).decode()
        elif part.get("type") == "refusal":
            refusal += str(part.get("refusal") or part.get("text") or "refused")
        else:
            value = part.get("text", part.get("content"))
            value = value.get("value") if is_object(value) else value
            text += value if isinstance(value, str) else ""
    return text, refusal, thoughts


def _is_part(part: Any) -> bool:
    return part is None or (
        is_object(part) and ("type" in part or isinstance(part.get("text"), str))
    )


def _read_thought(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _read_elsewhere(message: Mapping[str, Any], thoughts: str) -> str:
    """The answer of a message without content: decoded JSON, the arguments of a tool call, or
    thoughts that are a JSON object from end to end, which servers with a wrong reasoning parser
    return.
    """
    if is_object(message.get("parsed")):
        return msgspec.json.encode(message["parsed"]).decode()
    calls = message.get("tool_calls")
    call = as_object(calls[0] if is_array(calls) and calls else None).get("function")
    arguments = as_object(call or message.get("function_call")).get("arguments")
    if arguments:
        return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    bare = thoughts.strip()
    return bare if bare.startswith("{") and bare.endswith("}") else ""


def _is_withheld(sample: _Sample) -> bool:
    return is_withheld(sample.finish) or sample.finish in _LONE_ERROR_ENDS


def _explain_lack(samples: Sequence[_Sample]) -> Fault:
    if not samples:
        return Fault("passing", "an answer without choices")
    refusal = next((" ".join(s.refusal.split()) for s in samples if s.refusal.strip()), "")
    if refusal:
        return Fault("request", f"the model refuses: {refusal[:200]}")
    if any(is_withheld(s.finish) for s in samples):
        return Fault("request", f"the answer was withheld ({samples[0].finish})")
    if _is_cut(samples):
        return Fault("passing", "no answer: thoughts used up the tokens (finish_reason length)")
    ends = next((f" (finish_reason {s.finish[:40]})" for s in samples if s.finish), "")
    return Fault("passing", f"an answer without text{ends}")


def _is_cut(samples: Sequence[_Sample]) -> bool:
    return any(sample.finish in ("length", "max_tokens", "MAX_TOKENS") for sample in samples)


def _read_usage(usage: Mapping[str, Any]) -> Usage:
    prompt = _read_count(usage.get("prompt_tokens", usage.get("input_tokens")))
    completion = _read_count(usage.get("completion_tokens", usage.get("output_tokens")))
    total = _read_count(usage.get("total_tokens"))
    if prompt is not None and total is not None and total > prompt:  # thoughts may be in it alone
        completion = max(completion or 0, total - prompt)
    details = as_object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    cached = _read_count(details.get("cached_tokens", usage.get("prompt_cache_hit_tokens")))
    return Usage(prompt, min(cached or 0, prompt or 0), completion)


def _read_count(value: Any) -> int | None:
    """A count of tokens, as a number or in digits; None where it cannot be one."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not is_number(value) or not math.isfinite(value) or not 0 <= value <= _MAX_COUNT:
        return None
    return math.ceil(value)


def _join_stream(text: str) -> tuple[dict[str, Any], str]:
    """Server-sent events as one completion, and what is wrong with the stream ("" if nothing)."""
    choices: dict[int, dict[str, Any]] = {}
    joined: dict[str, Any] = {}
    is_done, problem = False, ""
    for event in _read_events(text):
        if event.strip() == "[DONE]":
            is_done = True
            break
        try:
            chunk = as_object(decode_body(event.encode("utf-8", "replace")))
        except ValueError:
            problem = "a stream with an event that is not JSON"
            continue
        joined["usage"] = chunk.get("usage") or joined.get("usage")
        joined["error"] = joined.get("error") or find_error(chunk)
        for piece in map(as_object, _list_choices(chunk.get("choices"))):
            _add_piece(choices, piece)
    joined["choices"] = [choices[index] for index in sorted(choices)]
    ended = is_done or (choices and all(c.get("finish_reason") for c in choices.values()))
    return joined, problem or ("" if ended else "the stream ended before its end was announced")


def _read_events(text: str) -> Iterable[str]:
    """The data of each event; every line of data is one where nothing separates them."""
    for line in _EVENT_END.split(text):
        if line.startswith("data:") and line[5:].strip():
            yield line[5:]


def _add_piece(choices: dict[int, dict[str, Any]], piece: Mapping[str, Any]) -> None:
    index = piece.get("index")
    choice = choices.setdefault(index if isinstance(index, int) else 0, {"message": {}})
    choice["finish_reason"] = piece.get("finish_reason") or choice.get("finish_reason")
    choice["error"] = piece.get("error") or choice.get("error")
    delta = as_object(piece.get("delta") or piece.get("message") or {"content": piece.get("text")})
    text, refusal, thoughts = _read_content(delta.get("content"))
    thoughts += "".join(_read_thought(delta.get(name)) for name in _THOUGHT_FIELDS)
    refusal += delta["refusal"] if isinstance(delta.get("refusal"), str) else ""
    message = choice["message"]
    for name, more in (("content", text), ("refusal", refusal), ("reasoning_content", thoughts)):
        message[name] = (message.get(name) or "") + more or None
    calls = delta.get("tool_calls")
    call = as_object(as_object(calls[0] if is_array(calls) and calls else None).get("function"))
    if isinstance(call.get("arguments"), str):
        joined = as_object(message.get("function_call")).get("arguments", "")
        message["function_call"] = {"arguments": joined + call["arguments"]}
