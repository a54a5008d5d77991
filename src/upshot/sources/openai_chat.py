"""Chats as objects with a list `messages`: the interchange format, and what most tools write, as
JSON lines, JSON, CSV or Parquet; the list may be a text of JSON, or a transcript that names its
speakers line by line.

Accepted spellings: `id`, `conversation_id`, `session_id`, …; `user`, `user_id`, …; `started_at`,
`timestamp`, … Rows of one conversation id are put together: turns in their order, growing copies
as one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_lines
from upshot.io.json_text import decode, split_values
from upshot.io.json_values import as_array, as_object, is_array, is_object
from upshot.privacy.pseudonyms import fold_name
from upshot.records import (
    AUTHORS,
    AuthorSpan,
    BadRecord,
    RawConversation,
    RawMessage,
    Signal,
)
from upshot.records.signals import SIGNALS, make_rating
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records, take_sample
from upshot.sources.history import (
    MIN_WINDOW,
    Node,
    count_leading_system,
    make_conversations,
    overlap,
    shared_prefix,
    take_back,
)
from upshot.sources.messages import read_message
from upshot.sources.payloads import read_transcript
from upshot.sources.rows import decode_cell, read_rows

NAME = "openai-chat"
IDS = (
    "id",
    "conversation_id",
    "conversationId",
    "conversation_hash",
    "session_id",
    "sessionId",
    "thread_id",
    "threadId",
    "chat_id",
    "chatId",
    "uuid",
    "trace_id",
    "_id",
    "session",
)
USERS = (
    "user",
    "user_id",
    "userId",
    "username",
    "user_name",
    "hashed_ip",
    "customer_id",
    "customer",
    "end_user",
    "endUser",
    "account_id",
)
STARTS = (
    "started_at",
    "startedAt",
    "start_time",
    "timestamp",
    "created_at",
    "createdAt",
    "create_time",
    "created",
    "time",
    "date",
)
MODELS = ("model", "model_name", "modelName", "model_id")
TENANTS = (
    "tenant_id",
    "tenantId",
    "tenant",
    "org_id",
    "orgId",
    "organization_id",
    "organizationId",
    "workspace_id",
    "workspaceId",
    "account",
)
"""Whose ids they are, where several customers share a log."""
PARENTS = ("parent_id", "parentId", "parent_message_id", "parentMessageId", "parent")
"""Where a message names the one before it."""
MESSAGE_IDS = ("message_id", "messageId", "id", "uuid")
_LEAVES = ("currentId", "current_id", "current_node", "leaf_id", "leafId", "currentLeafId")
_ROLES = ("role", "from", "sender", "speaker", "author")
_LISTS = (
    "messages",
    "conversation",
    "turns",
    "chat",
    "dialog",
    "dialogue",
    "history",
    "transcript",
    "comments",
)
"""Where the messages stand."""
_ORDER = (
    "turn",
    "turn_index",
    "turn_number",
    "turn_id",
    "index",
    "idx",
    "seq",
    "sequence",
    "step",
    "position",
    "order",
)
"""Where the place of a row in its conversation stands."""
_OTHER = frozenset(
    (
        *IDS,
        *USERS,
        *STARTS,
        *MODELS,
        *_LISTS,
        "metadata",
        "refs",
        "branch_of",
        "branch_at",
        "fork",
        "parent",
        "parent_at",
        "source",
        "signals",
        "feedback",
        "tools",
        "system",
    )
)


class _Message(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: str
    content: str
    time: float | str | None = None


class _Line(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The plain case, decoded at full speed; anything else takes the tolerant road below."""

    messages: list[_Message]
    id: str = ""
    user: str = ""
    started_at: str | float | None = None
    model: str = ""
    metadata: dict[str, Any] = {}


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are chats."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a chat."""
    if not is_object(record):
        return "not an object"
    if inner := _chats_in(record):
        return misfit(inner[0])
    turns = _turns_of(record)
    if turns is None:
        return "no list `messages`"
    first = next((turn for turn in turns if is_object(turn)), None)
    if first is None:
        return "`messages` holds no objects"
    if any(name in first for name in ("role", "author", "speaker", "sender")):
        return ""
    return (
        ""
        if fields.is_role(str(first.get("type"))) or _is_built(first)
        else "its messages have no `role`"
    )


