"""Count what became of the responses of a lake, and find the cases worth reading.

One bucket in memory at a time.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
import pyarrow as pa

from upshot.engine import StepReport
from upshot.errors import LakeError
from upshot.io.arrow import pc
from upshot.lake import Lake
from upshot.records import CleanTable, with_calls
from upshot.records.verdicts import EVEN, SURE, is_harmed, is_helped
from upshot.sources.ingest import IngestReport

Fate = Literal["helped", "harmed", "unclear", "silent"]
FATES: tuple[Fate, ...] = ("helped", "harmed", "unclear", "silent")
_CASES = 6
_EXCERPT = 420
_CENSORED = timedelta(days=1)
_STOP = frozenset(
    [
        "please",
        "could",
        "would",
        "should",
        "about",
        "there",
        "their",
        "which",
        "where",
        "while",
        "after",
        "before",
        "still",
        "thanks",
        "thank",
        "hello",
        "using",
        "write",
        "make",
        "give",
        "need",
        "want",
        "help",
        "what",
        "when",
        "with",
        "from",
        "this",
        "that",
        "have",
        "does",
        "work",
        "working",
        "have",
        "just",
        "like",
        "also",
        "your",
        "into",
        "some",
        "them",
        "then",
        "than",
        "they",
        "been",
        "were",
        "will",
        "more",
        "most",
        "over",
        "only",
        "very",
        "here",
        "how",
        "can",
        "you",
        "the",
        "and",
        "for",
        "are",
        "not",
        "but",
        "was",
        "our",
        "out",
        "all",
        "get",
        "has",
        "its",
        "why",
        "who",
        "use",
        "one",
        "two",
        "new",
        "any",
        "may",
        "let",
        "did",
        "now",
        "explain",
        "create",
        "tell",
        "show",
        "find",
        "code",
        "file",
        "line",
        "lines",
        "getting",
        "trying",
        "tried",
        "same",
        "think",
        "know",
        "sure",
        "good",
        "great",
        "okay",
        "message",
        "question",
        "answer",
        "text",
        "name",
        "worked",
        "works",
        "wrong",
        "right",
        "error",
        "errors",
        "problem",
        "problems",
        "issue",
        "better",
        "best",
        "back",
        "again",
        "today",
        "tomorrow",
        "yesterday",
        "first",
        "last",
        "next",
        "time",
        "times",
        "week",
        "weeks",
        "month",
        "year",
        "day",
        "days",
        "long",
        "short",
        "small",
        "large",
        "many",
        "much",
        "every",
        "each",
        "other",
        "another",
        "something",
        "someone",
        "anything",
        "really",
        "actually",
        "maybe",
        "keep",
        "keeps",
        "take",
        "takes",
        "change",
        "changed",
        "changes",
        "look",
        "looks",
        "fixed",
        "fails",
        "failed",
        "wrote",
        "says",
        "said",
        "asked",
        "gives",
        "given",
        "gave",
        "yours",
        "mine",
        "without",
        "between",
        "under",
        "done",
        "doing",
        "going",
        "come",
        "comes",
        "different",
        "able",
        "seems",
        "because",
        "since",
        "instead",
        "however",
        "always",
        "never",
        "enough",
        "example",
        "examples",
        "exactly",
        "only",
        "even",
        "both",
        "these",
        "those",
        "being",
        "having",
        "made",
        "makes",
        "making",
        "adds",
        "added",
        "want",
        "wants",
        "needs",
        "needed",
        "goes",
        "went",
        "best",
        "http",
        "https",
        "following",
        "function",
        "write",
        "written",
    ]
)


class Quote(msgspec.Struct, frozen=True):
    """One piece of evidence as the report shows it."""

    before: str
    quote: str
    after: str
    role: str
    kind: str
    polarity: int
    gap: str
    """`2 messages later`, `in a later session, 3 days on`."""
    other_session: bool


class Case(msgspec.Struct, frozen=True):
    """One response worth reading."""

    id: str
    index: int
    model: str
    score: float
    foresight: float
    confidence: float
    label: str
    request: str
    response: str
    quotes: tuple[Quote, ...]


class Row(msgspec.Struct, frozen=True):
    """One bar: how many responses of a group met each fate."""

    name: str
    helped: int
    harmed: int
    unclear: int
    silent: int

    @property
    def total(self) -> int:
        """All responses of the group."""
        return self.helped + self.harmed + self.unclear + self.silent


class Summary(msgspec.Struct, frozen=True):
    """Everything that the report shows."""

    lake: str
    made_at: str
    users: int
    conversations: int
    messages: int
    threads: int
    joined: int
    """Sessions that continue an earlier one."""
    all: Row
    overturned_up: int
    overturned_down: int
    censored: int
    """Verdicts within a day of the end of their user's log: not final."""
    by_model: tuple[Row, ...]
    by_week: tuple[Row, ...]
    by_topic: tuple[Row, ...]
    kinds: tuple[tuple[str, int, int], ...]
    """(kind, polarity, number) of evidence, the most frequent first."""
    histogram: tuple[int, ...]
    """Scores in 20 bins, of responses with evidence."""
    successes: tuple[Case, ...]
    failures: tuple[Case, ...]
    overturned: tuple[Case, ...]
    redactions: tuple[tuple[str, int], ...]
    quarantine: tuple[tuple[str, str, str], ...]
    """(file, position, reason), the first of them."""
    quarantined: int
    timings: tuple[tuple[str, float, str], ...]
    """(stage, seconds, what it did)."""
    links: tuple[tuple[str, str], ...]
    """(reasons, number) of sessions joined."""


