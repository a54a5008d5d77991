# RE2 has no type stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The embedded judge's features: some eighty named numbers for each response.

Foresight features use the response and what came before it. Hindsight features use what came after
and are all 0 where nothing did, so that a response without a future is judged by foresight alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import re2
from numpy.typing import NDArray

from upshot.hindsight.embedded import clauses, cues
from upshot.hindsight.embedded.events import EVENT_KINDS, Event
from upshot.hindsight.embedded.timeline import ASSISTANT, USER, Timeline
from upshot.records.signals import SIGNALS
from upshot.stats import word_hashes
from upshot.threads.sessions import is_report

MAX_LATER = 6
"""User messages after a response that are read; later ones hardly ever speak of it."""
_MAX_BYTES = 800
"""Of a message, whose words are compared."""
_MAX_LEXICON_BYTES = 600
"""Of a message that the lexicon scores: what users say of an answer stands at the start."""
_MIN_RETURN = 0.3
"""Share of a message's words in an exchange from which, opening another session, it comes back to
it: chosen on coding sessions, where those with less spoke of something else.
"""
_MIN_ECHO = 25
"""Characters around a cue that must have stood before, for it to be an echo: some five words, which
nobody repeats by chance.
"""
_MAX_ECHOED = 60
"""Messages back in which an echo is looked for."""
_DECAY = 0.6
"""How much less each later message is about the response than the one before it."""
Array = NDArray[np.float32]

_MANNERS = (
    r"\b(?:i(?:'m| am) (?:sorry,? (?:but )?i can|unable|not able)|i (?:can't|cannot|can not)"
    r" (?:help|assist|do|provide|give|support|comply|fulfil|create|write|share|answer|engage)"
    r"|i (?:won't|will not)|as an ai|i must decline|not (?:able|allowed) to|against (?:my|the)"
    r" (?:guidelines|policy))\b",
    r"\b(?:sorry|apologi[sz]e|apologies|my mistake|you(?:'re| are) right)\b",
    r"\b(?:i don'?t (?:know|understand)|i(?:'m| am) not sure|i do not (?:know|understand)|no"
    r" idea|couldn't find|could not find"
    r"|did not understand|didn't (?:get|catch|understand) that)\b",
)
"""Refusal, apology, not knowing; searched for in the first characters of a response."""


@cache
def _manner_set() -> Any:
    options = re2.Options()
    options.case_sensitive = False
    patterns = re2.Set.SearchSet(options)
    for pattern in _MANNERS:
        patterns.Add(pattern)
    patterns.Compile()
    return patterns


HARMFUL = re.compile(
    r"(?i)\b(?:(?:make|build|assemble|construct|detonate|plant) (?:\w+"
    r" ){0,3}(?:bombs?|explosives?|grenade|molotov|pipe bomb|nerve agent|chemical weapon)"
    r"|(?:synthesi[sz]e|cook|make|produce) (?:\w+"
    r" ){0,2}(?:meth|methamphetamine|fentanyl|heroin|sarin|ricin|crack)\b"
    r"|(?:kill|murder|poison|assassinate|stab|strangle|kidnap|torture|rape|blackmail|stalk|lynch)"
    r" (?:my|a|the|an|some|his|her|our|someone|somebody|people|him|them|president|prime)\b(?!"
    r" (?:\w+"
    r" )?(?:process|thread|time|lights?|engine|bugs?|weeds?|job|task|session|port|server|zombie"
    r"|boss"
    r" in|program|code))"
    r"|(?:ransomware|keylogger|malware|botnet|phishing (?:email|page|site)|credit card"
    r" fraud|identity theft|counterfeit|money launder\w*|child porn\w*|csam)"
    r"|(?:hack|break) into (?:my|a|the|an|someone|somebody|his|her)\b(?!"
    r" (?:song|dance|own))|(?:steal|shoplift|embezzle|smuggle) (?:\w+"
    r" ){0,3}(?:from|car|cars|identity|drugs|people|passwords?|money)"
    r"|(?:commit|best way to|how to) (?:suicide|self[- ]harm)|(?:dox|swat)"
    r" (?:someone|a|my|him|her)|(?:holocaust|racial|ethnic) (?:\w+"
    r" ){0,2}(?:superior|inferior|deserved|never happened))"
)


