"""The verbs of Upshot as functions; the command line calls nothing else.

>>> from upshot import RawConversation, RawMessage
>>> chat = RawConversation((RawMessage("user", "fix it"), RawMessage("assistant", "done"), RawMessage("user", "that worked, thanks!")))
>>> [(v.index, v.score > 0.8, v.evidence[0].quote) for v in judge([chat])]
[(1, True, 'that worked')]
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from upshot import hindsight, lake, preferences, privacy, report, sources, threads
from upshot.arrow import pc
from upshot.config import Settings, load
from upshot.engine import StageReport, run_stage
from upshot.errors import InputError, NotFoundError
from upshot.hindsight import audit as audits
from upshot.hindsight import cascade, rubric
from upshot.hindsight.judge import Reading
from upshot.hindsight.learn_rubric import learn as learn_signs
from upshot.hindsight.llm import Options
from upshot.hindsight.model import shipped
from upshot.lake import ErasureProof, Lake
from upshot.llm import Budget, Endpoint, Replies
from upshot.preferences import rewrites
from upshot.records import BadRecord, CleanTable, Evidence, Example, Preference, RawConversation, Verdict
from upshot.sources.ingest import Cleaning, IngestReport, quarantine
from upshot.sources.ingest import ingest as _ingest
from upshot.sources.outside import Outside, Recorded, read_events, record_events

if TYPE_CHECKING:
    from upshot.credit import Credit, Trajectory
    from upshot.credit.llm import Cost as CreditCost
    from upshot.hindsight.compare import Comparison
    from upshot.hindsight.trust import Calibration
    from upshot.reward import RewardModel
    from upshot.reward.leaks import Leak
    from upshot.reward.private import Privacy
    from upshot.reward.recipe import Recipe, Size
    from upshot.reward.transformer import Transformer
    from upshot.verifiers.attempts import Attempts
    from upshot.verifiers.follow import Followed
    from upshot.verifiers.items import Outcome

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
    asked: cascade.Report | None = None
    """What the language model did, where it judges."""


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
    """Judge every response of a lake with the embedded judge; buckets without news are passed over."""
    settings = settings or load()
    store = open_lake(target, settings)
    return _run(store, hindsight.stage(settings.judge.horizon, cascade.distilled(store)), settings, progress)


def ask_lake(target: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = _quiet) -> cascade.Report:
    """Have the language model judge a lake's threads, all of them or those that the cascade chooses.

    Replies are kept in the lake: a second call asks only what is new. A spent budget ends the run with what was judged
    kept; the report says so in `stopped`. What the language model said is then distilled into the embedded judge, which
    judges the rest anew where that helps.

    Raises:
        ConfigError: no endpoint or model is named.
    """
    settings = settings or load()
    judge_lake(target, settings, progress)
    store = open_lake(target, settings)
    done = _ask(lambda: _parts(store, settings), settings, cascade.replies_of(store), cascade.keeper(store), progress)
    lesson = cascade.teach(store, shipped(), settings.judge.horizon, _shares(settings)[1])
    judge_lake(target, settings, progress)
    return msgspec.structs.replace(done, lesson=lesson)


def plan_lake(target: str | os.PathLike[str], settings: Settings | None = None) -> cascade.Plan:
    """What `ask_lake` would send, and what that would cost; nothing is sent."""
    settings = settings or load()
    store = open_lake(target, settings)
    if not store.exists():
        raise NotFoundError(f"could not plan for {store.root}: there is no lake; make one with `upshot ingest`")
    return cascade.plan(_parts(store, settings), _endpoint(settings), _options(settings), cascade.replies_of(store))[0]


def plan(conversations: Iterable[RawConversation | BadRecord], settings: Settings | None = None) -> cascade.Plan:
    """What judging conversations in memory with the language model would send and cost; nothing is sent."""
    settings = settings or load()
    part = cascade.bucket_of_tables(_linked(conversations, settings), 0, shipped(), settings.judge.horizon, *_shares(settings))
    return cascade.plan(iter([part]), _endpoint(settings), _options(settings), Replies())[0]


def _parts(store: Lake, settings: Settings) -> Iterator[cascade.Bucket]:
    return cascade.buckets(store, shipped(), settings.judge.horizon, *_shares(settings))


def _shares(settings: Settings) -> tuple[float, float]:
    return (1.0, settings.judge.audit) if settings.judge.kind == "llm" else (settings.judge.share, settings.judge.audit)


def _endpoint(settings: Settings) -> Endpoint:
    llm = settings.llm
    return Endpoint(
        llm.base_url, llm.model, llm.key.get_secret_value(), llm.concurrency, llm.timeout_s, llm.attempts, llm.backoff_s,
        llm.usd_in, llm.usd_cached, llm.usd_out, llm.stream,
    ).check()  # fmt: skip


def _options(settings: Settings) -> Options:
    llm = settings.llm
    return Options(
        rubric.load(llm.rubric), llm.votes, llm.temperature, llm.foresight, settings.judge.horizon, llm.window_tokens, llm.tolerance
    )


def _ask(
    parts: Callable[[], Iterator[cascade.Bucket]],
    settings: Settings,
    replies: Replies,
    keep: Callable[[cascade.Bucket, CleanTable], None],
    progress: Progress,
) -> cascade.Report:
    endpoint, options = _endpoint(settings), _options(settings)
    budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
    planned, fresh = cascade.plan(parts(), endpoint, options, replies)
    return asyncio.run(
        cascade.run(
            parts(), endpoint, budget, options, replies, keep, lambda done, total: progress("ask", done, total),
            fresh if settings.llm.batch else None, planned.threads,
        )
    )  # fmt: skip


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


def erase(user: str, target: str | os.PathLike[str], settings: Settings | None = None, models: Sequence[Path] = ()) -> ErasureProof:
    """Erase a user (by the name in the logs, or by pseudonym `u_…`) from every table and file version, with proof.

    The report is removed too, since it quotes texts; `upshot report` makes a new one. Reward models below the folders
    `models` that learned from the user are named.

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
    proof = lake.erase_rows(store, wanted, bucket)
    return msgspec.structs.replace(proof, retrain=[str(folder) for folder in _learned_from(wanted[0], models)])


