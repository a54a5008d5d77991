"""The embedded judge: a verdict on every response of a bucket, with quoted evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from upshot.hindsight.embedded.events import POLARITY, Event, followed, resolve
from upshot.hindsight.embedded.features import LATER, Array, Features, features
from upshot.hindsight.embedded.model import Model, shipped
from upshot.hindsight.embedded.timeline import USER, Timeline, timeline
from upshot.hindsight.trust import crowds as influence
from upshot.hindsight.trust import hostile
from upshot.lake import bucket_of
from upshot.records import EVIDENCE_TYPE, SCHEMAS, CleanTable
from upshot.stats import words as tokens

_MOST_EVIDENCE = 8
_LEAST_WEIGHT = 0.05
_LOGITS_OF_CERTAINTY = 1.6
"""Evidence of so many logits gives a confidence of 1 - 1/e."""
_REPEATED = 0.6
STEERING = "steering"
"""Kind of evidence that quotes what was written for the judge; it says nothing either way."""
CROWD = "crowd"
"""Kind of evidence that many users wrote alike."""
_QUOTE = 240
"""Characters of a whole-message quote."""

KIND_LABELS = {
    "thumb": "acted upon",
    "rating": "acted upon",
    "edit": "acted upon",
    "regenerate": "repeat or rephrase",
    "undo": "acted upon",
    "undone_later": "acted upon",
    "commit": "acted upon",
    "own_commit": "acted upon",
    "exit": "reported outcome",
    "test": "reported outcome",
    "lint": "reported outcome",
    "build": "reported outcome",
    "trace": "reported outcome",
    "copy": "acted upon",
    "kept": "acted upon",
    "outcome": "reported outcome",
    STEERING: "no feedback",
    CROWD: "no feedback",
    "interrupt": "complaint",
    "repeat": "repeat or rephrase",
    "rewritten": "acted upon",
}


def stage(horizon: int = 20, distilled: Distilled | None = None) -> Stage:
    """The judge as a stage; verdicts are appended.

    `distilled` is what a better judge taught on this lake.
    """
    options = {"horizon": horizon} | (
        {"distilled": msgspec.json.encode(distilled).decode()} if distilled else {}
    )
    return Stage(
        "judge",
        shipped().version,
        ("messages", "conversations", "events", "threads"),
        "verdicts",
        judge_bucket,
        "append",
        options,
    )


def judge_bucket(tables: Mapping[str, CleanTable], options: Mapping[str, Any]) -> CleanTable:
    """Verdicts of one bucket. `options`: `horizon` in messages, `bucket`, `distilled` as JSON."""
    horizon = int(options.get("horizon", 20))
    line = timeline(tables["messages"], tables["conversations"], tables.get("threads"))
    if not len(line.responses):
        return CleanTable(SCHEMAS["verdicts"].empty_table())
    distilled = (
        msgspec.json.decode(options["distilled"], type=Distilled)
        if "distilled" in options
        else None
    )
    judged = judge(line, all_events(tables["events"], line), shipped(), horizon, distilled)
    name = shipped().version + (f"+{distilled.version()}" if distilled else "")
    return verdict_table(line, judged, horizon, int(options.get("bucket", 0)), name)


def all_events(events: CleanTable, line: Timeline) -> list[Event]:
    """What the log carries, and what became of edited code."""
    return resolve(events, line) + followed(line)


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
    """What the judge saw in a timeline, before it says anything."""

    line: Timeline
    """Without what was written for the judge."""
    steering: Mapping[int, tuple[hostile.Suspect, ...]]
    """What that was, by position."""
    found: Features
    said: NDArray[np.object_]
    """Words of the message after each response, by which a crowd is known."""
    logits: Array
    """Of each response's score."""
    foresight: Array
    hind: Array
    """Contribution of each hindsight feature, in logits, shape (responses, features)."""


def read(line: Timeline, events: Sequence[Event], model: Model, horizon: int = 20) -> Reading:
    """Look at every response of a timeline. What users wrote for a judge is hidden from it."""
    steering = _steering(line)
    line = _without(line, steering)
    found = features(line, events, model.lexicon, horizon)
    _, foresight, parts = model.scores(found)
    hind = parts[:, found.hindsight]
    right_refusal = found.values[:, found.names.index("right_refusal")] > 0
    hind[right_refusal] = np.maximum(hind[right_refusal], 0.0)
    logits = np.log(foresight) - np.log1p(-foresight) + hind.sum(axis=1)
    said = _said(line, found)
    return Reading(
        line, steering, found, said, logits + _adapted(line, found, said, logits), foresight, hind
    )


