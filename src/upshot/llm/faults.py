"""What a failed answer means: whether to try again, leave the request out, or end the run.

Endpoints say the same things by status, by error codes and in prose, with the status of an error or
inside a 200. The words here are those of OpenAI, Azure, Anthropic, Gemini, OpenRouter, LiteLLM,
vLLM and llama.cpp.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

from upshot.io.json_values import is_object

FaultKind = Literal["endpoint", "request", "rejected", "rate", "passing", "unreachable"]
"""`endpoint`: no request will be answered. `request`: this one will never be. `rejected`: this one
is not, perhaps for a field of it. `rate`: later, and fewer at once. `passing`: perhaps when it is
sent again. `unreachable`: no connection.
"""
_MAX_PROBLEM = 300
"""Characters of a server's message that are shown."""
_RATE = frozenset((429, 503, 529))
"""Statuses of too many requests and of overload."""
_PASSING = frozenset((408, 409, 425))
"""Statuses below 500 after which the same request may succeed."""
_NEVER = frozenset((401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426, 501, 505))
"""Statuses that are about the caller, the address or the protocol, so about every request."""
_FUNDS = re.compile(
    r"""insufficient[_ ](?:quota|balance|funds|credits?)
    | billing[_ ](?:hard[_ ]limit|not[_ ]active)
    | account[_ ](?:deactivated|is[ ]not[ ]active)
    | (?:credit[ ]balance|balance[ ]is)[ ]too[ ]low
    | (?:not[ ]enough|out[ ]of|requires[ ]more)[ ]credits
    | exceeded[ ]your[ ]current[ ]quota""",
    re.VERBOSE,
)
_LENGTH = re.compile(
    r"""context[_ -](?:length|window|size)
    | (?:prompt|input|request|messages?)\b.{0,40}\btoo[ ](?:long|large)
    | too[ ]many[ ](?:input[ ]|prompt[ ])?tokens(?!.*\bwait\b)
    | reduce[ ](?:the[ ]|your[ ])?(?:length|prompt|input)
    | token[ ]count.{0,40}\bexceeds | max_new_tokens`?[ ]must[ ]be
    | string_above_max_length | max_model_len | payload[ ]too[ ]large""",
    re.VERBOSE | re.DOTALL,
)
_FILTER = re.compile(
    r"""content[_ ](?:filter|policy|management) | responsible[_ ]?ai | moderation
    | \bsafety\b | \bflagged\b | data_inspection | inappropriate[ ]content
    | sensitive[ ](?:content|words?) | prohibited[_ ]content | guardrail""",
    re.VERBOSE,
)
_ACCOUNT = re.compile(
    r"""(?:invalid|incorrect|missing)[_ ]api[_ ]key | authentication[_ ]error
    | permission[_ ](?:denied|error) | unauthori[sz]ed
    | model[_ ]not[_ ](?:found|supported) | model[ ].{0,80}\b(?:does[ ]not[ ]exist|not[ ]found)
    | (?:unknown|invalid)[ ]model | is[ ]not[ ]a[ ]valid[ ]model""",
    re.VERBOSE,
)
_OVERLOAD = re.compile(r"rate[_ ]limit|too[_ ]many[_ ]requests|overloaded|throttl|capacity")
_FILTERED_ENDS = frozenset(
    ("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii", "refusal")
)
"""Reasons to end an answer that mean that it was withheld, in lower case."""


class Fault(NamedTuple):
    """Why an attempt gave nothing."""

    kind: FaultKind
    problem: str
    """What the server said, or what happened."""
    wait_s: float | None = None
    """Seconds that the server asks to wait."""
    field: str = ""
    """The field of the request that the server names."""
    is_too_long: bool = False
    """Whether the prompt and the answer do not fit the model's context."""


def is_withheld(finish_reason: object) -> bool:
    """Whether an answer that ended so was withheld by a filter.

    >>> is_withheld("content_filter"), is_withheld("length"), is_withheld(None)
    (True, False, False)
    """
    return isinstance(finish_reason, str) and finish_reason.lower() in _FILTERED_ENDS