def _chats_in(record: Mapping[str, Any]) -> list[Any]:
    """The chats of an object that wraps a list of them (an export of a user interface)."""
    for name, value in record.items():
        if name not in _LISTS or name in ("history", "conversation", "chat"):
            first = value[0] if is_array(value) and value else None
            if is_object(first) and is_array(first.get("messages")):
                return list(value)  # pyright: ignore[reportArgumentType]  # an array
    if not any(name in record for name in _LISTS):  # chats by their ids
        if record and all(is_object(v) and is_array(v.get("messages")) for v in record.values()):
            return [{"id": name, **value} for name, value in record.items()]
        if record and all(map(_are_turns, record.values())):
            return [{"id": name, "messages": value} for name, value in record.items()]
    return []


def _are_turns(value: Any) -> bool:
    return is_array(value) and bool(value) and all(is_object(v) and "role" in v for v in value)


def _is_built(turn: Mapping[str, Any]) -> bool:
    """Whether a message is one that LangChain wrote as a call of its class."""
    return turn.get("type") == "constructor" and is_object(turn.get("kwargs"))


def _turns_of(record: Mapping[str, Any]) -> list[Any] | None:
    for name in _LISTS:
        value = record.get(name)
        if isinstance(value, str) and not any(side in record for side in _ANSWERS):
            value = _read_text_of_turns(value)
        if is_array(value):
            return value
        if is_object(value) and _are_turns(list(value.values())):  # by their ids or places
            return list(value.values())
    return None


_ANSWERS = ("response", "output", "answer", "completion", "chosen")
"""Beside these, what stands in a text is the request's."""