def judge(
    line: Timeline,
    events: Sequence[Event],
    model: Model,
    horizon: int = 20,
    distilled: Distilled | None = None,
) -> Judged:
    """Score every response of a timeline; `distilled` is what a better judge taught on this corpus."""
    return conclude(read(line, events, model, horizon), events, model, distilled)


def conclude(
    seen: Reading, events: Sequence[Event], model: Model, distilled: Distilled | None = None
) -> Judged:
    """What follows from a reading."""
    score = (
        _sigmoid(seen.logits) if distilled is None else distilled.scores(seen.found, seen.logits)
    )
    crowd = _crowds(seen)
    evidence = _evidence(seen.line, events, seen.found, model, seen.steering, crowd)
    confidence = _confidence(seen.hind) * np.where(
        crowd > 0, influence.MOST_BY_CLUSTER / np.maximum(crowd, 1), 1.0
    )
    return Judged(score, seen.foresight, confidence.astype(np.float32), evidence)


def _crowds(seen: Reading) -> NDArray[np.int64]:
    """How many users said the same long thing after each response; 0 where they are no crowd."""
    rows = np.flatnonzero(seen.found.later[:, 0] >= 0)
    size = np.zeros(len(seen.said), np.int64)
    responses = seen.line.responses[rows]
    size[rows] = influence.crowds(
        seen.line.user[responses].tolist(),
        seen.said[rows].tolist(),
        lambda some: seen.found.words.of(responses[some]),
    )
    return size


def _said(line: Timeline, found: Features) -> NDArray[np.object_]:
    """The words of the message after each response, by which a crowd is known."""
    known = {"": ""}
    texts = [line.read[p] if p >= 0 else "" for p in found.later[:, 0].tolist()]
    for text in texts:
        if text not in known:
            known[text] = influence.same_words(text)
    return np.array([known[text] for text in texts], object)


def _steering(line: Timeline) -> dict[int, tuple[hostile.Suspect, ...]]:
    """Spans of users' messages that are written for a judge, by position."""
    users = np.flatnonzero(line.role == USER).tolist()
    return {
        users[row]: found for row, found in hostile.suspects([line.text[p] for p in users]).items()
    }


def _without(line: Timeline, steering: Mapping[int, tuple[hostile.Suspect, ...]]) -> Timeline:
    if not steering:
        return line
    text, words = list(line.text), list(line.text)
    for position, found in steering.items():
        text[position] = hostile.hide(text[position], found)
        words[position] = hostile.drop(words[position], found)
    return line.with_texts(text, words)


def _sigmoid(logits: Array) -> Array:
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -15, 15)))).astype(np.float32)