def _learned_from(user: str, folders: Sequence[Path]) -> Iterator[Path]:
    if folders:
        from upshot.reward.files import holding  # scipy takes half a second to load

        yield from holding(user, folders)


def _memory_tables(
    conversations: Iterable[RawConversation | BadRecord], redact: bool, settings: Settings
) -> dict[str, CleanTable]:
    """Conversations as one clean bucket, outside any lake."""
    kept = [item for item in conversations if isinstance(item, RawConversation)]
    pseudonyms = privacy.Pseudonyms(settings.key.get_secret_value() or secrets.token_hex(16))
    redactor = privacy.Redactor(pseudonyms, settings.privacy.names) if redact else None
    batch = privacy.clean(kept, pseudonyms, redactor, 1)
    return batch.tables


def _linked(conversations: Iterable[RawConversation | BadRecord], settings: Settings) -> dict[str, CleanTable]:
    tables = _memory_tables(conversations, settings.privacy.redact, settings)
    options = settings.threads
    found = threads.link_bucket(tables, {"threshold": options.threshold, "window": options.window, "embeddings": options.embeddings})
    return {**tables, "threads": found}


def link(
    conversations: Iterable[RawConversation | BadRecord], settings: Settings | None = None
) -> list[dict[str, Any]]:
    """Threads of conversations in memory: one row a conversation with thread, parent, score and reasons."""
    found = _linked(conversations, settings or load())["threads"]
    return found.drop_columns(["bucket", "user"]).to_pylist()


