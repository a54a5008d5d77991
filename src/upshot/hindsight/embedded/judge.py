"""The embedded judge: a verdict on every response of a bucket, with quoted evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upshot.engine import Fit, Models, Options, Step, Tables
from upshot.hindsight.embedded import adapt, cues
from upshot.hindsight.embedded import corpus as corpora
from upshot.hindsight.embedded.corpus import Corpus
from upshot.hindsight.embedded.distil import Distilled
from upshot.hindsight.embedded.edit_fates import follow_edits
from upshot.hindsight.embedded.events import Event, resolve_events
from upshot.hindsight.embedded.features import MAX_LATER, Array, Features, compute_features
from upshot.hindsight.embedded.model import Model, load_shipped_model
from upshot.hindsight.embedded.step_credits import FATES, Bearing, StepCredit, credit_steps
from upshot.hindsight.embedded.timeline import ASSISTANT, USER, Timeline, build_timeline
from upshot.hindsight.trust import crowds, hostile
from upshot.lake import model_version
from upshot.records import EVIDENCE_TYPE, SCHEMAS, STEP_TYPE, CleanTable
from upshot.records.signals import SIGNALS
from upshot.records.verdicts import EVEN
from upshot.stats import word_hashes
from upshot.threads.background import NAME as BACKGROUND

_MAX_EVIDENCE = 8
"""Quotes per verdict, the strongest: more than a reader takes in."""
_MIN_WEIGHT = 0.05
"""Weight below which evidence moves a score by less than 0.03, and is not shown."""
_CONFIDENCE_SCALE = 1.6
"""Logits of evidence that give a confidence of 1 - 1/e."""
_MIN_REPEAT = 0.6
"""Similarity to the request from which a message counts as the same request again."""
_QUIET_REWRITING = 0.25
"""Of rewritten lines' weight in the confidence where nothing else says that they were bad: read by
eye, most of those were overtaken by a new requirement.
"""
_MIN_COMPLAINT = 0.4
"""Logits of other bad news that make a complaint: less than any cue of one has."""
_NEAR_EVEN = 0.1
"""Width of the band beside even in which a verdict stays undecided (records/verdicts.py)."""
_NO_WORDS = frozenset(["next_question", "next_repeats", "next_lexicon", "next_hedge"])
"""Features that are no complaint, whatever their sign."""
STEERING = "steering"
"""Kind of evidence that quotes text written for the judge; it has no weight."""
CROWD = "crowd"
"""Kind of evidence: the same words from many users."""
_MAX_QUOTE = 240
"""Characters of a whole-message quote."""
_MAX_KEY = 400
"""Characters of a text that tell it from others, where responses are drawn by their content."""
DISTILLED = "judge"
"""Name of the distilled judge among the lake's models."""


def make_judge_step(horizon: int = 20) -> Step:
    """The judge as a step: a verdict wherever it says something else than the last one."""
    return Step(
        "judge",
        load_shipped_model().version,
        corpora.TABLES,
        "verdicts",
        judge_tables,
        ("id", "index"),
        ("score", "confidence", "label", "evidence", "adopted", "worked", "steps"),
        {"horizon": horizon},
        (BACKGROUND, corpora.NAME, DISTILLED),
        ("judge", "llm/"),
    )


def judge_tables(tables: Tables, options: Options, models: Models) -> CleanTable:
    """Verdicts on every response of some tables. `options`: `horizon` in messages, `bucket`."""
    horizon = int(options.get("horizon", 20))
    line = build_timeline(tables["messages"], tables["conversations"], tables.get("threads"))
    if not len(line.responses):
        return CleanTable(SCHEMAS["verdicts"].empty_table())
    distilled = read_distilled(models)
    judged = judge(
        line,
        collect_events(tables["events"], line),
        load_shipped_model(),
        horizon,
        distilled=distilled,
        corpus=corpora.corpus_of(models),
    )
    name = load_shipped_model().version + (f"+{distilled.version()}" if distilled else "")
    bucket = int(options.get("bucket", 0))
    return verdict_table(
        line, judged, horizon=horizon, bucket=bucket, judge_name=name, basis=name_basis(models)
    )