def _adapted(line: Timeline, found: Features, said: NDArray[np.object_], logits: Array) -> Array:
    """What the corpus itself teaches; see `adapt`."""
    following = found.later[:, 0]
    has = following >= 0
    if has.sum() < adapt.LEAST:
        return np.zeros(len(logits), np.float32)
    half = _halves(line)[line.responses]
    rows = np.flatnonzero(has)
    if len(rows) > adapt.MOST:
        rows = rows[:: len(rows) // adapt.MOST + 1]
    terms = adapt.terms(found.words, following, line.responses)
    users = line.user[line.responses[rows]].tolist()
    weight = influence.weights(users, said[rows].tolist())
    learned = adapt.learn(terms.of(rows), logits[rows], half[rows], weight)
    return (
        np.where(has, learned.logits(terms, half), 0.0)
        if learned
        else np.zeros(len(logits), np.float32)
    )


def _halves(line: Timeline) -> NDArray[np.int64]:
    """0 or 1 for each message, one for all of a user's, by what the user first said: pseudonyms
    change with the key.
    """
    begins = np.flatnonzero(np.append(True, line.user[1:] != line.user[:-1]))
    drawn = np.array(
        [bucket_of("\n".join(line.read[p : p + 4])[:1000], 2) for p in begins.tolist()], np.int64
    )
    return np.repeat(drawn, np.diff(np.append(begins, len(line.user))))


def _confidence(hind: Array) -> Array:
    """Grows with the evidence, falls where it contradicts itself; near 0 without any."""
    good = np.maximum(hind, 0).sum(axis=1)
    bad = np.maximum(-hind, 0).sum(axis=1)
    total = good + bad
    agreement = np.abs(good - bad) / np.maximum(total, 1e-6)
    return ((1.0 - np.exp(-total / _LOGITS_OF_CERTAINTY)) * np.sqrt(agreement)).astype(np.float32)


def _evidence(
    line: Timeline,
    events: Sequence[Event],
    found: Features,
    model: Model,
    steering: Mapping[int, tuple[hostile.Suspect, ...]],
    crowd: NDArray[np.int64],
) -> EvidenceColumns:
    blocks = [
        _cue_evidence(line, found, model),
        _repeat_evidence(line, found),
        _event_evidence(line, events, model),
        _steering_evidence(line, steering),
        _crowd_evidence(line, found, crowd),
    ]
    columns = _columns(blocks)
    response, weight = columns[0], columns[-1]
    order = np.lexsort((-weight, response))
    order = order[
        _first_of_each(columns[0][order], columns[1][order], columns[2][order], columns[4][order])
    ]
    response = response[order]
    first = np.searchsorted(response, response, side="left")
    order = order[np.arange(len(order)) - first < _MOST_EVIDENCE]
    return EvidenceColumns(*(column[order] for column in columns))


def _first_of_each(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Rows whose values did not occur before."""
    key = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        codes = column
        if column.dtype == object:
            known: dict[str, int] = {}
            codes = np.array([known.setdefault(value, len(known)) for value in column.tolist()])
        key = tokens.combine(key, codes.astype(np.uint64))
    return np.sort(np.unique(key, return_index=True)[1])


def _columns(blocks: Sequence[tuple[NDArray[Any], ...]]) -> list[NDArray[Any]]:
    return [np.concatenate(column) for column in zip(*blocks, strict=True)]


def _cue_evidence(line: Timeline, found: Features, model: Model) -> tuple[NDArray[Any], ...]:
    kinds = cues.load().kinds
    first = np.array([abs(model.weights.get(f"next_{kind.name}", 0.0)) for kind in kinds])
    rest = np.array([abs(model.weights.get(f"later_{kind.name}", 0.0)) for kind in kinds])
    matches = found.matches
    row_of = np.full(len(line.role) + 1, len(found.users), np.int64)
    row_of[found.users] = np.arange(len(found.users))
    begins = np.searchsorted(matches.text, np.arange(len(found.users) + 2))
    parts: list[tuple[NDArray[Any], ...]] = []
    for k in range(LATER):
        rows = row_of[found.later[:, k]]
        counts = begins[rows + 1] - begins[rows]
        responses = np.repeat(np.arange(len(rows)), counts)
        offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        match = begins[rows][responses] + offset
        kind = matches.kind[match]
        strength = (
            np.where(found.direct[responses, k], first[kind], rest[kind])
            * found.relation[responses, k]
            / 2.0
        )
        keep = strength > _LEAST_WEIGHT
        parts.append((responses[keep], match[keep], strength[keep]))
    responses, match, strength = _columns(parts)
    polarity = np.array([kind.polarity for kind in kinds], np.int8)
    names = np.array([kind.name for kind in kinds], object)
    return (
        responses,
        found.users[matches.text[match]],
        matches.start[match].astype(np.int64),
        matches.end[match].astype(np.int64),
        names[matches.kind[match]],
        polarity[matches.kind[match]],
        np.minimum(strength, 1.0).astype(np.float32),
    )


def _repeat_evidence(line: Timeline, found: Features) -> tuple[NDArray[Any], ...]:
    """The same request again: the whole message is the quote."""
    rows, k = np.nonzero((found.repeat > _REPEATED) & (found.relation > 0.2))
    position = found.later[rows, k]
    length = np.array([min(len(line.text[p].rstrip()), _QUOTE) for p in position], np.int64)
    size = len(rows)
    weight = (0.6 * found.repeat[rows, k] * found.relation[rows, k]).astype(np.float32)
    return (
        rows,
        position,
        np.zeros(size, np.int64),
        length,
        np.full(size, "repeat", object),
        np.full(size, -1, np.int8),
        weight,
    )


def _steering_evidence(
    line: Timeline, steering: Mapping[int, tuple[hostile.Suspect, ...]]
) -> tuple[NDArray[Any], ...]:
    """Attempts to steer the judge: shown on the response before them, with no weight."""
    rows: list[tuple[int, int, int, int]] = []
    for position, found in steering.items():
        row = int(np.searchsorted(line.responses, position)) - 1
        if row >= 0 and line.thread[line.responses[row]] == line.thread[position]:
            rows += [
                (row, position, suspect.start, min(suspect.end, suspect.start + _QUOTE))
                for suspect in found
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
    line: Timeline, found: Features, crowd: NDArray[np.int64]
) -> tuple[NDArray[Any], ...]:
    """What many users wrote alike, with no weight of its own: it lowers the confidence."""
    rows = np.flatnonzero(crowd)
    position = found.later[rows, 0]
    length = np.array(
        [min(len(line.text[p].rstrip()), _QUOTE) for p in position.tolist()], np.int64
    )
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
        if i is None or weight <= _LEAST_WEIGHT:
            continue
        start, end = _span(line, event)
        sign = -1 if event.value < 0 else 1 if event.value > 0 else POLARITY[event.kind]
        rows.append((i, event.at, start, end, event.kind, sign, min(1.0, weight)))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    kinds = (np.int64, np.int64, np.int64, np.int64, object, np.int8, np.float32)
    return tuple(np.array(column, dtype) for column, dtype in zip(columns, kinds, strict=True))


def _span(line: Timeline, event: Event) -> tuple[int, int]:
    """The line of the message that shows the event; nothing where only the response itself carries
    it.
    """
    if event.at == event.response:
        return 0, 0
    text = line.text[event.at]
    at = max(text.find(event.detail), 0) if event.detail else 0
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    return start, min(end if end >= 0 else len(text), start + _QUOTE)


def verdict_table(
    line: Timeline,
    judged: Judged,
    horizon: int,
    bucket: int,
    judge_name: str,
    labels: Sequence[str] | None = None,
    reasons: Sequence[str] | None = None,
) -> CleanTable:
    """Rows of the table `verdicts`, one for each response of the timeline; without `labels` that of
    the weightiest evidence.
    """
    evidence = judged.evidence
    size = len(line.responses)
    quotes = [
        line.text[p][a:b]
        for p, a, b in zip(evidence.position, evidence.start, evidence.end, strict=True)
    ]
    structs = pa.StructArray.from_arrays(
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
    seen = [line.seen_through.get(name, -1) for name in line.user[line.responses]]
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
                "evidence": pa.ListArray.from_arrays(pa.array(offsets), structs),
                "label": pa.array(labels or _labels(evidence, offsets), pa.string()),
                "judge": pa.repeat(judge_name, size),
                "as_of": pa.repeat(
                    pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC")), size
                ),
                "observed_through": pa.array(
                    [t if t >= 0 else None for t in seen], pa.timestamp("us", tz="UTC")
                ),
                "horizon": pa.array(np.full(size, horizon, np.int32)),
                "reason": pa.array(reasons or [""] * size, pa.large_string()),
                "seen": pa.array(_seen(line)),
            },
            schema=SCHEMAS["verdicts"],
        )
    )


def _seen(line: Timeline) -> NDArray[np.int32]:
    """Messages of its thread after each response."""
    ends = np.append(np.flatnonzero(np.diff(line.thread)), len(line.thread) - 1)
    return (ends[np.searchsorted(ends, line.responses)] - line.responses).astype(np.int32)


def _labels(evidence: EvidenceColumns, offsets: NDArray[np.int32]) -> list[str]:
    """The label of the weightiest evidence; "no feedback" where there is none."""
    names = {**KIND_LABELS, **{kind.name: kind.label for kind in cues.load().kinds}}
    return [
        names.get(str(evidence.kind[a]), "no feedback") if b > a else "no feedback"
        for a, b in pairwise(offsets)
    ]