def fate(score: float, confidence: float, evidence: int) -> Fate:
    """What a verdict says, in a word: silence is not approval."""
    if not evidence:
        return "silent"
    if is_helped(score, confidence):
        return "helped"
    return "harmed" if is_harmed(score, confidence) else "unclear"


class _Tally:
    """Running counts over the buckets."""

    def __init__(self) -> None:
        self.fates: dict[tuple[str, str], Counter[str]] = {}
        self.kinds: Counter[tuple[str, int]] = Counter()
        self.histogram = [0] * 20
        self.up = self.down = self.censored = 0
        self.users: set[str] = set()
        self.conversations = self.messages = self.joined = 0
        self.threads: set[str] = set()
        self.redactions: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.words: Counter[str] = Counter()
        self.best: dict[str, list[tuple[float, str, int, dict[str, Any]]]] = {
            "good": [],
            "bad": [],
            "turned": [],
        }

    def add(self, group: str, name: str, what: str) -> None:
        """Count one response under a group."""
        self.fates.setdefault((group, name), Counter())[what] += 1

    def offer(self, shelf: str, value: float, row: dict[str, Any]) -> None:
        """Keep the row if it is among the best of its shelf."""
        entry = (value, row["id"], row["index"], row)
        heap = self.best[shelf]
        if len(heap) < _CASES * 3:
            heapq.heappush(heap, entry)
        elif entry[:3] > heap[0][:3]:
            heapq.heapreplace(heap, entry)

    def rows(
        self, group: str, names: Sequence[str] | None = None, limit: int = 12
    ) -> tuple[Row, ...]:
        """Bars of a group: the largest, or the named ones in order."""
        counts_by_name = {name: counts for (g, name), counts in self.fates.items() if g == group}
        chosen = (
            names or sorted(counts_by_name, key=lambda name: -counts_by_name[name].total())[:limit]
        )
        return tuple(Row(name, *(counts_by_name[name][f] for f in FATES)) for name in chosen)


def summarise(lake: Lake, timings: Sequence[IngestReport | StepReport] = ()) -> Summary:
    """Read a lake's verdicts and count."""
    with lake.pinned():
        return _summarise(lake, timings)


def _summarise(lake: Lake, timings: Sequence[IngestReport | StepReport]) -> Summary:
    tally = _Tally()
    topics = _assign_topics(lake, tally)
    for bucket in range(lake.buckets):
        _count_bucket(lake, bucket, tally, topics)
    weeks = sorted(name for group, name in tally.fates if group == "week")[-26:]
    quarantine = lake.read("quarantine")
    totals = tally.rows("all") or (Row("all", 0, 0, 0, 0),)
    return Summary(
        lake.root,
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        len(tally.users),
        tally.conversations,
        tally.messages,
        len(tally.threads),
        tally.joined,
        totals[0],
        tally.up,
        tally.down,
        tally.censored,
        tally.rows("model"),
        tally.rows("week", weeks) if weeks else (),
        tally.rows("topic"),
        tuple((kind, polarity, n) for (kind, polarity), n in tally.kinds.most_common(14)),
        tuple(tally.histogram),
        _select_cases(lake, tally.best["good"]),
        _select_cases(lake, tally.best["bad"]),
        _select_cases(lake, tally.best["turned"]),
        tuple(tally.redactions.most_common()),
        tuple((r["file"], r["position"], r["reason"]) for r in quarantine.slice(0, 12).to_pylist()),
        quarantine.num_rows,
        _describe_timings(timings),
        tuple((name, str(n)) for name, n in tally.reasons.most_common(6)),
    )


