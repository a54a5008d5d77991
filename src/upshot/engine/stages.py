"""Stages: pure functions from one bucket's Arrow tables to one new table, with name and version.

The engine reads a bucket's inputs, runs the stage, and commits the output in one transaction named
by stage, version, bucket and a fingerprint of the inputs. So a re-run does only new work, a killed
run loses at most the buckets in flight, and concurrent runs do not duplicate rows.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, Literal, NamedTuple

import msgspec

from upshot.io.arrow import system_memory
from upshot.lake import Lake
from upshot.records import CleanTable


class Stage(NamedTuple):
    """A function to run on every bucket.

    `run` must be importable by name, so that another process can find it.
    """

    name: str
    version: str
    inputs: tuple[str, ...]
    output: str
    run: Callable[[Mapping[str, CleanTable], Mapping[str, Any]], CleanTable]
    mode: Literal["append", "replace"]
    """Append rows with an `as_of`, or replace the bucket."""
    options: Mapping[str, Any] = {}
    """Passed to `run`; part of the name of the work, so that other options mean a new run."""


class StageReport(msgspec.Struct, frozen=True):
    """Report on one run of a stage."""

    stage: str
    buckets: int
    """Buckets that were processed."""
    skipped: int
    """Buckets whose work had been committed before."""
    rows: int
    seconds: float


def run_stage(
    lake: Lake, stage: Stage, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> StageReport:
    """Run a stage on every bucket with new input; `progress(done, total)` reports each bucket."""
    started = time.perf_counter()
    with system_memory():
        return _run(lake, stage, workers, progress, started)


def _run(
    lake: Lake,
    stage: Stage,
    workers: int,
    progress: Callable[[int, int], None] | None,
    started: float,
) -> StageReport:
    work = _work(lake, stage)
    pending = {
        bucket: name
        for bucket, name in enumerate(work)
        if lake.committed(stage.output, name) is None
    }
    rows = finished = 0
    if workers <= 1 or len(pending) <= 1:
        for bucket, name in pending.items():
            rows += _run_bucket(lake, stage, bucket, name)
            finished += 1
            if progress:
                progress(finished, len(pending))
    else:
        for result in _in_processes(lake, stage, pending, workers):
            rows += result
            finished += 1
            if progress:
                progress(finished, len(pending))
    return StageReport(
        stage.name, len(pending), lake.buckets - len(pending), rows, time.perf_counter() - started
    )


def _in_processes(lake: Lake, stage: Stage, pending: Mapping[int, str], workers: int):
    """Results as they come; a failure is raised after the buckets in flight are committed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(pending)), mp_context=context) as pool:
        futures: set[Future[int]] = {
            pool.submit(_run_bucket_at, lake.root, lake.storage_options(), stage, bucket, name)
            for bucket, name in pending.items()
        }
        while futures:
            finished, futures = wait(futures, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()


def _run_bucket_at(
    root: str, options: dict[str, str] | None, stage: Stage, bucket: int, work: str
) -> int:
    with system_memory():
        return _run_bucket(Lake(root, storage_options=options), stage, bucket, work)


def _work(lake: Lake, stage: Stage) -> list[str]:
    """The application id of each bucket's work, which depends on version, options and inputs."""
    options = msgspec.json.encode(dict(sorted(stage.options.items())), enc_hook=str).decode()
    inputs = zip(*(lake.fingerprints(table) for table in stage.inputs), strict=True)
    return [
        f"{stage.name}@{stage.version}/{bucket}/"
        + hashlib.blake2b("\n".join([*fingerprints, options]).encode(), digest_size=12).hexdigest()
        for bucket, fingerprints in enumerate(inputs)
    ]


def _run_bucket(lake: Lake, stage: Stage, bucket: int, work: str) -> int:
    conversations = lake.read("conversations", bucket)
    tables = {
        table: conversations
        if table == "conversations"
        else lake.read(table, bucket, conversations=conversations)
        for table in stage.inputs
    }
    output = stage.run(tables, {**stage.options, "bucket": bucket})
    metadata = {
        "stage": stage.name,
        "stage_version": stage.version,
        "bucket": bucket,
        "input": work.rsplit("/", 1)[-1],
    }
    if stage.mode == "append":
        lake.append(stage.output, output, (work, 1), metadata)
    else:
        lake.replace(stage.output, bucket, output, (work, 1), metadata)
    return output.num_rows
