"""A cue reads its clause: what stands in a question, a condition, a wish, a negation or a quotation
reports nothing, and what answers the assistant's own question is no verdict on it.

English only, as the cues are; text in other languages passes unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from upshot.hindsight.embedded import cues

_END = re.compile(r"[.!?]+(?=\s|$|[\"')\]])|\.{3,}|…|\n+|;")
_CONDITION = re.compile(
    r"\b(?:if|unless|whether|in case|as soon as|once|until|till|provided|assuming|suppose"
    r"|before (?:it|i|we|you)|(?:make|making|be|to be) sure|ensure|check(?:ing)? (?:that|if"
    r"|whether))\b",
    re.I,
)
_WISH = re.compile(
    r"\b(?:should|must|ought to|want(?:s|ed)?|need(?:s|ed)? (?:it |this |that |them )?to|so that"
    r"|would be|would like|'d like|could you|can you|please (?:make|get|have)|hope(?:fully)?"
    r"|supposed to|try to|let(?:'s| us)|have (?:the|all|every)|will|gonna|going to"
    r"|make (?:it|this|that|them|the))\b",
    re.I,
)
_OF_ANSWER = re.compile(r"^\W*(?:that|this|it|which|sounds?)\b[^,;]{0,20}\bwould\b", re.I)
_NEGATION = re.compile(
    r"(?:\b(?:not|never|hardly|barely|nor|neither|without|no longer|stopped|nobody|nothing)|n['’]t)"
    r"(?:\s+\w+){0,3}\s+$",
    re.I,
)
_UNLIKELY = re.compile(r"\bunlikely (?:to|that) [^.?!\n]{0,40}$", re.I)
_FUTURE = re.compile(r"^(?:should|would|could|will|must|can|might|may|to)\b", re.I)
_BY_MISTAKE = re.compile(
    r"\b(?:i|we)\b[^.?!\n]{0,40}\bby (?:mistake|accident)\b|\b(?:i|we) accidentally\b", re.I
)
_IMPERATIVE = re.compile(r"^(?:do not|don['’]?t)\b", re.I)
_NO_SUBJECT = re.compile(r"(?:^|[,;:(–-]|\b(?:and|but|please|so|then|just|or))\s*$", re.I)
_PASSED_ON = re.compile(
    r"(?:comment|feedback|review|findings?|report|suggestion|note|message|mail|ticket|issue)s?"
    r"(?: (?:from|by|of|in|on) [^:\n]{1,40})?(?:,? what (?:do|say) you[^:\n]{0,20})?[?]?\s*:\s"
    r"|(?:comment|feedback|review)s? (?:from|by) (?:an?|the|my|our|\w+)\b[^:.\n]{0,40}[.?:,]?\s",
    re.I,
)
"""What passes on the words of somebody else; they reach to the end of the paragraph."""
_HESITANT = re.compile(r"^(?:ok|okay|okey|alright|right|sure)\b", re.I)
_NO = re.compile(r"\b(?:no|without|zero) (?:more |such |other )?$", re.I)
_YES_NO = re.compile(
    r"^\W*(?:(?:and|but|so|also|ok(?:ay)?|hm+|wait|then),? )*(?:what (?:if|happens|would)"
    r"|(?:do|does|did|is|are|was|were|can|could|will|would|should|has|have|any)\b(?!n['’]t))",
    re.I,
)
_SUGGESTION = re.compile(
    r"\b(?:ca|could|should|would|wo|do|did|is|are)n['’]t (?:we|you|i|there)\b", re.I
)
_OWN_DOING = re.compile(
    r"\b(?:i|we)(?:['’]ve| have| had| just| already| then| also| and| finally)* $", re.I
)
_MENDED = re.compile(r"^(?:fixed|solved|resolved)\b", re.I)
_TEST_WANTED = re.compile(
    r"\b(?:write|create|add|make|have|want|need|give|start with)\b[^.?!]{0,60}\b(?:tests?|specs?"
    r"|cases?|reproduc\w+)\b",
    re.I,
)
"""A test that is wanted may well be wanted to fail."""
_OTHERS = re.compile(
    r"\b(?:he|she|they|his|her|their|someone|somebody|(?:my|our|the) (?:boss|colleague|co-?worker"
    r"|customer|client|vendor|predecessor|manager|neighbo[u]?r|landlord|previous \w+|old \w+))\b",
    re.I,
)
_REQUEST = re.compile(
    r"^\W*(?:next|now|also|and|additionally|then|one more|another thing|please|make sure|let'?s"
    r"|(?:could|can) you|i(?:'d| would) like|we (?:need|want)|add|change|rename|use|set|put)\b",
    re.I,
)
_REQUIREMENT = re.compile(r"^(?:should|supposed to|needs? to be|must|instead of|rather than)", re.I)
_OF_WORK = re.compile(
    r"\b(?:it|its|this|that|these|those|they|your|you (?:\w+ed|made|wrote|gave|put)"
    r"|(?:the|an?) (?:answer|output|result|response"
    r"|reply|code|script|function|text|summary|translation|number|value|list|table|first|second"
    r"|last)\w*)\b",
    re.I,
)
"""What speaks of the assistant's work."""
_SARCASM = re.compile(r"\b(?:oh|wow|yeah|well),? *$|^\W*(?:oh|wow|just),? ", re.I)
_TURN = re.compile(
    r"\bnow (?:\w+ ){0,5}(?:empty|broken|gone|missing|wrong|dead|blank|worse|nothing|deleted|red"
    r"|fails?|crash\w*|not|null|undefined|lost|destroyed|down)\b"
    r"|\b(?:yet )?another (?:bug|error)\b",
    re.I,
)
_ANYWAY = re.compile(
    r"\b(?:anyways?|anyhow|nevertheless|nonetheless|for (?:nothing|trying))\b", re.I
)
_ASKS = re.compile(
    r"\?\s*[\"')*_]*\s*$|\b(?:would you like|shall i|should i|do you want|let me know (?:which|if"
    r"|whether|what)|which (?:one|of|option)|want me to|i can also|say the word)\b",
    re.I,
)
_PICK = re.compile(
    r"""^\W*(?:
      (?:(?:\w+\s+){0,2}(?:options?|numbers?|points?|items?|steps?|nr\.?|no\.?|\#)?\s*
        \#?\d{1,2}(?:\s*(?:,|and|&|or|\+|-|to)\s*(?:and\s+)?\#?\d{1,2})*)
    | [a-e]\)? | both(?:\ of\ them)? | all(?:\ of\ (?:them|it|the\ above))? | the\ (?:first|second
      |third|last|former|latter)(?:\ one)?
    | (?:yes|yep|yeah|yup|sure|ok(?:ay)?|please\ do|go\ (?:for\ it|ahead|on)|do\ (?:it|that|so)
      |of\ course|absolutely|definitely|sounds\ good|let'?s\ (?:do\ (?:it|that)|go)|proceed|continue
      |commit(?:\ and\ push)?|ship\ it|make\ it\ so)(?:[,\ ]+(?:please|thanks|thank\ you|do\ it
      |do\ that|go\ ahead|go\ for\ it))*
    )\W*$""",
    re.I | re.VERBOSE,
)
_LISTED = re.compile(r"(?:^|[\s(])[1-9][.):]?\s+\w")
_ROUTINE = re.compile(
    r"^\W*(?:(?:please|now|and|then|ok(?:ay)?),? )*(?:double[- ]check|check|re-?run|run|test|commit"
    r"|push|continue|go on|proceed|next|review|lint|format|build|deploy|verify|keep going|carry on"
    r"|resume)(?:\s+(?!still|wrong|fail|why|not|no)[\w/.-]+){0,4}\W*$",
    re.I,
)
_COMMAND = re.compile(
    r"\s*(?:<command-(?:name|message|args)>|/(?!undo|redo|retry|reset|revert|rewind)[a-z])"
)
"""A command to the harness, which people give again and again."""
_MAX_LIST = 1500
"""Characters at the end of an answer that may hold a numbered list."""
_POSITIVE = frozenset(["worked", "praise", "accept", "learned", "close"])
_REPORTS = frozenset(["failed", "correction", "complaint", "contrast", "correction_with_answer"])
_ANSWERS = frozenset(["reject", "correction", "correction_with_answer", "contrast", "switch"])
_OWN_FAULTS = frozenset(["undo", "correction", "redo"])
_MANNERS = frozenset(["thanks", "accept", "close", "praise"])
_MAX_TAIL = 400
"""Characters at the end of an answer that may ask or offer something."""
_MAX_PICK = 80
"""Characters of a message that only takes up what was offered."""