CODE = ("code_size", "code_defines", "request_size")
"""Features of the code that a response shows."""
_FENCED = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_DEFINES = re.compile(
    r"""^\s*(?:
      (?:(?:async|export|public|private|static|pub|default)\s+)*
      (?:def|class|function|func|fn|interface|struct|enum|impl|template|sub|proc)\b
    | (?:const|let|var)\s+\w+\s*=\s*(?:async\s*)?\(
    | (?:\w+[\s*&]+)+\w+\([^;\n]*\)\s*\{
    | create\s+(?:table|view|function)\b | <(?:html|div|script|template)\b
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
"""Code that defines something, and so may be taken over as it stands."""
_OF_TALK = (
    "next_lexicon",
    "later_lexicon",
    "worst_lexicon",
    "request_lexicon",
    "next_question",
    "next_repeats",
)
"""Features that were learned from dialogues and, with `CODE`, say nothing where an assistant works:
there people ask on because the work goes on, and code is not shown but written.
"""


class Features(NamedTuple):
    """Features of every response of a timeline, and the matches that evidence is made from."""

    names: tuple[str, ...]
    hindsight: NDArray[np.bool_]
    """Which features need the future, shape (features,)."""
    values: Array
    """Shape (responses, features)."""
    matches: cues.Matches
    """Cues; `text` is the number of the user message."""
    users: NDArray[np.int64]
    """Positions of the user messages."""
    later: NDArray[np.int64]
    """Positions of the user messages after each response, shape (responses, LATER); -1: none."""
    relation: Array
    """How much each of those is about this response, in [0, 1]; same shape."""
    repeat: Array
    """Similarity of each of those to the request, in [0, 1]; same shape."""
    direct: NDArray[np.bool_]
    """Which of those speak of this response directly: the next one, a return to it, a plain
    reference to it.
    """
    words: word_hashes.Words
    """Of every message of the timeline, from its start."""
    answers: NDArray[np.int64]
    """Positions of what each response says in the end."""


class Lexicon(NamedTuple):
    """Learned weights of words and word pairs in a user's message; positive: good news."""

    hashes: NDArray[np.uint64]
    """Sorted."""
    weights: Array

    def score(self, words: word_hashes.Words) -> Array:
        """The sum of the weights in each text, divided by the root of the number of words."""
        read = words.truncate(_MAX_LEXICON_BYTES)
        total = np.zeros(read.texts, np.float64)
        for part in (read, word_hashes.hash_pairs(read)):
            place = word_hashes.find_in_table(part.hashes, self.hashes)
            present = place >= 0
            weights = self.weights[place[present]]
            total += np.bincount(part.text[present], weights, minlength=read.texts)
        return (total / np.sqrt(np.maximum(read.counts(), 1) + 2.0)).astype(np.float32)


class _Inputs(NamedTuple):
    """What features are computed from; the last row of every array by user message is empty."""

    line: Timeline
    request: NDArray[np.int64]
    """Position of the user's message before each response; -1: none."""
    previous: NDArray[np.int64]
    """Position of the assistant's message before each response; -1: none."""
    later: NDArray[np.int64]
    relation: Array
    repeat: Array
    direct: NDArray[np.bool_]
    row_of: NDArray[np.int64]
    """Row of the user message at each position."""
    lexicon_score: Array
    has_cue: Array
    """Shape (user messages, kinds of cues)."""
    form: Array
    """Shape (user messages, `_FORM`)."""
    signature: NDArray[np.uint64]
    """Of the words of every message."""
    answered: NDArray[np.uint64]
    """Of the words of every response: how it begins, and what it says in the end."""
    in_round: NDArray[np.bool_]
    """Which of `later` come before the next response, in the response's own session."""


def compute_features(
    line: Timeline, events: Sequence[Event], lexicon: Lexicon, horizon: int = 20
) -> Features:
    """Compute every feature of every response of a timeline."""
    kinds = cues.load_cues().kinds
    users = np.flatnonzero(line.role == USER)
    texts = line.visible_at(users)
    words = word_hashes.hash_words(line.visible, _MAX_BYTES)
    answers = line.words_at(line.before(ASSISTANT, users))
    asked_before = [clauses.asks(answer) for answer in answers]
    matches = _find_matches(line, users, answers, asked_before)
    has_cue = np.zeros((len(users) + 1, len(kinds)), np.float32)
    has_cue[matches.text, matches.kind] = 1.0
    different = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    forms = np.vstack([_form_of_messages(different), np.zeros((1, len(_FORM)), np.float32)])
    form = forms[[*(different[text] for text in texts), -1]]
    # what starts with "no" there answers a question
    form[np.array([*asked_before, False]), _FORM.index("starts_no")] = 0.0
    routine = np.array([*map(clauses.is_routine, texts), False])
    signature = _sign_messages(words)
    request = line.before(USER)
    later = line.later(USER, MAX_LATER, horizon)
    row_of = np.full(len(line.role) + 1, len(users), np.int64)
    row_of[users] = np.arange(len(users))
    answered = signature[line.responses] | signature[line.answers]
    in_round = _find_round(line, later)
    relation, repeat, direct = _relate_messages(
        line, later, request, signature, exchange=answered | signature[request], in_round=in_round
    )
    inputs = _Inputs(
        line,
        request,
        line.before(ASSISTANT),
        later,
        relation,
        np.where(routine[row_of[later]], np.float32(0), repeat),
        direct,
        row_of,
        np.append(lexicon.score(words.take(users)), np.float32(0)),
        has_cue,
        form,
        signature,
        answered,
        in_round,
    )
    columns, needs_future = _make_columns(inputs, events, [kind.name for kind in kinds])
    values = (
        np.column_stack(list(columns.values())).astype(np.float32)
        if len(line.responses)
        else np.zeros((0, len(columns)), np.float32)
    )
    return Features(
        tuple(columns),
        needs_future,
        values,
        matches,
        users,
        later,
        inputs.relation,
        inputs.repeat,
        inputs.direct,
        words,
        line.answers,
    )


def _sign_messages(words: word_hashes.Words) -> NDArray[np.uint64]:
    """The signature of each message's words, and an empty one for position -1."""
    signature = word_hashes.make_signatures(word_hashes.drop_stop_words(words))
    return np.vstack([signature, np.zeros((1, 16), np.uint64)])


def _make_columns(
    inputs: _Inputs, events: Sequence[Event], kinds: Sequence[str]
) -> tuple[dict[str, Array], NDArray[np.bool_]]:
    """Every feature by name, and which need the future."""
    hindsight = _hindsight_features(inputs, kinds) | _event_features(inputs.line, events)
    columns = _foresight_features(inputs) | hindsight
    is_work = _find_work(inputs.line)
    for name in (*_OF_TALK, *CODE):
        columns[name] = np.where(is_work, np.float32(0), columns[name])
    return columns, np.array([name in hindsight for name in columns])


def _find_work(line: Timeline) -> NDArray[np.bool_]:
    """Which responses work with tools or edit code."""
    work = line.ends - line.responses > 1
    rows = line.row_of[np.array([*line.calls, *line.edits], np.int64)]
    work[rows[rows >= 0]] = True
    return work


_FORM = ("words", "question", "exclaim", "capitals", "no_letters", "starts_no")


def _find_matches(
    line: Timeline,
    users: NDArray[np.int64],
    answers: Sequence[str],
    asked_before: Sequence[bool],
) -> cues.Matches:
    """Cues in what people wrote themselves; errors also in what they pasted."""
    spoken = line.spoken_at(users)
    cue_matches = drop_echoes(line, users, cues.find_cues(spoken), spoken)
    matches = clauses.read_matches(cue_matches, spoken, answers, asked_before)
    rows = [row for row, place in enumerate(users.tolist()) if place in line.pasted]
    if not rows:
        return matches
    pasted = cues.find_cues(line.texts_at(users[rows]))
    errors = pasted.kind == [kind.name for kind in cues.load_cues().kinds].index("pasted_error")
    text = np.concatenate([matches.text, np.array(rows)[pasted.text[errors]]])
    kind = np.concatenate([matches.kind, pasted.kind[errors]])
    start = np.concatenate([matches.start, pasted.start[errors]])
    end = np.concatenate([matches.end, pasted.end[errors]])
    order = np.lexsort((kind, start, text))
    return cues.Matches(text[order], kind[order], start[order], end[order])


def drop_echoes(
    line: Timeline, users: NDArray[np.int64], matches: cues.Matches, texts: Sequence[str]
) -> cues.Matches:
    """The matches without those in text that stood in the session before: people paste what the
    assistant, a tool or they themselves wrote, and show it rather than say it again.
    """
    keep = np.ones(len(matches.text), bool)
    earlier: dict[int, str] = {}
    for i, (row, start, end) in enumerate(
        zip(matches.text.tolist(), matches.start.tolist(), matches.end.tolist(), strict=True)
    ):
        text: str = texts[int(row)]
        if len(text) < _MIN_ECHO * 2:
            continue
        if row not in earlier:
            place = int(users[row])
            first = place
            while first > 0 and line.session[first - 1] == line.session[place]:
                first -= 1
                if place - first >= _MAX_ECHOED:
                    break
            earlier[row] = "\n".join(line.text[first:place])
        line_end = text.find("\n", end)
        before = text[max(text.rfind("\n", 0, start) + 1, end - _MIN_ECHO) : end].strip()
        after = text[start : min(line_end if line_end >= 0 else len(text), start + _MIN_ECHO)]
        sides = [side for side in (before, after.strip()) if len(side) >= _MIN_ECHO - 3]
        keep[i] = not any(side in earlier[row] for side in sides)
    return cues.Matches(
        matches.text[keep], matches.kind[keep], matches.start[keep], matches.end[keep]
    )


def _form_of_messages(texts: Collection[str]) -> Array:
    """The form of user messages, in any language; shape (texts, `_FORM`)."""
    out = np.zeros((len(texts), len(_FORM)), np.float32)
    for row, text in enumerate(texts):
        head = text[:400]
        start = head[:120]
        letters = sum(map(str.isalpha, start))
        capitals = 0 if start.islower() else sum(map(str.isupper, start))
        out[row] = (
            min(6.0, np.log1p(text.count(" ") + 1)),
            "?" in head or "？" in head,
            min(3, head.count("!") + head.count("！")),
            letters > 6 and capitals / letters > 0.6,
            letters == 0,
            head[:3].lower() in ("no ", "no,", "no.", "no", "no!"),
        )
    return out


def _relate_messages(
    line: Timeline,
    later: NDArray[np.int64],
    request: NDArray[np.int64],
    signature: NDArray[np.uint64],
    *,
    exchange: NDArray[np.uint64],
    in_round: NDArray[np.bool_],
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """How much each later message is about this response, and how similar it is to the request.

    The next message of a session is about the response; where several follow before it is answered
    again, all are, and the last word counts most. A later one counts less with each message
    in between, more if it shares words with this exchange, and hardly at all after a change of
    subject. One that opens a later session of the thread and shares many words with this exchange,
    or reports on the last answer, is a return: it says what came of the answer. Anything else in
    another session says nothing of it. `exchange`: of the words of each request and response.
    """
    responses = line.responses
    relation = np.zeros(later.shape, np.float32)
    repeat = np.zeros(later.shape, np.float32)
    request_size = np.maximum(word_hashes.count_distinct(signature[request]), 1)
    alive = np.ones(len(responses), np.float32)
    direct = np.zeros(later.shape, bool)
    direct[:, 0] = line.session[later[:, 0]] == line.session[responses]
    touches = np.zeros(later.shape, np.float32)
    nearest = np.zeros(len(line.role) + 1, np.float32)
    last_of_round = in_round.sum(axis=1) - 1
    for k in range(later.shape[1]):
        message = signature[later[:, k]]
        size = word_hashes.count_distinct(message)
        common = word_hashes.count_shared(signature[request], message)
        repeat[:, k] = common / np.maximum(size + request_size - common, 1)
        shared = word_hashes.count_shared(exchange, message)
        touches[:, k] = np.where(size >= 3, shared / np.maximum(size, 1), 0.0)
        same_session = line.session[later[:, k]] == line.session[responses]
        if k == 0:
            # Responses are in order, so the last one before a message wins.
            nearest[later[:, 0]] = touches[:, 0]
        value = np.where(
            in_round[:, k],
            _DECAY ** np.maximum(last_of_round - k, 0),
            alive * (_DECAY**k) * (0.25 + touches[:, k]),
        )
        direct[:, k] |= in_round[:, k]
        value = np.where(same_session, value, 0.0)
        opens = (line.index[later[:, k]] <= 1) & ~same_session
        returns = opens & (touches[:, k] > _MIN_RETURN)
        value = np.where(returns, np.maximum(value, 0.4 + 0.5 * touches[:, k]), value)
        reports_outcome = opens & _report_mask(line, later[:, k], responses, opens)
        value = np.where(reports_outcome, 1.0, value)
        returns |= reports_outcome
        direct[:, k] |= returns
        leaves = (size >= 4) & (touches[:, k] < 0.1)
        alive *= np.where(leaves, 0.3, 1.0)
        relation[:, k] = np.where(later[:, k] >= 0, np.minimum(value, 1.0), 0.0)
    direct |= _redirect_mask(relation, touches, later, nearest)
    repeat[later < 0] = 0.0
    return relation, repeat, direct & (later >= 0)


def _find_round(line: Timeline, later: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these messages come before the next response, in the response's own session."""
    next_response = np.append(line.responses[1:], len(line.role))
    before_next = (later >= 0) & (later < next_response[:, None])
    return before_next & (line.session[later] == line.session[line.responses][:, None])


def _report_mask(
    line: Timeline, later: NDArray[np.int64], responses: NDArray[np.int64], opens: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which of these messages report on the response, it being the last one before them."""
    last = responses[np.maximum(np.searchsorted(responses, later) - 1, 0)]
    mask = opens & (last == responses) & (later >= 0)
    for row in np.flatnonzero(mask).tolist():
        mask[row] = is_report(line.text[int(later[row])])
    return mask


def _redirect_mask(
    relation: Array, touches: Array, later: NDArray[np.int64], nearest: Array
) -> NDArray[np.bool_]:
    """Messages that plainly refer back: they count for that exchange, and a third where they stand.

    Changes `relation` in place.
    """
    back = (
        (touches[:, 1:] - nearest[later[:, 1:]] > 0.4)
        & (later[:, 1:] >= 0)
        & (touches[:, 1:] > 0.5)
    )
    relation[:, 1:][back] = np.maximum(relation[:, 1:][back], 0.8)
    elsewhere = np.zeros(len(nearest), bool)
    elsewhere[later[:, 1:][back]] = True
    relation[:, 0] *= np.where(
        elsewhere[later[:, 0]] & (touches[:, 0] <= nearest[later[:, 0]]), 0.3, 1.0
    )
    mask = np.zeros(later.shape, bool)
    mask[:, 1:] = back
    return mask


def _foresight_features(inputs: _Inputs) -> dict[str, Array]:
    line, request, previous = inputs.line, inputs.request, inputs.previous
    has_cue, signature, answered = inputs.has_cue, inputs.signature, inputs.answered
    texts = line.texts_at(line.answers)
    request_row = inputs.row_of[request]
    sizes = np.maximum(word_hashes.count_distinct(answered), 1)
    length = np.array([len(text) for text in texts], np.float32)
    lines = np.zeros(len(texts), np.float32)
    for place, edit in line.edits.items():
        if line.row_of[place] >= 0:
            lines[line.row_of[place]] += len(edit.added)
    cue = {kind.name: i for i, kind in enumerate(cues.load_cues().kinds)}
    same = word_hashes.count_shared(answered, signature[previous]) / np.maximum(
        word_hashes.count_distinct(answered | signature[previous]), 1
    )
    echoed = word_hashes.count_shared(answered, signature[request])
    manners = np.zeros((len(texts), len(_MANNERS)), np.float32)
    match = _manner_set().Match
    for row, text in enumerate(texts):
        if kinds := match(text[:300]):
            manners[row, kinds] = 1.0
    refusal = manners[:, 0]
    harmful = np.array(
        [
            r >= 0 and refused > 0 and HARMFUL.search(line.text[int(r)]) is not None
            for r, refused in zip(request.tolist(), refusal.tolist(), strict=True)
        ],
        np.float32,
    )
    return {
        "response_words": np.minimum(8.0, np.log1p(length / 6 + 1)),
        "response_short": (length < 40).astype(np.float32),
        "response_question": np.array(
            [text[-20:].rstrip().endswith(("?", "？")) for text in texts], np.float32
        ),
        **_read_code(line, texts, request),
        "response_code": np.array(["```" in text for text in texts], np.float32),
        "edit_size": np.minimum(3.0, np.log1p(lines)),
        "response_apology": manners[:, 1],
        "response_unsure": manners[:, 2],
        "refusal": refusal * (1 - harmful),
        "right_refusal": refusal * harmful,
        "response_echoes": (echoed / sizes).astype(np.float32),
        "response_repeats": np.where(previous >= 0, same, 0).astype(np.float32),
        "request_lexicon": inputs.lexicon_score[request_row],
        "request_failed": has_cue[request_row, cue["failed"]]
        + has_cue[request_row, cue["pasted_error"]],
        "request_complains": np.maximum(
            has_cue[request_row, cue["complaint"]], has_cue[request_row, cue["correction"]]
        ),
        "request_thanks": np.maximum(
            has_cue[request_row, cue["thanks"]], has_cue[request_row, cue["close"]]
        ),
        "request_rejects": has_cue[request_row, cue["reject"]],
        "request_missing": (request < 0).astype(np.float32),
        "first_exchange": (previous < 0).astype(np.float32),
    }


def _read_code(
    line: Timeline, texts: Sequence[str], request: NDArray[np.int64]
) -> dict[str, Array]:
    """What can be taken over of a response, and how much was asked; 0 where it shows no code."""
    out = np.zeros((len(texts), 3), np.float32)
    for row, text in enumerate(texts):
        if "```" not in text:
            continue
        code = "\n".join(_FENCED.findall(text))
        if code.strip():
            length = len(line.text[int(request[row])]) if request[row] >= 0 else 0
            defines = _DEFINES.search(code) is not None
            out[row] = (np.log1p(len(code)), defines, np.log1p(length))
    return dict(zip(CODE, out.T, strict=True))


def _hindsight_features(inputs: _Inputs, kinds: Sequence[str]) -> dict[str, Array]:
    line, later, signature = inputs.line, inputs.later, inputs.signature
    relation, repeat, direct = inputs.relation, inputs.repeat, inputs.direct
    responses = line.responses
    rows = inputs.row_of[later]
    exists = (later[:, 0] >= 0).astype(np.float32)
    near = np.where(direct, relation, 0.0)
    far = np.where(direct, 0.0, relation)
    lexicon = inputs.lexicon_score[rows]
    shares = np.where(inputs.in_round, relation, 0.0)
    of_round = (lexicon * shares).sum(axis=1) / np.maximum(shares.sum(axis=1), 1e-6)
    of_next = np.where(shares.any(axis=1), of_round, lexicon[:, 0] * relation[:, 0])
    out: dict[str, Array] = {"next": exists, "next_lexicon": of_next}
    rest = lexicon * far
    out["later_lexicon"] = rest.sum(axis=1)
    out["worst_lexicon"] = np.minimum(rest.min(axis=1), 0)
    later_cues = inputs.has_cue[rows]
    cue_first = (later_cues * near[:, :, None]).max(axis=1)
    cue_later = (later_cues * far[:, :, None]).max(axis=1)
    for i, kind in enumerate(kinds):
        out[f"next_{kind}"] = cue_first[:, i]
        out[f"later_{kind}"] = cue_later[:, i]
    index = {kind: i for i, kind in enumerate(kinds)}
    polite = np.maximum(cue_first[:, index["thanks"]], cue_first[:, index["praise"]])
    bad = np.maximum(cue_first[:, index["failed"]], cue_first[:, index["pasted_error"]])
    out["polite_but_failed"] = polite * bad
    next_signature = signature[later[:, 0]]
    size = np.maximum(word_hashes.count_distinct(next_signature), 1)
    out["next_repeats"] = repeat[:, 0] * exists
    out["next_same_request"] = (repeat[:, 0] > 0.6).astype(np.float32) * exists
    out["later_repeats"] = np.where(repeat[:, 1:] > 0.5, repeat[:, 1:], 0).max(axis=1)
    used = word_hashes.count_shared(next_signature, inputs.answered)
    out["next_uses_response"] = (used / size).astype(np.float32) * exists
    for i, name in enumerate(_FORM):
        out[f"next_{name}"] = inputs.form[rows[:, 0], i] * exists
    other_session = line.session[later[:, 0]] != line.session[responses]
    out["next_is_return"] = other_session.astype(np.float32) * exists
    return {name: value.astype(np.float32) for name, value in out.items()}


def _event_features(line: Timeline, events: Sequence[Event]) -> dict[str, Array]:
    """The strongest signed value of each kind, however late: outcomes know no horizon."""
    row = {p: i for i, p in enumerate(line.responses.tolist())}
    strongest = {kind: np.zeros(len(row), np.float32) for kind in EVENT_KINDS}
    for event in events:
        i = row.get(event.response)
        if i is not None and abs(event.value) > abs(strongest[event.kind][i]):
            strongest[event.kind][i] = event.value
    columns = {
        f"event_{kind}": values for kind, values in strongest.items() if SIGNALS[kind].polarity
    }
    columns["event_own_commit"] = (strongest["own_commit"] != 0).astype(np.float32)
    return columns
