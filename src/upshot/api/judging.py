"""From logs to verdicts, and a report of them; erasure."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from getpass import getuser
from pathlib import Path
from platform import node
from typing import Any, NamedTuple, cast

import msgspec
import pyarrow as pa
from pydantic import SecretStr

from upshot import privacy
from upshot.api.opening import (
    Logs,
    Progress,
    cleaning,
    endpoint_of,
    executor_of,
    exported,
    is_paths,
    local_executor_of,
    open_lake,
    quiet,
)
from upshot.config import Settings, load
from upshot.engine import StepReport
from upshot.errors import EndpointError, InputError, NotFoundError
from upshot.hindsight import pipeline
from upshot.hindsight.embedded.model import load_shipped_model
from upshot.hindsight.llm import cascade, rubric
from upshot.hindsight.llm.judge import Options
from upshot.hindsight.references import Place, find_refs, read_refs
from upshot.io.rows import Rows
from upshot.io.streams import Limits
from upshot.io.writing import replace_file
from upshot.lake import (
    ErasureProof,
    Lake,
    count_rows_of,
    erase_user,
    has_traces_of,
    load_model,
    mark_of,
    read_erased,
    require_whole_logs,
    write_mark,
)
from upshot.llm import Budget, FileReplies, Replies, run_interruptible, settle_journals
from upshot.records import BadRecord, CleanTable, Evidence, RawConversation, StepCredit, Verdict
from upshot.report import Summary, summarise, to_html
from upshot.sources import openai_chat
from upshot.sources.formats import PERSONAL
from upshot.sources.ingest import IngestReport
from upshot.sources.ingest import ingest as _ingest
from upshot.sources.reading import finish
from upshot.sources.reading import read as read_files


class RunReport(NamedTuple):
    """What the main job did."""

    ingest: IngestReport
    link: StepReport
    judge: StepReport
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
        executor=local_executor_of(settings),
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
            finish(with_user(parsed, user), f"item {number}")
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
) -> StepReport:
    """Join the sessions of a lake into threads."""
    settings = settings or load()
    return pipeline.link(open_work("link", lake, settings, progress), linking_of(settings))


def judge_lake(
    lake: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = quiet
) -> StepReport:
    """Judge every response of a lake with the embedded judge; users without news are skipped."""
    settings = settings or load()
    return pipeline.judge(open_work("judge", lake, settings, progress), settings.judge.horizon)


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
    tables, models = linked(read_logs(logs, format), settings)
    part = cascade.judge_tables(
        tables,
        0,
        load_shipped_model(),
        horizon=settings.judge.horizon,
        share=share,
        audit_rate=audit_rate,
        models=models,
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
    return run_interruptible(
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


def open_work(
    verb: str, lake: str | os.PathLike[str], settings: Settings, progress: Progress
) -> pipeline.Work:
    """A lake that is there, and how work on it is done.

    Raises:
        NotFoundError: there is none; the message names the verb.
    """
    store = open_lake(lake, settings)
    if not store.exists():
        raise NotFoundError(
            f"could not {verb} {store.root}: there is no lake; make one with `upshot ingest`"
        )
    store.create()  # what an earlier version did not have
    require_whole_logs(store)
    return pipeline.Work(store, executor_of(settings), progress)


def linking_of(settings: Settings) -> pipeline.Linking:
    """How the settings have sessions linked."""
    options = settings.threads
    return pipeline.Linking(options.threshold, options.window, options.embeddings)


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
    timings: Sequence[IngestReport | StepReport] = (),
) -> Summary:
    """Summarise a lake and, with `out`, write the HTML report."""
    store = open_lake(lake, settings)
    with store.pinned():  # nobody is erased before what quotes them is written
        summary = summarise(store, timings)
        if out is not None:
            with exported(lake if _is_outside(out, store) else None, out, "verdicts", settings):
                replace_file(out, to_html(summary).encode())
    return summary


def _is_outside(out: str | os.PathLike[str], store: Lake) -> bool:
    return not (store.is_local and Path(out).resolve().is_relative_to(store.root))


def erase(
    user: str,
    lake: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    models: Sequence[str | os.PathLike[str]] = (),
    pseudonym: bool = False,
    allow_again: bool = False,
) -> ErasureProof:
    """Erase a user (by the name in the logs, or by pseudonym `u_…`) from every table and file
    version, with proof. Later runs on the same logs leave them out.

    The report is removed too, since it quotes texts; `upshot report` makes a new one. Reward models
    below the folders `models` that learned from the user are named, and files that were exported
    with rows of theirs. `pseudonym`: `user` is a pseudonym, whoever else has it as a name.
    `allow_again`: erase nothing, but let later runs take the user in again.

    Raises:
        NotFoundError: the lake holds nothing of that user.
        InputError: the name is a user's, and another's pseudonym.
        ConfigError: the lake was made with another key.
        ErasureError: something of theirs is still there.
    """
    settings = settings or load()
    store = open_lake(lake, settings)
    if not store.exists():
        raise NotFoundError(f"could not erase from {store.root}: there is no lake")
    pseudonyms = privacy.Pseudonyms(cleaning(store, settings).key)
    if not allow_again:
        settle_journals(store)  # replies that a killed run left outside of any table
    name = resolve_user(store, pseudonyms, user, is_pseudonym=pseudonym)
    if allow_again:
        return _allow_again(store, user, name)

    def spells(other: str) -> bool:
        return other == name or pseudonyms.user(other) == name

    if not has_traces_of(store, name, spells):
        raise NotFoundError(
            f"could not erase {user!r}: the lake at {store.root} holds nothing of that user under"
            " this key"
        )
    proof = erase_user(store, name, spells)
    return msgspec.structs.replace(
        proof, retrain=[str(folder) for folder in _learned_from(name, models)]
    )


def _allow_again(store: Lake, user: str, name: str) -> ErasureProof:
    if mark_of(name) not in read_erased(store):
        raise NotFoundError(
            f"could not allow {user!r} again: nobody of that name was erased from the lake at"
            f" {store.root} under this key"
        )
    write_mark(store, name, allowed=True)
    return ErasureProof({}, 0, 0, 0, [], 0, is_allowed_again=True)


_PSEUDONYM = re.compile("u_[0-9a-f]{20}")


def resolve_user(
    store: Lake, pseudonyms: privacy.Pseudonyms, user: str, *, is_pseudonym: bool = False
) -> str:
    """The pseudonym of a user by the name in the logs, or by pseudonym; names come first.

    Raises:
        InputError: it is the name of one user, and the pseudonym of another.
    """
    named = pseudonyms.user(user)
    if is_pseudonym or not _PSEUDONYM.fullmatch(user):
        return user if is_pseudonym else named
    erased = read_erased(store)
    is_name, is_other = (
        mark_of(name) in erased or bool(count_rows_of(store, name)) for name in (named, user)
    )
    if is_name and is_other:
        raise InputError(
            f"could not tell who {user} is: it is the name of a user in the logs, and the pseudonym"
            f" of another; use `--pseudonym` with {user} for the latter, or with {named} for the"
            " former"
        )
    return named if is_name else user


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
) -> tuple[dict[str, CleanTable], dict[str, str]]:
    """The same with their threads, and what was learned from everybody in them."""
    tables = memory_tables(conversations, settings.privacy.redact, settings)
    return pipeline.link_in_memory(tables, linking_of(settings))


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
            )[0]["threads"]
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
    replies: str | os.PathLike[str] | None = None,
) -> Rows[Verdict]:
    """Verdicts on every response of `logs` (files or conversations), or of a lake, by the judge
    that the settings name.

    `horizon`: messages after a response that may bear on it. `on_report` gets what a language model
    did, `on_bad` each record of the logs that cannot be read. Where it judges everything
    (`judge.kind = "llm"`), responses without its verdict are left out of the result of logs; in a
    lake they keep the embedded judge's, under its name. `replies`: a file in which the model's
    replies on `logs` are kept, so that a run that is cut short can go on; a lake keeps them itself.

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
    return Rows(_judge_tables(conversations, settings, progress, on_report, replies=replies))


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
    *,
    replies: str | os.PathLike[str] | None = None,
) -> list[Verdict]:
    if replies is None or settings.judge.kind == "embedded":
        return _judge_in_memory(conversations, settings, progress, on_report, Replies())
    with FileReplies(replies) as journal:
        settings = _with_stable_key(settings, journal)
        return _judge_in_memory(conversations, settings, progress, on_report, journal)


