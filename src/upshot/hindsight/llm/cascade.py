"""The cascade: the embedded judge on everything, the LLM where it may change a decision.

The LLM also judges a random sample, drawn by a hash of the thread before anything is judged. The
disagreement of the two judges on that sample estimates the embedded judge's error without bias,
whatever else the LLM judges. With `share = 1` the LLM judges everything.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upshot.engine import Models, read_tables
from upshot.errors import BudgetError, EndpointError
from upshot.hindsight.embedded import corpus
from upshot.hindsight.embedded.distil import (
    Lesson,
    TeachingRows,
    distil,
    make_teaching_rows,
)
from upshot.hindsight.embedded.judge import (
    DISTILLED,
    EvidenceColumns,
    Judged,
    Reading,
    collect_events,
    conclude,
    read_timeline,
    verdict_table,
)
from upshot.hindsight.embedded.model import Model
from upshot.hindsight.embedded.timeline import Timeline, build_timeline
from upshot.hindsight.llm import judge as llm
from upshot.hindsight.llm import transcript
from upshot.lake import Lake, load_models, store_model
from upshot.llm import (
    SUBJECT,
    Budget,
    Client,
    Endpoint,
    LakeReplies,
    Replies,
    Request,
    Spent,
    request_key,
    run_batch,
)
from upshot.records import CleanTable
from upshot.stats.intervals import ratio_interval
from upshot.stats.sampling import draw
from upshot.threads.background import NAME as BACKGROUND

TABLES = corpus.TABLES
CALIBRATION = "calibration"
"""Name of the calibration curve among the lake's models."""
MAX_WEIGHT = 4.0
"""Largest weight of a randomly drawn response, so that a few of them do not dominate the lesson."""
_TOKENS_PER_RESPONSE = 90
"""Completion tokens of one judged response, for the estimate of costs (`bench/judge_cost.py`)."""
_TOKENS_PER_GUESS = 10
"""Completion tokens of one foresight score."""


class Choice(NamedTuple):
    """A thread that the LLM judges."""

    first: int
    last: int
    audit: bool
    """Drawn at random, independently of any verdict."""


class Bucket(NamedTuple):
    """One bucket, judged by the embedded judge."""

    number: int
    line: Timeline
    reading: Reading
    judged: Judged
    chosen: tuple[Choice, ...]


class Plan(msgspec.Struct, frozen=True):
    """The expected cost of judging, before anything is sent."""

    threads: int
    responses: int
    requests: int
    cached: int
    """Requests whose reply is already in the cache."""
    prompt_tokens: int
    """Estimated, of requests that are not in the cache."""
    completion_tokens: int
    """Estimated; at most `max_tokens` of every request."""
    usd: float


class Report(msgspec.Struct, frozen=True):
    """The outcome of a run."""

    judge: str
    tally: llm.Tally
    spent: Spent
    chosen_threads: int
    all_threads: int
    audit: Audit | None
    stopped: str
    """Why the run stopped early; empty if it did not."""
    lesson: Lesson | None = None
    """What the embedded judge learned from the LLM."""


class Audit(msgspec.Struct, frozen=True):
    """The embedded judge's error on the random sample, with the LLM's verdicts as the truth."""

    threads: int
    responses: int
    bias: float
    """Mean of embedded minus LLM."""
    error: float
    """Mean absolute difference."""
    low: float
    """95 % interval of the error, by thread."""
    high: float


class Weighed(NamedTuple):
    """The threads of a bucket that have responses."""

    spans: tuple[tuple[int, int], ...]
    audited: NDArray[np.bool_]
    """Which of them are drawn at random."""
    value: NDArray[np.float64]
    """What a second opinion on each is worth."""
    draws: NDArray[np.float64]
    """In [0, 1), by the thread's name: decides between threads that are worth the same."""


class Cut(NamedTuple):
    """From where on threads are worth a second opinion, in the whole lake: which threads a language
    model judges does not depend on who shares a bucket.
    """

    value: float
    draw: float
    """Of threads that are worth just `value`, those are chosen whose draw is no larger."""


def weigh_threads(line: Timeline, judged: Judged, audit_rate: float, seed: str = "") -> Weighed:
    """What a second opinion on each thread of a bucket is worth, and which ones are drawn."""
    spans = tuple(
        span
        for span in transcript.thread_spans(line)
        if _response_range(line, *span)[1] > _response_range(line, *span)[0]
    )
    names = [line.conversation[a] for a, _ in spans]
    benefit = _expected_benefit(judged)
    return Weighed(
        spans,
        np.array([draw(f"{seed}/{name}") < audit_rate for name in names], bool),
        np.array([benefit[slice(*_response_range(line, a, b))].mean() for a, b in spans]),
        np.array([draw(f"{seed}/order/{name}") for name in names]),
    )


