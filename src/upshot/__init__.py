"""Upshot learns from what happened next."""

from upshot.api import (
    erase,
    examples,
    export,
    ingest,
    judge,
    judge_lake,
    link,
    link_lake,
    make_report,
    pairs,
    read,
    run,
    score,
    train_reward,
    verdicts,
)
from upshot.errors import UpshotError
from upshot.records import (
    BadRecord,
    Evidence,
    Example,
    Preference,
    RawConversation,
    RawMessage,
    Signal,
    Turn,
    Verdict,
)

__version__ = "0.1.0"

__all__ = [
    "BadRecord",
    "Evidence",
    "Example",
    "Preference",
    "RawConversation",
    "RawMessage",
    "Signal",
    "Turn",
    "UpshotError",
    "Verdict",
    "erase",
    "examples",
    "export",
    "ingest",
    "judge",
    "judge_lake",
    "link",
    "link_lake",
    "make_report",
    "pairs",
    "read",
    "run",
    "score",
    "train_reward",
    "verdicts",
]
