"""The embedded judge on everything, the LLM where it is expected to change a decision, and on a
random sample always.

The sample is drawn before anything is judged, by a hash of the thread: what the two judges disagree
on in it estimates the embedded judge's error without bias, whatever else the LLM was asked. `share
= 1` is the LLM on everything.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upshot.errors import BudgetError, EndpointError
from upshot.hindsight.embedded.distil import Distilled, Lesson, Taught, distil, taught
from upshot.hindsight.embedded.judge import (
    EvidenceColumns,
    Judged,
    Reading,
    all_events,
    conclude,
    read,
    verdict_table,
)
from upshot.hindsight.embedded.model import Model
from upshot.hindsight.embedded.timeline import Timeline, timeline
from upshot.hindsight.llm import judge as llm
from upshot.hindsight.llm import transcript
from upshot.lake import Lake
from upshot.llm import (
    Budget,
    Client,
    Endpoint,
    LakeReplies,
    Replies,
    Request,
    Spent,
    key_of,
    run_batch,
)
from upshot.records import SCHEMAS, CleanTable
from upshot.stats.intervals import ratio_interval
from upshot.stats.sampling import draw

TABLES = ("messages", "conversations", "events", "threads")
JUDGE = "judge"
"""Name of the distilled judge among the lake's models."""
CALIBRATION = "calibration"
"""Name of the curve that makes scores probabilities."""
_MOST_WEIGHT = 4.0
"""Of a response that was drawn at random, so that few of them do not carry the lesson."""
_COMPLETION_A_RESPONSE = 90
_COMPLETION_A_GUESS = 10


class Choice(NamedTuple):
    """A thread that the LLM judges."""

    first: int
    last: int
    audit: bool
    """Drawn at random, independent of any verdict."""


class Bucket(NamedTuple):
    """One bucket, judged by the embedded judge."""

    number: int
    line: Timeline
    seen: Reading
    judged: Judged
    chosen: tuple[Choice, ...]


class Plan(msgspec.Struct, frozen=True):
    """What judging would take, before anything is sent."""

    threads: int
    responses: int
    requests: int
    cached: int
    """Requests whose reply is in the cache already."""
    prompt_tokens: int
    """Estimated, of what is not in the cache."""
    completion_tokens: int
    """Estimated; at most `max_tokens` of every request."""
    usd: float


class Report(msgspec.Struct, frozen=True):
    """What judging did."""

    judge: str
    tally: llm.Tally
    spent: Spent
    chosen_threads: int
    all_threads: int
    audit: Audit | None
    stopped: str
    """Why it stopped early; empty: it did not."""
    lesson: Lesson | None = None
    """What the embedded judge learned from it."""


class Audit(msgspec.Struct, frozen=True):
    """The embedded judge's error on the random sample, taking the LLM's verdicts for the truth."""

    threads: int
    responses: int
    bias: float
    """Mean of embedded minus LLM."""
    error: float
    """Mean absolute difference."""
    low: float
    """95 % interval of the error, by thread."""
    high: float


def choose(
    line: Timeline, judged: Judged, share: float, audit_rate: float, seed: str = ""
) -> tuple[Choice, ...]:
    """The threads of a bucket that the LLM judges: a random `audit_rate` of them, then those worth
    most a token until `share` of all threads is reached.
    """
    spans = [
        span
        for span in transcript.threads_of(line)
        if _responses(line, *span)[1] > _responses(line, *span)[0]
    ]
    drawn = [draw(f"{seed}/{line.conversation[a]}") < audit_rate for a, _ in spans]
    worth = _worth(judged)
    value = np.array([worth[slice(*_responses(line, a, b))].mean() for a, b in spans])
    if not spans:
        return ()
    whole = int(
        share * len(spans) + draw(f"{seed}/share/{line.conversation[spans[0][0]]}")
    )  # right on average in small buckets
    room = max(0, whole - sum(drawn))
    order = [i for i in np.argsort(-value, kind="stable").tolist() if not drawn[i]][:room]
    picked = set(order)
    return tuple(
        Choice(a, b, drawn[i]) for i, (a, b) in enumerate(spans) if drawn[i] or i in picked
    )


def _responses(line: Timeline, first: int, last: int) -> tuple[int, int]:
    found = np.searchsorted(line.responses, (first, last))
    return int(found[0]), int(found[1])


def _worth(judged: Judged) -> NDArray[np.float64]:
    """How much a second opinion may change what follows from each verdict.

    Most where what came later moved the score far from foresight: there a misreading costs most
    (docs/lab.md). More where the evidence contradicts itself; little where nothing came, for there
    is nothing to read.
    """
    evidence = judged.evidence
    size = len(judged.score)
    good = np.bincount(evidence.response, (evidence.polarity > 0) * evidence.weight, minlength=size)
    bad = np.bincount(evidence.response, (evidence.polarity < 0) * evidence.weight, minlength=size)
    contradiction = np.minimum(good, bad) / np.maximum(np.maximum(good, bad), 1e-6)
    return np.abs(judged.score - judged.foresight) + 0.25 * contradiction