def find_cut(parts: Iterable[Weighed], share: float, seed: str = "") -> Cut:
    """The cut by which the audited threads and the most worthwhile ones make up a share of all."""
    rows: list[tuple[float, float]] = []
    total = audited = 0
    for part in parts:
        total += len(part.spans)
        audited += int(part.audited.sum())
        free = ~part.audited
        rows += zip((-part.value[free]).tolist(), part.draws[free].tolist(), strict=True)
    quota = int(share * total + draw(f"{seed}/share")) - audited  # right on average
    if quota <= 0 or not rows:
        return Cut(math.inf, 0.0)
    if quota >= len(rows):
        return Cut(-math.inf, 1.0)
    value, last = sorted(rows)[quota - 1]
    return Cut(-value, last)


def choose_threads(weighed: Weighed, cut: Cut) -> tuple[Choice, ...]:
    """The threads of a bucket that the LLM judges: those drawn at random, and those above the
    cut.
    """
    chosen = weighed.audited | (weighed.value > cut.value)
    chosen |= (weighed.value == cut.value) & (weighed.draws <= cut.draw)
    return tuple(
        Choice(a, b, bool(weighed.audited[i]))
        for i, (a, b) in enumerate(weighed.spans)
        if chosen[i]
    )


def _response_range(line: Timeline, first: int, last: int) -> tuple[int, int]:
    ends = np.searchsorted(line.responses, (first, last))
    return int(ends[0]), int(ends[1])


def _expected_benefit(judged: Judged) -> NDArray[np.float64]:
    """How much a second opinion may change the consequences of each verdict.

    Large where later messages moved the score far from foresight: there a misreading costs most
    (docs/lab.md). Larger where the evidence contradicts itself; small where nothing followed, since
    there is nothing to read.
    """
    evidence = judged.evidence
    size = len(judged.score)
    good = np.bincount(evidence.response, (evidence.polarity > 0) * evidence.weight, minlength=size)
    bad = np.bincount(evidence.response, (evidence.polarity < 0) * evidence.weight, minlength=size)
    contradiction = np.minimum(good, bad) / np.maximum(np.maximum(good, bad), 1e-6)
    return np.abs(judged.score - judged.foresight) + 0.25 * contradiction


def judge_buckets(
    lake: Lake, model: Model, horizon: int, share: float, audit_rate: float
) -> Iterator[Bucket]:
    """Each bucket of a lake, judged by the embedded judge, with its chosen threads.

    For a share between none and all every bucket is judged twice: what is worth a second opinion is
    decided by all of them.
    """
    models = read_models(lake)

    def judged(cut: Cut) -> Iterator[Bucket]:
        for number in range(lake.buckets):
            tables = read_tables(lake, TABLES, number)
            yield judge_tables(
                tables,
                number,
                model,
                horizon=horizon,
                cut=cut,
                audit_rate=audit_rate,
                models=models,
            )

    yield from judged(_cut_of(share, lambda: judged(Cut(math.inf, 0.0)), audit_rate))


def _cut_of(share: float, parts: Callable[[], Iterable[Bucket]], audit_rate: float) -> Cut:
    if share <= 0.0:
        return Cut(math.inf, 0.0)
    if share >= 1.0:
        return Cut(-math.inf, 1.0)
    return find_cut((weigh_threads(p.line, p.judged, audit_rate) for p in parts()), share)


def read_models(lake: Lake) -> dict[str, str]:
    """What the lake learned from everybody, as the embedded judge is handed it."""
    learned = load_models(lake, (BACKGROUND, corpus.NAME))
    return {name: model.content for name, model in learned.items()}


def judge_tables(
    tables: Mapping[str, CleanTable],
    number: int,
    model: Model,
    *,
    horizon: int,
    audit_rate: float,
    models: Models,
    share: float = 0.0,
    cut: Cut | None = None,
) -> Bucket:
    """One bucket from its tables; `models`: what was learned from everybody.

    `cut`: of the whole lake; without it the tables are a lake, of which `share` is chosen.
    """
    line = build_timeline(tables["messages"], tables["conversations"], tables.get("threads"))
    events = collect_events(tables["events"], line)
    reading = read_timeline(line, events, model, horizon, corpus.corpus_of(models))
    judged = conclude(reading, events, model)
    weighed = weigh_threads(line, judged, audit_rate)
    chosen = choose_threads(weighed, find_cut([weighed], share) if cut is None else cut)
    return Bucket(number, line, reading, judged, chosen)


