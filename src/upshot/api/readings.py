"""What is understood of logs, before anything is judged."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from upshot.api.judging import read_logs
from upshot.api.opening import Logs
from upshot.config import Settings, load
from upshot.privacy.clean import clean_conversations
from upshot.records import BadRecord, RawConversation
from upshot.sources.ingest import Cleaning
from upshot.sources.interchange import format_conversation
from upshot.sources.notes import collect_notes


class Reading:
    """Conversations in the interchange form, read while they are iterated over; the counts are
    complete once that is done.
    """

    def __init__(self, items: Iterator[RawConversation | BadRecord], cleaning: Cleaning | None):
        self._items = items
        self._tools = None if cleaning is None else cleaning.tools()
        self.bad: list[BadRecord] = []
        """What could not be read."""
        self.skipped: Counter[str] = Counter()
        """Records that hold no message, by kind."""
        self.notes: Counter[str] = Counter()
        """What was read with something missing, by kind."""

    @property
    def first_reason(self) -> str:
        """Why the first of the bad records could not be read, and where it is."""
        if not self.bad:
            return ""
        first = self.bad[0]
        return f"{first.file}: {first.position}: {first.reason}"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The conversations, each once."""
        with collect_notes() as notes:
            for item in self._items:
                if isinstance(item, BadRecord):
                    self.bad.append(item)
                elif self._tools is None:
                    yield format_conversation(item)
                else:
                    for cleaned, _ in clean_conversations([item], *self._tools):
                        yield format_conversation(cleaned)
        self.skipped.update(notes.skipped)
        self.notes.update(notes.notes)


def read(
    logs: Logs,
    *,
    raw: bool = False,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    user: str = "",
    settings: Settings | None = None,
) -> Reading:
    """Read logs and say what was understood: each conversation in the interchange form, with the
    author of every message and span, structured tool calls, signals, branches and ids.

    `raw`: as the logs have it; else redacted and under pseudonyms, as a lake stores it (without a
    key in `UPSHOT_KEY`, under one of this call only). `user`: whose logs these are, where they do
    not say. `mapping`: what lies where in a log of another shape, as JSONPaths.

    Raises:
        FormatError: a named file is in no known format.
        NotFoundError: nothing is there.
    """
    settings = settings or load()
    options = settings.privacy
    key = settings.key.get_secret_value() or secrets.token_hex(32)
    cleaning = None if raw else Cleaning(key, options.redact, options.names, options.recogniser)
    items = read_logs(logs, format, mapping, user=user, settings=settings)
    return Reading(items, cleaning)