def read_distilled(models: Models) -> Distilled | None:
    """What the judge learned from a better one, if anything."""
    if DISTILLED not in models:
        return None
    return msgspec.json.decode(models[DISTILLED], type=Distilled)


def name_basis(models: Models) -> str:
    """The versions of what was learned from everybody; "shipped" where a lake is too small."""
    versions = [
        model_version(models[name]) for name in (BACKGROUND, corpora.NAME) if name in models
    ]
    return "+".join(versions) or "shipped"


def make_suspects_fit(horizon: int = 20) -> Fit:
    """What many users wrote in the same words."""
    options = {"horizon": horizon}
    return Fit(
        corpora.SUSPECTS,
        "1",
        corpora.TABLES,
        summarise_suspects,
        corpora.merge_suspects,
        options,
    )


def make_corpus_fit(horizon: int, suspects: Mapping[str, int]) -> Fit:
    """How this corpus says that things went well, and its crowds."""
    options = {"horizon": horizon, "suspects": dict(suspects)}
    return Fit(corpora.NAME, "1", corpora.TABLES, summarise_corpus, corpora.merge_corpus, options)


def summarise_suspects(tables: Tables, options: Options, models: Models) -> bytes:
    """The words of the message after each response of a bucket, and how many users wrote them."""
    line = build_timeline(tables["messages"], tables["conversations"], tables.get("threads"))
    return _summarise_suspects(line, int(options["horizon"]))


def _summarise_suspects(line: Timeline, horizon: int) -> bytes:
    line = _hide_steering(line, _find_steering(line))
    following = line.later(USER, 1, horizon)[:, 0]
    return corpora.summarise_suspects(
        line.user[line.responses].tolist(), _normalise_words(line, following).tolist()
    )


def summarise_corpus(tables: Tables, options: Options, models: Models) -> bytes:
    """A sample of a bucket's responses with their terms and scores, and of what crowds react to."""
    line = build_timeline(tables["messages"], tables["conversations"], tables.get("threads"))
    events = collect_events(tables["events"], line)
    reading = read_timeline(line, events, load_shipped_model(), int(options["horizon"]))
    return _summarise_reading(reading, options["suspects"])


def learn_corpus(
    line: Timeline, events: Sequence[Event], model: Model, horizon: int = 20
) -> Corpus:
    """What a timeline in memory says of the ways of its corpus, by any model."""
    suspects = corpora.merge_suspects([_summarise_suspects(line, horizon)], {})
    users = corpora.read_suspects(suspects.content)
    summary = _summarise_reading(read_timeline(line, events, model, horizon), users)
    learned = corpora.merge_corpus([summary], {"suspects": users})
    return corpora.corpus_of({corpora.NAME: learned.content})


def _summarise_reading(reading: Reading, suspects: Mapping[str, int]) -> bytes:
    line, features = reading.line, reading.features
    following = features.later[:, 0]
    rows = np.flatnonzero(following >= 0)
    digests = _user_digests(line)
    keys = np.zeros(len(following), np.uint64)
    keys[rows] = _content_keys(line, following, digests, rows)
    sample = rows[corpora.draw_smallest(keys[rows], adapt.MAX_RESPONSES)]
    terms = adapt.hash_terms(features.words, following, line.answers).take(sample)
    slots = np.split(terms.slot[np.argsort(terms.row, kind="stable")], _ends(terms))
    examples = [
        corpora.Example(
            int(keys[row]),
            str(line.user[line.responses[row]]),
            _half_of(digests[str(line.user[line.responses[row]])]),
            str(reading.next_words[row]),
            float(reading.logits[row]),
            slots[place].tobytes(),
        )
        for place, row in enumerate(sample.tolist())
    ]

    def words_of(some: NDArray[np.int64]) -> word_hashes.Words:
        return features.words.take(line.answers[some])

    by_words: dict[str, list[int]] = {}
    if suspects:
        for row in rows.tolist():
            name = corpora.hash_words(reading.next_words[row]) if reading.next_words[row] else ""
            if name in suspects:
                by_words.setdefault(name, []).append(row)
    groups = {
        name: corpora.sample_rows(np.array(some), keys, words_of, crowds.SAMPLE_OF_CROWD)
        for name, some in by_words.items()
    }
    everywhere = corpora.sample_rows(rows, keys, words_of, crowds.SAMPLE if suspects else 0)
    return msgspec.msgpack.encode(corpora.Summary(len(rows), examples, everywhere, groups))


