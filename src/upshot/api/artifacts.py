"""Finished expert work back to its research, and what can be done with that."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import msgspec

from upshot.api.opening import Paths, Progress, quiet
from upshot.artifacts.citations import index_names
from upshot.artifacts.desk import Desk
from upshot.artifacts.intake import read_artifacts
from upshot.artifacts.library import parse_date, read_library
from upshot.artifacts.reconstruct import reconstruct_artifact
from upshot.artifacts.records import Artifact, Trail
from upshot.errors import InputError, RecordError
from upshot.records import BadRecord


class Reconstruction(msgspec.Struct, frozen=True):
    """Trails of artifacts, and what could not be read."""

    trails: list[Trail]
    bad: list[BadRecord]
    """Artifacts without a trail, and why."""
    bad_sources: list[BadRecord]
    """Records of the library that were left out, and why."""
    seconds: float
    """Without opening the library."""


def open_desk(sources: Paths) -> tuple[Desk, list[BadRecord]]:
    """A library that can be searched, and what of it could not be read.

    Raises:
        NotFoundError: nothing is there.
        InputError: it holds no source.
    """
    paths = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    library = index_names(read_library([os.fspath(path) for path in paths]))
    return Desk(library), library.bad


def reconstruct(
    artifacts: Paths,
    *,
    sources: Paths,
    as_of: str = "",
    progress: Progress = quiet,
) -> Reconstruction:
    """Reconstruct the questions, the research and the conclusion behind finished expert work.

    `artifacts`: files and folders of Markdown, reStructuredText, HTML, plain text, or JSON lines
    with `text`, `date` and `id`. `sources`: the library, of the same kinds. `as_of`: the day whose
    sources count, instead of each artifact's own date.

    Raises:
        NotFoundError: nothing is there.
        InputError: the library holds no source, or the day is none.
    """
    day = _parse_day(as_of)
    desk, bad_sources = open_desk(sources)
    started = time.monotonic()
    paths = [artifacts] if isinstance(artifacts, (str, os.PathLike)) else list(artifacts)
    bad: list[BadRecord] = []
    ready: list[Artifact] = []
    for item in read_artifacts([os.fspath(path) for path in paths]):
        if isinstance(item, BadRecord):
            bad.append(item)
        else:
            ready.append(item)
    trails: list[Trail] = []
    for number, artifact in enumerate(ready, 1):
        try:
            trails.append(reconstruct_artifact(artifact, desk, day))
        except RecordError as error:
            bad.append(BadRecord(artifact.id, "text", str(error)))
        progress("reconstruct", number, len(ready))
    return Reconstruction(trails, bad, bad_sources, time.monotonic() - started)


def _parse_day(day: str) -> str:
    try:
        return parse_date(day)
    except RecordError as error:
        raise InputError(f"could not read the day --as-of: {error}") from error


def share_passing(trails: Sequence[Trail], check: str) -> float:
    """Share of trails that pass a check without a problem; 1 where there are none."""
    passed = [not trail.checks[check].problems for trail in trails if check in trail.checks]
    return sum(passed) / len(passed) if passed else 1.0


def check_names(trails: Sequence[Trail]) -> list[str]:
    """The checks that trails went through, in order."""
    return list(dict.fromkeys(name for trail in trails for name in trail.checks))