def judge(
    conversations: Iterable[RawConversation | BadRecord],
    horizon: int | None = None,
    settings: Settings | None = None,
    progress: Progress = _quiet,
    said: Callable[[cascade.Report], None] | None = None,
) -> list[Verdict]:
    """Verdicts on every response of conversations in memory, threads included, by the judge that the settings name.

    `said` gets the report of a language model's part.
    """
    settings = settings or load()
    if horizon is not None:
        settings = settings.model_copy(update={"judge": settings.judge.model_copy(update={"horizon": horizon})})
    tables = _linked(conversations, settings)
    rows = hindsight.judge_bucket(tables, {"horizon": settings.judge.horizon})
    verdicts = {(row["id"], row["index"]): _verdict(row) for row in rows.to_pylist()}
    if settings.judge.kind != "embedded" and verdicts:
        part = cascade.bucket_of_tables(tables, 0, shipped(), settings.judge.horizon, *_shares(settings))

        def keep(_: cascade.Bucket, judged: CleanTable) -> None:
            verdicts.update({(row["id"], row["index"]): _verdict(row) for row in judged.to_pylist()})

        done = _ask(lambda: iter([part]), settings, Replies(), keep, progress)
        if said:
            said(done)
    return list(verdicts.values())


def _readings(store: Lake, settings: Settings, by: str) -> Iterator[tuple[Reading, list[str], dict[str, float]]]:
    """Each bucket as read, the arm of each response, and logged propensities by conversation."""
    if not store.exists():
        raise NotFoundError(f"could not read {store.root}: there is no lake; make one with `upshot ingest`")
    for part in cascade.buckets(store, shipped(), settings.judge.horizon, 0.0, 0.0):
        conversations = store.read("conversations", part.number).select(["id", "model", "metadata"]).to_pylist()
        metadata = {row["id"]: msgspec.json.decode(row["metadata"] or "{}") for row in conversations}
        models = {row["id"]: row["model"] for row in conversations}
        said = {(row["id"], row["index"]): row["model"] for row in store.read("messages", part.number).select(["id", "index", "model"]).to_pylist() if row["model"]}
        arms: list[str] = []
        for p in part.line.responses.tolist():
            name, index = str(part.line.conversation[p]), int(part.line.index[p])
            arms.append((said.get((name, index)) or models.get(name, "")) if by == "model" else str(metadata.get(name, {}).get(by, "")))
        propensities = {name: float(found["propensity"]) for name, found in metadata.items() if "propensity" in found}
        yield part.seen, arms, propensities


def audit(target: str | os.PathLike[str], by: str = "model", rate: float = 0.05, seed: str = "audit", settings: Settings | None = None) -> Iterator[audits.Item]:
    """A random sample of a lake's responses to be labelled, drawn independently of what came of them.

    `by`: what arms are told apart by: `model`, or a key of the conversations' metadata.
    """
    settings = settings or load()
    for seen, arms, _ in _readings(open_lake(target, settings), settings, by):
        yield from audits.items(seen.line, arms, rate, seed)


def compare(
    target: str | os.PathLike[str],
    by: str = "model",
    a: str = "",
    b: str = "",
    labels: Path | None = None,
    rate: float = 0.05,
    seed: str = "audit",
    settings: Settings | None = None,
) -> Comparison:
    """Is arm `b` better than arm `a` for users? Without names, the two most frequent arms, the older name first.

    `labels`: what the audit found (`rate` and `seed` as it was drawn with); without them the answer is what the logs
    alone can and cannot tell.

    Raises:
        InputError: there are no two arms, or too little of one.
    """
    from upshot.hindsight.compare import compare as estimate  # scipy takes half a second to load

    settings = settings or load()
    parts = [audits.rows(seen, arms, logged) for seen, arms, logged in _readings(open_lake(target, settings), settings, by)]
    counts = Counter(arm for part in parts for arm in part.arm if arm)
    if not (a and b):
        if len(counts) < 2:
            raise InputError(f"could not compare by {by!r}: the lake has {len(counts)} of it ({', '.join(counts) or 'none'}), two are needed")
        a, b = sorted(name for name, _ in counts.most_common(2))
    scores = {(v.id, v.index): v.score for v in verdicts(target, settings)}
    known = audits.read_labels(labels) if labels else audits.Labels({}, {})
    return estimate(audits.units(parts, scores, known, a, b, rate, seed), (a, b))