class Clause(NamedTuple):
    """The sentence around a cue."""

    before: str
    """From its start to the cue."""
    cue: str
    after: str
    """To its end."""
    ends: str
    """The mark that ends it."""


def read_matches(
    matches: cues.Matches,
    texts: Sequence[str],
    answers: Sequence[str],
    asked_before: Sequence[bool],
) -> cues.Matches:
    """The matches that report something, and what is implied: an offer taken up, sarcasm.

    `answers`: what the assistant wrote before each text; empty: nothing. `asked_before`: whether it
    ended with a question or an offer (`asks`).
    """
    names = [kind.name for kind in cues.load_cues().kinds]
    number = {name: place for place, name in enumerate(names)}
    rows: list[tuple[int, int, int, int]] = []
    by_text: dict[int, list[tuple[int, int, int]]] = {}
    for text, kind, start, end in zip(
        matches.text.tolist(),
        matches.kind.tolist(),
        matches.start.tolist(),
        matches.end.tolist(),
        strict=True,
    ):
        by_text.setdefault(text, []).append((kind, start, end))
    for place, text in enumerate(texts):
        rows_here = by_text.get(place, [])
        if not rows_here and not answers[place]:
            continue
        kinds = {names[kind] for kind, _, _ in rows_here}
        if "redo" in kinds and is_routine(text):
            rows_here = [row for row in rows_here if names[row[0]] != "redo"]
        if _takes_up(text, answers[place], asked_before[place]):
            rows.append((place, 0, number["adopted"], len(text.rstrip())))
            rows_here = [row for row in rows_here if names[row[0]] == "thanks"]
        for kind, start, end in rows_here:
            name = _read_match(
                names[kind], text, start, end, kinds=kinds, has_question=asked_before[place]
            )
            if name:
                rows.append((place, start, number[name], end))
    rows.sort()
    if not rows:
        empty = np.zeros(0, np.int32)
        return cues.Matches(np.zeros(0, np.int64), empty.astype(np.int16), empty, empty)
    columns = np.array(rows, np.int64).T
    return cues.Matches(
        columns[0],
        columns[2].astype(np.int16),
        columns[1].astype(np.int32),
        columns[3].astype(np.int32),
    )


