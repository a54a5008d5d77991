"""From logs to verdicts, and a report of them; erasure."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from getpass import getuser
from pathlib import Path
from platform import node
from typing import Any, NamedTuple, cast

import msgspec
import pyarrow as pa

from upshot import privacy, threads
from upshot.api.opening import Logs, Progress, cleaning, endpoint_of, is_paths, open_lake, quiet
from upshot.config import Settings, load
from upshot.engine import StageReport, run_stage
from upshot.errors import EndpointError, InputError, NotFoundError
from upshot.hindsight import judge_bucket, make_judge_stage
from upshot.hindsight.embedded.model import load_shipped_model
from upshot.hindsight.llm import cascade, rubric
from upshot.hindsight.llm.judge import Options
from upshot.io.arrow import pc
from upshot.io.rows import Rows
from upshot.io.streams import Limits
from upshot.io.writing import replace_file
from upshot.lake import ErasureProof, Lake, bucket_of, erase_rows
from upshot.llm import Budget, Replies
from upshot.records import BadRecord, CleanTable, Evidence, RawConversation, Verdict
from upshot.report import Summary, summarise, to_html
from upshot.sources import openai_chat
from upshot.sources.formats import PERSONAL
from upshot.sources.ingest import IngestReport
from upshot.sources.ingest import ingest as _ingest
from upshot.sources.outcomes import attach_results
from upshot.sources.reading import read as read_files


class RunReport(NamedTuple):
    """What the main job did."""

    ingest: IngestReport
    link: StageReport
    judge: StageReport
    report: Path | None
    summary: Summary
    asked: cascade.Report | None = None
    """What the language model did, where it judges."""


def ingest(
    logs: Logs,
    lake: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    progress: Progress = quiet,
) -> IngestReport:
    """Read logs, make them private, and write them to the lake.

    `logs`: files, folders, globs or `-`; or conversations, as objects or as dictionaries of the
    interchange format.

    Raises:
        FormatError: a named file is in no known format.
        NotFoundError: a named file is not there.
    """
    settings = settings or load()
    store = open_lake(lake, settings)
    return _ingest(
        read_logs(logs, format, mapping, settings=settings),
        store,
        cleaning(store, settings),
        chunk_mb=settings.lake.chunk_mb,
        workers=settings.engine.workers,
        progress=lambda done, size: progress("ingest", done, 0),
    )


def read_logs(
    logs: Logs,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    *,
    user: str = "",
    settings: Settings | None = None,
) -> Iterator[RawConversation | BadRecord]:
    """Conversations of files, or those that the caller holds already; unreadable ones come as
    `BadRecord`.
    """
    options = (settings or load()).sources
    user = user or options.user
    if is_paths(logs):
        limits = Limits(options.decompressed_mb, options.line_mb)
        for item in read_files(logs, format, mapping or options.map or None, limits):
            yield with_user(item, user) if isinstance(item, RawConversation) else item
        return
    conversations = cast(Iterable[RawConversation | BadRecord | Mapping[str, Any]], logs)
    for number, item in enumerate(conversations, 1):
        parsed = (
            item
            if isinstance(item, (RawConversation, BadRecord))
            else openai_chat.parse_item(item, f"item {number}")
        )
        yield (
            attach_results(with_user(parsed, user))
            if isinstance(parsed, RawConversation)
            else parsed
        )


def with_user(conversation: RawConversation, user: str) -> RawConversation:
    """The conversation under a user, where its log names none.

    Logs that tools keep for whoever works at a machine are that person's.
    """
    if conversation.user or not (user or conversation.source in PERSONAL):
        return conversation
    return msgspec.structs.replace(conversation, user=user or _name_operator())


@cache
def _name_operator() -> str:
    """Whoever works at this machine."""
    return f"{getuser()}@{node()}"


def link_lake(
    lake: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = quiet
) -> StageReport:
    """Join the sessions of a lake into threads."""
    settings = settings or load()
    options = settings.threads
    stage = threads.make_link_stage(options.threshold, options.window, options.embeddings)
    return _run(open_lake(lake, settings), stage, settings, progress)


def judge_lake(
    lake: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = quiet
) -> StageReport:
    """Judge every response of a lake with the embedded judge; buckets without news are skipped."""
    settings = settings or load()
    store = open_lake(lake, settings)
    return _run(
        store,
        make_judge_stage(settings.judge.horizon, cascade.load_distilled(store)),
        settings,
        progress,
    )


def ask_lake(
    lake: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = quiet
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
    judge_lake(lake, settings, progress)
    store = open_lake(lake, settings)
    report = _ask(
        lambda: _parts(store, settings),
        settings,
        cascade.open_replies(store),
        cascade.make_appender(store),
        progress,
    )
    lesson = cascade.teach(
        store, load_shipped_model(), settings.judge.horizon, _shares(settings)[1]
    )
    judge_lake(lake, settings, progress)
    return msgspec.structs.replace(report, lesson=lesson)


def plan(
    logs: Logs | None = None,
    *,
    lake: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    format: str | None = None,
) -> cascade.Plan:
    """What judging logs or a lake with the language model would send and cost; nothing is sent.

    Raises:
        ConfigError: no endpoint or model is named.
        InputError: neither logs nor a lake is named, or both are.
    """
    settings = settings or load()
    if logs is None and lake is not None:
        return _plan_lake(lake, settings)
    if logs is None or lake is not None:
        raise InputError("could not plan: name logs or a lake, one of the two")
    share, audit_rate = _shares(settings)
    part = cascade.judge_tables(
        linked(read_logs(logs, format), settings),
        0,
        load_shipped_model(),
        horizon=settings.judge.horizon,
        share=share,
        audit_rate=audit_rate,
    )
    return cascade.make_plan(iter([part]), endpoint_of(settings), _options(settings), Replies())[0]


def _plan_lake(lake: str | os.PathLike[str], settings: Settings) -> cascade.Plan:
    store = open_lake(lake, settings)
    if not store.exists():
        raise NotFoundError(
            f"could not plan for {store.root}: there is no lake; make one with `upshot ingest`"
        )
    return cascade.make_plan(
        _parts(store, settings),
        endpoint_of(settings),
        _options(settings),
        cascade.open_replies(store),
    )[0]


def _parts(store: Lake, settings: Settings) -> Iterator[cascade.Bucket]:
    return cascade.judge_buckets(
        store, load_shipped_model(), settings.judge.horizon, *_shares(settings)
    )


def _shares(settings: Settings) -> tuple[float, float]:
    return (
        (1.0, settings.judge.audit)
        if settings.judge.kind == "llm"
        else (settings.judge.share, settings.judge.audit)
    )


def _options(settings: Settings) -> Options:
    llm = settings.llm
    return Options(
        rubric.load_rubric(llm.rubric),
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
    planned, fresh = cascade.make_plan(parts(), endpoint, options, replies)
    return asyncio.run(
        cascade.judge_chosen(
            parts(),
            endpoint,
            budget,
            options,
            replies,
            keep=keep,
            progress=lambda done, total: progress("ask", done, total),
            batch=fresh if settings.llm.batch else None,
            total=planned.threads,
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
    logs: Logs,
    lake: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    progress: Progress = quiet,
) -> RunReport:
    """The main job: ingest, link, judge, report.

    Killed at any point, a second call finishes the rest.

    Raises:
        FormatError: a named file is in no known format.
        NotFoundError: a named file is not there.
    """
    settings = settings or load()
    ingested = ingest(logs, lake, settings, format=format, mapping=mapping, progress=progress)
    linked = link_lake(lake, settings, progress)
    judged = judge_lake(lake, settings, progress)
    llm_report = None if settings.judge.kind == "embedded" else ask_lake(lake, settings, progress)
    store = open_lake(lake, settings)
    path = Path(store.root) / "report.html" if store.is_local else None
    summary = report(lake, path, settings, timings=(ingested, linked, judged))
    return RunReport(ingested, linked, judged, path, summary, llm_report)


def report(
    lake: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    *,
    timings: Sequence[IngestReport | StageReport] = (),
) -> Summary:
    """Summarise a lake and, with `out`, write the HTML report."""
    summary = summarise(open_lake(lake, settings), timings)
    if out is not None:
        replace_file(out, to_html(summary).encode())
    return summary


def erase(
    user: str,
    lake: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    models: Sequence[str | os.PathLike[str]] = (),
) -> ErasureProof:
    """Erase a user (by the name in the logs, or by pseudonym `u_…`) from every table and file
    version, with proof.

    The report is removed too, since it quotes texts; `upshot report` makes a new one. Reward models
    below the folders `models` that learned from the user are named.

    Raises:
        NotFoundError: the lake holds nothing of that user.
        ErasureError: something of theirs is still there.
    """
    settings = settings or load()
    store = open_lake(lake, settings)
    if not store.exists():
        raise NotFoundError(f"could not erase from {store.root}: there is no lake")
    pseudonyms = privacy.Pseudonyms(cleaning(store, settings).key)
    pseudonym = user if user.startswith("u_") else pseudonyms.user(user)
    bucket = bucket_of(pseudonym, store.buckets)
    owners = store.read("conversations", bucket, ["user"])["user"]
    if not pc.any(pc.equal(owners, pseudonym)).as_py():
        raise NotFoundError(
            f"could not erase {user!r}: the lake at {store.root} holds nothing of that user under"
            " this key"
        )
    if store.is_local:
        (Path(store.root) / "report.html").unlink(missing_ok=True)
    proof = erase_rows(store, [pseudonym], bucket)
    return msgspec.structs.replace(
        proof, retrain=[str(folder) for folder in _learned_from(pseudonym, models)]
    )


def _learned_from(user: str, folders: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    if folders:
        from upshot.reward.files import find_holders  # scipy takes half a second to load

        yield from find_holders(user, [Path(folder) for folder in folders])


def memory_tables(
    conversations: Iterable[RawConversation | BadRecord], redact: bool, settings: Settings
) -> dict[str, CleanTable]:
    """Conversations as one clean bucket, outside any lake."""
    readable = [item for item in conversations if isinstance(item, RawConversation)]
    pseudonyms = privacy.Pseudonyms(settings.key.get_secret_value() or secrets.token_hex(16))
    redactor = privacy.Redactor(pseudonyms, settings.privacy.names) if redact else None
    return privacy.clean(readable, pseudonyms, redactor, 1).tables


def linked(
    conversations: Iterable[RawConversation | BadRecord], settings: Settings
) -> dict[str, CleanTable]:
    """The same with their threads."""
    tables = memory_tables(conversations, settings.privacy.redact, settings)
    options = settings.threads
    rows = threads.link_bucket(
        tables,
        {
            "threshold": options.threshold,
            "window": options.window,
            "embeddings": options.embeddings,
        },
    )
    return {**tables, "threads": rows}


class ThreadMember(msgspec.Struct, frozen=True):
    """A conversation and the thread it belongs to."""

    id: str
    thread: str
    """Id of the thread's first conversation."""
    parent: str
    """The conversation that this one continues; empty: it begins the thread."""
    score: float
    """P(it continues its parent), in [0, 1]."""
    reasons: list[str]


