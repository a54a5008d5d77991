"""What the embedded judge looks at: for each response some eighty numbers, each with a name.

Foresight features know the response and what came before it. Hindsight features know what came
after; they are all 0 where nothing came, so that a response without a future is judged by foresight
alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import re2
from numpy.typing import NDArray

from upshot.hindsight.embedded import cues as cue_module
from upshot.hindsight.embedded.events import POLARITY, Event
from upshot.hindsight.embedded.timeline import ASSISTANT, USER, Timeline
from upshot.stats import words as tokens
from upshot.threads.link import reports

LATER = 6
"""User messages after a response that are read, the first one included."""
_READ = 800
"""Bytes of a message whose words are compared."""
_READ_LEXICON = 600
_DECAY = 0.6
EVENT_KINDS = tuple(POLARITY)
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
"""A refusal, an apology, not knowing: looked for in a response's first characters."""


@cache
def _manners() -> Any:
    options = re2.Options()
    options.case_sensitive = False
    found = re2.Set.SearchSet(options)
    for pattern in _MANNERS:
        found.Add(pattern)
    found.Compile()
    return found


HARMFUL = re.compile(
    r"(?i)\b(?:(?:make|build|assemble|construct|detonate|plant) (?:\w+"
    r" ){0,3}(?:bombs?|explosives?|grenade|molotov|pipe bomb|nerve agent|chemical weapon)"
    r"|(?:synthesi[sz]e|cook|make|produce) (?:\w+"
    r" ){0,2}(?:meth|methamphetamine|fentanyl|heroin|sarin|ricin|crack)\b"
    r"|(?:kill|murder|poison|assassinate|stab|strangle|kidnap|torture|rape|blackmail|stalk|lynch)"
    r" (?:my|a|the|an|some|his|her|our|someone|somebody|people|him|them|president|prime)\b(?!"
    r" (?:\w+"
    r" )?(?:process|thread|time|lights?|engine|bugs?|weeds?|job|task|session|port|server|zombie|boss"
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


class Features(NamedTuple):
    """Features of every response of a timeline, and what evidence is made of."""

    names: tuple[str, ...]
    hindsight: NDArray[np.bool_]
    """Which features need the future, shape (features,)."""
    values: Array
    """Shape (responses, features)."""
    matches: cue_module.Matches
    """Cues; `text` counts the user messages of the timeline."""
    users: NDArray[np.int64]
    """Positions of the user messages."""
    later: NDArray[np.int64]
    """Positions of the user messages after each response, shape (responses, LATER); -1: none."""
    relation: Array
    """How much each of those is about this response, in [0, 1], same shape."""
    repeat: Array
    """Likeness of each of those to the request, in [0, 1], same shape."""
    direct: NDArray[np.bool_]
    """Which of those speak of this response first: the next one, a return to it, one that plainly
    refers to it.
    """
    words: tokens.Words
    """Of every message of the timeline, from its start."""
    responses: NDArray[np.int64]
    """Positions of the responses."""


class Lexicon(NamedTuple):
    """Learned weights of words and pairs of words in a user's message: positive is good news."""

    hashes: NDArray[np.uint64]
    """Sorted."""
    weights: Array

    def score(self, words: tokens.Words) -> Array:
        """Sum of the weights of the words and pairs of each text, over the root of their number."""
        found = words.upto(_READ_LEXICON)
        total = np.zeros(found.texts, np.float64)
        for part in (found, tokens.pairs(found)):
            at = tokens.find(part.hashes, self.hashes)
            known = at >= 0
            total += np.bincount(part.text[known], self.weights[at[known]], minlength=found.texts)
        return (total / np.sqrt(np.maximum(found.counts(), 1) + 2.0)).astype(np.float32)


def features(
    line: Timeline, events: Sequence[Event], lexicon: Lexicon, horizon: int = 20
) -> Features:
    """Compute every feature of every response of a timeline."""
    kinds = cue_module.load().kinds
    users = np.flatnonzero(line.role == USER)
    texts = [line.read[p] for p in users]
    words = tokens.words(line.read, _READ)
    matches = cue_module.search([line.text[p] for p in users])
    has_cue = np.zeros((len(users) + 1, len(kinds)), np.float32)
    has_cue[matches.text, matches.kind] = 1.0
    lex = np.append(lexicon.score(words.of(users)), np.float32(0))
    different = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    looks = np.vstack([_looks(different), np.zeros((1, len(_LOOKS)), np.float32)])
    look = looks[[*(different[text] for text in texts), -1]]
    signature = np.vstack([tokens.signatures(tokens.content(words)), np.zeros((1, 16), np.uint64)])

    responses = line.responses
    request = line.before(USER)
    previous = line.before(ASSISTANT)
    later = line.later(USER, LATER, horizon)
    row_of = np.full(len(line.role) + 1, len(users), np.int64)
    row_of[users] = np.arange(len(users))
    relation, repeat, direct = _relations(line, later, request, signature)
    columns: dict[str, Array] = {}
    past = _past(line, request, previous, row_of, lex, has_cue, signature)
    columns.update(past)
    hind = _future(
        line,
        later,
        relation,
        direct,
        repeat,
        row_of,
        lex,
        has_cue,
        look,
        signature,
        [kind.name for kind in kinds],
    )
    hind.update(_events(line, events, horizon))
    columns.update(hind)
    names = tuple(columns)
    values = (
        np.column_stack(list(columns.values())).astype(np.float32)
        if len(responses)
        else np.zeros((0, len(names)), np.float32)
    )
    return Features(
        names,
        np.array([name in hind for name in names]),
        values,
        matches,
        users,
        later,
        relation,
        repeat,
        direct,
        words,
        responses,
    )


_LOOKS = ("words", "question", "exclaim", "capitals", "no_letters", "starts_no")


def _looks(texts: Collection[str]) -> Array:
    """Form of a user's message, in any language."""
    out = np.zeros((len(texts), len(_LOOKS)), np.float32)
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


def _relations(
    line: Timeline,
    later: NDArray[np.int64],
    request: NDArray[np.int64],
    signature: NDArray[np.uint64],
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """How much each later message is about this response, and how like the request it is.

    The next message is about the response unless it opens another session. A later one counts for
    less with each message between, for more when it shares words with this exchange, and hardly
    past a change of subject. One that opens a later session of the thread and shares words with
    this exchange, or says that it is about the last answer, is a return: it reports what came of
    it.
    """
    responses = line.responses
    mine = signature[responses] | signature[request]
    relation = np.zeros(later.shape, np.float32)
    repeat = np.zeros(later.shape, np.float32)
    request_size = np.maximum(tokens.size(signature[request]), 1)
    alive = np.ones(len(responses), np.float32)
    direct = np.zeros(later.shape, bool)
    direct[:, 0] = True
    touches = np.zeros(later.shape, np.float32)
    nearest = np.zeros(len(line.role) + 1, np.float32)
    for k in range(later.shape[1]):
        theirs = signature[later[:, k]]
        size = tokens.size(theirs)
        common = tokens.shared(signature[request], theirs)
        repeat[:, k] = common / np.maximum(size + request_size - common, 1)
        touches[:, k] = np.where(size >= 3, tokens.shared(mine, theirs) / np.maximum(size, 1), 0.0)
        here = line.session[later[:, k]] == line.session[responses]
        if k == 0:
            nearest[later[:, 0]] = touches[
                :, 0
            ]  # responses are in order, so the last one before a message stays
            value = np.where(here, 1.0, 0.3 + 0.5 * touches[:, 0])
        else:
            value = alive * (_DECAY**k) * (0.25 + touches[:, k]) * np.where(here, 1.0, 0.8)
        opens = (line.index[later[:, k]] <= 1) & ~here
        returns = opens & (touches[:, k] > 0.15)
        value = np.where(returns, np.maximum(value, 0.4 + 0.5 * touches[:, k]), value)
        told = opens & _reported(line, later[:, k], responses, opens)
        value = np.where(told, 1.0, value)
        returns |= told
        direct[:, k] |= returns
        leaves = (size >= 4) & (touches[:, k] < 0.1)
        alive *= np.where(leaves, 0.3, 1.0)
        relation[:, k] = np.where(later[:, k] >= 0, np.minimum(value, 1.0), 0.0)
    direct |= _redirect(relation, touches, later, nearest)
    repeat[later < 0] = 0.0
    return relation, repeat, direct & (later >= 0)


def _reported(
    line: Timeline, later: NDArray[np.int64], responses: NDArray[np.int64], opens: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which of these messages say what became of the very response, being the last before them."""
    last = responses[np.maximum(np.searchsorted(responses, later) - 1, 0)]
    found = opens & (last == responses) & (later >= 0)
    for row in np.flatnonzero(found).tolist():
        found[row] = reports(line.text[later[row]])
    return found


def _redirect(
    relation: Array, touches: Array, later: NDArray[np.int64], nearest: Array
) -> NDArray[np.bool_]:
    """A message that plainly speaks of an earlier exchange counts for that one, and for a third
    where it stands.
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
    found = np.zeros(later.shape, bool)
    found[:, 1:] = back
    return found


def _past(
    line: Timeline,
    request: NDArray[np.int64],
    previous: NDArray[np.int64],
    row_of: NDArray[np.int64],
    lex: Array,
    has_cue: Array,
    signature: NDArray[np.uint64],
) -> dict[str, Array]:
    responses = line.responses
    texts = [line.text[p] for p in responses]
    asked = row_of[request]
    sizes = np.maximum(tokens.size(signature[responses]), 1)
    length = np.array([len(text) for text in texts], np.float32)
    lines = np.array(
        [len(line.edits[p].added) if p in line.edits else 0 for p in responses.tolist()], np.float32
    )
    cue = {kind.name: i for i, kind in enumerate(cue_module.load().kinds)}
    same = tokens.shared(signature[responses], signature[previous]) / np.maximum(
        tokens.size(signature[responses] | signature[previous]), 1
    )
    said = np.zeros((len(texts), len(_MANNERS)), np.float32)
    match = _manners().Match
    for row, text in enumerate(texts):
        if found := match(text[:300]):
            said[row, found] = 1.0
    refusal = said[:, 0]
    harmful = np.array(
        [
            r >= 0 and refused > 0 and HARMFUL.search(line.text[r]) is not None
            for r, refused in zip(request, refusal, strict=True)
        ],
        np.float32,
    )
    return {
        "response_words": np.minimum(8.0, np.log1p(length / 6 + 1)),
        "response_short": (length < 40).astype(np.float32),
        "response_question": np.array(
            [text[-20:].rstrip().endswith(("?", "？")) for text in texts], np.float32
        ),
        "response_code": np.array(["```" in text for text in texts], np.float32),
        "edit_size": np.minimum(3.0, np.log1p(lines)),
        "response_apology": said[:, 1],
        "response_unsure": said[:, 2],
        "refusal": refusal * (1 - harmful),
        "right_refusal": refusal * harmful,
        "response_echoes": (
            (tokens.shared(signature[responses], signature[request]) / sizes).astype(np.float32)
        ),
        "response_repeats": np.where(previous >= 0, same, 0).astype(np.float32),
        "request_lexicon": lex[asked],
        "request_failed": has_cue[asked, cue["failed"]] + has_cue[asked, cue["pasted_error"]],
        "request_complains": np.maximum(
            has_cue[asked, cue["complaint"]], has_cue[asked, cue["correction"]]
        ),
        "request_thanks": np.maximum(has_cue[asked, cue["thanks"]], has_cue[asked, cue["close"]]),
        "request_rejects": has_cue[asked, cue["reject"]],
        "request_missing": (request < 0).astype(np.float32),
        "first_exchange": (previous < 0).astype(np.float32),
    }


def _future(
    line: Timeline,
    later: NDArray[np.int64],
    relation: Array,
    direct: NDArray[np.bool_],
    repeat: Array,
    row_of: NDArray[np.int64],
    lex: Array,
    has_cue: Array,
    look: Array,
    signature: NDArray[np.uint64],
    kinds: Sequence[str],
) -> dict[str, Array]:
    responses = line.responses
    rows = row_of[later]
    exists = (later[:, 0] >= 0).astype(np.float32)
    near = np.where(direct, relation, 0.0)
    far = np.where(direct, 0.0, relation)
    out: dict[str, Array] = {"next": exists, "next_lexicon": lex[rows[:, 0]] * relation[:, 0]}
    rest = lex[rows] * far
    out["later_lexicon"] = rest.sum(axis=1)
    out["worst_lexicon"] = np.minimum(rest.min(axis=1), 0)
    said = has_cue[rows]
    cue_first = (said * near[:, :, None]).max(axis=1)
    cue_later = (said * far[:, :, None]).max(axis=1)
    for i, kind in enumerate(kinds):
        out[f"next_{kind}"] = cue_first[:, i]
        out[f"later_{kind}"] = cue_later[:, i]
    index = {kind: i for i, kind in enumerate(kinds)}
    polite = np.maximum(cue_first[:, index["thanks"]], cue_first[:, index["praise"]])
    bad = np.maximum(cue_first[:, index["failed"]], cue_first[:, index["pasted_error"]])
    out["polite_but_failed"] = polite * bad
    theirs = signature[later[:, 0]]
    size = np.maximum(tokens.size(theirs), 1)
    out["next_repeats"] = repeat[:, 0] * exists
    out["next_same_request"] = (repeat[:, 0] > 0.6).astype(np.float32) * exists
    out["later_repeats"] = np.where(repeat[:, 1:] > 0.5, repeat[:, 1:], 0).max(axis=1)
    out["next_uses_response"] = (tokens.shared(theirs, signature[responses]) / size).astype(
        np.float32
    ) * exists
    for i, name in enumerate(_LOOKS):
        out[f"next_{name}"] = look[rows[:, 0], i] * exists
    other_session = line.session[later[:, 0]] != line.session[responses]
    out["next_is_return"] = other_session.astype(np.float32) * exists
    return {name: value.astype(np.float32) for name, value in out.items()}


def _events(line: Timeline, events: Sequence[Event], horizon: int) -> dict[str, Array]:
    """Signed values by kind, the strongest of each; events further than the horizon are of the
    world and still count.
    """
    row = {int(p): i for i, p in enumerate(line.responses)}
    good = {kind: np.zeros(len(row), np.float32) for kind in EVENT_KINDS}
    for event in events:
        i = row.get(event.response)
        if i is not None and abs(event.value) > abs(good[event.kind][i]):
            good[event.kind][i] = event.value
    out = {f"event_{kind}": values for kind, values in good.items() if POLARITY[kind]}
    out["event_own_commit"] = (good["own_commit"] != 0).astype(np.float32)
    return out