def calibrate(target: str | os.PathLike[str], labels: Path, error: float = 0.1, settings: Settings | None = None) -> Calibration:
    """Turn a lake's scores into probabilities by people's labels, and say how far to trust them.

    The curve is kept in the lake, with the users who taught it; `verdicts` applies it.

    Raises:
        InputError: too few of the labels are of this lake's responses.
    """
    from upshot.hindsight import trust  # scipy takes half a second to load

    settings = settings or load()
    store = open_lake(target, settings)
    rows = [row for bucket in range(store.buckets) for row in store.read("verdicts", bucket, ["id", "index", "score", "user"]).to_pylist()]
    found, curve, users = trust.calibrate(rows, audits.read_labels(labels), error)
    cascade.keep_model(store, cascade.CALIBRATION, curve, users)
    return found


def learn_rubric(target: str | os.PathLike[str], labels: Path, settings: Settings | None = None) -> rubric.Rubric:
    """The rubric with a domain's signs, which a language model finds in a lake's labelled exchanges."""
    settings = settings or load()
    known = audits.read_labels(labels)
    everything = (item for seen, arms, _ in _readings(open_lake(target, settings), settings, "model") for item in audits.items(seen.line, ["-"] * len(arms), 1.1, ""))
    items = [item for item in everything if (item.id, item.index) in known.mean]
    endpoint = _endpoint(settings)
    return learn_signs(items, known, rubric.load(settings.llm.rubric), endpoint, Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd))


def label(items: Iterable[audits.Item], ask: Callable[[audits.Item], float | None], rater: str, known: Iterable[tuple[str, int]] = ()) -> Iterator[audits.Label]:
    """Labels for items that have none yet: `ask` shows one and returns 0, 1, anything between, or None to pass."""
    done = set(known)
    for item in items:
        if (item.id, item.index) not in done and (value := ask(item)) is not None:
            yield audits.Label(item.id, item.index, value, rater)


def verdicts(target: str | os.PathLike[str], settings: Settings | None = None) -> Iterable[Verdict]:
    """The verdicts of a lake that count now, bucket by bucket; calibrated, where `calibrate` has left a curve."""
    store = open_lake(target, settings)
    curve = _curve(store)
    for bucket in range(store.buckets):
        rows = store.read("verdicts", bucket)
        found = rows.to_pylist()
        if curve is not None and found:
            for row, score in zip(found, curve(rows["score"].to_numpy()), strict=True):
                row["score"] = float(score)
        yield from map(_verdict, found)


def _curve(store: Lake) -> Any:
    """The calibration that was kept in a lake; None: none was."""
    content = cascade.kept_model(store, cascade.CALIBRATION)
    if content is None:
        return None
    from upshot.hindsight.calibrate import Calibrator  # scipy takes half a second to load

    return msgspec.json.decode(content, type=Calibrator)


def _verdict(row: Mapping[str, Any]) -> Verdict:
    evidence = tuple(
        Evidence(e["id"], e["index"], e["start"], e["end"], e["quote"], e["kind"], e["polarity"], round(e["weight"], 4))
        for e in row["evidence"]
    )
    seen = row["observed_through"].isoformat() if row["observed_through"] is not None else ""
    return Verdict(
        row["id"], row["index"], round(row["score"], 4), round(row["confidence"], 4), round(row["foresight"], 4),
        evidence, row["label"], row["judge"], row["as_of"].isoformat(), seen, row["horizon"], row["reason"],
    )  # fmt: skip


def pairs(
    target: str | os.PathLike[str],
    kinds: Sequence[str] = preferences.KINDS,
    least_users: int = 5,
    test_share: float = 0.1,
    settings: Settings | None = None,
    progress: Progress = _quiet,
    said: Callable[[rewrites.Tally], None] | None = None,
) -> Iterator[Preference]:
    """Pairs of a lake's responses, each marked as train or test by its users; near-duplicates once.

    `kinds`: of sibling, thread, edit, across, and rewrite, which asks the language model of the settings; `said` then gets
    what became of its rewrites. `least_users`: people who made a request before pairs across users leave.

    Raises:
        InputError: there is no such kind.
    """
    if unknown := sorted(set(kinds) - {*preferences.KINDS, rewrites.KIND}):
        raise InputError(f"could not make pairs of kind {unknown}: there are {', '.join((*preferences.KINDS, rewrites.KIND))}")
    store = _judged_lake(target, settings)
    made: Iterable[Preference] = preferences.pairs(store, kinds, least_users, _curve(store))
    if rewrites.KIND in kinds:
        made = itertools.chain(made, _rewritten(store, settings or load(), progress, said))
    return preferences.split(preferences.distinct(made), test_share)