def _read_text_of_turns(text: str) -> Any:
    """The messages of a text that is their JSON, or names who speaks line by line; else None."""
    if is_array(turns := decode_cell(text)):
        return turns
    messages = read_transcript(text.strip(), is_whole=True)
    if {"user", "assistant"} <= {message.role for message in messages}:
        return [{"role": message.role, "content": message.content} for message in messages]
    return None


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable records, in order."""
    if _repeats_ids(take_sample(source)):
        yield from _read_grouped(source)
    elif source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and _is_json_lines(source.head):
        yield from _read_plain_lines(source)
    else:
        for position, value in read_rows(source):
            yield from _parse_items(value, position, source.name)


def _parse_items(value: Any, position: str, file: str) -> Iterator[RawConversation | BadRecord]:
    """The chats of one value: it is one, or it wraps several."""
    inner = _chats_in(value) if is_object(value) else []
    for number, item in enumerate(inner or [value], 1):
        place = f"{position}, chat {number}" if inner else position
        parsed = parse_item(item, place, file)
        if isinstance(parsed, BadRecord) or not is_forked(_turns_of(item) or []):
            yield parsed
        else:
            yield from _unfold(item, parsed)


def is_forked(turns: Sequence[Any]) -> bool:
    """Whether messages are a tree in which several answer one: all have ids and name parents."""
    if not turns or not is_object(turns[0]) or not any(n in turns[0] for n in PARENTS):
        return False
    parents = [str(fields.first_of(t, PARENTS) or "") if is_object(t) else "" for t in turns]
    names = {_name_of(fields.first_of(t, MESSAGE_IDS)) for t in turns if is_object(t)}
    inside = [parent for parent in parents if parent in names]
    roots = len(parents) - len(inside)
    return (
        len(names) == len(turns) and bool(inside) and (roots > 1 or len(set(inside)) < len(inside))
    )


def _unfold(record: Mapping[str, Any], chat: RawConversation) -> Iterator[RawConversation]:
    nodes = [
        Node(
            _name_of(fields.first_of(turn, MESSAGE_IDS)),
            str(fields.first_of(turn, PARENTS) or ""),
            tuple(_read_item(turn, 0, number)),
        )
        for number, turn in enumerate(name_speakers(_turns_of(record) or []))
    ]
    yield from make_conversations(chat, nodes, _name_of(fields.first_of(record, _LEAVES)))


def _repeats_ids(sample: Sample) -> bool:
    """Whether rows share conversation ids, so that they are turns or growing copies."""
    names = Counter(
        name
        for record in sample.records
        if is_object(record) and (name := _name_of(fields.first_of(record, IDS)))
    )
    return bool(names) and names.most_common(1)[0][1] > 1


_FIRST_LINES = 5
"""Lines of which one is a chat where every line is a value; others may be broken."""


def _is_json_lines(head: bytes) -> bool:
    """Whether each line is a value of its own."""
    first, newline, rest = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    if not newline:
        return True
    try:
        decode(first)
    except ValueError:
        return any(map(_is_chat_line, rest.split(b"\n")[: _FIRST_LINES - 1]))
    return True


def _is_chat_line(line: bytes) -> bool:
    try:
        value = decode(line)
    except ValueError:
        return False
    return is_object(value) and _turns_of(value) is not None


def _read_plain_lines(source: Input) -> Iterator[RawConversation | BadRecord]:
    plain = msgspec.json.Decoder(_Line).decode
    for number, line in read_lines(source):
        if isinstance(line, Bad):
            yield BadRecord(source.name, f"line {number}", line.reason)
            continue
        try:
            yield _convert_line(plain(line), f"line {number}")
            continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecordError, RecursionError):
            pass
        try:
            value = decode(line)
        except ValueError as error:
            value = split_values(line)
            if not value:
                yield BadRecord(source.name, f"line {number}", str(error))
                continue
        for place, item in enumerate(value if is_array(value) else [value], 1):
            position = f"line {number}, item {place}" if is_array(value) else f"line {number}"
            yield from _parse_items(item, position, source.name)


def _convert_line(line: _Line, place: str) -> RawConversation:
    if not line.messages:
        raise RecordError("`messages` is empty")
    role, epoch = fields.role, fields.epoch
    return RawConversation(
        tuple(
            [
                RawMessage(role(m.role), m.content, epoch(m.time) if m.time is not None else None)
                for m in line.messages
            ]
        ),
        line.id,
        line.user,
        epoch(line.started_at),
        line.model,
        NAME,
        line.metadata,
        place=place,
    )


def _read_grouped(source: Input) -> Iterator[RawConversation | BadRecord]:
    groups: dict[str, list[tuple[float, int, RawConversation]]] = {}
    for number, (position, value) in enumerate(read_rows(source)):
        parsed = parse_item(value, position, source.name)
        if isinstance(parsed, BadRecord) or not parsed.id or is_interchange(value):
            yield parsed
            continue
        order = read_number(fields.first_of(value, _ORDER)) if is_object(value) else None
        place = parsed.started_at if order is None else order
        key = f"{tenant_of(value)}\0{fold_name(parsed.user)}\0{parsed.id}"
        groups.setdefault(key, []).append((place or 0.0, number, parsed))
    for rows in groups.values():
        yield from join_rows(row for *_, row in sorted(rows, key=lambda row: row[:2]))


def is_interchange(record: Any) -> bool:
    """Whether a record is as `upshot read` writes it: a whole conversation, whatever its id."""
    if not is_object(record) or not isinstance(record.get("source"), str):
        return False
    first = next(iter(_turns_of(record) or []), None)
    return is_object(first) and first.get("author") in AUTHORS


def tenant_of(record: Any) -> str:
    """Whose ids a record has, where several customers share a log."""
    return _name_of(fields.first_of(record, TENANTS)) if is_object(record) else ""


def read_number(value: Any) -> float | None:
    """A number, in a cell as text too; None where it is none."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def join_rows(rows: Iterable[RawConversation]) -> Iterator[RawConversation]:
    """One conversation of rows in order: growing copies and windows count once, turns follow each
    other; what another version replaced is a branch.
    """
    base: RawConversation | None = None
    line: list[RawMessage] = []
    branches: list[RawConversation] = []
    for row in rows:
        if base is None:
            base, line = row, list(row.messages)
            continue
        shared = shared_prefix(line, row.messages)
        lead = count_leading_system(row.messages)
        if row.branch_of:
            yield row
        elif shared == len(row.messages) and shared > 0:
            continue
        elif shared == len(line):
            base = msgspec.structs.replace(row, started_at=base.started_at)
            line = list(row.messages)
        elif shared > lead + 1:
            branches.append(_take_version(base, line, shared, len(branches) + 1))
            fork = shared if base.fork < 0 else min(base.fork, shared)
            base = msgspec.structs.replace(row, started_at=base.started_at, fork=fork)
            line = list(row.messages)
        else:
            window = row.messages[lead:] if shared >= lead else row.messages
            size = overlap(line, window)
            window = window[size:] if size >= MIN_WINDOW else window
            line += _shift(window, len(line) - len(row.messages) + len(window))
    if base is not None:
        yield msgspec.structs.replace(base, messages=tuple(line))
    yield from branches


