"""What an artifact concludes: its sentences, a yes or no, a number."""

from __future__ import annotations

import re

from upshot.artifacts.records import Artifact, Conclusion, Span
from upshot.artifacts.structure import Outline

_VERDICT = re.compile(
    r"""\b(?:
        (?P<no>exempt(?:ed|ion)?|excluded|outside|nothing|nil|escapes?|relieved|waived|barred
            |disallowed|prohibited|inadmissible|invalid|non-?(?:taxable|deductible))
      | (?P<yes>liable|due|owes?|owed|payable|pays?|paid|taxable|chargeable|charged|subject|applies
            |apply|applicable|deductible|allowed|allowable|permitted|includ(?:ed|ible)|resident|counts?|deduct|qualif(?:y|ies|ied)
            |entitled|required|valid|imposed|covered|caught|available|claim|bears?
            |yes)
      | (?P<plain_no>no)
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
_NOTHING = re.compile(r"\s+(?:nothing|no\b|nil\b)", re.IGNORECASE)
_FLIPS = re.compile(
    r"\b(?:not|no|nor|neither|never|cannot|n['’]t|without|free of|hardly)\b|\w+n['’]t\b",
    re.IGNORECASE,
)
_CONDITIONAL = re.compile(
    r"\b(?:if|unless|had|were|should|even though|although|whether|until)\b", re.I
)
_CLAUSE = re.compile(r"[,;:—–]|\b(?:because|since|so|and|but|although|while|as)\b")
_MONEY = re.compile(
    r"[$£€]\s?(\d[\d,]*(?:\.\d+)?)(?:\s?(million|thousand|k\b|m\b))?", re.IGNORECASE
)
_SCALE = {"million": 1e6, "m": 1e6, "thousand": 1e3, "k": 1e3}
_MAX_SENTENCES = 6


def read_conclusion(artifact: Artifact, outline: Outline) -> Conclusion:
    """The conclusion of an artifact; without text where it has none that can be told."""
    text = artifact.document.text
    spans = outline.spans_of("conclusion")
    if not spans:
        return Conclusion("", artifact.status)
    parts = [text[span.start : span.end] for span in spans[:_MAX_SENTENCES]]
    whole = "\n".join(parts)
    label = artifact.status or read_label(whole)
    last = spans[min(len(spans), _MAX_SENTENCES) - 1]
    return Conclusion(whole, label, read_amount(whole), Span(spans[0].start, last.end))


def read_label(text: str) -> str:
    """yes, no or "" by the first verdict of a text, its negations counted; conditions are skipped.

    >>> read_label("The marina is not exempt."), read_label("Nothing is due for 2021.")
    ('yes', 'no')
    """
    for clause in re.split(r"(?<=[.;!?])\s+|\n", text):
        label = _label_of(clause)
        if label:
            return label
    return ""


def _label_of(sentence: str) -> str:
    for match in _VERDICT.finditer(sentence):
        start = 0
        for boundary in _CLAUSE.finditer(sentence, 0, match.start()):
            start = boundary.end()
        before = sentence[start : match.start()]
        if _CONDITIONAL.search(before):
            continue
        if match["plain_no"]:
            following = sentence[match.end() : match.end() + 2]
            if following[:1] in (".", ",", ":", ";", "—"):
                return "no"
            rest = _VERDICT.search(sentence, match.end())
            if rest is None or rest["plain_no"]:
                continue
            return "yes" if rest["no"] and rest["no"].lower() != "nothing" else "no"
        if match["yes"] and _NOTHING.match(sentence, match.end()):
            return "no"
        flips = len(_FLIPS.findall(before)) % 2 == 1
        negative = match["no"] is not None
        return "no" if negative != flips else "yes"
    return ""


def read_amount(text: str) -> float | None:
    """The last amount of money that a text comes to; None where it names none.

    >>> read_amount("4 percent of $500 is $20.")
    20.0
    """
    amounts: list[float] = [
        float(match[1].replace(",", "")) * _SCALE.get((match[2] or "").lower(), 1.0)
        for match in _MONEY.finditer(text)
    ]
    return amounts[-1] if amounts else None
