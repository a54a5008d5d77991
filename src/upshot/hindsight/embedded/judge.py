"""The embedded judge: a verdict on every response of a bucket, with quoted evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upshot.engine import Stage
from upshot.hindsight.embedded import adapt, cues
from upshot.hindsight.embedded.distil import Distilled
from upshot.hindsight.embedded.events import Event, follow_edits, resolve_events
from upshot.hindsight.embedded.features import MAX_LATER, Array, Features, compute_features
from upshot.hindsight.embedded.model import Model, load_shipped_model
from upshot.hindsight.embedded.timeline import USER, Timeline, build_timeline
from upshot.hindsight.trust import crowds, hostile
from upshot.lake import bucket_of
from upshot.records import EVIDENCE_TYPE, SCHEMAS, CleanTable
from upshot.records.signals import SIGNALS
from upshot.stats import word_hashes

_MAX_EVIDENCE = 8
"""Quotes per verdict, the strongest: more than a reader takes in."""
_MIN_WEIGHT = 0.05
"""Weight below which evidence moves a score by less than 0.03, and is not shown."""
_CONFIDENCE_SCALE = 1.6
"""Logits of evidence that give a confidence of 1 - 1/e."""
_MIN_REPEAT = 0.6
"""Similarity to the request from which a message counts as the same request again."""
STEERING = "steering"
"""Kind of evidence that quotes text written for the judge; it has no weight."""
CROWD = "crowd"
"""Kind of evidence: the same words from many users."""
_MAX_QUOTE = 240
"""Characters of a whole-message quote."""


def make_judge_stage(horizon: int = 20, distilled: Distilled | None = None) -> Stage:
    """The judge as a stage that appends verdicts.

    `distilled`: learned from a better judge on this lake.
    """
    options = {"horizon": horizon} | (
        {"distilled": msgspec.json.encode(distilled).decode()} if distilled else {}
    )
    return Stage(
        "judge",
        load_shipped_model().version,
        ("messages", "conversations", "events", "threads"),
        "verdicts",
        judge_bucket,
        "append",
        options,
    )


def judge_bucket(tables: Mapping[str, CleanTable], options: Mapping[str, Any]) -> CleanTable:
    """Verdicts of one bucket. `options`: `horizon` in messages, `bucket`, `distilled` as JSON."""
    horizon = int(options.get("horizon", 20))
    line = build_timeline(tables["messages"], tables["conversations"], tables.get("threads"))
    if not len(line.responses):
        return CleanTable(SCHEMAS["verdicts"].empty_table())
    distilled = (
        msgspec.json.decode(options["distilled"], type=Distilled)
        if "distilled" in options
        else None
    )
    judged = judge(
        line, collect_events(tables["events"], line), load_shipped_model(), horizon, distilled
    )
    name = load_shipped_model().version + (f"+{distilled.version()}" if distilled else "")
    bucket = int(options.get("bucket", 0))
    return verdict_table(line, judged, horizon=horizon, bucket=bucket, judge_name=name)


def collect_events(events: CleanTable, line: Timeline) -> list[Event]:
    """Events in the log, and what became of edited code."""
    return resolve_events(events, line) + follow_edits(line)


class Judged(NamedTuple):
    """Arrays over the responses of a timeline, and the evidence as columns sorted by response."""

    score: Array
    foresight: Array
    confidence: Array
    evidence: EvidenceColumns


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


def read_timeline(
    line: Timeline, events: Sequence[Event], model: Model, horizon: int = 20
) -> Reading:
    """Read a timeline, with text written for a judge hidden."""
    steering = _find_steering(line)
    line = _hide_steering(line, steering)
    features = compute_features(line, events, model.lexicon, horizon)
    _, foresight, parts = model.scores(features)
    contributions = parts[:, features.hindsight]
    right_refusal = features.values[:, features.names.index("right_refusal")] > 0
    contributions[right_refusal] = np.maximum(contributions[right_refusal], 0.0)
    logits = np.log(foresight) - np.log1p(-foresight) + contributions.sum(axis=1)
    next_words = _next_words(line, features)
    return Reading(
        line,
        steering,
        features,
        next_words,
        logits + _adapt_logits(line, features, next_words, logits),
        foresight,
        contributions,
    )


def judge(
    line: Timeline,
    events: Sequence[Event],
    model: Model,
    horizon: int = 20,
    distilled: Distilled | None = None,
) -> Judged:
    """Score every response of a timeline; `distilled`: learned from a better judge on this lake."""
    return conclude(read_timeline(line, events, model, horizon), events, model, distilled)


def conclude(
    reading: Reading, events: Sequence[Event], model: Model, distilled: Distilled | None = None
) -> Judged:
    """The verdicts that follow from a reading."""
    score = (
        _sigmoid(reading.logits)
        if distilled is None
        else distilled.scores(reading.features, reading.logits)
    )
    crowd = _crowd_sizes(reading)
    evidence = _collect_evidence(reading, events, model, crowd)
    confidence = _compute_confidence(reading.contributions) * np.where(
        crowd > 0, crowds.MAX_BY_CLUSTER / np.maximum(crowd, 1), 1.0
    )
    return Judged(score, reading.foresight, confidence.astype(np.float32), evidence)


def _crowd_sizes(reading: Reading) -> NDArray[np.int64]:
    """How many users wrote the same words after each response; 0 where they are no crowd."""
    rows = np.flatnonzero(reading.features.later[:, 0] >= 0)
    size = np.zeros(len(reading.next_words), np.int64)
    responses = reading.line.responses[rows]
    size[rows] = crowds.count_crowds(
        reading.line.user[responses].tolist(),
        reading.next_words[rows].tolist(),
        lambda some: reading.features.words.take(responses[some]),
    )
    return size


def _next_words(line: Timeline, features: Features) -> NDArray[np.object_]:
    """The normalised words of the message after each response."""
    normalised = {"": ""}
    texts = line.visible_at(features.later[:, 0])
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
    text, words = list(line.text), list(line.text)
    for position, suspects in steering.items():
        text[position] = hostile.hide(text[position], suspects)
        words[position] = hostile.drop(words[position], suspects)
    return line.with_texts(text, words)


def _sigmoid(logits: Array) -> Array:
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -15, 15)))).astype(np.float32)


def _adapt_logits(
    line: Timeline, features: Features, next_words: NDArray[np.object_], logits: Array
) -> Array:
    """The correction that is learned from the corpus itself; see `adapt`."""
    following = features.later[:, 0]
    has_next = following >= 0
    if has_next.sum() < adapt.MIN_RESPONSES:
        return np.zeros(len(logits), np.float32)
    half = _user_halves(line)[line.responses]
    rows = np.flatnonzero(has_next)
    if len(rows) > adapt.MAX_RESPONSES:
        rows = rows[:: len(rows) // adapt.MAX_RESPONSES + 1]
    terms = adapt.hash_terms(features.words, following, line.responses)
    users = line.user[line.responses[rows]].tolist()
    weight = crowds.weigh_rows(users, next_words[rows].tolist())
    learned = adapt.learn(terms.take(rows), logits[rows], half[rows], weight)
    return (
        np.where(has_next, learned.logits(terms, half), 0.0)
        if learned
        else np.zeros(len(logits), np.float32)
    )


def _user_halves(line: Timeline) -> NDArray[np.int64]:
    """0 or 1 for each message, the same for all of a user's.

    Drawn by the text of the user's first messages, since pseudonyms change with the key.
    """
    begins = np.flatnonzero(np.append(True, line.user[1:] != line.user[:-1]))
    half = np.array(
        [bucket_of("\n".join(line.visible[p : p + 4])[:1000], 2) for p in begins.tolist()], np.int64
    )
    return np.repeat(half, np.diff(np.append(begins, len(line.user))))


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
    at = max(text.find(event.detail), 0) if event.detail else 0
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    return start, min(end if end >= 0 else len(text), start + _MAX_QUOTE)


def verdict_table(
    line: Timeline,
    judged: Judged,
    *,
    horizon: int,
    bucket: int,
    judge_name: str,
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
            },
            schema=SCHEMAS["verdicts"],
        )
    )


def _from_arrays(kind: Any) -> Callable[..., Any]:
    """`from_arrays` of an Arrow type, whose stub is narrower than what it takes."""
    return kind.from_arrays


def _messages_after(line: Timeline) -> NDArray[np.int32]:
    """How many messages of its thread follow each response."""
    ends = np.append(np.flatnonzero(np.diff(line.thread)), len(line.thread) - 1)
    return (ends[np.searchsorted(ends, line.responses)] - line.responses).astype(np.int32)


def _strongest_labels(evidence: EvidenceColumns, offsets: NDArray[np.int32]) -> list[str]:
    """The label of the strongest evidence; "no feedback" where there is none."""
    return [
        SIGNALS[str(evidence.kind[a])].label if b > a else "no feedback"
        for a, b in pairwise(offsets)
    ]