def _take_version(
    base: RawConversation, line: Sequence[RawMessage], shared: int, number: int
) -> RawConversation:
    """What another version replaced, as a branch of it."""
    own = take_back(line[shared:], shared, "regenerate")
    return msgspec.structs.replace(
        base,
        messages=(*line[:shared], *own),
        id=f"{base.id}~{number}",
        branch_of=base.id,
        branch_at=shared,
        fork=-1,
    )


def _shift(messages: Iterable[RawMessage], by: int) -> Iterator[RawMessage]:
    """The same, their signals pointing at their new places."""
    for message in messages:
        if not message.signals:
            yield message
            continue
        signals = tuple(msgspec.structs.replace(s, at=s.at + by) for s in message.signals)
        yield msgspec.structs.replace(message, signals=signals)


def parse_item(value: Any, position: str, name: str = "(memory)") -> RawConversation | BadRecord:
    """A conversation from one decoded value, or why it is none."""
    if isinstance(value, Bad):
        return BadRecord(name, position, value.reason)
    try:
        return parse_conversation(value, place=position)
    except RecordError as error:
        return BadRecord(name, position, str(error), _user_of(value))
    except (TypeError, ValueError, KeyError, RecursionError, AttributeError) as error:
        reason = f"it is not in the shape of its format ({type(error).__name__})"
        return BadRecord(name, position, reason, _user_of(value))


def _user_of(value: Any) -> str:
    try:
        return _name_of(fields.first_of(value, USERS)) if is_object(value) else ""
    except (TypeError, ValueError):
        return ""


def parse_conversation(record: Any, source: str = NAME, place: str = "") -> RawConversation:
    """A conversation from one decoded object.

    Raises:
        RecordError: `messages` is missing, or none of them can be read.
    """
    turns = _turns_of(record) if is_object(record) else None
    if not turns:
        raise RecordError("needs an object with a list `messages` of at least one message")
    messages: list[RawMessage] = []
    if isinstance(record.get("system"), str) and record["system"]:
        messages.append(RawMessage("system", record["system"]))
    for index, item in enumerate(name_speakers(turns)):
        messages += _read_item(item, len(messages), index)
    name = _name_of(fields.first_of(record, IDS))
    branch_at = _whole(record.get("branch_at"), 0)
    if not 0 <= branch_at < max(1, len(messages)):
        raise RecordError(
            f"`branch_at` is {branch_at}, not the index of one of {len(messages)} messages"
        )
    messages = _attach(messages, record)
    metadata = record.get("metadata")
    others: dict[str, Any] = {
        key: value
        for key, value in record.items()
        if key not in _OTHER and isinstance(value, (str, int, float, bool, dict, list))
    }
    return RawConversation(
        tuple(messages),
        name,
        _name_of(fields.first_of(record, USERS)),
        fields.epoch(fields.first_of(record, STARTS)),
        _name_of(fields.first_of(record, MODELS)),
        str(record.get("source") or source) if source == NAME else source,
        {**(metadata if is_object(metadata) else {}), **others},
        branch_of=_name_of(record.get("branch_of")),
        branch_at=branch_at,
        fork=_whole(record.get("fork"), -1),
        parent=_name_of(record.get("parent")),
        parent_at=_whole(record.get("parent_at"), -1),
        refs=_read_refs(record.get("refs")),
        place=place,
    )