def asks(answer: str) -> bool:
    """Whether an answer ends with a question or an offer.

    >>> asks("Two ways. Which one?"), asks("Done.")
    (True, False)
    """
    return bool(answer) and _ASKS.search(answer[-_MAX_TAIL:]) is not None


def is_routine(text: str) -> bool:
    """Whether a message is a request that is made again and again, and says nothing of the last
    answer.

    >>> is_routine("double check your changes"), is_routine("check why it fails again on page two")
    (True, False)
    """
    return _COMMAND.match(text) is not None or (
        len(text) <= _MAX_PICK and _ROUTINE.match(text) is not None
    )


def _takes_up(text: str, answer: str, has_question: bool) -> bool:
    """Whether a message only chooses from what was offered."""
    if len(text) > _MAX_PICK or not _PICK.match(text):
        return False
    if has_question:
        return True
    return any(map(str.isdigit, text)) and len(_LISTED.findall(answer[-_MAX_LIST:])) > 1


def clause_at(text: str, start: int, end: int) -> Clause:
    """The sentence around a span.

    >>> clause_at("Fine. Did it work? Yes", 13, 17)
    Clause(before=' Did it ', cue='work', after='', ends='?')
    """
    begin = 0
    for match in _END.finditer(text, max(0, start - 500), start):
        begin = match.end()
    last = _END.search(text, max(start, end - 1), end + 500)
    stop = last.start() if last else min(len(text), end + 500)
    return Clause(
        text[begin:start], text[start:end], text[end : max(end, stop)], last.group() if last else ""
    )