def _ends(terms: adapt.Terms) -> NDArray[np.int64]:
    """Where each example's terms end, but for the last one's."""
    return np.cumsum(np.bincount(terms.row, minlength=terms.rows))[:-1]


def _content_keys(
    line: Timeline,
    following: NDArray[np.int64],
    digests: Mapping[str, str],
    rows: NDArray[np.int64],
) -> NDArray[np.uint64]:
    """A hash of the response, what follows, and the user's first words, for each row."""
    before = line.visible_at(line.answers[rows])
    after = line.visible_at(following[rows])
    owners = line.user[line.responses[rows]].tolist()
    places = line.index[line.responses[rows]].tolist()
    keys = [
        hashlib.blake2b(
            "\0".join((a[:_MAX_KEY], b[:_MAX_KEY], digests[owner], str(place))).encode(
                "utf-8", "replace"
            ),
            digest_size=8,
        ).digest()
        for a, b, owner, place in zip(before, after, owners, places, strict=True)
    ]
    return np.frombuffer(b"".join(keys), ">u8").astype(np.uint64)


def collect_events(events: CleanTable, line: Timeline) -> list[Event]:
    """Events in the log, and what became of edited code."""
    return resolve_events(events, line) + follow_edits(line)


class Judged(NamedTuple):
    """Arrays over the responses of a timeline, and the evidence as columns sorted by response."""

    score: Array
    foresight: Array
    confidence: Array
    evidence: EvidenceColumns
    adopted: Array
    """In [0, 1]; nan: nothing tells."""
    worked: Array
    """In [0, 1]; nan: nothing tells."""
    steps: Mapping[int, Sequence[StepCredit]]
    """By row, of responses that edited in several steps."""


class EvidenceColumns(NamedTuple):
    """Evidence as arrays of one length."""

    response: NDArray[np.int64]
    """Row of the response."""
    position: NDArray[np.int64]
    """Message that is quoted."""
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    kind: NDArray[np.object_]
    polarity: NDArray[np.int8]
    weight: Array

    def take(self, rows: NDArray[np.int64]) -> EvidenceColumns:
        """Some of the rows, in that order."""
        return EvidenceColumns(
            self.response[rows],
            self.position[rows],
            self.start[rows],
            self.end[rows],
            self.kind[rows],
            self.polarity[rows],
            self.weight[rows],
        )


class Reading(NamedTuple):
    """What the judge reads from a timeline before it concludes anything."""

    line: Timeline
    """Without text written for the judge."""
    steering: Mapping[int, tuple[hostile.Suspect, ...]]
    """The spans of that text, by position."""
    features: Features
    next_words: NDArray[np.object_]
    """Normalised words of the message after each response, by which crowds are recognised."""
    logits: Array
    """Of each score, before distillation."""
    foresight: Array
    contributions: Array
    """Contribution of each hindsight feature, in logits, shape (responses, features)."""
    crowd: NDArray[np.int64]
    """How many users wrote the same words after each response; 0 where they are no crowd."""


def read_timeline(
    line: Timeline,
    events: Sequence[Event],
    model: Model,
    horizon: int = 20,
    corpus: Corpus = corpora.EMPTY,
) -> Reading:
    """Read a timeline, with text written for a judge hidden."""
    steering = _find_steering(line)
    line = _hide_steering(line, steering)
    features = compute_features(line, events, model.lexicon, horizon)
    _, foresight, parts = model.scores(features)
    contributions = np.ascontiguousarray(parts[:, features.hindsight])
    right_refusal = features.values[:, features.names.index("right_refusal")] > 0
    contributions[right_refusal] = np.maximum(contributions[right_refusal], 0.0)
    logits = np.log(foresight) - np.log1p(-foresight) + contributions.sum(axis=1)
    next_words = _normalise_words(line, features.later[:, 0])
    return Reading(
        line,
        steering,
        features,
        next_words,
        logits + _adapt_logits(line, features, corpus),
        foresight,
        contributions,
        corpus.crowd_sizes(next_words.tolist()),
    )