def _read_item(item: Any, at: int, index: int) -> Iterator[RawMessage]:
    if not is_object(item):
        raise RecordError(f"message {index} is {type(item).__name__}, not an object")
    messages = list(read_message(item))
    if not messages:
        return
    *before, last = messages
    yield from before
    author = item.get("author")
    status = item.get("status")
    changes: dict[str, Any] = {}
    if author in AUTHORS:
        changes["author"] = author
    if spans := _read_spans(item.get("spans"), len(last.content)):
        changes["spans"] = spans
    if refs := _read_refs(item.get("refs")):
        changes["refs"] = {**last.refs, **refs}
    if isinstance(status, int) and not isinstance(status, bool):
        changes["status"] = status
    signals = (
        *_read_signals(item.get("signals"), at + len(before)),
        *read_feedback(item, at + len(before)),
    )
    if signals:
        changes["signals"] = signals
    yield msgspec.structs.replace(last, **changes) if changes else last


def _read_refs(value: Any) -> dict[str, str]:
    """Ids by which other systems know something, with or without the system's name around them:
    `{"langfuse": {"trace": "…"}}` or `{"trace": "…"}`.
    """
    refs: dict[str, str] = {}
    for name, inner in as_object(value).items():
        if is_object(inner):
            refs.update({str(k): str(v) for k, v in inner.items()})
        else:
            refs[str(name)] = str(inner)
    return refs


def _read_spans(value: Any, size: int) -> tuple[AuthorSpan, ...]:
    spans: list[AuthorSpan] = []
    for span in value if is_array(value) else []:
        if is_object(span) and span.get("author") in AUTHORS:
            start, end = _whole(span.get("start"), -1), _whole(span.get("end"), -1)
            if 0 <= start < end <= size:
                spans.append(AuthorSpan(start, end, span["author"]))
    return tuple(spans)


def _read_signals(value: Any, at: int) -> Iterator[Signal]:
    """Signals in the interchange form: kind, value on [low, high], time, detail."""
    for item in value if is_array(value) else []:
        if not is_object(item):
            continue
        kind = str(item.get("kind") or "")
        if kind not in SIGNALS:
            raise RecordError(f"signal kind {kind[:40]!r} is none that Upshot knows")
        place = _whole(item.get("at"), at)
        time, detail = fields.epoch(item.get("time")), str(item.get("detail") or "")
        number, low, high = (item.get(name) for name in ("value", "low", "high"))
        number = 1.0 if number is None else float(number)
        low = -1.0 if low is None else float(low)
        high = 1.0 if high is None else float(high)
        rating = make_rating(number, low, high, place, detail=detail, time=time)
        exact = number if (low, high) == (-1.0, 1.0) else rating.value
        if kind == "rating":
            scale = as_array(item.get("scale"))
            limits = (float(scale[0]), float(scale[1])) if len(scale) == 2 else rating.range
            yield msgspec.structs.replace(rating, value=exact, range=limits)
        else:
            yield Signal(kind, exact, place, detail, time)