def _judge_in_memory(
    conversations: Iterable[RawConversation | BadRecord],
    settings: Settings,
    progress: Progress,
    on_report: Callable[[cascade.Report], None] | None,
    replies: Replies,
) -> list[Verdict]:
    tables, models = linked(conversations, settings)
    rows = pipeline.judge_in_memory(tables, models, settings.judge.horizon)
    judged = rows.to_pylist()
    refs = find_refs(tables["conversations"], tables["messages"], map(_place_of, judged))

    def read(row: dict[str, Any]) -> Verdict:
        return _verdict(row, refs.get(_place_of(row), {}))

    by_place = {_place_of(row): read(row) for row in judged}
    if settings.judge.kind == "embedded" or not by_place:
        return list(by_place.values())
    share, audit_rate = _shares(settings)
    models = pipeline.learn_corpus_in_memory(tables, models, settings.judge.horizon)
    part = cascade.judge_tables(
        tables,
        0,
        load_shipped_model(),
        horizon=settings.judge.horizon,
        share=share,
        audit_rate=audit_rate,
        models=models,
    )
    answered: dict[tuple[str, int], Verdict] = {}

    def add(_: cascade.Bucket, judged: CleanTable) -> None:
        answered.update({_place_of(row): read(row) for row in judged.to_pylist()})

    report = _ask(lambda: iter([part]), settings, replies, add, progress)
    _hand_over(report, on_report)
    merged = by_place | answered
    return list(answered.values() if settings.judge.kind == "llm" else merged.values())


