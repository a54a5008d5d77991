"""Discord channels as DiscordChatExporter writes them: people's messages, and bots'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_values import as_array, as_object, is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.notes import skip
from upshot.sources.reading import read_each

NAME = "discord"
_WORDS = frozenset(
    [
        "Default",
        "Reply",
        "ChatInputCommand",
        "ContextMenuCommand",
        "ThreadStarterMessage",
        "19",
        "20",
        "0",
    ]
)
"""Types of messages that somebody wrote."""
_GOOD, _BAD = frozenset("👍✅❤💯🎉"), frozenset("👎❌")


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are channels."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a channel."""
    if not is_object(record):
        return "not an object"
    if not is_object(record.get("channel")) or not is_array(record.get("messages")):
        return "no `channel` with `messages`"
    return "" if "guild" in record or "exportedAt" in record else "no `guild`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation for each channel."""
    return read_each(source, read_json(source), _read_channel)


def _read_channel(record: Any) -> RawConversation | None:
    if not is_object(record) or not is_array(record.get("messages")):
        raise RecordError("needs an object with a list `messages`")
    channel = as_object(record.get("channel"))
    messages: list[RawMessage] = []
    for item in record["messages"]:
        message = _read_message(item, len(messages)) if is_object(item) else None
        if message is None:
            skip(NAME, item.get("type") if is_object(item) else "not an object")
        else:
            messages.append(message)
    if not messages:
        return None
    guild = record.get("guild")
    return RawConversation(
        tuple(messages),
        str(channel.get("id") or ""),
        next((m.name for m in messages if m.role == "user"), ""),
        messages[0].time,
        source=NAME,
        metadata={
            **({"channel": channel["name"]} if channel.get("name") else {}),
            **({"server": guild["name"]} if is_object(guild) and guild.get("name") else {}),
        },
    )


def _read_message(item: Mapping[str, Any], at: int) -> RawMessage | None:
    if str(item.get("type") or "Default") not in _WORDS:
        return None
    author = as_object(item.get("author"))
    parts = [str(item.get("content") or "")]
    for embed in item.get("embeds") or ():
        if is_object(embed):
            parts += [str(embed[n]) for n in ("title", "description") if embed.get(n)]
            for field in as_array(embed.get("fields")):
                if is_object(field):
                    parts += [": ".join(str(field[n]) for n in ("name", "value") if field.get(n))]
    for file in item.get("attachments") or ():
        if is_object(file):
            parts.append(f"<file: {file.get('fileName') or 'unnamed'}>")
    text = "\n".join(part for part in parts if part)
    if not text:
        return None
    by_bot = bool(author.get("isBot"))
    return RawMessage(
        "assistant" if by_bot else "user",
        text,
        fields.epoch(item.get("timestamp")),
        tuple(_read_reactions(item.get("reactions"), at)) if by_bot else (),
        str(author.get("id") or author.get("name") or ""),
        refs={"message": str(item.get("id") or "")},
    )


def _read_reactions(value: Any, at: int) -> Iterator[Signal]:
    for reaction in value if is_array(value) else []:
        emoji = reaction.get("emoji") if is_object(reaction) else None
        mark = str(emoji.get("name") or "")[:1] if is_object(emoji) else ""
        if mark in _GOOD or mark in _BAD:
            yield Signal("thumb", 1.0 if mark in _GOOD else -1.0, at, mark)