def _attach(messages: list[RawMessage], record: Mapping[str, Any]) -> list[RawMessage]:
    """Signals that stand at the conversation, on the response they name, else on the last."""
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    own = [*_read_signals(record.get("signals"), last), *read_feedback(record, last)]
    if not own or last < 0:
        return messages
    for signal in own:
        place = signal.at if 0 <= signal.at < len(messages) else last
        old = messages[place]
        messages[place] = msgspec.structs.replace(old, signals=(*old.signals, signal))
    return messages


_RATINGS = {
    **dict.fromkeys(("rating", "user_rating", "userRating"), "rating"),
    **dict.fromkeys(("stars", "star_rating"), "stars"),
    **dict.fromkeys(("thumb", "thumbs", "vote", "reaction", "user_feedback"), "thumb"),
    **dict.fromkeys(("userFeedback", "rating_thumb"), "thumb"),
}
"""Columns in which people's feedback stands beside `feedback`. A `score` may be anybody's."""
_THUMBS = {
    **dict.fromkeys(("thumbs_up", "thumbsUp", "thumb_up", "liked", "upvoted"), 1.0),
    **dict.fromkeys(("thumbs_down", "thumbsDown", "thumb_down", "disliked", "downvoted"), -1.0),
}


def read_feedback(record: Mapping[str, Any], at: int) -> tuple[Signal, ...]:
    """Feedback on a response, in the field of that name or in columns of their own.

    >>> [(s.kind, s.value) for s in read_feedback({"thumbs_down": 1, "liked": False}, 1)]
    [('thumb', -1.0)]
    """
    signals = list(fields.feedback(record.get("feedback"), at))
    for name, content in record.items():
        if content is None or content == "":
            continue
        if (kind := _RATINGS.get(name)) is not None:
            number = read_number(content)
            if kind != "thumb" and number is not None:
                content = {kind: number, "range": fields.read_range(record)}
            signals += _read_rating(content, at)
        elif name in _THUMBS and str(content).strip().lower() in ("1", "1.0", "true", "yes"):
            signals.append(Signal("thumb", _THUMBS[name], at))
    return tuple(signals)


def _read_rating(content: Any, at: int) -> tuple[Signal, ...]:
    try:
        return fields.feedback(content, at)
    except RecordError:
        return (Signal("comment", 0.0, at, f"rating {fields.text(content)}"),)


_BOT = re.compile(
    r"(?:bot|assistant)\d*$|\b(?:ai|gpt|chatgpt|claude|gemini|copilot|llama|mistral)\b",
    re.IGNORECASE,
)
"""Names of speakers who are no person."""


def name_speakers(turns: Sequence[Any]) -> list[Any]:
    """The turns, those of a speaker who is called by name under the role that is left.

    >>> name_speakers([{"speaker": "Ann"}, {"speaker": "bot"}])[0]["role"]
    'user'
    """
    names = [str(fields.first_of(turn, _ROLES) or "") if is_object(turn) else "" for turn in turns]
    if all(not name or fields.is_role(name) for name in names):
        return list(turns)
    roles = {fields.role(name) for name in names if name and fields.is_role(name)}
    left = {"user", "assistant"} - roles
    bots = {name for name in names if _BOT.search(name)} if len(left) == 2 else set[str]()
    if len(left) != 1 and not bots:
        return list(turns)
    role = "user" if bots else left.pop()
    return [
        {
            **turn,
            "role": "assistant" if name in bots else role,
            "name": turn.get("name") or name,
        }
        if is_object(turn) and name and not fields.is_role(name)
        else turn
        for turn, name in zip(turns, names, strict=True)
    ]


def _name_of(value: Any) -> str:
    """A name or id: of an object that describes somebody, its id."""
    if is_object(value):
        value = fields.first_of(
            value, ("id", "user_id", "uid", "email", "name", "username", "$oid")
        )
    return "" if value is None or is_object(value) or is_array(value) else str(value)


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