def _hand_over(report: cascade.Report, on_report: Callable[[cascade.Report], None] | None) -> None:
    if on_report is not None:
        on_report(report)
    problem = report.stopped or report.tally.first_problem
    if problem and report.tally.responses == report.tally.unreadable:
        raise EndpointError(f"could not judge with {report.judge}: {problem}")


def _with_stable_key(settings: Settings, replies: FileReplies) -> Settings:
    """Settings under which a run that goes on redacts as the one before, so that its requests are
    the same.
    """
    if settings.key.get_secret_value() or not (secret := replies.draw_secret()):
        return settings
    return settings.model_copy(update={"key": SecretStr(secret)})


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
            refs = read_refs(store, bucket, list(map(_place_of, rows)))
            yield from (_verdict(row, refs.get(_place_of(row), {})) for row in rows)

    return Rows(read)


def curve_of(store: Lake) -> Any:
    """The calibration that was kept in a lake; None: none was."""
    model = load_model(store, cascade.CALIBRATION)
    if model is None:
        return None
    from upshot.stats.calibration import Calibrator  # scipy takes half a second to load

    return msgspec.json.decode(model.content, type=Calibrator)


def _place_of(row: Mapping[str, Any]) -> Place:
    return row["id"], row["index"]


def _verdict(row: Mapping[str, Any], refs: Mapping[str, str]) -> Verdict:
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
        _rounded(row["adopted"]),
        _rounded(row["worked"]),
        tuple(
            StepCredit(step["index"], round(step["credit"], 4), _rounded(step["adopted"]))
            for step in row["steps"] or ()
        ),
        row["reason"],
        refs,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