def link(
    logs: Logs | None = None,
    *,
    lake: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    progress: Progress = quiet,
    on_bad: Callable[[BadRecord], None] | None = None,
) -> Rows[ThreadMember]:
    """Join each user's sessions into threads: those of `logs`, or those of a lake.

    Raises:
        InputError: neither logs nor a lake is named, or both are.
    """
    settings = settings or load()
    if lake is not None and logs is None:
        link_lake(lake, settings, progress)
        store = open_lake(lake, settings)
        return Rows(
            lambda: (
                member
                for bucket in range(store.buckets)
                for member in _members(store.read("threads", bucket))
            )
        )
    if logs is None or lake is not None:
        raise InputError("could not link: name logs or a lake, one of the two")
    return Rows(
        _members(
            linked(
                _pass_bad(read_logs(logs, format, mapping, settings=settings), on_bad), settings
            )["threads"]
        )
    )


def _members(rows: pa.Table) -> list[ThreadMember]:
    return msgspec.convert(
        rows.select(list(ThreadMember.__struct_fields__)).to_pylist(), list[ThreadMember]
    )


def judge(
    logs: Logs | None = None,
    *,
    lake: str | os.PathLike[str] | None = None,
    horizon: int | None = None,
    settings: Settings | None = None,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    progress: Progress = quiet,
    on_report: Callable[[cascade.Report], None] | None = None,
    on_bad: Callable[[BadRecord], None] | None = None,
) -> Rows[Verdict]:
    """Verdicts on every response of `logs` (files or conversations), or of a lake, by the judge
    that the settings name.

    `horizon`: messages after a response that may bear on it. `on_report` gets what a language model
    did, `on_bad` each record of the logs that cannot be read. Where it judges everything
    (`judge.kind = "llm"`), responses without its verdict are left out of the result of logs; in a
    lake they keep the embedded judge's, under its name.

    Raises:
        InputError: neither logs nor a lake is named, or both are.
        EndpointError: the language model answered nothing.
    """
    settings = settings or load()
    if horizon is not None:
        judging = settings.judge.model_copy(update={"horizon": horizon})
        settings = settings.model_copy(update={"judge": judging})
    if lake is not None and logs is None:
        if settings.judge.kind == "embedded":
            judge_lake(lake, settings, progress)
        else:
            _hand_over(ask_lake(lake, settings, progress), on_report)
        return verdicts(lake, settings)
    if logs is None or lake is not None:
        raise InputError("could not judge: name logs or a lake, one of the two")
    conversations = _pass_bad(read_logs(logs, format, mapping, settings=settings), on_bad)
    return Rows(_judge_tables(conversations, settings, progress, on_report))


