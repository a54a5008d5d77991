"""Pseudonyms and redaction, applied to every log before anything is written."""

from upshot.privacy.clean import CleanBatch, clean
from upshot.privacy.pseudonyms import Pseudonyms, load_key
from upshot.privacy.redact import Redactor, Span, find_personal_data

__all__ = [
    "CleanBatch",
    "Pseudonyms",
    "Redactor",
    "Span",
    "clean",
    "find_personal_data",
    "load_key",
]
