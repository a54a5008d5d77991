"""The nouns of Upshot and the Arrow schemas of their tables.

Raw records come out of `sources`; only `privacy` turns them into clean tables; the lake accepts
only clean tables. The types keep that order: a `CleanTable` is made by `privacy`, or by a stage
whose inputs are clean.

Nouns are msgspec structs: small frozen dataclasses that are also decoded and encoded at C speed
(docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NewType, TypeAlias

import msgspec
import pyarrow as pa

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

if TYPE_CHECKING:

    class _Table(Any):
        """Stands for `pa.Table`, which has no types."""

    CleanTable = NewType("CleanTable", _Table)
else:
    CleanTable = NewType("CleanTable", pa.Table)
"""An Arrow table that holds no raw user name and no unredacted text."""


class Signal(msgspec.Struct, frozen=True, gc=False):
    """Something explicit that a log carries about a response: a thumb, an undo, a test run."""

    kind: str
    """thumb, rating, edit, regenerate, undo, commit, exit, test, lint, copy, kept, outcome."""
    value: float
    """In [-1, 1]: how good the news is for the response."""
    at: int
    """Index of the message in which it was seen."""
    detail: str = ""
    """A commit hash, the edited text, the name of a test: redacted like any text."""
    time: float | None = None
    """Seconds since the epoch."""


class RawMessage(msgspec.Struct, frozen=True, gc=False):
    """One message as its source wrote it."""

    role: Role
    content: str
    time: float | None = None
    """Seconds since the epoch."""
    signals: tuple[Signal, ...] = ()
    """What the log says of this message, where it is a response."""
    name: str = ""
    """The speaker or tool, where the source names one."""
    model: str = ""
    """The model that wrote it, where it differs from the conversation's."""


class RawConversation(msgspec.Struct, frozen=True, gc=False):
    """One session's messages in order, as its source wrote them."""

    messages: tuple[RawMessage, ...]
    id: str = ""
    """Empty: made from the content when the conversation is ingested."""
    user: str = ""
    """Empty: nobody is named, and the conversation is its own user."""
    started_at: float | None = None
    """Seconds since the epoch."""
    model: str = ""
    source: str = ""
    """Name of the format that it was read from."""
    metadata: Mapping[str, Any] = {}
    branch_of: str = ""
    """Id of the conversation whose prefix this branch shares."""
    branch_at: int = 0
    """Index of the first message that this branch does not share; siblings stand at the same index.
    """
    fork: int = -1
    """Index of the first message that a sibling branch replaced in this conversation; -1: none did.
    """


class BadRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be read."""

    file: str
    position: str
    """`line 12`, `item 3`, `byte 1024`."""
    reason: str


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """A quoted span of a later message or event that bears on an earlier response."""

    id: str
    """The conversation that is quoted."""
    index: int
    start: int
    """In characters of the stored (redacted) text."""
    end: int
    quote: str
    kind: str
    polarity: int
    """+1 good news, -1 bad news, 0 says nothing either way."""
    weight: float
    """In [0, 1]."""


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of one response."""

    id: str
    index: int
    score: float
    """P(the response helped its user toward their goal), in [0, 1]."""
    confidence: float
    """In [0, 1]; near 0 where there is no evidence."""
    foresight: float
    """The same model's score without what came later, in [0, 1]."""
    evidence: tuple[Evidence, ...]
    label: str
    judge: str
    as_of: str
    observed_through: str
    horizon: int
    reason: str = ""
    """What the user was after and what came of it, in the LLM judge's words; left out where there
    is none.
    """


class Turn(msgspec.Struct, frozen=True, gc=False):
    """One message of a training example, as trainers read it."""

    role: Role
    content: str


class Place(msgspec.Struct, frozen=True, gc=False):
    """A response of the lake."""

    id: str
    index: int


