"""Slack exports: one array of messages for each day and channel, in folders named for channels.

What people write to each other is the person's words, what a bot writes the model's, but where it
only posts cards (commits, deployments, tickets) and never answers: those are a machine's. A thread
is a conversation; what stands outside of threads is one for each channel.
"""

from __future__ import annotations

import html
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from upshot.io.files import Bad, Input, make_input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.io.streams import Folder
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.notes import skip
from upshot.sources.reading import describe

NAME = "slack"
MAIN_FILES = ("channels.json", "users.json")
SIDE_FILES = frozenset(
    [
        "channels.json",
        "users.json",
        "groups.json",
        "dms.json",
        "mpims.json",
        "integration_logs.json",
        "canvases.json",
        "file_conversations.json",
        "huddle_transcripts.json",
    ]
)
_GOOD = frozenset(
    ["+1", "thumbsup", "white_check_mark", "heavy_check_mark", "tada", "heart", "100"]
)
_BAD = frozenset(["-1", "thumbsdown", "x", "no_entry", "disappointed"])
_EVENTS = frozenset(
    [
        "channel_join",
        "channel_leave",
        "channel_topic",
        "channel_purpose",
        "channel_name",
        "channel_archive",
        "group_join",
        "group_leave",
        "pinned_item",
        "bot_add",
        "bot_remove",
        "reminder_add",
        "tombstone",
        "message_deleted",
        "channel_convert_to_private",
    ]
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d\.json")
_LINK = re.compile(r"<(?:https?:[^|>]+|mailto:[^|>]+)\|([^>]+)>")


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are messages of an export."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a message of an export."""
    if not is_object(record):
        return "not an object"
    if record.get("type") != "message" or "ts" not in record:
        return "no `type` message with a `ts`"
    return ""


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable messages."""
    threads: dict[str, list[RawMessage]] = {}
    days = _days_of(source.folder)
    users: dict[str, str] = {}
    channel = source.name.replace("!", "/").rsplit("/", 2)[-2:][0] if "/" in source.name else ""
    values = list(_read_days(source, days))
    answering = frozenset(_find_answering(value for _, value in values))
    for position, value in values:
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
            continue
        try:
            message = _read_message(value, answering)
        except Exception as error:  # noqa: BLE001  # one bad message is one bad record
            yield BadRecord(source.name, position, describe(error))
            continue
        if message is None:
            continue
        name = str(value.get("thread_ts") or "")
        if not name and value.get("reply_count"):
            name = str(value.get("ts"))
        threads.setdefault(name, []).append(message)
        if message.role == "user" and not message.author:
            users.setdefault(name, message.name)
    for name, messages in threads.items():
        messages.sort(key=lambda message: message.time or 0.0)
        yield RawConversation(
            tuple(_place(message, at) for at, message in enumerate(messages)),
            f"{channel}/{name}" if name else channel,
            users.get(name, ""),
            messages[0].time,
            source=NAME,
            metadata={"channel": channel} if channel else {},
        )


def is_side_file(sample: Sample, folder: Folder) -> bool:
    """Whether a file is a later day of a channel, which is read with the first."""
    return _file_of(sample.name) in _days_of(folder)[1:]


def _file_of(name: str) -> str:
    return name.replace("!", "/").rsplit("/", 1)[-1]


def _days_of(folder: Folder) -> list[str]:
    return [name for name in folder.names() if _DAY.fullmatch(name)]


def _read_days(source: Input, days: list[str]) -> Iterator[tuple[str, Any]]:
    """The messages of a channel, day by day."""
    yield from read_json(source)
    for day in days:
        if day != _file_of(source.name):
            parts = iter([source.folder.read(day) or b""])
            other = make_input(day, parts, source.folder, None, source.limits)
            for position, value in read_json(other):
                yield f"{day}: {position}", value


def _place(message: RawMessage, at: int) -> RawMessage:
    signals = tuple(msgspec.structs.replace(signal, at=at) for signal in message.signals)
    return msgspec.structs.replace(message, signals=signals) if signals else message


def _is_by_bot(value: Mapping[str, Any]) -> bool:
    return value.get("subtype") == "bot_message" or bool(
        value.get("bot_id") or value.get("bot_profile")
    )


def _name_bot(value: Mapping[str, Any]) -> str:
    return str(value.get("bot_id") or value.get("username") or "")


def _find_answering(values: Iterable[Any]) -> Iterator[str]:
    """Bots that ever said something other than cards, or anything in a thread."""
    for value in values:
        if is_object(value) and _is_by_bot(value):
            says = any(value.get(name) for name in ("text", "blocks", "files", "thread_ts"))
            if says or not is_array(value.get("attachments")):
                yield _name_bot(value)


def _read_message(value: Mapping[str, Any], answering: Container[str]) -> RawMessage | None:
    kind = str(value.get("subtype") or "")
    if kind in _EVENTS:
        skip(NAME, kind)
        return None
    by_bot = _is_by_bot(value)
    is_card = by_bot and _name_bot(value) not in answering
    text = html.unescape(_LINK.sub(r"\1", str(value.get("text") or "")))
    text = text or "".join(_words_of(value.get("blocks")))
    parts = [text] if text else []
    for item in value.get("attachments") or ():
        if is_object(item):
            words = item.get("text") or item.get("fallback") or item.get("title")
            parts += [str(words)] if words and str(words) != text else []
    for item in value.get("files") or ():
        if is_object(item):
            parts.append(f"<file: {item.get('name') or item.get('title') or 'unnamed'}>")
    if not parts:
        skip(NAME, f"an empty message{f' ({kind})' if kind else ''}")
        return None
    return RawMessage(
        "assistant" if by_bot and not is_card else "user",
        "\n".join(parts),
        fields.epoch(value.get("ts")),
        tuple(_read_reactions(value.get("reactions"))) if by_bot and not is_card else (),
        str(
            value.get("username") or value.get("bot_id") or ""
            if by_bot
            else value.get("user") or ""
        ),
        refs={"message": str(value.get("client_msg_id") or value.get("ts") or "")},
        author="machine" if is_card else "",
    )


def _words_of(block: Any) -> Iterator[str]:
    """The words of blocks, where a message has no text beside them."""
    waiting: list[Any] = [block]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif is_array(part):
            waiting += reversed(part)
        elif is_object(part):
            text = part.get("text")
            waiting += [part[n] for n in ("elements", "fields") if n in part]
            waiting += [text] if text is not None else []


def _read_reactions(value: Any) -> Iterator[Signal]:
    for reaction in value if is_array(value) else []:
        name = str(reaction.get("name") or "").partition("::")[0] if is_object(reaction) else ""
        if name in _GOOD or name in _BAD:
            yield Signal("thumb", 1.0 if name in _GOOD else -1.0, 0, name)