def _weigh_for_confidence(reading: Reading) -> Array:
    """The contributions, with less for rewritten lines where nobody complains: work that goes on
    changes what is there.
    """
    contributions = reading.contributions.copy()
    names = [reading.features.names[i] for i in np.flatnonzero(reading.features.hindsight)]
    column = names.index("event_rewritten")
    other = [i for i, name in enumerate(names) if i != column and name not in _NO_WORDS]
    complained = np.minimum(contributions[:, other], 0).sum(axis=1) < -_MIN_COMPLAINT
    contributions[~complained, column] *= _QUIET_REWRITING
    return contributions


def judge(
    line: Timeline,
    events: Sequence[Event],
    model: Model,
    horizon: int = 20,
    *,
    distilled: Distilled | None = None,
    corpus: Corpus = corpora.EMPTY,
) -> Judged:
    """Score every response of a timeline.

    `distilled`: learned from a better judge on this lake; `corpus`: from everybody's logs.
    """
    return conclude(read_timeline(line, events, model, horizon, corpus), events, model, distilled)


def conclude(
    reading: Reading, events: Sequence[Event], model: Model, distilled: Distilled | None = None
) -> Judged:
    """The verdicts that follow from a reading."""
    score = (
        _sigmoid(reading.logits)
        if distilled is None
        else distilled.scores(reading.features, reading.logits)
    )
    crowd = reading.crowd
    evidence = _collect_evidence(reading, events, model, crowd)
    evidence = _put_agreeing_first(evidence, score)
    is_free = reading.features.values[:, reading.features.names.index("right_refusal")] <= 0
    score = np.where(is_free, _agree_with_evidence(score, evidence), score)
    confidence = _compute_confidence(_weigh_for_confidence(reading)) * np.where(
        crowd > 0, crowds.MAX_BY_CLUSTER / np.maximum(crowd, 1), 1.0
    )
    return Judged(
        score,
        reading.foresight,
        confidence.astype(np.float32),
        evidence,
        _read_fact(reading, "adopted", model.foresee_adoption(reading.features)),
        _read_fact(reading, "worked"),
        _credit_steps(reading, events, evidence, score, model),
    )


def _put_agreeing_first(evidence: EvidenceColumns, score: Array) -> EvidenceColumns:
    """The evidence of each response that is on the side of its score before the rest."""
    side = np.sign(score[evidence.response] - EVEN)
    order = np.lexsort((-evidence.weight, evidence.polarity * side < 0, evidence.response))
    return evidence.take(order)


def _agree_with_evidence(score: Array, evidence: EvidenceColumns) -> Array:
    """Scores on the side that the evidence shown is on.

    Where what was foreseen outweighed the evidence, they stay in order within a tenth of even: the
    reader sees only the evidence.
    """
    signed = evidence.weight * evidence.polarity
    shown = np.bincount(evidence.response, signed, minlength=len(score))
    score = np.where((shown < 0) & (score > EVEN), EVEN - _NEAR_EVEN * (1 - score), score)
    score = np.where((shown > 0) & (score < EVEN), EVEN + _NEAR_EVEN * score, score)
    return score.astype(np.float32)


def _read_fact(reading: Reading, fact: str, before: Array | None = None) -> Array:
    """P(a fact) from the features that tell it; nan where none does.

    `before`: its logits before anything followed; nan: nothing tells.
    """
    names = [reading.features.names[i] for i in np.flatnonzero(reading.features.hindsight)]
    columns = [
        place
        for place, name in enumerate(names)
        if (kind := SIGNALS.get(name.split("_", 1)[-1])) is not None and kind.fact == fact
    ]
    parts = reading.contributions[:, columns]
    has_any = (parts != 0).any(axis=1)
    logits = parts.sum(axis=1)
    if before is not None:
        has_any |= ~np.isnan(before)
        logits += np.nan_to_num(before)
    return np.where(has_any, _sigmoid(logits), np.float32(np.nan)).astype(np.float32)