def _assign_topics(lake: Lake, tally: _Tally) -> dict[str, str]:
    """A word for each conversation: the most widespread of the words of its first request."""
    requests: dict[str, set[str]] = {}
    for bucket in range(lake.buckets):
        messages = lake.read("messages", bucket, ["id", "index", "role", "text"])
        mine = messages.filter(
            pc.and_(pc.equal(messages["role"], "user"), pc.less(messages["index"], 2))
        )
        heads = pc.utf8_lower(pc.utf8_slice_codeunits(mine["text"], 0, 300))
        for cid, head in zip(mine["id"].to_pylist(), heads.to_pylist(), strict=True):
            words = {w.strip(".,:;!?()[]'\"`*#<>") for w in head.split()}
            requests.setdefault(str(cid), set()).update(
                w for w in words if len(w) > 3 and w.isalpha() and w not in _STOP
            )
    for words in requests.values():
        tally.words.update(words)
    wide = [word for word, n in tally.words.most_common(12) if n > 1]
    return {
        cid: next((word for word in wide if word in words), "other")
        for cid, words in requests.items()
    }


def _count_bucket(lake: Lake, bucket: int, tally: _Tally, topics: dict[str, str]) -> None:
    conversations = lake.read("conversations", bucket)
    threads = lake.read("threads", bucket)
    tally.conversations += conversations.num_rows
    tally.messages += pc.sum(conversations["messages"]).as_py() or 0
    tally.users.update(map(str, conversations["user"].to_pylist()))
    tally.threads.update(map(str, threads["thread"].to_pylist()))
    joined = threads.filter(pc.not_equal(threads["parent"], ""))
    tally.joined += joined.num_rows
    for reasons in joined["reasons"].to_pylist():
        tally.reasons.update({str(reason).split(":")[0] for reason in reasons or ()})
    for counts in conversations["redactions"].to_pylist():
        if counts and counts != "{}":
            tally.redactions.update(msgspec.json.decode(counts, type=dict[str, int]))
    about = {
        cid: (model or "not said", started)
        for cid, model, started in zip(
            conversations["id"].to_pylist(),
            conversations["model"].to_pylist(),
            conversations["started_at"].to_pylist(),
            strict=True,
        )
    }
    for row in lake.read("verdicts", bucket).to_pylist():
        _count_verdict(row, about.get(row["id"], ("not said", None)), tally, topics)


def _count_verdict(
    row: dict[str, Any], about: tuple[str, datetime | None], tally: _Tally, topics: dict[str, str]
) -> None:
    model, started = about
    fate_name = fate(row["score"], row["confidence"], len(row["evidence"]))
    tally.add("all", "all", fate_name)
    tally.add("model", model, fate_name)
    tally.add("topic", topics.get(row["id"], "other"), fate_name)
    if started is not None:
        tally.add(
            "week", (started - timedelta(days=started.weekday())).strftime("%Y-%m-%d"), fate_name
        )
        observed_through = row["observed_through"]
        tally.censored += observed_through is not None and observed_through - started < _CENSORED
    for evidence in row["evidence"]:
        tally.kinds[(evidence["kind"], evidence["polarity"])] += 1
    if fate_name == "silent":
        return
    tally.histogram[min(19, int(row["score"] * 20))] += 1
    shift = row["score"] - row["foresight"]
    row["model"] = model
    if row["confidence"] >= SURE:
        if row["foresight"] <= EVEN < row["score"]:
            tally.up += 1
        if row["score"] <= EVEN < row["foresight"]:
            tally.down += 1
        quoted = sum(1 for e in row["evidence"] if e["quote"])
        across = 0.3 * any(e["id"] != row["id"] for e in row["evidence"])
        if quoted:
            tally.offer("good", row["score"] * row["confidence"] + across, row)
            tally.offer("bad", (1 - row["score"]) * row["confidence"] + across, row)
            if (row["score"] - EVEN) * (row["foresight"] - EVEN) < 0:
                tally.offer("turned", abs(shift) * row["confidence"] + across, row)


def _select_cases(
    lake: Lake, shelf: Iterable[tuple[float, str, int, dict[str, Any]]]
) -> tuple[Case, ...]:
    """The best of a shelf with their texts; one of each conversation."""
    chosen: list[dict[str, Any]] = []
    ids: set[str] = set()
    for _, cid, _, row in sorted(shelf, key=lambda entry: entry[:3], reverse=True):
        if cid not in ids and len(chosen) < _CASES:
            ids.add(cid)
            chosen.append(row)
    try:
        return tuple(_load_case(lake, row) for row in chosen)
    except KeyError as error:
        raise LakeError(
            f"could not report on {lake.root}: of a conversation that was judged a message is not"
            f" there, {error.args[0]}; `upshot lake check` says what else is not"
        ) from error