def _rewritten(store: Lake, settings: Settings, progress: Progress, said: Callable[[rewrites.Tally], None] | None) -> Sequence[Preference]:
    endpoint = _endpoint(settings)
    budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
    seen = preferences.buckets(store, _curve(store))
    made, tally = rewrites.pairs(seen, endpoint, budget, cascade.replies_of(store), lambda done, total: progress("rewrite", done, total))
    if said:
        said(tally)
    return made


def _judged_lake(target: str | os.PathLike[str], settings: Settings | None) -> Lake:
    store = open_lake(target, settings)
    if not store.exists("verdicts"):
        raise NotFoundError(f"could not make pairs of {store.root}: it has no verdicts; make some with `upshot judge --lake`")
    return store


def examples(
    target: str | os.PathLike[str], masked: bool = False, test_share: float = 0.1, settings: Settings | None = None
) -> Iterator[Example]:
    """Scored responses of a lake, or (`masked`) whole conversations in which only what helped is to be imitated."""
    store = _judged_lake(target, settings)
    make = preferences.masked if masked else preferences.unpaired
    return preferences.split((row for seen in preferences.buckets(store, _curve(store)) for row in make(seen)), test_share)


def export(
    target: str | os.PathLike[str],
    out: str | os.PathLike[str],
    format: str = "jsonl",
    kinds: Sequence[str] = preferences.KINDS,
    least_users: int = 5,
    test_share: float = 0.1,
    even_length: bool = False,
    even_position: bool = False,
    settings: Settings | None = None,
    progress: Progress = _quiet,
    said: Callable[[rewrites.Tally], None] | None = None,
) -> Exported:
    """Write a lake's pairs or examples for a trainer; the test side goes to a second file, `NAME.test.EXT`.

    Raises:
        InputError: there is no such format.
    """
    made: Sequence[Preference] | Sequence[Example]
    shape: Callable[[Any], dict[str, Any]]
    if format in preferences.PAIRED:
        made = list(pairs(target, kinds, least_users, test_share, settings, progress, said))
        made = preferences.even_length(made) if even_length else made
        made = preferences.even_position(made) if even_position else made
        shape, describe = preferences.PAIRED[format], preferences.report(made)
    elif format in preferences.UNPAIRED or format in preferences.MASKED:
        shape = {**preferences.UNPAIRED, **preferences.MASKED}[format]
        made, describe = list(examples(target, format in preferences.MASKED, test_share, settings)), None
    else:
        raise InputError(f"could not export for {format!r}: there are {', '.join(preferences.FORMATS)}")
    path = os.fspath(out)
    train = preferences.write((shape(row) for row in made if row.source.split != "test"), path, format)
    held = [shape(row) for row in made if row.source.split == "test"]
    where = "" if path == "-" or not held else str(Path(path).with_suffix(".test" + Path(path).suffix))
    return Exported(format, train, preferences.write(held, where, format) if where else 0, where, describe)


class Exported(msgspec.Struct, frozen=True):
    """What an export wrote."""

    format: str
    train: int
    test: int
    test_file: str
    balance: preferences.Balance | None


def train_reward(
    data: Mapping[str, str | os.PathLike[str]],
    out: str | os.PathLike[str],
    embed: bool = False,
    false_alarms: float = 0.05,
    recipe: Recipe | None = None,
    privacy: Privacy | None = None,
    progress: Progress = _quiet,
) -> RewardModel | Transformer:
    """Train a reward model, one head for each file of pairs or of scored examples, and keep it in a folder.

    The embedded model, or with a `recipe` a transformer (the `train` extra). `embed`: the embedded one reads MiniLM
    embeddings too (the `minilm` extra). Rows marked as test are left out. An interrupted training of a transformer goes on.
    `privacy`: train with differential privacy, by user.
    """
    from upshot import reward  # scipy takes half a second to load

    rows = {name: reward.training_rows(path) for name, path in data.items()}
    if recipe is None:
        from upshot.reward import private

        model = reward.train(rows, embed, false_alarms) if privacy is None else private.train(rows, privacy, embed)
        reward.save(model, out)
        return model
    from upshot.reward import files, transformer  # torch takes seconds to load

    folder = files.prepare(out, blake2b(msgspec.json.encode([rows, recipe, privacy])).hexdigest())
    trained = transformer.train(rows, recipe, folder, false_alarms, privacy, lambda done, total: progress("train", done, total))
    if transformer.is_main():
        files.save_transformer(trained, recipe, folder)
        files.prepared(folder)
    return trained


