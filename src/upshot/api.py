"""The verbs of Upshot as functions; the command line calls nothing else.

>>> from upshot import RawConversation, RawMessage
>>> chat = RawConversation((RawMessage("user", "fix it"), RawMessage("assistant", "done"), RawMessage("user", "that worked, thanks!")))
>>> [(v.index, v.score > 0.8, v.evidence[0].quote) for v in judge([chat])]
[(1, True, 'that worked')]
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from upshot import hindsight, lake, privacy, report, sources, threads
from upshot.arrow import pc
from upshot.config import Settings, load
from upshot.engine import StageReport, run_stage
from upshot.errors import NotFoundError
from upshot.lake import ErasureProof, Lake
from upshot.records import BadRecord, CleanTable, Evidence, RawConversation, Verdict
from upshot.sources.ingest import Cleaning, IngestReport
from upshot.sources.ingest import ingest as _ingest

Paths = Sequence[str | os.PathLike[str]] | str | os.PathLike[str]
Progress = Callable[[str, int, int], None]
"""Called with the stage, what is done and what there is (0: not known)."""

read = sources.read


def _quiet(stage: str, done: int, total: int) -> None:
    pass


class RunReport(NamedTuple):
    """What the main job did."""

    ingest: IngestReport
    link: StageReport
    judge: StageReport
    report: Path | None
    summary: report.Summary


def open_lake(path: str | os.PathLike[str], settings: Settings | None = None) -> Lake:
    """The lake at a folder or URL; nothing is made until something is written."""
    settings = settings or load()
    return Lake(os.fspath(path), settings.lake.buckets)


def _cleaning(target: Lake, settings: Settings) -> Cleaning:
    key = privacy.load_key(settings.key.get_secret_value(), target.root, target.is_local)
    options = settings.privacy
    return Cleaning(key, options.redact, options.names, options.recogniser)


def ingest(
    paths: Paths,
    target: str | os.PathLike[str],
    settings: Settings | None = None,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Progress = _quiet,
) -> IngestReport:
    """Read logs, make them private, and write them to the lake."""
    settings = settings or load()
    store = open_lake(target, settings)
    items = sources.read(paths, format, columns)
    first = next(iter_items := iter(items), None)  # a wrong file is refused before a lake is made
    return _ingest(
        _chain(first, iter_items), store, _cleaning(store, settings), settings.lake.chunk_mb, settings.engine.workers,
        lambda done, size: progress("ingest", done, 0),
    )  # fmt: skip


def _chain(first: Any, rest: Iterable[Any]) -> Iterable[Any]:
    if first is not None:
        yield first
        yield from rest


def link_lake(target: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = _quiet) -> StageReport:
    """Join the sessions of a lake into threads."""
    settings = settings or load()
    options = settings.threads
    stage = threads.stage(options.threshold, options.window, options.embeddings)
    return _run(open_lake(target, settings), stage, settings, progress)


def judge_lake(target: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = _quiet) -> StageReport:
    """Judge every response of a lake; buckets without news are passed over."""
    settings = settings or load()
    return _run(open_lake(target, settings), hindsight.stage(settings.judge.horizon), settings, progress)


def _run(store: Lake, stage: Any, settings: Settings, progress: Progress) -> StageReport:
    if not store.exists():
        raise NotFoundError(f"could not {stage.name} {store.root}: there is no lake; make one with `upshot ingest`")
    return run_stage(store, stage, settings.engine.workers, lambda done, total: progress(stage.name, done, total))


def run(
    paths: Paths,
    target: str | os.PathLike[str],
    settings: Settings | None = None,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Progress = _quiet,
) -> RunReport:
    """The main job: ingest, link, judge, report. Killed anywhere, a second call finishes the rest."""
    settings = settings or load()
    ingested = ingest(paths, target, settings, format, columns, progress)
    linked = link_lake(target, settings, progress)
    judged = judge_lake(target, settings, progress)
    store = open_lake(target, settings)
    where = Path(store.root) / "report.html" if store.is_local else None
    summary = make_report(target, where, settings, (ingested, linked, judged))
    return RunReport(ingested, linked, judged, where, summary)


def make_report(
    target: str | os.PathLike[str],
    out: Path | None = None,
    settings: Settings | None = None,
    timings: Sequence[IngestReport | StageReport] = (),
) -> report.Summary:
    """Summarise a lake and, with `out`, write the HTML report."""
    store = open_lake(target, settings)
    summary = report.summarise(store, timings)
    if out is not None:
        out.write_text(report.to_html(summary), encoding="utf-8")
    return summary


def erase(user: str, target: str | os.PathLike[str], settings: Settings | None = None) -> ErasureProof:
    """Erase a user (by the name in the logs, or by pseudonym `u_…`) from every table and file version, with proof.

    The report is removed too, since it quotes texts; `upshot report` makes a new one.

    Raises:
        NotFoundError: the lake holds nothing of that user.
        ErasureError: something of theirs is still there.
    """
    settings = settings or load()
    store = open_lake(target, settings)
    if not store.exists():
        raise NotFoundError(f"could not erase from {store.root}: there is no lake")
    pseudonyms = privacy.Pseudonyms(_cleaning(store, settings).key)
    wanted = [user] if user.startswith("u_") else [pseudonyms.user(user)]
    bucket = lake.bucket_of(wanted[0], store.buckets)
    there = store.read("conversations", bucket, ["user"])["user"]
    if not pc.any(pc.equal(there, wanted[0])).as_py():
        raise NotFoundError(f"could not erase {user!r}: the lake at {store.root} holds nothing of that user under this key")
    if store.is_local:
        (Path(store.root) / "report.html").unlink(missing_ok=True)
    return lake.erase_rows(store, wanted, bucket)


def _memory_tables(
    conversations: Iterable[RawConversation | BadRecord], redact: bool, settings: Settings
) -> dict[str, CleanTable]:
    """Conversations as one clean bucket, outside any lake."""
    kept = [item for item in conversations if isinstance(item, RawConversation)]
    pseudonyms = privacy.Pseudonyms(settings.key.get_secret_value() or secrets.token_hex(16))
    redactor = privacy.Redactor(pseudonyms, settings.privacy.names) if redact else None
    batch = privacy.clean(kept, pseudonyms, redactor, 1)
    return batch.tables


def link(
    conversations: Iterable[RawConversation | BadRecord], settings: Settings | None = None
) -> list[dict[str, Any]]:
    """Threads of conversations in memory: one row a conversation with thread, parent, score and reasons."""
    settings = settings or load()
    tables = _memory_tables(conversations, settings.privacy.redact, settings)
    options = settings.threads
    found = threads.link_bucket(tables, {"threshold": options.threshold, "window": options.window, "embeddings": options.embeddings})
    return found.drop_columns(["bucket", "user"]).to_pylist()


def judge(
    conversations: Iterable[RawConversation | BadRecord], horizon: int | None = None, settings: Settings | None = None
) -> list[Verdict]:
    """Verdicts on every response of conversations in memory, threads included."""
    settings = settings or load()
    tables = _memory_tables(conversations, settings.privacy.redact, settings)
    options = settings.threads
    linked = threads.link_bucket(tables, {"threshold": options.threshold, "window": options.window, "embeddings": options.embeddings})
    rows = hindsight.judge_bucket({**tables, "threads": linked}, {"horizon": horizon or settings.judge.horizon})
    return [_verdict(row) for row in rows.to_pylist()]


def verdicts(target: str | os.PathLike[str], settings: Settings | None = None) -> Iterable[Verdict]:
    """The verdicts of a lake that count now, bucket by bucket."""
    store = open_lake(target, settings)
    for bucket in range(store.buckets):
        for row in store.read("verdicts", bucket).to_pylist():
            yield _verdict(row)


def _verdict(row: Mapping[str, Any]) -> Verdict:
    evidence = tuple(
        Evidence(e["id"], e["index"], e["start"], e["end"], e["quote"], e["kind"], e["polarity"], round(e["weight"], 4))
        for e in row["evidence"]
    )
    seen = row["observed_through"].isoformat() if row["observed_through"] is not None else ""
    return Verdict(
        row["id"], row["index"], round(row["score"], 4), round(row["confidence"], 4), round(row["foresight"], 4),
        evidence, row["label"], row["judge"], row["as_of"].isoformat(), seen, row["horizon"],
    )  # fmt: skip


def to_json(item: Any) -> bytes:
    """One line of the interchange format."""
    return msgspec.json.encode(item, enc_hook=str)