def _pass_bad(
    items: Iterable[RawConversation | BadRecord], on_bad: Callable[[BadRecord], None] | None
) -> Iterator[RawConversation]:
    for item in items:
        if isinstance(item, RawConversation):
            yield item
        elif on_bad is not None:
            on_bad(item)


def _judge_tables(
    conversations: Iterable[RawConversation | BadRecord],
    settings: Settings,
    progress: Progress,
    on_report: Callable[[cascade.Report], None] | None,
) -> list[Verdict]:
    tables = linked(conversations, settings)
    rows = judge_bucket(tables, {"horizon": settings.judge.horizon})
    by_place = {(row["id"], row["index"]): _verdict(row) for row in rows.to_pylist()}
    if settings.judge.kind == "embedded" or not by_place:
        return list(by_place.values())
    share, audit_rate = _shares(settings)
    part = cascade.judge_tables(
        tables,
        0,
        load_shipped_model(),
        horizon=settings.judge.horizon,
        share=share,
        audit_rate=audit_rate,
    )
    answered: dict[tuple[str, int], Verdict] = {}

    def add(_: cascade.Bucket, judged: CleanTable) -> None:
        answered.update({(row["id"], row["index"]): _verdict(row) for row in judged.to_pylist()})

    _hand_over(_ask(lambda: iter([part]), settings, Replies(), add, progress), on_report)
    merged = by_place | answered
    return list(answered.values() if settings.judge.kind == "llm" else merged.values())


def _hand_over(report: cascade.Report, on_report: Callable[[cascade.Report], None] | None) -> None:
    if on_report is not None:
        on_report(report)
    if report.stopped and not report.tally.responses:
        raise EndpointError(f"could not judge with {report.judge}: {report.stopped}")


def verdicts(lake: str | os.PathLike[str], settings: Settings | None = None) -> Rows[Verdict]:
    """The verdicts of a lake that count now, bucket by bucket; calibrated, where `calibrate` has
    left a curve.
    """
    store = open_lake(lake, settings)
    curve = curve_of(store)

    def read() -> Iterator[Verdict]:
        for bucket in range(store.buckets):
            table = store.read("verdicts", bucket)
            rows = table.to_pylist()
            if curve is not None and rows:
                for row, score in zip(rows, curve(table["score"].to_numpy()), strict=True):
                    row["score"] = float(score)
            yield from map(_verdict, rows)

    return Rows(read)


def curve_of(store: Lake) -> Any:
    """The calibration that was kept in a lake; None: none was."""
    content = cascade.load_model(store, cascade.CALIBRATION)
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
    time = row["observed_through"]
    observed_through = time.isoformat() if time is not None else ""
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
        observed_through,
        row["horizon"],
        row["reason"],
    )
