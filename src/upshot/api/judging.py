"""From logs to verdicts, and a report of them; erasure."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from upshot import hindsight, lake, privacy, report, sources, threads
from upshot.api.opening import Paths, Progress, cleaning, endpoint_of, open_lake, quiet
from upshot.config import Settings, load
from upshot.engine import StageReport, run_stage
from upshot.errors import NotFoundError
from upshot.hindsight.embedded.model import shipped
from upshot.hindsight.llm import cascade, rubric
from upshot.hindsight.llm.judge import Options
from upshot.io.arrow import pc
from upshot.lake import ErasureProof, Lake
from upshot.llm import Budget, Replies
from upshot.records import BadRecord, CleanTable, Evidence, RawConversation, Verdict
from upshot.sources.ingest import IngestReport
from upshot.sources.ingest import ingest as _ingest


class RunReport(NamedTuple):
    """What the main job did."""

    ingest: IngestReport
    link: StageReport
    judge: StageReport
    report: Path | None
    summary: report.Summary
    asked: cascade.Report | None = None
    """What the language model did, where it judges."""


def ingest(
    paths: Paths,
    target: str | os.PathLike[str],
    settings: Settings | None = None,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Progress = quiet,
) -> IngestReport:
    """Read logs, make them private, and write them to the lake."""
    settings = settings or load()
    store = open_lake(target, settings)
    items = sources.read(paths, format, columns)
    first = next(iter_items := iter(items), None)  # a wrong file is refused before a lake is made
    return _ingest(
        _chain(first, iter_items),
        store,
        cleaning(store, settings),
        settings.lake.chunk_mb,
        settings.engine.workers,
        lambda done, size: progress("ingest", done, 0),
    )


def _chain(first: Any, rest: Iterable[Any]) -> Iterable[Any]:
    if first is not None:
        yield first
        yield from rest


def link_lake(
    target: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = quiet
) -> StageReport:
    """Join the sessions of a lake into threads."""
    settings = settings or load()
    options = settings.threads
    stage = threads.stage(options.threshold, options.window, options.embeddings)
    return _run(open_lake(target, settings), stage, settings, progress)


def judge_lake(
    target: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = quiet
) -> StageReport:
    """Judge every response of a lake with the embedded judge; buckets without news are passed over."""
    settings = settings or load()
    store = open_lake(target, settings)
    return _run(
        store, hindsight.stage(settings.judge.horizon, cascade.distilled(store)), settings, progress
    )


def ask_lake(
    target: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = quiet
) -> cascade.Report:
    """Have the language model judge a lake's threads, all of them or those that the cascade
    chooses.

    Replies are kept in the lake: a second call asks only what is new. A spent budget ends the run
    with what was judged kept; the report says so in `stopped`. What the language model said is then
    distilled into the embedded judge, which judges the rest anew where that helps.

    Raises:
        ConfigError: no endpoint or model is named.
    """
    settings = settings or load()
    judge_lake(target, settings, progress)
    store = open_lake(target, settings)
    done = _ask(
        lambda: _parts(store, settings),
        settings,
        cascade.replies_of(store),
        cascade.keeper(store),
        progress,
    )
    lesson = cascade.teach(store, shipped(), settings.judge.horizon, _shares(settings)[1])
    judge_lake(target, settings, progress)
    return msgspec.structs.replace(done, lesson=lesson)


def plan_lake(target: str | os.PathLike[str], settings: Settings | None = None) -> cascade.Plan:
    """What `ask_lake` would send, and what that would cost; nothing is sent."""
    settings = settings or load()
    store = open_lake(target, settings)
    if not store.exists():
        raise NotFoundError(
            f"could not plan for {store.root}: there is no lake; make one with `upshot ingest`"
        )
    return cascade.plan(
        _parts(store, settings),
        endpoint_of(settings),
        _options(settings),
        cascade.replies_of(store),
    )[0]


def plan(
    conversations: Iterable[RawConversation | BadRecord], settings: Settings | None = None
) -> cascade.Plan:
    """What judging conversations in memory with the language model would send and cost; nothing is
    sent.
    """
    settings = settings or load()
    part = cascade.bucket_of_tables(
        linked(conversations, settings), 0, shipped(), settings.judge.horizon, *_shares(settings)
    )
    return cascade.plan(iter([part]), endpoint_of(settings), _options(settings), Replies())[0]


def _parts(store: Lake, settings: Settings) -> Iterator[cascade.Bucket]:
    return cascade.buckets(store, shipped(), settings.judge.horizon, *_shares(settings))


def _shares(settings: Settings) -> tuple[float, float]:
    return (
        (1.0, settings.judge.audit)
        if settings.judge.kind == "llm"
        else (settings.judge.share, settings.judge.audit)
    )


def _options(settings: Settings) -> Options:
    llm = settings.llm
    return Options(
        rubric.load(llm.rubric),
        llm.votes,
        llm.temperature,
        llm.foresight,
        settings.judge.horizon,
        llm.window_tokens,
        llm.tolerance,
    )


def _ask(
    parts: Callable[[], Iterator[cascade.Bucket]],
    settings: Settings,
    replies: Replies,
    keep: Callable[[cascade.Bucket, CleanTable], None],
    progress: Progress,
) -> cascade.Report:
    endpoint, options = endpoint_of(settings), _options(settings)
    budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
    planned, fresh = cascade.plan(parts(), endpoint, options, replies)
    return asyncio.run(
        cascade.run(
            parts(),
            endpoint,
            budget,
            options,
            replies,
            keep,
            lambda done, total: progress("ask", done, total),
            fresh if settings.llm.batch else None,
            planned.threads,
        )
    )


def _run(store: Lake, stage: Any, settings: Settings, progress: Progress) -> StageReport:
    if not store.exists():
        raise NotFoundError(
            f"could not {stage.name} {store.root}: there is no lake; make one with `upshot ingest`"
        )
    return run_stage(
        store, stage, settings.engine.workers, lambda done, total: progress(stage.name, done, total)
    )


def run(
    paths: Paths,
    target: str | os.PathLike[str],
    settings: Settings | None = None,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Progress = quiet,
) -> RunReport:
    """The main job: ingest, link, judge, report. Killed anywhere, a second call finishes the rest."""
    settings = settings or load()
    ingested = ingest(paths, target, settings, format, columns, progress)
    linked = link_lake(target, settings, progress)
    judged = judge_lake(target, settings, progress)
    asked = None if settings.judge.kind == "embedded" else ask_lake(target, settings, progress)
    store = open_lake(target, settings)
    where = Path(store.root) / "report.html" if store.is_local else None
    summary = make_report(target, where, settings, (ingested, linked, judged))
    return RunReport(ingested, linked, judged, where, summary, asked)


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


def erase(
    user: str,
    target: str | os.PathLike[str],
    settings: Settings | None = None,
    models: Sequence[Path] = (),
) -> ErasureProof:
    """Erase a user (by the name in the logs, or by pseudonym `u_…`) from every table and file
    version, with proof.

    The report is removed too, since it quotes texts; `upshot report` makes a new one. Reward models
    below the folders
    `models` that learned from the user are named.

    Raises:
        NotFoundError: the lake holds nothing of that user.
        ErasureError: something of theirs is still there.
    """
    settings = settings or load()
    store = open_lake(target, settings)
    if not store.exists():
        raise NotFoundError(f"could not erase from {store.root}: there is no lake")
    pseudonyms = privacy.Pseudonyms(cleaning(store, settings).key)
    wanted = [user] if user.startswith("u_") else [pseudonyms.user(user)]
    bucket = lake.bucket_of(wanted[0], store.buckets)
    there = store.read("conversations", bucket, ["user"])["user"]
    if not pc.any(pc.equal(there, wanted[0])).as_py():
        raise NotFoundError(
            f"could not erase {user!r}: the lake at {store.root} holds nothing of that user under"
            " this key"
        )
    if store.is_local:
        (Path(store.root) / "report.html").unlink(missing_ok=True)
    proof = lake.erase_rows(store, wanted, bucket)
    return msgspec.structs.replace(
        proof, retrain=[str(folder) for folder in _learned_from(wanted[0], models)]
    )


def _learned_from(user: str, folders: Sequence[Path]) -> Iterator[Path]:
    if folders:
        from upshot.reward.files import holding  # scipy takes half a second to load

        yield from holding(user, folders)


def memory_tables(
    conversations: Iterable[RawConversation | BadRecord], redact: bool, settings: Settings
) -> dict[str, CleanTable]:
    """Conversations as one clean bucket, outside any lake."""
    kept = [item for item in conversations if isinstance(item, RawConversation)]
    pseudonyms = privacy.Pseudonyms(settings.key.get_secret_value() or secrets.token_hex(16))
    redactor = privacy.Redactor(pseudonyms, settings.privacy.names) if redact else None
    batch = privacy.clean(kept, pseudonyms, redactor, 1)
    return batch.tables


def linked(
    conversations: Iterable[RawConversation | BadRecord], settings: Settings
) -> dict[str, CleanTable]:
    """The same with their threads."""
    tables = memory_tables(conversations, settings.privacy.redact, settings)
    options = settings.threads
    found = threads.link_bucket(
        tables,
        {
            "threshold": options.threshold,
            "window": options.window,
            "embeddings": options.embeddings,
        },
    )
    return {**tables, "threads": found}


def link(
    conversations: Iterable[RawConversation | BadRecord], settings: Settings | None = None
) -> list[dict[str, Any]]:
    """Threads of conversations in memory: one row a conversation with thread, parent, score and
    reasons.
    """
    found = linked(conversations, settings or load())["threads"]
    return found.drop_columns(["bucket", "user"]).to_pylist()


def judge(
    conversations: Iterable[RawConversation | BadRecord],
    horizon: int | None = None,
    settings: Settings | None = None,
    progress: Progress = quiet,
    said: Callable[[cascade.Report], None] | None = None,
) -> list[Verdict]:
    """Verdicts on every response of conversations in memory, threads included, by the judge that
    the settings name.

    `said` gets the report of a language model's part.
    """
    settings = settings or load()
    if horizon is not None:
        settings = settings.model_copy(
            update={"judge": settings.judge.model_copy(update={"horizon": horizon})}
        )
    tables = linked(conversations, settings)
    rows = hindsight.judge_bucket(tables, {"horizon": settings.judge.horizon})
    verdicts = {(row["id"], row["index"]): _verdict(row) for row in rows.to_pylist()}
    if settings.judge.kind != "embedded" and verdicts:
        part = cascade.bucket_of_tables(
            tables, 0, shipped(), settings.judge.horizon, *_shares(settings)
        )

        def keep(_: cascade.Bucket, judged: CleanTable) -> None:
            verdicts.update(
                {(row["id"], row["index"]): _verdict(row) for row in judged.to_pylist()}
            )

        done = _ask(lambda: iter([part]), settings, Replies(), keep, progress)
        if said:
            said(done)
    return list(verdicts.values())


def verdicts(target: str | os.PathLike[str], settings: Settings | None = None) -> Iterable[Verdict]:
    """The verdicts of a lake that count now, bucket by bucket; calibrated, where `calibrate` has
    left a curve.
    """
    store = open_lake(target, settings)
    curve = curve_of(store)
    for bucket in range(store.buckets):
        rows = store.read("verdicts", bucket)
        found = rows.to_pylist()
        if curve is not None and found:
            for row, score in zip(found, curve(rows["score"].to_numpy()), strict=True):
                row["score"] = float(score)
        yield from map(_verdict, found)


def curve_of(store: Lake) -> Any:
    """The calibration that was kept in a lake; None: none was."""
    content = cascade.kept_model(store, cascade.CALIBRATION)
    if content is None:
        return None
    from upshot.stats.calibration import Calibrator  # scipy takes half a second to load

    return msgspec.json.decode(content, type=Calibrator)


def _verdict(row: Mapping[str, Any]) -> Verdict:
    evidence = tuple(
        Evidence(
            e["id"],
            e["index"],
            e["start"],
            e["end"],
            e["quote"],
            e["kind"],
            e["polarity"],
            round(e["weight"], 4),
        )
        for e in row["evidence"]
    )
    seen = row["observed_through"].isoformat() if row["observed_through"] is not None else ""
    return Verdict(
        row["id"],
        row["index"],
        round(row["score"], 4),
        round(row["confidence"], 4),
        round(row["foresight"], 4),
        evidence,
        row["label"],
        row["judge"],
        row["as_of"].isoformat(),
        seen,
        row["horizon"],
        row["reason"],
    )