def audit_leaks(
    data: str | os.PathLike[str], embed: bool = False, privacy: Privacy | None = None, canaries: int = 1000, runs: int = 2, progress: Progress = _quiet
) -> Leak:
    """How much the embedded reward model tells of whom it was trained on, by planted canaries; `privacy`: with it on.

    Raises:
        InputError: the file holds scored examples: canaries are pairs.
    """
    from upshot import reward
    from upshot.reward import leaks, private

    rows = reward.training_rows(data)
    pairs = [row for row in rows if isinstance(row, Preference)]
    if len(pairs) < len(rows):
        raise InputError(f"could not audit on {os.fspath(data)}: it holds scored examples, and canaries are pairs")

    def train(part: list[Preference]) -> RewardModel:
        return reward.train({"audited": part}, embed) if privacy is None else private.train({"audited": part}, privacy, embed)

    return leaks.audit(pairs, train, canaries, runs, delta=privacy.delta if privacy else 0.0, progress=lambda done, total: progress("audit", done, total))


def check_recipe(recipe: Recipe, data: Mapping[str, str | os.PathLike[str]]) -> Size:
    """Validate how a transformer would be trained on these files, without a GPU and without its weights."""
    from upshot.reward.recipe import check
    from upshot.reward.rows import training_rows
    from upshot.reward.transformer import heads_of

    return check(recipe, sum(len(columns) for _, _, columns in heads_of({name: training_rows(path) for name, path in data.items()})))


def update_reward(
    model: str | os.PathLike[str], data: Mapping[str, str | os.PathLike[str]], out: str | os.PathLike[str], keep: float = 1.0
) -> RewardModel:
    """Teach an embedded reward model new rows, without the old ones. `keep`: share of the old evidence that still counts.

    Raises:
        InputError: it is a transformer (train on from its member: `base = "MODEL/member-0"`), or lacks a head.
    """
    from upshot import reward
    from upshot.reward.update import update

    loaded = reward.load(model)
    if not isinstance(loaded, reward.RewardModel):
        raise InputError(f"could not update {os.fspath(model)}: it is a transformer; train on with a recipe whose base is {os.fspath(model)}/member-0")
    made = update(loaded, {name: reward.training_rows(path) for name, path in data.items()}, keep)
    reward.save(made, out)
    return made


class Objective(msgspec.Struct, frozen=True):
    """Whose rewards count, and how: `mean` over users, `cvar` (the worst-served share `alpha`), `worst-group`, or one `user`."""

    kind: Literal["mean", "cvar", "worst-group", "user"]
    alpha: float = 0.1
    user: str = ""
    groups: Mapping[str, str] = {}
    """Group of each user, for `worst-group`."""


def score(
    model: str | os.PathLike[str],
    items: str | os.PathLike[str],
    weights: Mapping[str, float] | None = None,
    people: str | os.PathLike[str] | None = None,
    objective: Objective | None = None,
) -> Iterator[dict[str, Any]]:
    """Score responses: JSON lines of prompt and completion (or of chosen and rejected, both are scored).

    `people`: rows that users rated; with them each score says what the response is worth by `objective`.

    Raises:
        InputError: an objective without people, or of a user or group that is not there; people and a transformer.
    """
    from upshot import reward

    loaded = reward.load(model)
    loaded = loaded.with_weights(weights) if weights else loaded
    worth = None
    if objective is not None:
        if people is None or not isinstance(loaded, reward.RewardModel):
            raise InputError(f"could not score by {objective.kind}: " + ("it needs rows that users rated" if people is None else "the model is a transformer, which knows no users"))
        worth = _worth(loaded, people, objective)
    yield from reward.score_file(loaded, items, worth)


