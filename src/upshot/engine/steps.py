"""Steps over the buckets of a lake: `fit` on each, `merge` to a model of the lake, `apply` to each.

What is learned from everybody is a small model of the lake, stored with a version and named by what
was computed with it, so that no result depends on who shares a bucket, on the executor, or on the
order in which buckets are worked through. A step that applies is handed only the users with
something new, and writes only rows that changed.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pyarrow as pa

from upshot.engine.executor import Executor
from upshot.engine.here import Here
from upshot.errors import LakeError
from upshot.io.arrow import pc, system_memory
from upshot.lake import Lake, LakeModel, load_contents, load_models, store_model
from upshot.lake.progress import Files, Progress
from upshot.records import CleanTable

Tables: TypeAlias = Mapping[str, CleanTable]
Options: TypeAlias = Mapping[str, Any]
Models: TypeAlias = Mapping[str, str]
"""Content of models of the lake, by name; those that the lake does not have are left out."""
Report: TypeAlias = Callable[[int, int], None]
"""Called with the buckets that are finished and those there are."""
_MAX_RACES = 20
"""Times that a bucket is computed anew because another process wrote to it meanwhile."""
_SAVE_EVERY_S = 30.0
"""Seconds between two records of progress: what a killed run may have to look at again."""


class Learned(NamedTuple):
    """What was learned from everybody."""

    content: str
    """As JSON."""
    users: Sequence[str]
    """Pseudonyms of those whose own words it holds."""


class Fit(NamedTuple):
    """A model of the lake, learned from summaries of all buckets.

    `summarise` and `merge` must be importable by name. `merge` gets the summaries in no order.
    """

    name: str
    version: str
    inputs: tuple[str, ...]
    summarise: Callable[[Tables, Options, Models], bytes]
    merge: Callable[[Sequence[bytes], Options], Learned]
    options: Options = {}
    models: tuple[str, ...] = ()
    """Names of models that `summarise` is handed."""


class Step(NamedTuple):
    """A function from the inputs of some users to rows of one table.

    `apply` must be importable by name, and treat each user by themselves.
    """

    name: str
    version: str
    inputs: tuple[str, ...]
    output: str
    apply: Callable[[Tables, Options, Models], CleanTable]
    key: tuple[str, ...]
    """Columns that name a row."""
    compared: tuple[str, ...]
    """Columns of which one must differ from the row that is there, or nothing is written."""
    options: Options = {}
    models: tuple[str, ...] = ()
    """Names of models that `apply` is handed."""
    own: tuple[str, str] | None = None
    """A column, and how its value begins in rows of other authors, which are not compared with."""


class StepReport(msgspec.Struct, frozen=True):
    """Report on one run of a step."""

    stage: str
    buckets: int
    """Buckets in which there was something new."""
    skipped: int
    """Buckets without."""
    rows: int
    """Rows written."""
    seconds: float


class _Task(NamedTuple):
    """One bucket's share of the work, as it travels."""

    root: str
    storage_options: Mapping[str, str] | None
    run: str
    """The same for all tasks of one run."""
    bucket: int
    models: Mapping[str, str]
    """Versions by name."""
    files: Files | None = None
    """New files, whose users are worked on; None: all users."""


_opened: dict[str, Lake] = {}
"""The lake of the run that this process works on, so that its tables are opened once."""


def _open_lake(task: _Task) -> Lake:
    lake = _opened.get(task.run)
    if lake is None:
        _opened.clear()
        lake = Lake(task.root, storage_options=task.storage_options)
        _opened[task.run] = lake
    return lake


def run_step(
    lake: Lake,
    step: Step,
    executor: Executor | None = None,
    progress: Report | None = None,
    *,
    everything: bool = False,
) -> StepReport:
    """Apply a step to the users with something new, or to all; each bucket is one commit."""
    started = saved = time.perf_counter()
    versions = _versions_of(lake, step.models)
    name, run = _name_work(step, versions), secrets.token_hex(8)
    with system_memory():
        work = Progress(lake, name, step.inputs)
        tasks: list[_Task] = []
        for bucket in range(lake.buckets):
            files = None if everything else work.news(bucket)
            if files is None or files:
                tasks.append(_Task(lake.root, lake.storage_options(), run, bucket, versions, files))
        rows = 0
        runner = executor or Here()
        for done, (bucket, count) in enumerate(runner.run(_Apply(step), tasks), 1):
            rows += count
            work.finish(bucket)
            if progress:
                progress(done, len(tasks))
            if time.perf_counter() - saved > _SAVE_EVERY_S:
                work.save()
                saved = time.perf_counter()
        work.save()
    seconds = time.perf_counter() - started
    return StepReport(step.name, len(tasks), lake.buckets - len(tasks), rows, seconds)