def make_plan(
    parts: Iterator[Bucket], endpoint: Endpoint, options: llm.Options, replies: Replies
) -> tuple[Plan, dict[str, tuple[str, Request]]]:
    """The cost of judging the chosen threads, and the requests that are not in the cache.

    Requests are given as key → (user, request).
    """
    threads = responses = requests = prompt_tokens = completion_tokens = 0
    fresh: dict[str, tuple[str, Request]] = {}
    budget = Budget(endpoint)
    for part in parts:
        for choice in part.chosen:
            threads += 1
            begin, end = _response_range(part.line, choice.first, choice.last)
            responses += end - begin
            for request in llm.make_requests(
                part.line, choice.first, choice.last, options, endpoint.model
            ):
                requests += 1
                key = request_key(request)
                if replies.get(key) is None and key not in fresh:
                    fresh[key] = (str(part.line.user[choice.first]), request)
                    prompt_tokens += budget.estimate(len(msgspec.json.encode(request.messages)))
                    guess = request.max_tokens <= 60
                    completion_tokens += (
                        _TOKENS_PER_GUESS
                        if guess
                        else request.n * _TOKENS_PER_RESPONSE * ((request.max_tokens - 200) // 160)
                    )
    usd = (prompt_tokens * endpoint.usd_in + completion_tokens * endpoint.usd_out) / 1e6
    return Plan(
        threads, responses, requests, requests - len(fresh), prompt_tokens, completion_tokens, usd
    ), fresh


class _OpenBucket:
    """A bucket whose threads are being judged."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.remaining = len(bucket.chosen)
        self.findings: list[llm.Finding] = []


async def judge_chosen(
    parts: Iterator[Bucket],
    endpoint: Endpoint,
    budget: Budget,
    options: llm.Options,
    replies: Replies,
    *,
    keep: Callable[[Bucket, CleanTable], None],
    progress: Callable[[int, int], None] | None = None,
    batch: dict[str, tuple[str, Request]] | None = None,
    total: int = 0,
) -> Report:
    """Judge the chosen threads concurrently; `keep` gets the verdicts of each finished bucket.

    A request that is not answered is left out, and the tally counts it. A spent budget, or an
    endpoint that gives up, ends the run cleanly: verdicts so far are kept, and the report says why.
    Whatever ends the run, an interruption too, replies are flushed.
    """
    try:
        if batch:
            await run_batch(endpoint, batch, replies, budget, progress=progress)
        return await _judge_all(
            parts, endpoint, budget, options, replies, keep=keep, progress=progress, total=total
        )
    finally:
        replies.flush()


async def _judge_all(
    parts: Iterator[Bucket],
    endpoint: Endpoint,
    budget: Budget,
    options: llm.Options,
    replies: Replies,
    *,
    keep: Callable[[Bucket, CleanTable], None],
    progress: Callable[[int, int], None] | None,
    total: int,
) -> Report:
    name = options.version(endpoint.model)
    opened: list[_OpenBucket] = []
    judged = 0
    stopped = ""
    threads = 0
    differences: list[list[float]] = []

    def work() -> Iterator[tuple[_OpenBucket, Choice]]:
        nonlocal threads
        for part in parts:
            threads += sum(1 for _ in transcript.thread_spans(part.line))
            state = _OpenBucket(part)
            if part.chosen:
                opened.append(state)
            for choice in part.chosen:
                yield state, choice

    async with Client(endpoint, budget) as client:
        judging = llm.Judge(client, replies, options)
        queue = work()

        async def worker() -> None:
            nonlocal judged, stopped
            for state, choice in queue:
                if stopped:
                    return
                SUBJECT.set(f"{state.bucket.number}/{choice.first}")
                try:
                    findings = await judging.thread(
                        state.bucket.line, choice.first, choice.last, state.bucket.judged
                    )
                except (BudgetError, EndpointError) as error:
                    stopped = stopped or str(error)
                    return
                state.findings += findings
                if choice.audit:
                    differences.append(_differences(state.bucket, findings))
                state.remaining -= 1
                judged += 1
                if not state.remaining:
                    _emit_verdicts(state, options, name, keep)
                if progress:
                    progress(judged, total)

        await asyncio.gather(*(worker() for _ in range(endpoint.concurrency)))
    for state in opened:
        if state.remaining and state.findings:
            _emit_verdicts(state, options, name, keep)
    return Report(
        name,
        judging.tally,
        budget.spent,
        judged,
        threads,
        summarise_audit(differences),
        stopped,
    )


def _differences(bucket: Bucket, findings: Sequence[llm.Finding]) -> list[float]:
    row = {p: i for i, p in enumerate(bucket.line.responses.tolist())}
    return [float(bucket.judged.score[row[f.response]]) - f.score for f in findings]


def summarise_audit(threads: Sequence[Sequence[float]]) -> Audit | None:
    """Mean signed and absolute difference, the latter with a t interval over threads."""
    threads = [differences for differences in threads if differences]
    if len(threads) < 2:
        return None
    sizes = np.array([len(differences) for differences in threads], float)
    error = np.array([np.abs(differences).sum() for differences in threads])
    bias = np.array([np.sum(differences) for differences in threads])
    mean, _, high = ratio_interval(error, sizes)
    factor = (
        math.exp((high - mean) / mean) if mean else 1.0
    )  # on the log scale: errors are positive and skewed
    return Audit(
        len(threads),
        int(sizes.sum()),
        float(bias.sum() / sizes.sum()),
        mean,
        mean / factor,
        min(1.0, mean * factor),
    )


def _emit_verdicts(
    state: _OpenBucket, options: llm.Options, name: str, keep: Callable[[Bucket, CleanTable], None]
) -> None:
    keep(state.bucket, make_verdict_rows(state.bucket, state.findings, options.horizon, name))


def make_verdict_rows(
    bucket: Bucket, findings: Sequence[llm.Finding], horizon: int, name: str
) -> CleanTable:
    """Rows of `verdicts` for the responses that the LLM judged."""
    line, judged = bucket.line, bucket.judged
    row = {p: i for i, p in enumerate(line.responses.tolist())}
    score, confidence, foresight = (
        judged.score.copy(),
        judged.confidence.copy(),
        judged.foresight.copy(),
    )
    labels, reasons = [""] * len(score), [""] * len(score)
    spans: list[tuple[int, llm.Span]] = []
    for finding in findings:
        i = row[finding.response]
        score[i], confidence[i] = finding.score, finding.confidence
        foresight[i] = judged.foresight[i] if finding.foresight is None else finding.foresight
        labels[i], reasons[i] = finding.label, finding.reason
        spans += [(i, span) for span in finding.evidence]
    spans.sort(key=lambda item: item[0])
    columns: list[Any] = [
        np.array([i for i, _ in spans], np.int64),
        *(
            np.array([span[k] for _, span in spans], kind)
            for k, kind in enumerate((np.int64, np.int64, np.int64, object, np.int8, np.float32))
        ),
    ]
    whole = verdict_table(
        line,
        judged._replace(
            score=score,
            foresight=foresight,
            confidence=confidence,
            evidence=EvidenceColumns(*columns),
            steps={},
        ),
        horizon=horizon,
        bucket=bucket.number,
        judge_name=name,
        labels=labels,
        reasons=reasons,
    )
    mine = sorted(row[finding.response] for finding in findings)
    return CleanTable(whole.take(pa.array(mine, pa.int64())))


def make_appender(lake: Lake) -> Callable[[Bucket, CleanTable], None]:
    """A function that appends a bucket's verdicts to a lake."""

    def keep(bucket: Bucket, rows: CleanTable) -> None:
        content = "\n".join(
            f"{row['id']}/{row['index']}/{row['as_of']}"
            for row in rows.select(["id", "index", "as_of"]).to_pylist()
        )
        digest = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
        lake.append(
            "verdicts",
            rows,
            (f"llm/{bucket.number}/{digest}", 1),
            {"stage": "llm", "bucket": bucket.number},
        )

    return keep


def teach(lake: Lake, model: Model, horizon: int, audit_rate: float) -> Lesson:
    """Distil the LLM's verdicts in a lake into the embedded judge; stored where it helps."""
    lessons: list[TeachingRows] = []
    users: set[str] = set()
    for part in judge_buckets(lake, model, horizon, 0.0, audit_rate):
        llm_verdicts = {
            (row["id"], row["index"]): row
            for row in lake.read("verdicts", part.number).to_pylist()
            if row["judge"].startswith("llm/")
        }
        line = part.line
        names = [(str(line.conversation[p]), int(line.index[p])) for p in line.responses]
        rows = np.array(
            [
                i
                for i, name in enumerate(names)
                if name in llm_verdicts and llm_verdicts[name]["confidence"] > 0
            ],
            np.int64,
        )
        if not len(rows):
            continue
        positions = line.responses[rows]
        audited = np.zeros(len(line.thread), bool)
        for choice in part.chosen:
            audited[choice.first : choice.last] = True
        weight = np.where(audited[positions], min(1 / max(audit_rate, 1e-9), MAX_WEIGHT), 1.0)
        score = np.array([llm_verdicts[names[i]]["score"] for i in rows], float)
        group = np.array([f"{part.number}/{line.thread[p]}" for p in positions], object)
        lessons.append(
            make_teaching_rows(
                part.reading.features, part.reading.logits, rows, score, group, weight=weight
            )
        )
        users.update(line.user[positions].tolist())
    learned, lesson = distil(lessons)
    if learned is not None:
        store_model(lake, DISTILLED, msgspec.json.encode(learned).decode(), users)
    return lesson


def open_replies(lake: Lake | None) -> Replies:
    """The cache of replies of a lake, or an empty one in memory."""
    return LakeReplies(lake) if lake is not None else Replies()