def _credit_steps(
    reading: Reading,
    events: Sequence[Event],
    evidence: EvidenceColumns,
    score: Array,
    model: Model,
) -> dict[int, Sequence[StepCredit]]:
    line = reading.line
    weights = {kind: model.weights[f"event_{kind}"] for kind in FATES}
    fates: dict[int, dict[str, float]] = {}
    for event in events:
        for place, share in event.steps:
            fates.setdefault(place, {})[event.kind] = share
    edited = {int(row) for row in line.row_of[np.array([*line.edits], np.int64)] if row >= 0}
    begins = np.searchsorted(evidence.response, np.arange(len(score) + 1))
    steps: dict[int, Sequence[StepCredit]] = {}
    for row in sorted(edited):
        if line.ends[row] - line.responses[row] < 2:
            continue
        bearings = [
            Bearing(
                int(evidence.position[i]),
                str(evidence.kind[i]),
                float(evidence.weight[i]) * int(evidence.polarity[i]),
            )
            for i in range(begins[row], begins[row + 1])
        ]
        taught = float(score[row]) - float(reading.foresight[row])
        if credits := credit_steps(line, row, bearings, fates, taught, weights=weights):
            steps[row] = credits
    return steps


def _normalise_words(line: Timeline, positions: NDArray[np.int64]) -> NDArray[np.object_]:
    """The normalised words of the messages at some positions."""
    normalised = {"": ""}
    texts = line.visible_at(positions)
    for text in texts:
        if text not in normalised:
            normalised[text] = crowds.normalise_words(text)
    return np.array([normalised[text] for text in texts], object)


def _find_steering(line: Timeline) -> dict[int, tuple[hostile.Suspect, ...]]:
    """Spans of user messages that are written for a judge, by position."""
    users = np.flatnonzero(line.role == USER).tolist()
    return {
        users[row]: suspects
        for row, suspects in hostile.scan_many([line.text[p] for p in users]).items()
    }


def _hide_steering(line: Timeline, steering: Mapping[int, tuple[hostile.Suspect, ...]]) -> Timeline:
    if not steering:
        return line
    text, words = list(line.text), list(line.visible)
    for position, suspects in steering.items():
        text[position] = hostile.hide(text[position], suspects)
        words[position] = hostile.drop(words[position], suspects)
    return line.with_texts(text, words)


def _sigmoid(logits: Array) -> Array:
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -15, 15)))).astype(np.float32)


def _adapt_logits(line: Timeline, features: Features, corpus: Corpus) -> Array:
    """The correction that is learned from everybody's logs; see `adapt`."""
    learned = corpus.adaptation()
    following = features.later[:, 0]
    if learned is None:
        return np.zeros(len(following), np.float32)
    halves = {user: _half_of(digest) for user, digest in _user_digests(line).items()}
    half = np.array([halves[user] for user in line.user[line.responses].tolist()], np.int64)
    terms = adapt.hash_terms(features.words, following, line.answers)
    return np.where(following >= 0, learned.logits(terms, half), 0.0).astype(np.float32)


def _user_digests(line: Timeline) -> dict[str, str]:
    """A hash of each user's first message, since pseudonyms change with the key."""
    first: dict[str, tuple[int, str]] = {}
    openings = np.flatnonzero((line.role == USER) & (line.index <= 1))
    for user, time, place in zip(
        line.user[openings].tolist(), line.time[openings].tolist(), openings.tolist(), strict=True
    ):
        candidate = (time, line.visible[place][:_MAX_KEY])
        if user not in first or candidate < first[user]:
            first[user] = candidate
    users = dict.fromkeys(line.user.tolist(), "")
    return users | {
        user: hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
        for user, (_, text) in first.items()
    }


def _half_of(digest: str) -> int:
    """0 or 1: users are judged by what was learned from the other half."""
    return int(digest[-1:] or "0", 16) % 2


