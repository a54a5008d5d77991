"""Cursor's state database (`state.vscdb`, SQLite): composers with their bubbles, and older chats.

A bubble of type 1 is the person's, one of type 2 the model's; calls of tools stand in
`toolFormerData`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from upshot.errors import FormatError
from upshot.io.files import Input
from upshot.io.json_text import decode
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_steps import DENIED, News, Step, build_conversations
from upshot.sources.copilot import read_session
from upshot.sources.cursor import mark_query
from upshot.sources.detection import NO_FIT, Fit, Sample
from upshot.sources.messages import read_content, to_json
from upshot.sources.notes import skip
from upshot.sources.reading import describe

NAME = "cursor-database"
_MAGIC = b"SQLite format 3\x00"
_PERSON, _MODEL = 1, 2
"""`type` of a bubble."""
_CHATS = "workbench.panel.aichat.view.aichat.chatdata"
_SESSIONS = "interactive.sessions"


def fit(sample: Sample) -> Fit:
    """One record, where the file is an SQLite database with a table of Cursor's or VS Code's."""
    if not sample.head.startswith(_MAGIC):
        return NO_FIT
    is_state = b"cursorDiskKV" in sample.head or b"ItemTable" in sample.head
    return Fit(1, 1) if is_state else Fit(0, 1, "no table `cursorDiskKV` or `ItemTable`")


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation for each composer and each chat.

    Raises:
        FormatError: the database is damaged.
    """
    try:
        with closing(_connect(source)) as database:
            database.text_factory = _decode_text
            yield from _read_composers(source.name, database)
            yield from _read_items(source.name, database)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise FormatError(f"could not read {source.name}: {error}") from error


def _connect(source: Input) -> sqlite3.Connection:
    """The database: of a file on disk as it lies there, else in memory."""
    if source.raw is not None and source.name != "-":
        path = Path(source.name)
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) == _MAGIC:
                has_log = Path(f"{source.name}-wal").exists()  # what is not yet in the file
                mode = "mode=ro" if has_log else "mode=ro&immutable=1"
                return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
    database = sqlite3.connect(":memory:")
    database.deserialize(source.stream.read())
    return database