def _worth(model: RewardModel, people: str | os.PathLike[str], objective: Objective) -> Callable[[Sequence[Any], Sequence[Any]], Any]:
    """What responses are worth by an objective; prompts and completions in, an array out."""
    from upshot import reward
    from upshot.reward import objectives
    from upshot.reward import people as known

    found = known.learn(model, reward.training_rows(people))
    if objective.kind == "user":
        if objective.user not in found.names:
            raise InputError(f"could not score for user {objective.user!r}: {os.fspath(people)} has no rows of theirs")
        alone = [found.names.index(objective.user)]
        found = found._replace(names=(objective.user,), shift=found.shift[alone])
    missing = [name for name in found.names if name not in objective.groups] if objective.kind == "worst-group" else []
    if missing:
        raise InputError(f"could not score by the worst group: {len(missing)} users have no group, {missing[0]!r} for one")

    def worth(prompts: Sequence[Any], completions: Sequence[Any]) -> Any:
        table = known.rewards(model, found, prompts, completions)
        if objective.kind == "cvar":
            return objectives.cvar(table, objective.alpha)
        if objective.kind == "worst-group":
            return objectives.worst_group(table, [objective.groups[name] for name in found.names])
        return objectives.mean(table)

    return worth


class Credited(msgspec.Struct, frozen=True):
    """Credits of runs, and what they took and told."""

    credits: list[Credit]
    cost: CreditCost | None
    """Of a language model."""
    seconds: float
    worth: float
    """Samples that uniform credit would take to tell kinds of action apart as well, over those of this credit; NaN where kinds are too rare."""
    kinds: int


def credit(
    path: str | os.PathLike[str],
    reviewer: str = "trained",
    labelled: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    progress: Progress = _quiet,
) -> Credited:
    """Split the outcome of every run over its steps; the sum is the outcome, exactly.

    `reviewer`: trained, llm (two requests a run, to the endpoint of the settings), uniform, last, first-mistake, leave-one-out, shapley. `labelled`:
    other runs, in which a `label` says which step was to blame, or credits of a language model's review of these runs, for the trained one.

    Raises:
        InputError: there is no such reviewer, or too little to learn from.
    """
    from upshot import credit as credits  # scikit-learn takes a second to load
    from upshot.credit import llm, use

    started = time.monotonic()
    if reviewer not in (*credits.REVIEWERS, "llm"):
        raise InputError(f"could not review with {reviewer!r}: there are {', '.join((*credits.REVIEWERS, 'llm'))}")
    runs = list(credits.read(path))
    cost: CreditCost | None = None
    if reviewer == "llm":
        settings = settings or load()
        endpoint = _endpoint(settings)
        budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
        reviews, cost = llm.review(runs, endpoint, budget, Replies(), settings.llm.votes, settings.llm.temperature, lambda done, total: progress("review", done, total))
        made = credits.credit(runs, lambda _: reviews, "llm")
    elif labelled is not None:
        others = _labelled(runs, labelled)
        made = credits.credit(runs, lambda part: credits.trained(part, others), "trained")
    else:
        made = credits.credit(runs, credits.REVIEWERS[reviewer], reviewer)
    found = use.worth(runs, made, credits.credit(runs, credits.REVIEWERS["uniform"], "uniform")) if runs else use.Worth(0, float("nan"))
    return Credited(made, cost, time.monotonic() - started, found.ratio, found.classes)


def _labelled(runs: Sequence[Trajectory], path: str | os.PathLike[str]) -> list[Trajectory]:
    """Runs with labels from a file of runs, or these runs with the worst step of credits that a reviewer gave them."""
    from upshot.credit import Credit, read
    from upshot.sources.files import json_records, open_input

    source = open_input(os.fspath(path))
    try:
        first = next((record for _, record in json_records(source)), None)
        reviewed = isinstance(first, dict) and "credits" in first
    finally:
        source.close()
    if not reviewed:
        return [run for run in read(path) if run.label is not None]
    known = {run.id: run for run in runs}
    decoded = [msgspec.json.decode(line, type=Credit) for line in Path(path).read_bytes().splitlines() if line.strip()]
    worst = [(known[one.id], one.credits) for one in decoded if one.id in known and one.credits and one.outcome < one.prior]
    return [msgspec.structs.replace(run, label=min(range(len(c)), key=lambda t: c[t])) for run, c in worst]


