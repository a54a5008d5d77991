"""Upshot learns from what happened next."""

from upshot.api import erase, ingest, judge, judge_lake, link, link_lake, make_report, read, run, verdicts
from upshot.errors import UpshotError
from upshot.records import BadRecord, Evidence, RawConversation, RawMessage, Signal, Verdict

__version__ = "0.1.0"

__all__ = [
    "BadRecord",
    "Evidence",
    "RawConversation",
    "RawMessage",
    "Signal",
    "UpshotError",
    "Verdict",
    "erase",
    "ingest",
    "judge",
    "judge_lake",
    "link",
    "link_lake",
    "make_report",
    "read",
    "run",
    "verdicts",
]