def _load_case(lake: Lake, row: dict[str, Any]) -> Case:
    ids = {row["id"], *(e["id"] for e in row["evidence"])}
    columns = ["id", "index", "role", "text", "time", "tool_calls"]
    messages = lake.read("messages", row["bucket"], columns, users=[row["user"]])
    messages = messages.filter(
        pc.is_in(messages["id"], value_set=pa.array(sorted(ids), pa.string()))
    )
    words = {(m["id"], m["index"]): m["text"] for m in messages.to_pylist()}
    text = {(m["id"], m["index"]): m for m in with_calls(CleanTable(messages)).to_pylist()}
    conversations = lake.read("conversations", row["bucket"], ["id", "started_at"])
    started: dict[Any, Any] = dict(
        zip(conversations["id"].to_pylist(), conversations["started_at"].to_pylist(), strict=True)
    )
    request = next(
        (
            text[(row["id"], i)]["text"]
            for i in range(row["index"] - 1, -1, -1)
            if text[(row["id"], i)]["role"] == "user"
        ),
        "",
    )
    quotes = [_cut_quote(row, e, text, started) for e in row["evidence"] if e["quote"]]
    return Case(
        row["id"],
        row["index"],
        row["model"],
        row["score"],
        row["foresight"],
        row["confidence"],
        row["label"],
        _shorten(request),
        _shorten(_last_words(row["id"], row["index"], text, words)),
        tuple(_merge_quotes(quotes))[:4],
    )


def _last_words(name: str, index: int, text: dict[Any, Any], words: dict[Any, str]) -> str:
    """What a response says in the end: of an agent's turn its last message with words."""
    shown = text[(name, index)]["text"]
    has_tools = False
    while (message := text.get((name, index))) is not None and message["role"] != "user":
        has_tools |= message["role"] == "tool" or bool(message["tool_calls"])
        if message["role"] == "assistant" and has_tools and words[(name, index)].strip():
            shown = words[(name, index)]
        index += 1
    return shown


def _cut_quote(
    row: dict[str, Any],
    e: dict[str, Any],
    text: dict[Any, Any],
    started: dict[str, datetime | None],
) -> Quote:
    message = text[(e["id"], e["index"])]
    whole = message["text"]
    before, after = whole[max(0, e["start"] - 90) : e["start"]], whole[e["end"] : e["end"] + 140]
    other = e["id"] != row["id"]
    gap = f"{e['index'] - row['index']} messages later"
    if other:
        a, b = started.get(row["id"]), started.get(e["id"])
        gap = "in a later session" + (f", {_describe_gap(b - a)} on" if a and b else "")
    return Quote(
        ("…" if e["start"] > 90 else "") + before,
        e["quote"],
        after + ("…" if e["end"] + 140 < len(whole) else ""),
        message["role"],
        e["kind"],
        e["polarity"],
        gap,
        other,
    )


def _merge_quotes(quotes: list[Quote]) -> Iterable[Quote]:
    """One card for each quoted stretch."""
    stretches: set[str] = set()
    for quote in quotes:
        if quote.before + quote.quote not in stretches:
            stretches.add(quote.before + quote.quote)
            yield quote


def _describe_gap(gap: timedelta) -> str:
    hours = gap.total_seconds() / 3600
    return (
        f"{gap.days} days"
        if gap.days > 1
        else "a day"
        if gap.days == 1
        else f"{hours:.0f} hours"
        if hours >= 1.5
        else "minutes"
    )


def _shorten(text: str) -> str:
    return text if len(text) <= _EXCERPT else text[:_EXCERPT].rstrip() + " …"


def _describe_timings(
    timings: Sequence[IngestReport | StepReport],
) -> tuple[tuple[str, float, str], ...]:
    rows: list[tuple[str, float, str]] = []
    for timing in timings:
        if isinstance(timing, IngestReport):
            speed = timing.text_mb / max(timing.seconds, 1e-9)
            details = (
                f"{timing.conversations:,} conversations, {timing.text_mb:,.1f} MB of text,"
                f" {speed:,.1f} MB/s"
            )
            rows.append(("ingest", timing.seconds, details))
        else:
            rows.append(
                (
                    timing.stage,
                    timing.seconds,
                    (
                        f"{timing.rows:,} rows; {timing.skipped} of"
                        f" {timing.skipped + timing.buckets} buckets had nothing new"
                    ),
                )
            )
    return tuple(rows)