def _compute_confidence(hind: Array) -> Array:
    """Grows with the evidence, shrinks where it contradicts itself; near 0 without any."""
    good = np.maximum(hind, 0).sum(axis=1)
    bad = np.maximum(-hind, 0).sum(axis=1)
    total = good + bad
    agreement = np.abs(good - bad) / np.maximum(total, 1e-6)
    return ((1.0 - np.exp(-total / _CONFIDENCE_SCALE)) * np.sqrt(agreement)).astype(np.float32)


def _collect_evidence(
    reading: Reading, events: Sequence[Event], model: Model, crowd: NDArray[np.int64]
) -> EvidenceColumns:
    """The strongest evidence on each response, each quote once."""
    line, features = reading.line, reading.features
    blocks = [
        _cue_evidence(line, features, model),
        _repeat_evidence(line, features),
        _event_evidence(line, events, model),
        _steering_evidence(line, reading.steering),
        _crowd_evidence(line, features, crowd),
    ]
    columns = _join_columns(blocks)
    response, weight = columns[0], columns[-1]
    order = np.lexsort((-weight, response))
    order = order[
        _first_occurrences(
            columns[0][order], columns[1][order], columns[2][order], columns[4][order]
        )
    ]
    response = response[order]
    first = np.searchsorted(response, response, side="left")
    order = order[np.arange(len(order)) - first < _MAX_EVIDENCE]
    return EvidenceColumns(*(column[order] for column in columns))