def find_error(body: Any) -> Any:
    """The error in a decoded body, None where there is none; a body may be all error.

    >>> find_error({"error": None, "choices": []}) is None
    True
    >>> find_error({"object": "error", "message": "gone"})["message"]
    'gone'
    """
    if not is_object(body):
        return None
    for name in ("error", "errors"):
        error = body.get(name)
        if error:
            return error[0] if isinstance(error, list) else error  # pyright: ignore[reportUnknownVariableType]  # JSON
    if body.get("object") == "error" or body.get("type") == "error":
        return body
    return body.get("detail") or body.get("message") if "choices" not in body else None


def read_error(error: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Fault:
    """The fault that an error object (or text) stands for.

    The status is that of the response; an error inside a 200 may name its own as its code.

    >>> read_error({"message": "Upstream overloaded", "code": 502}).kind
    'passing'
    >>> read_error({"message": "no money", "code": "insufficient_quota"}, 429).kind
    'endpoint'
    """
    words, message, field = _read_words(error)
    if status == 200:
        status = next((int(word) for word in words if re.fullmatch("[3-5][0-9][0-9]", word)), 0)
    wait_s = requested_wait(headers or {})
    problem = " ".join(message.split())[:_MAX_PROBLEM] or "an error without a message"
    if status:
        problem = f"status {status}: {problem}"
    text = " ".join([*words, message.lower()])
    is_structured = not isinstance(error, str)
    kind = _classify(
        status, text, is_structured, "resource_exhausted" in text or wait_s is not None
    )
    too_long = kind == "request" and _LENGTH.search(text) is not None
    return Fault(kind, problem, wait_s, field, too_long)


def _read_words(error: Any) -> tuple[list[str], str, str]:
    """The codes of an error in lower case, its message, and the field it names."""
    if not is_object(error):
        return [], error if isinstance(error, str) else str(error), ""
    words = [
        str(error[name]).lower()
        for name in ("code", "type", "status", "reason")
        if isinstance(error.get(name), (str, int)) and not isinstance(error[name], bool)
    ]
    inner = error.get("innererror")
    if is_object(inner) and isinstance(inner.get("code"), str):
        words.append(inner["code"].lower())
    message = next(
        (error[name] for name in ("message", "msg", "detail", "error") if error.get(name)), ""
    )
    raw = error.get("metadata")
    if is_object(raw) and isinstance(raw.get("raw"), str):  # OpenRouter: what the provider said
        message = f"{message} {raw['raw']}"
    param = error.get("param")
    return words, str(message), param if isinstance(param, str) else ""


def _classify(status: int, text: str, is_structured: bool, is_temporary: bool) -> FaultKind:
    if status == 402 or (_FUNDS.search(text) and not ("exceeded your" in text and is_temporary)):
        return "endpoint"
    if _LENGTH.search(text) and status not in (401, 403, 404) and "per min" not in text:
        return "request"
    if status == 429 and "request too large" in text:  # more than the limit of a minute
        return "request"
    if is_structured and _FILTER.search(text) and status in (0, 400, 403, 422, 451):
        return "request"
    if 0 < status < 400 or status in _NEVER:
        return "endpoint"
    if status in _RATE or (status < 500 and _OVERLOAD.search(text)):
        return "rate"
    if not status or status in _PASSING or status >= 500:
        return "endpoint" if status < 500 and _ACCOUNT.search(text) else "passing"
    return "endpoint" if _ACCOUNT.search(text) else "rejected"


def requested_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, given in milliseconds, in seconds or as a date.

    Not a number, or a time that has passed: None.

    >>> requested_wait({"Retry-After": "2"}), requested_wait({"Retry-After": "nan"})
    (2.0, None)
    """
    for name, unit in (("Retry-After-Ms", 1e-3), ("Retry-After", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _seconds_until(value)
        if math.isfinite(seconds) and seconds > 0:
            return seconds
    return None


def _seconds_until(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return math.nan


def advise(status: int, location: str = "") -> str:
    """The next step after a status, for the end of a message; "" where there is none.

    >>> advise(401)
    '; set UPSHOT_LLM__KEY'
    """
    if 300 <= status < 400:
        return f"; it redirects to {location or 'another address'}, write that as --base-url"
    advice = {
        401: "; set UPSHOT_LLM__KEY",
        402: "; pay at the endpoint, or name another with --base-url",
        403: "; the key may not use this model",
        404: "; check the address (it ends in /v1) and the model's name",
        405: "; check the address (it ends in /v1)",
    }
    return advice.get(status, "")
