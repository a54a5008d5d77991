"""The nouns of Upshot, the table of signals, and the Arrow schemas of the lake's tables.

Raw records come out of `sources`; only `privacy` turns them into clean tables; the lake accepts
only clean tables. The types keep that order: a `CleanTable` is made by `privacy`, or by a stage
whose inputs are clean.

Nouns are msgspec structs: small frozen dataclasses that are also decoded and encoded at C speed
(docs/decisions/0002).
"""

from upshot.records.conversations import (
    AUTHOR_OF_ROLE,
    AUTHORS,
    ROLES,
    Author,
    AuthorSpan,
    BadRecord,
    RawConversation,
    RawMessage,
    Role,
    ToolCall,
)
from upshot.records.signals import Signal
from upshot.records.tables import (
    EVIDENCE_TYPE,
    SCHEMAS,
    STEP_TYPE,
    CleanTable,
    empty,
    texts_with_calls,
    with_calls,
)
from upshot.records.training import Example, Place, Preference, Source, Turn
from upshot.records.verdicts import Evidence, StepCredit, Verdict

__all__ = [
    "AUTHORS",
    "AUTHOR_OF_ROLE",
    "EVIDENCE_TYPE",
    "ROLES",
    "SCHEMAS",
    "STEP_TYPE",
    "Author",
    "AuthorSpan",
    "BadRecord",
    "CleanTable",
    "Evidence",
    "Example",
    "Place",
    "Preference",
    "RawConversation",
    "RawMessage",
    "Role",
    "Signal",
    "Source",
    "StepCredit",
    "ToolCall",
    "Turn",
    "Verdict",
    "empty",
    "texts_with_calls",
    "with_calls",
]