def buckets(
    lake: Lake, model: Model, horizon: int, share: float, audit_rate: float
) -> Iterator[Bucket]:
    """Each bucket of a lake with the threads that are chosen in it."""
    for number in range(lake.buckets):
        conversations = lake.read("conversations", number)
        tables = {
            t: conversations
            if t == "conversations"
            else lake.read(t, number, conversations=conversations)
            for t in TABLES
        }
        yield bucket_of_tables(tables, number, model, horizon, share, audit_rate)


def bucket_of_tables(
    tables: Mapping[str, CleanTable],
    number: int,
    model: Model,
    horizon: int,
    share: float,
    audit_rate: float,
) -> Bucket:
    """One bucket from its tables."""
    line = timeline(tables["messages"], tables["conversations"], tables.get("threads"))
    events = all_events(tables["events"], line)
    seen = read(line, events, model, horizon)
    judged = conclude(seen, events, model)
    return Bucket(number, line, seen, judged, choose(line, judged, share, audit_rate))


def plan(
    parts: Iterator[Bucket], endpoint: Endpoint, options: llm.Options, replies: Replies
) -> tuple[Plan, dict[str, tuple[str, Request]]]:
    """What judging the chosen threads would send, and the requests that are not in the cache (key →
    user, request).
    """
    threads = responses = requests = prompt_tokens = completion_tokens = 0
    fresh: dict[str, tuple[str, Request]] = {}
    budget = Budget(endpoint)
    for part in parts:
        for choice in part.chosen:
            threads += 1
            begin, end = _responses(part.line, choice.first, choice.last)
            responses += end - begin
            for request in llm.requests_of(
                part.line, choice.first, choice.last, options, endpoint.model
            ):
                requests += 1
                key = key_of(request)
                if replies.get(key) is None and key not in fresh:
                    fresh[key] = (str(part.line.user[choice.first]), request)
                    prompt_tokens += budget.estimate(len(msgspec.json.encode(request.messages)))
                    guess = request.max_tokens <= 60
                    completion_tokens += (
                        _COMPLETION_A_GUESS
                        if guess
                        else request.n
                        * _COMPLETION_A_RESPONSE
                        * ((request.max_tokens - 200) // 160)
                    )
    usd = (prompt_tokens * endpoint.usd_in + completion_tokens * endpoint.usd_out) / 1e6
    return Plan(
        threads, responses, requests, requests - len(fresh), prompt_tokens, completion_tokens, usd
    ), fresh


class _Open:
    """A bucket whose threads are being judged."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.left = len(bucket.chosen)
        self.findings: list[llm.Finding] = []
        self.audited: list[llm.Finding] = []


async def run(
    parts: Iterator[Bucket],
    endpoint: Endpoint,
    budget: Budget,
    options: llm.Options,
    replies: Replies,
    keep: Callable[[Bucket, CleanTable], None],
    progress: Callable[[int, int], None] | None = None,
    batch: dict[str, tuple[str, Request]] | None = None,
    total: int = 0,
) -> Report:
    """Judge the chosen threads, many at once; `keep` gets a bucket's verdicts as soon as its
    threads are done.

    A spent budget, or an endpoint that gives up, ends the run cleanly: what was judged is kept, and
    the report says why.
    """
    if batch:
        await run_batch(endpoint, batch, replies, budget, progress=progress)
    name = options.version(endpoint.model)
    opened: list[_Open] = []
    done = 0
    stopped = ""
    threads = 0
    differences: list[tuple[int, list[float]]] = []

    def work() -> Iterator[tuple[_Open, Choice]]:
        nonlocal threads
        for part in parts:
            threads += sum(1 for _ in transcript.threads_of(part.line))
            mine = _Open(part)
            if part.chosen:
                opened.append(mine)
            for choice in part.chosen:
                yield mine, choice

    async with Client(endpoint, budget) as client:
        judging = llm.Judge(client, replies, options)
        queue = work()

        async def worker() -> None:
            nonlocal done, stopped
            for mine, choice in queue:
                if stopped:
                    return
                try:
                    found = await judging.thread(
                        mine.bucket.line, choice.first, choice.last, mine.bucket.judged
                    )
                except (BudgetError, EndpointError) as error:
                    stopped = stopped or str(error)
                    return
                mine.findings += found
                if choice.audit:
                    differences.append((len(found), _differences(mine.bucket, found)))
                mine.left -= 1
                done += 1
                if not mine.left:
                    _keep(mine, options, name, keep)
                if progress:
                    progress(done, total)

        await asyncio.gather(*(worker() for _ in range(endpoint.concurrency)))
    for mine in opened:
        if mine.left and mine.findings:
            _keep(mine, options, name, keep)
    replies.flush()
    return Report(
        name,
        judging.tally,
        budget.spent,
        done,
        threads,
        _audit([found for _, found in differences]),
        stopped,
    )


def _differences(bucket: Bucket, findings: Sequence[llm.Finding]) -> list[float]:
    row = {p: i for i, p in enumerate(bucket.line.responses.tolist())}
    return [float(bucket.judged.score[row[f.response]]) - f.score for f in findings]


def _audit(threads: Sequence[Sequence[float]]) -> Audit | None:
    """The mean difference and its size, with a t interval over threads (a ratio of sums)."""
    threads = [found for found in threads if found]
    if len(threads) < 2:
        return None
    sizes = np.array([len(found) for found in threads], float)
    error = np.array([np.abs(found).sum() for found in threads])
    bias = np.array([np.sum(found) for found in threads])
    mean, _, high = ratio_interval(error, sizes)
    reach = (
        math.exp((high - mean) / mean) if mean else 1.0
    )  # on the log scale: errors are positive and skewed
    return Audit(
        len(threads),
        int(sizes.sum()),
        float(bias.sum() / sizes.sum()),
        mean,
        mean / reach,
        min(1.0, mean * reach),
    )


def _keep(
    mine: _Open, options: llm.Options, name: str, keep: Callable[[Bucket, CleanTable], None]
) -> None:
    keep(mine.bucket, table(mine.bucket, mine.findings, options.horizon, name))


def table(bucket: Bucket, findings: Sequence[llm.Finding], horizon: int, name: str) -> CleanTable:
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
        Judged(score, foresight, confidence, EvidenceColumns(*columns)),
        horizon,
        bucket.number,
        name,
        labels,
        reasons,
    )
    mine = sorted(row[finding.response] for finding in findings)
    return CleanTable(whole.take(pa.array(mine, pa.int64())))


def keeper(lake: Lake) -> Callable[[Bucket, CleanTable], None]:
    """Appends a bucket's verdicts to a lake."""

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
    """Distil the language model's verdicts in a lake into the embedded judge, and keep what was
    learned where it helps.
    """
    lessons: list[Taught] = []
    users: set[str] = set()
    for part in buckets(lake, model, horizon, 0.0, audit_rate):
        told = {
            (row["id"], row["index"]): row
            for row in lake.read("verdicts", part.number).to_pylist()
            if row["judge"].startswith("llm/")
        }
        line = part.line
        names = [(str(line.conversation[p]), int(line.index[p])) for p in line.responses]
        rows = np.array(
            [i for i, name in enumerate(names) if name in told and told[name]["confidence"] > 0],
            np.int64,
        )
        if not len(rows):
            continue
        positions = line.responses[rows]
        drawn = np.zeros(len(line.thread), bool)
        for choice in part.chosen:
            drawn[choice.first : choice.last] = True
        weight = np.where(drawn[positions], min(1 / max(audit_rate, 1e-9), _MOST_WEIGHT), 1.0)
        score = np.array([told[names[i]]["score"] for i in rows], float)
        group = np.array([f"{part.number}/{line.thread[p]}" for p in positions], object)
        lessons.append(taught(part.seen.found, part.seen.logits, rows, score, group, weight))
        users.update(line.user[positions].tolist())
    learned, lesson = distil(lessons)
    if learned is not None:
        keep_model(lake, JUDGE, learned, users)
    return lesson


def distilled(lake: Lake) -> Distilled | None:
    """What the embedded judge last learned in this lake."""
    content = kept_model(lake, JUDGE)
    return msgspec.json.decode(content, type=Distilled) if content is not None else None


def keep_model(lake: Lake, name: str, model: msgspec.Struct, users: Iterable[str]) -> None:
    """Keep what was learned, with the users who taught it."""
    lake.create()
    content = msgspec.json.encode(model).decode()
    row = {
        "bucket": 0,
        "name": name,
        "at": datetime.now(UTC),
        "content": content,
        "users": sorted(set(users)),
    }
    digest = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
    lake.append(
        "models",
        CleanTable(pa.Table.from_pylist([row], schema=SCHEMAS["models"])),
        (f"models/{name}/{digest}", 1),
    )


def kept_model(lake: Lake, name: str) -> str | None:
    """The newest model of a name, as JSON."""
    if not lake.exists("models"):
        return None
    rows = [row for row in lake.read("models", 0).to_pylist() if row["name"] == name]
    return max(rows, key=lambda row: row["at"])["content"] if rows else None


def replies_of(lake: Lake | None) -> Replies:
    """The cache of a lake, or one in memory."""
    return LakeReplies(lake) if lake is not None else Replies()