def _name_work(step: Step, versions: Mapping[str, str]) -> str:
    """Other options or models are other work."""
    content = msgspec.json.encode(
        [sorted(step.options.items()), sorted(versions.items())], enc_hook=str
    )
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    return f"{step.name}@{step.version}/{digest}"


class _Apply:
    """A step on one bucket; returns the bucket and the number of rows written."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def __call__(self, task: _Task) -> tuple[int, int]:
        lake, step = _open_lake(task), self._step
        models = load_contents(lake, task.models)
        application = f"{step.name}/{task.bucket}"
        for _ in range(_MAX_RACES):
            with lake.pinned():
                done = lake.committed(step.output, application) or 0
                users = None if task.files is None else lake.users_of(task.bucket, task.files)
                tables = read_tables(lake, step.inputs, task.bucket, users)
                rows = step.apply(tables, {**step.options, "bucket": task.bucket}, models)
                rows = _changed_rows(lake, step, task.bucket, rows, users)
                if not rows.num_rows:
                    return task.bucket, 0
                metadata = {
                    "stage": step.name,
                    "stage_version": step.version,
                    "bucket": task.bucket,
                }
                # no erasure comes between reading and writing
                if lake.append(step.output, rows, (application, done + 1), metadata):
                    return task.bucket, rows.num_rows
        raise LakeError(
            f"could not {step.name} bucket {task.bucket} of {lake.root}: other processes wrote to"
            f" it {_MAX_RACES} times meanwhile; run it again when they are finished"
        )


def read_tables(
    lake: Lake, inputs: Sequence[str], bucket: int, users: Sequence[str] | None = None
) -> dict[str, CleanTable]:
    """Tables of one bucket, of all its users or of some."""
    conversations = lake.read("conversations", bucket, users=users)
    return {
        table: conversations
        if table == "conversations"
        else lake.read(table, bucket, conversations=conversations, users=users)
        for table in inputs
    }


def _changed_rows(
    lake: Lake, step: Step, bucket: int, rows: CleanTable, users: Sequence[str] | None
) -> CleanTable:
    """The rows that say something else than those of the lake."""
    present = lake.read_all_versions(step.output, bucket, users=users)
    if step.own is not None and present.num_rows:
        column, start = step.own
        present = present.filter(pc.invert(pc.starts_with(present[column], start)))
    if not present.num_rows or not rows.num_rows:
        return rows
    columns = [*step.key, *step.compared]
    newest = present.take(pc.sort_indices(present, sort_keys=[("as_of", "ascending")]))
    have = {tuple(row[: len(step.key)]): row for row in _values(newest, columns)}
    changed = [have.get(tuple(row[: len(step.key)])) != row for row in _values(rows, columns)]
    return rows if all(changed) else CleanTable(rows.filter(pa.array(changed, pa.bool_())))


def _values(rows: pa.Table, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in columns), strict=True)


def learn(
    lake: Lake, fit: Fit, executor: Executor | None = None, progress: Report | None = None
) -> LakeModel:
    """Learn a model from all buckets, and store it."""
    versions = _versions_of(lake, fit.models)
    run = secrets.token_hex(8)
    tasks = [
        _Task(lake.root, lake.storage_options(), run, bucket, versions)
        for bucket in range(lake.buckets)
    ]
    summaries: list[bytes] = []
    for summary in (executor or Here()).run(_Summarise(fit), tasks):
        summaries.append(summary)
        if progress:
            progress(len(summaries), len(tasks))
    learned = fit.merge(summaries, fit.options)
    return store_model(lake, fit.name, learned.content, learned.users)


class _Summarise:
    """A bucket's share in a model."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    def __call__(self, task: _Task) -> bytes:
        lake, fit = _open_lake(task), self._fit
        models = load_contents(lake, task.models)
        tables = read_tables(lake, fit.inputs, task.bucket)
        return fit.summarise(tables, {**fit.options, "bucket": task.bucket}, models)


def learn_from_tables(fit: Fit, tables: Tables, models: Models) -> str:
    """The same in memory: one file is a lake of one bucket. Returns the content of the model."""
    options = {**fit.options, "bucket": 0}
    return fit.merge([fit.summarise(tables, options, models)], fit.options).content


def _versions_of(lake: Lake, names: Sequence[str]) -> dict[str, str]:
    return {name: model.version for name, model in load_models(lake, names).items()}