def _decode_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _has_table(database: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return database.execute(query, (name,)).fetchone() is not None


def _decode(value: Any) -> Any:
    data = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return decode(data) if isinstance(data, bytes) else None


def _read_composers(
    name: str, database: sqlite3.Connection
) -> Iterator[RawConversation | BadRecord]:
    if not _has_table(database, "cursorDiskKV"):
        return
    query = "SELECT key, value FROM cursorDiskKV WHERE key LIKE 'composerData:%' ORDER BY rowid"
    for key, value in database.execute(query):
        try:
            yield from _read_composer(database, _decode(value))
        except Exception as error:  # noqa: BLE001 - whatever a composer holds is one bad record
            yield BadRecord(name, str(key), describe(error))


def _read_items(name: str, database: sqlite3.Connection) -> Iterator[RawConversation | BadRecord]:
    """What workspaces hold: chats before composers, and sessions of VS Code's own chat."""
    if not _has_table(database, "ItemTable"):
        return
    query = "SELECT key, value FROM ItemTable WHERE key IN (?, ?)"
    for key, value in database.execute(query, (_CHATS, _SESSIONS)):
        try:
            content = _decode(value)
            entries = content.get("tabs") if is_object(content) else content
            entries = entries if is_array(entries) else []
        except Exception as error:  # noqa: BLE001
            yield BadRecord(name, str(key), describe(error))
            continue
        for number, entry in enumerate(entries):
            try:
                yield from read_session(entry) if key == _SESSIONS else _read_tab(entry)
            except Exception as error:  # noqa: BLE001
                yield BadRecord(name, f"{key}, item {number + 1}", describe(error))


def _read_composer(database: sqlite3.Connection, composer: Any) -> list[RawConversation]:
    if not is_object(composer):
        skip(NAME, "composers without data")
        return []
    name = composer.get("composerId")
    name = name if isinstance(name, str) else ""
    steps: list[Step] = []
    settings = composer.get("modelConfig")
    model = settings.get("modelName") if is_object(settings) else None
    for bubble in _list_bubbles(database, name, composer):
        messages, news = _read_bubble(bubble, model if isinstance(model, str) else "")
        for step in ((messages, ()), ((), news)):  # what is said of a call comes behind it
            if any(step):
                parent = steps[-1].name if steps else ""
                steps.append(Step(f"bubble {len(steps)}", parent, *step))
    messages = [message for step in steps for message in step.messages]
    if not messages:
        skip(NAME, "composers without a message")
        return []
    created = fields.epoch(composer.get("createdAt"))
    spawned = composer.get("subagentInfo")
    parent = spawned.get("parentComposerId") if is_object(spawned) else None
    base = RawConversation(
        (),
        name,
        "",
        created or next((m.time for m in messages if m.time is not None), None),
        next((m.model for m in messages if m.model), ""),
        NAME,
        parent=parent if isinstance(parent, str) else "",
        refs={"session": name} if name else {},
    )
    return build_conversations(base, steps)


def _list_bubbles(
    database: sqlite3.Connection, name: str, composer: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """The bubbles of a composer in order; newer versions store each on its own."""
    inner = composer.get("conversation")
    if is_array(inner) and inner:
        yield from (bubble for bubble in inner if is_object(bubble))
        return
    headers = composer.get("fullConversationHeadersOnly")
    stored = composer.get("conversationMap")
    for header in headers if is_array(headers) else ():
        key = header.get("bubbleId") if is_object(header) else None
        if not isinstance(key, str):
            continue
        bubble = stored.get(key) if is_object(stored) else None
        if not is_object(bubble):
            query = "SELECT value FROM cursorDiskKV WHERE key = ?"
            row = database.execute(query, (f"bubbleId:{name}:{key}",)).fetchone()
            bubble = _decode(row[0]) if row else None
        if is_object(bubble):
            yield {**header, **bubble}
        else:
            skip(NAME, "bubbles that are not in the database")


def _read_bubble(bubble: Mapping[str, Any], model: str) -> tuple[list[RawMessage], list[News]]:
    time = fields.epoch(bubble.get("createdAt") or bubble.get("timestamp"))
    text = bubble.get("text")
    text = text if isinstance(text, str) else ""
    name = bubble.get("bubbleId")
    refs = {"message": name} if isinstance(name, str) else {}
    images = bubble.get("images")
    text = "\n".join([*([text] if text.strip() else []), *["<image>"] * _count(images)])
    if bubble.get("type") == _PERSON:
        if not text:
            skip(NAME, "bubbles without words")
            return [], []
        return [mark_query(RawMessage("user", text, time, refs=refs))], []
    if bubble.get("type") != _MODEL:
        skip(NAME, f"bubbles of type {bubble.get('type')}")
        return [], []
    info = bubble.get("modelInfo")
    own = info.get("modelName") if is_object(info) else None
    answer = RawMessage(
        "assistant", text, time, refs=refs, model=own if isinstance(own, str) else model
    )
    tool = bubble.get("toolFormerData")
    if is_object(tool) and (tool.get("name") or tool.get("tool")):
        return _read_tool(tool, answer)
    if not text:
        skip(NAME, "bubbles without words")
        return [], []
    return [answer], []


def _count(images: Any) -> int:
    return len(images) if is_array(images) else 0


def _read_tool(tool: Mapping[str, Any], answer: RawMessage) -> tuple[list[RawMessage], list[News]]:
    """The call, its result, and whether the person let it run."""
    name = str(tool.get("name") or tool.get("tool") or "")
    value = tool.get("rawArgs") or tool.get("params") or ""
    call_id = str(tool.get("toolCallId") or "")
    arguments = value if isinstance(value, str) else to_json(value)
    messages = [msgspec.structs.replace(answer, tool_calls=(ToolCall(name, arguments, call_id),))]
    status = tool.get("status")
    is_denied = tool.get("userDecision") == "rejected" or status in ("rejected", "cancelled")
    text, code = _read_result(tool.get("result") or tool.get("error"))
    if code is None and not is_denied:
        code = {"error": 1, "completed": 0}.get(status) if isinstance(status, str) else None
    if text:
        refs = {"call": call_id} if call_id else {}
        messages.append(
            RawMessage(
                "tool",
                text,
                answer.time,
                name=name,
                refs=refs,
                status=None if is_denied else code,
            )
        )
    return messages, [DENIED] if is_denied else []


def _read_result(result: Any) -> tuple[str, int | None]:
    """The text of a result, and the exit code of a command."""
    if isinstance(result, str) and result.lstrip().startswith("{"):
        try:
            result = decode(result.encode("utf-8", "replace"))
        except ValueError:
            return str(result), None
    if not is_object(result):
        return read_content(result).text, None
    code = result.get("exitCode", result.get("exitCodeV2"))
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    for name in ("output", "contents", "error"):
        if isinstance(result.get(name), str) and result[name]:
            return result[name], code
    return to_json(result), code


def _read_tab(tab: Any) -> list[RawConversation]:
    """A chat of the versions before composers."""
    bubbles = tab.get("bubbles") if is_object(tab) else None
    messages: list[RawMessage] = []
    for bubble in bubbles if is_array(bubbles) else ():
        if not is_object(bubble):
            continue
        text = next(
            (bubble[n] for n in ("text", "rawText", "initText") if isinstance(bubble.get(n), str)),
            "",
        )
        if not text.strip():
            skip(NAME, "bubbles without words")
        elif bubble.get("type") == "user":
            messages.append(RawMessage("user", text))
        else:
            model = bubble.get("modelType")
            messages.append(
                RawMessage("assistant", text, model=model if isinstance(model, str) else "")
            )
    if not messages:
        return []
    name = tab.get("tabId")
    return [_make_chat(messages, name if isinstance(name, str) else "", tab.get("lastSendTime"))]


def _make_chat(messages: Sequence[RawMessage], name: str, time: Any) -> RawConversation:
    model = next((m.model for m in messages if m.model), "")
    return RawConversation(tuple(messages), name, "", fields.epoch(time), model, NAME)