def _first_occurrences(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Rows whose combination of values has not occurred before."""
    key = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        codes = column
        if column.dtype == object:
            numbers: dict[str, int] = {}
            codes = np.array([numbers.setdefault(value, len(numbers)) for value in column.tolist()])
        key = word_hashes.combine_hashes(key, codes.astype(np.uint64))
    return np.sort(np.unique(key, return_index=True)[1])


def _join_columns(blocks: Sequence[tuple[NDArray[Any], ...]]) -> list[NDArray[Any]]:
    return [np.concatenate(column) for column in zip(*blocks, strict=True)]


def _cue_evidence(line: Timeline, features: Features, model: Model) -> tuple[NDArray[Any], ...]:
    kinds = cues.load_cues().kinds
    first = np.array([abs(model.weights.get(f"next_{kind.name}", 0.0)) for kind in kinds])
    rest = np.array([abs(model.weights.get(f"later_{kind.name}", 0.0)) for kind in kinds])
    matches = features.matches
    row_of = np.full(len(line.role) + 1, len(features.users), np.int64)
    row_of[features.users] = np.arange(len(features.users))
    begins = np.searchsorted(matches.text, np.arange(len(features.users) + 2))
    parts: list[tuple[NDArray[Any], ...]] = []
    for k in range(MAX_LATER):
        rows = row_of[features.later[:, k]]
        counts = begins[rows + 1] - begins[rows]
        responses = np.repeat(np.arange(len(rows)), counts)
        before: NDArray[np.int64] = np.cumsum(counts) - counts
        offset = np.arange(int(counts.sum())) - np.repeat(before, counts)
        match = begins[rows][responses] + offset
        kind = matches.kind[match]
        strength = (
            np.where(features.direct[responses, k], first[kind], rest[kind])
            * features.relation[responses, k]
            / 2.0
        )
        keep = strength > _MIN_WEIGHT
        parts.append((responses[keep], match[keep], strength[keep]))
    responses, match, strength = _join_columns(parts)
    polarity = np.array([kind.polarity for kind in kinds], np.int8)
    names = np.array([kind.name for kind in kinds], object)
    return (
        responses,
        features.users[matches.text[match]],
        matches.start[match].astype(np.int64),
        matches.end[match].astype(np.int64),
        names[matches.kind[match]],
        polarity[matches.kind[match]],
        np.minimum(strength, 1.0).astype(np.float32),
    )


def _repeat_evidence(line: Timeline, features: Features) -> tuple[NDArray[Any], ...]:
    """The same request again; the quote is the whole message."""
    rows, k = np.nonzero((features.repeat > _MIN_REPEAT) & (features.relation > 0.2))
    position = features.later[rows, k]
    length = _quote_lengths(line, position)
    size = len(rows)
    weight = (0.6 * features.repeat[rows, k] * features.relation[rows, k]).astype(np.float32)
    return (
        rows,
        position,
        np.zeros(size, np.int64),
        length,
        np.full(size, "repeat", object),
        np.full(size, -1, np.int8),
        weight,
    )


def _quote_lengths(line: Timeline, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The length of a quote of each whole message."""
    texts = line.texts_at(positions)
    return np.array([min(len(text.rstrip()), _MAX_QUOTE) for text in texts], np.int64)


def _steering_evidence(
    line: Timeline, steering: Mapping[int, tuple[hostile.Suspect, ...]]
) -> tuple[NDArray[Any], ...]:
    """Attempts to steer the judge, shown with the response before them, without weight."""
    rows: list[tuple[int, int, int, int]] = []
    for position, suspects in steering.items():
        row = int(np.searchsorted(line.responses, position)) - 1
        if row >= 0 and line.thread[line.responses[row]] == line.thread[position]:
            rows += [
                (row, position, suspect.start, min(suspect.end, suspect.start + _MAX_QUOTE))
                for suspect in suspects
            ]
    columns = (
        [np.array(column, np.int64) for column in zip(*rows, strict=True)]
        if rows
        else [np.zeros(0, np.int64)] * 4
    )
    size = len(rows)
    return (
        *columns,
        np.full(size, STEERING, object),
        np.zeros(size, np.int8),
        np.zeros(size, np.float32),
    )


def _crowd_evidence(
    line: Timeline, features: Features, crowd: NDArray[np.int64]
) -> tuple[NDArray[Any], ...]:
    """Crowds: no weight of their own, but they lower the confidence."""
    rows = np.flatnonzero(crowd)
    position = features.later[rows, 0]
    length = _quote_lengths(line, position)
    size = len(rows)
    return (
        rows,
        position,
        np.zeros(size, np.int64),
        length,
        np.full(size, CROWD, object),
        np.zeros(size, np.int8),
        np.zeros(size, np.float32),
    )


def _event_evidence(
    line: Timeline, events: Sequence[Event], model: Model
) -> tuple[NDArray[Any], ...]:
    row = {int(p): i for i, p in enumerate(line.responses)}
    rows: list[tuple[int, int, int, int, str, int, float]] = []
    for event in events:
        i = row.get(event.response)
        weight = abs(model.weights.get(f"event_{event.kind}", 0.0) * event.value) / 2.0
        if i is None or weight <= _MIN_WEIGHT:
            continue
        start, end = _event_span(line, event)
        sign = -1 if event.value < 0 else 1 if event.value > 0 else SIGNALS[event.kind].polarity
        rows.append((i, event.at, start, end, event.kind, sign, min(1.0, weight)))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    kinds = (np.int64, np.int64, np.int64, np.int64, object, np.int8, np.float32)
    return tuple(np.array(column, dtype) for column, dtype in zip(columns, kinds, strict=True))


def _event_span(line: Timeline, event: Event) -> tuple[int, int]:
    """The line of the message that shows the event; empty where only the response carries it."""
    if event.at == event.response:
        return 0, 0
    text = line.text[event.at]
    at = text.find(event.detail) if event.detail else -1 if len(text) > _MAX_QUOTE else 0
    if at < 0 and event.detail:
        escaped = msgspec.json.encode(event.detail).decode()[1:-1]
        at = text.find(escaped)
        if at >= 0:  # inside a tool call
            return at, min(at + len(escaped), at + _MAX_QUOTE)
    if at < 0:
        return 0, 0
    start = text.rfind("\n", 0, at) + 1
    if event.detail and (line.role[event.at] == ASSISTANT or at - start > _MAX_QUOTE):
        return at, min(at + len(event.detail), at + _MAX_QUOTE)
    end = text.find("\n", at)
    return start, min(end if end >= 0 else len(text), start + _MAX_QUOTE)


def verdict_table(
    line: Timeline,
    judged: Judged,
    *,
    horizon: int,
    bucket: int,
    judge_name: str,
    basis: str = "",
    labels: Sequence[str] | None = None,
    reasons: Sequence[str] | None = None,
) -> CleanTable:
    """Rows of the table `verdicts`, one for each response of the timeline.

    Without `labels` each gets the label of its strongest evidence.
    """
    evidence = judged.evidence
    size = len(line.responses)
    texts = line.texts_at(evidence.position)
    quotes = [text[a:b] for text, a, b in zip(texts, evidence.start, evidence.end, strict=True)]
    structs = _from_arrays(pa.StructArray)(
        [
            pa.array(line.conversation[evidence.position], pa.string()),
            pa.array(line.index[evidence.position].astype(np.int32)),
            pa.array(evidence.start.astype(np.int32)),
            pa.array(evidence.end.astype(np.int32)),
            pa.array(quotes, pa.string()),
            pa.array(evidence.kind, pa.string()),
            pa.array(evidence.polarity.astype(np.int8)),
            pa.array(evidence.weight.astype(np.float32)),
        ],
        fields=list(EVIDENCE_TYPE),
    )
    offsets = np.searchsorted(evidence.response, np.arange(size + 1)).astype(np.int32)
    observed = [line.observed_through.get(name, -1) for name in line.user[line.responses]]
    return CleanTable(
        pa.table(
            {
                "bucket": pa.array(np.full(size, bucket, np.int32)),
                "user": pa.array(line.user[line.responses], pa.string()),
                "id": pa.array(line.conversation[line.responses], pa.string()),
                "index": pa.array(line.index[line.responses].astype(np.int32)),
                "score": pa.array(judged.score),
                "confidence": pa.array(judged.confidence),
                "foresight": pa.array(judged.foresight),
                "evidence": _from_arrays(pa.ListArray)(pa.array(offsets), structs),
                "label": pa.array(labels or _strongest_labels(evidence, offsets), pa.string()),
                "judge": pa.repeat(judge_name, size),
                "as_of": pa.repeat(
                    pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC")), size
                ),
                "observed_through": pa.array(
                    [t if t >= 0 else None for t in observed], pa.timestamp("us", tz="UTC")
                ),
                "horizon": pa.array(np.full(size, horizon, np.int32)),
                "reason": pa.array(reasons or [""] * size, pa.large_string()),
                "seen": pa.array(_messages_after(line)),
                "basis": pa.repeat(basis, size),
                "adopted": _optional(judged.adopted),
                "worked": _optional(judged.worked),
                "steps": pa.array(
                    [_step_rows(line, judged.steps.get(row, ())) for row in range(size)],
                    pa.list_(STEP_TYPE),
                ),
            },
            schema=SCHEMAS["verdicts"],
        )
    )


def _optional(values: Array) -> Any:
    """Values of which nan says nothing, and null in a table."""
    return pa.array(values, pa.float32(), mask=np.isnan(values))


def _step_rows(line: Timeline, steps: Sequence[StepCredit]) -> list[dict[str, Any]]:
    return [
        {
            "index": int(line.index[step.position]),
            "credit": step.credit,
            "adopted": step.adopted,
        }
        for step in steps
    ]


def _from_arrays(kind: Any) -> Callable[..., Any]:
    """`from_arrays` of an Arrow type, whose stub is narrower than what it takes."""
    return kind.from_arrays


def _messages_after(line: Timeline) -> NDArray[np.int32]:
    """How many messages of its thread follow the first of each response."""
    ends = np.append(np.flatnonzero(np.diff(line.thread)), len(line.thread) - 1)
    return (ends[np.searchsorted(ends, line.responses)] - line.responses).astype(np.int32)


def _strongest_labels(evidence: EvidenceColumns, offsets: NDArray[np.int32]) -> list[str]:
    """The label of the strongest evidence; "no feedback" where there is none."""
    return [
        SIGNALS[str(evidence.kind[a])].label if b > a else "no feedback"
        for a, b in pairwise(offsets)
    ]