def ingest_events(path: str | os.PathLike[str], target: str | os.PathLike[str], settings: Settings | None = None) -> Recorded:
    """Read events that an application reports of responses (a ticket closed, a deploy that worked) into a lake.

    Raises:
        NotFoundError: there is no lake yet: its logs come first.
    """
    settings = settings or load()
    store = open_lake(target, settings)
    cleaning = _cleaning(store, settings)
    done, bad = record_events(read_events(path), store, cleaning.tools()[0])
    quarantine(store, bad, cleaning)
    return done


def retention(
    repo: str | os.PathLike[str],
    logs: Paths | None = None,
    lake: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    progress: Progress = _quiet,
    **options: Any,
) -> Followed:
    """Which AI-written lines of a repository survive, release by release.

    With `logs` or a `lake`, commits that they name are tied to their responses; in the lake each response gets its
    retention as an event, which the next judging counts as evidence. `options` are those of `verifiers.follow.follow`.

    Raises:
        InputError: the repository, a note, a record or the kept history cannot be read.
    """
    from upshot.verifiers import follow as following

    store = None if lake is None else open_lake(lake, settings or load())
    mentions = [] if store is None else list(following.of_lake(store))
    if logs is not None:
        mentions += following.of_logs(item for item in sources.read(logs) if isinstance(item, RawConversation))
    found = following.follow(repo, mentions, progress=progress, **options)
    if store is not None:
        record_events(following.outcomes(found.report, time.time()), store, _cleaning(store, settings or load()).tools()[0])
    return found


def verify(
    path: str | os.PathLike[str],
    parts: Sequence[str] = ("tests",),
    formula: str = "",
    seconds: float = 10.0,
    memory_mb: int = 1024,
    workers: int = 2,
    lake: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    progress: Progress = _quiet,
) -> Iterator[Outcome]:
    """Run code, tests and proofs in a sandbox; with a `lake`, write the outcomes of items that name a response there.

    Raises:
        InputError: an item, a part or the formula cannot be read, or a tool is not installed.
        SandboxError: untrusted code cannot be run safely here.
    """
    from upshot.verifiers import items as items_
    from upshot.verifiers.sandbox import Limits
    from upshot.verifiers.verify import verify as verified

    items = list(items_.read(path))
    done: list[Outcome] = []
    for outcome in verified(items, parts, formula, Limits(seconds=seconds, memory_mb=memory_mb), workers, lambda n: progress("verify", n, len(items))):
        done.append(outcome)
        yield outcome
    if lake is not None:
        store = open_lake(lake, settings or load())
        now = time.time()
        told = [Outside(o.response[0], o.response[1], "verified", 2 * o.outcome - 1, now, "; ".join(o.reasons)[:200]) for o in done if o.response is not None]
        record_events(told, store, _cleaning(store, settings or load()).tools()[0])


def attempt(
    path: str | os.PathLike[str], samples: int = 1, rounds: int = 4, temperature: float = 0.7, seconds: float = 10.0, settings: Settings | None = None, progress: Progress = _quiet
) -> Attempts:
    """Have the language model of the settings write tests and code to tasks, run and fix them; every attempt is a run.

    Raises:
        InputError: a task cannot be read, or no endpoint is set.
        SandboxError: untrusted code cannot be run safely here.
    """
    from upshot.verifiers import attempts
    from upshot.verifiers.sandbox import Limits

    settings = settings or load()
    endpoint = _endpoint(settings)
    budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
    tasks = attempts.read(path)
    return attempts.attempt(tasks, endpoint, budget, Replies(), samples, rounds, temperature, Limits(seconds=seconds), lambda done, total: progress("attempt", done, total))