class Source(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a training example came from."""

    kind: str
    """sibling, edit, thread, across, rewrite, verdict; or the name of an imported data set."""
    users: tuple[str, ...] = ()
    """Pseudonyms of everyone whose text or verdict is in it."""
    thread: str = ""
    chosen: Place | None = None
    """None for what was not logged as a response: an edit, a rewrite."""
    rejected: Place | None = None
    split: str = ""
    """train or test."""
    note: str = ""


class Preference(msgspec.Struct, frozen=True, gc=False):
    """Chosen over rejected for one prompt."""

    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    margin: float
    """How much better, in [0, 1]: the difference of scores, or of votes."""
    weight: float
    """How sure, in [0, 1]."""
    source: Source


class Example(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A response and how good it was, for trainers that need no pair."""

    prompt: tuple[Turn, ...]
    completion: tuple[Turn, ...]
    score: float
    """In [0, 1]."""
    weight: float
    source: Source
    tags: Mapping[str, str | float] = {}
    """score, tokens, style, date, model: what a policy can be conditioned on."""
    train: tuple[bool, ...] = ()
    """For each message of prompt and completion: is it imitated? Empty: the completion alone."""
    after: tuple[Turn, ...] = ()
    """What was said next: hindsight for those who learn from it directly."""


_TEXT = pa.large_string()
_TIME = pa.timestamp("us", tz="UTC")

EVIDENCE_TYPE = pa.struct(
    [
        ("id", pa.string()),
        ("index", pa.int32()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("quote", pa.string()),
        ("kind", pa.string()),
        ("polarity", pa.int8()),
        ("weight", pa.float32()),
    ]
)

SCHEMAS: Mapping[str, pa.Schema] = {
    "conversations": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("started_at", _TIME),
            ("model", pa.string()),
            ("source", pa.string()),
            ("messages", pa.int32()),
            ("digest", pa.string()),
            ("branch_of", pa.string()),
            ("branch_at", pa.int32()),
            ("fork", pa.int32()),
            ("metadata", pa.string()),
            ("redactions", pa.string()),
            ("ingested_at", _TIME),
        ]
    ),
    "messages": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("digest", pa.string()),
            ("index", pa.int32()),
            ("role", pa.string()),
            ("text", _TEXT),
            ("time", _TIME),
            ("name", pa.string()),
            ("model", pa.string()),
        ]
    ),
    "events": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("digest", pa.string()),
            ("index", pa.int32()),
            ("kind", pa.string()),
            ("value", pa.float32()),
            ("at", pa.int32()),
            ("detail", pa.string()),
            ("time", _TIME),
        ]
    ),
    "threads": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("thread", pa.string()),
            ("parent", pa.string()),
            ("score", pa.float32()),
            ("reasons", pa.list_(pa.string())),
        ]
    ),
    "verdicts": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("index", pa.int32()),
            ("score", pa.float32()),
            ("confidence", pa.float32()),
            ("foresight", pa.float32()),
            ("evidence", pa.list_(EVIDENCE_TYPE)),
            ("label", pa.string()),
            ("judge", pa.string()),
            ("as_of", _TIME),
            ("observed_through", _TIME),
            ("horizon", pa.int32()),
            ("reason", _TEXT),
            ("seen", pa.int32()),
        ]
    ),
    "replies": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("key", pa.string()),
            ("text", _TEXT),
            ("at", _TIME),
        ]
    ),
    "models": pa.schema(
        [
            ("bucket", pa.int32()),
            ("name", pa.string()),
            ("at", _TIME),
            ("content", _TEXT),
            ("users", pa.list_(pa.string())),
        ]
    ),
    "quarantine": pa.schema(
        [
            ("bucket", pa.int32()),
            ("file", pa.string()),
            ("position", pa.string()),
            ("stage", pa.string()),
            ("reason", pa.string()),
            ("ingested_at", _TIME),
        ]
    ),
}
"""Every table of the lake. `bucket` = hash(user) mod N and is the partition column of each.

Of the verdicts on one response the one that saw most of what followed counts (`seen`, messages of
its thread after it), of those a language model's before an embedded judge's, of those the newest.
`models` are in bucket 0, with the users who taught them.
"""


def empty(table: str) -> pa.Table:
    """An empty table of the lake's schema.

    >>> empty("events").num_rows
    0
    """
    return SCHEMAS[table].empty_table()