def _read_match(
    name: str,
    text: str,
    start: int,
    end: int,
    *,
    kinds: set[str],
    has_question: bool,
) -> str | None:
    """The kind that a match is of, when its clause is read; None: it reports nothing."""
    if name == "pasted_error":
        return name
    if _is_quoted(text, start, end) or _is_passed_on(text, start):
        return None
    clause = clause_at(text, start, end)
    if has_question and name in _ANSWERS and not clause.before.strip() and start < 3:
        return None  # it answers a question
    if _in_condition(clause) and name in _POSITIVE | _REPORTS:
        return None
    if name in _MANNERS and _ANYWAY.search(text):
        return None
    if name in _OWN_FAULTS and _BY_MISTAKE.search(text):
        return None
    if name == "accept" and _HESITANT.match(clause.cue) and not has_question:
        return name if len(text) <= _MAX_PICK else None
    if name in _POSITIVE:
        return _read_positive(name, text, clause, kinds)
    if name in _REPORTS:
        return _read_report(name, clause, kinds)
    return name


def _read_positive(name: str, text: str, clause: Clause, kinds: set[str]) -> str | None:
    if "?" in clause.ends and name != "learned":
        return None
    if _NEGATION.search(clause.before[-60:]) or _NO.search(clause.before[-20:]):
        return None
    if _UNLIKELY.search(clause.before) or (name == "worked" and _FUTURE.match(clause.cue)):
        return None
    if name == "worked" and _MENDED.match(clause.cue) and _OWN_DOING.search(clause.before):
        return None  # they did it themselves
    if name in ("worked", "praise") and _WISH.search(clause.before):
        return name if _OF_ANSWER.search(clause.before + clause.cue) else None
    if name == "praise" and (
        _TURN.search(text) is not None
        or (_SARCASM.search(clause.before) is not None and kinds & {"failed", "complaint"})
    ):
        return "complaint"
    return name


def _read_report(name: str, clause: Clause, kinds: set[str]) -> str | None:
    negated = _NEGATION.search(clause.before[-40:]) or _NO.search(clause.before[-20:])
    if name in ("failed", "complaint") and negated:
        return None
    if name == "failed" and _TEST_WANTED.search(clause.before):
        return None
    if "?" in clause.ends and (
        _YES_NO.search(clause.before + clause.cue) or _SUGGESTION.search(clause.before + clause.cue)
    ):
        return None
    if name in ("complaint", "failed") and _OTHERS.search(clause.before):
        return None
    if name == "failed" and _IMPERATIVE.match(clause.cue) and _NO_SUBJECT.search(clause.before):
        return None
    if name.startswith("correction"):
        is_requirement = _REQUIREMENT.search(clause.cue) is not None
        if is_requirement and ("?" in clause.ends or not _OF_WORK.search(clause.before)):
            return None  # what is to be done, not what was done wrong
        went_on = bool(kinds & {"worked", "praise", "accept"})
        if is_requirement and (went_on or _REQUEST.search(clause.before)):
            return None
        if name == "correction_with_answer" and went_on:
            return None
    return name


def _in_condition(clause: Clause) -> bool:
    """Whether a condition begins before the cue, and no comma ends it."""
    conditions = list(_CONDITION.finditer(clause.before))
    return bool(conditions) and "," not in clause.before[conditions[-1].end() :]


def _is_passed_on(text: str, start: int) -> bool:
    """Whether a span stands in somebody else's words that are passed on."""
    paragraph = text.rfind("\n\n", 0, start) + 1
    return _PASSED_ON.search(text, paragraph, start) is not None


def _is_quoted(text: str, start: int, end: int) -> bool:
    """Whether a span stands in quotation marks or in code on its line."""
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    before, after = text[line_start:start], text[end:line_end]
    if before.count("`") % 2 and "`" in after:
        return True
    if before.count('"') % 2 and '"' in after:
        return True
    if before.count("“") > before.count("”") and "”" in after:
        return True
    return text.count("```", 0, start) % 2 == 1
