"""Finished expert work back to its research, and what can be done with that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from upshot.api.opening import Paths, Progress, endpoint_of, quiet
from upshot.artifacts.agents import Agent, RulesAgent
from upshot.artifacts.citations import index_names
from upshot.artifacts.desk import Desk
from upshot.artifacts.export import (
    TARGETS,
    export_credits,
    export_preferences,
    export_sft,
    export_tasks,
)
from upshot.artifacts.intake import read_artifacts
from upshot.artifacts.library import parse_date, read_library
from upshot.artifacts.llm_judge import JudgeCost, judge_trails
from upshot.artifacts.model_agent import replay_with_model
from upshot.artifacts.reconstruct import reconstruct_artifact
from upshot.artifacts.records import Artifact, Trail
from upshot.artifacts.replay import (
    CONTROLS,
    Estimate,
    Replay,
    changed_without_key,
    estimate,
    find_prior,
    replay_trail,
)
from upshot.config import Settings, load
from upshot.errors import InputError, RecordError
from upshot.io.files import read_objects
from upshot.io.writing import replace_file
from upshot.llm import Budget, Spent, keep_replies
from upshot.records import BadRecord
from upshot.report.trails import trails_to_html

Row = TypeVar("Row")


class Reconstruction(msgspec.Struct, frozen=True):
    """Trails of artifacts, and what could not be read."""

    trails: list[Trail]
    bad: list[BadRecord]
    """Artifacts without a trail, and why."""
    bad_sources: list[BadRecord]
    """Records of the library that were left out, and why."""
    seconds: float
    """Without opening the library."""
    cost: JudgeCost | None = None
    """Of a language model."""

    @property
    def check_names(self) -> list[str]:
        """The checks that the trails went through, in order."""
        return list(dict.fromkeys(name for trail in self.trails for name in trail.checks))

    def share_passing(self, check: str) -> float:
        """Share of the trails that pass a check without a problem; 1 where there are none."""
        passed = [not t.checks[check].problems for t in self.trails if check in t.checks]
        return sum(passed) / len(passed) if passed else 1.0


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
    judge: str = "embedded",
    as_of: str = "",
    settings: Settings | None = None,
    progress: Progress = quiet,
    replies: str | os.PathLike[str] | None = None,
) -> Reconstruction:
    """Reconstruct the questions, the research and the conclusion behind finished expert work.

    `artifacts`: files and folders of Markdown, reStructuredText, HTML, plain text, or JSON lines
    with `text`, `date` and `id`. `sources`: the library, of the same kinds. `as_of`: the day whose
    sources count, instead of each artifact's own date. `judge`: embedded (rules and retrieval), or
    llm, which adds to it what the model of the settings says of issues and claims; `replies` is
    then a file in which its replies are kept, so that a run that is cut short can go on.

    Raises:
        NotFoundError: nothing is there.
        InputError: the library holds no source, there is no such judge, or the day is none.
    """
    if judge not in ("embedded", "llm"):
        raise InputError(f"could not judge with {judge!r}: there are embedded and llm")
    settings = settings or load()
    endpoint = endpoint_of(settings) if judge == "llm" else None
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
    cost: JudgeCost | None = None
    if endpoint is not None:
        budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
        with keep_replies(replies) as cache:
            trails, cost = judge_trails(
                trails,
                desk,
                endpoint,
                budget,
                cache,
                votes=settings.llm.votes,
                temperature=settings.llm.temperature,
                progress=lambda done, total: progress("read", done, total),
            )
    return Reconstruction(trails, bad, bad_sources, time.monotonic() - started, cost)


def _parse_day(day: str) -> str:
    try:
        return parse_date(day)
    except RecordError as error:
        raise InputError(f"could not read the day --as-of: {error}") from error


class ReplayReport(msgspec.Struct, frozen=True):
    """Replays of trails with their controls, and what they took."""

    replays: list[Replay]
    agent: str
    prior: str
    """The commonest conclusion, which a closed book answers."""
    spent: Spent | None
    """Of a language model."""
    stopped: str
    """Why a language model's run ended early; "" if it did not."""
    seconds: float

    def estimate(self, control: str, measure: str) -> Estimate:
        """The mean of a measure over the replays of one control, with its interval."""
        return estimate(self.replays, control, measure)

    @property
    def changed_without_key(self) -> float:
        """Share of conclusions that changed, or were withheld, without the key source."""
        return changed_without_key(self.replays)


def replay(
    trails: str | os.PathLike[str] | Sequence[Trail],
    *,
    sources: Paths,
    policy: str | os.PathLike[str] | None = None,
    controls: Sequence[str] = CONTROLS,
    seeds: int = 1,
    max_calls: int = 40,
    settings: Settings | None = None,
    progress: Progress = quiet,
    replies: str | os.PathLike[str] | None = None,
) -> ReplayReport:
    """Give an agent the question and the facts of each trail and the library, and see whether it
    comes to the same sources and the same conclusion; controls stand beside every replay.

    The agent is that of rules; or the model at the endpoint of the settings, where one is set; or a
    `policy`, a folder with a model (needs the extra `train`). `controls`: none (the replay itself),
    closed-book, without-key, random-sources. `replies`: a file in which a language model's replies
    are kept, so that a run that is cut short can go on.

    Raises:
        InputError: there is no trail, no such control, or a trail cannot be read.
        NotFoundError: a file or folder is not there.
    """
    settings = settings or load()
    rows = read_trails(trails) if isinstance(trails, (str, os.PathLike)) else list(trails)
    if not rows:
        raise InputError("could not replay: there is no trail")
    unknown = [control for control in controls if control not in CONTROLS]
    if unknown:
        raise InputError(f"unknown control {unknown[0]!r}; there are {', '.join(CONTROLS)}")
    desk, _ = open_desk(sources)
    started = time.monotonic()
    prior = find_prior(rows)
    budget: Budget | None = None
    stopped = ""
    if policy is not None:
        from upshot.artifacts.policy_agent import PolicyAgent, open_chat  # loads torch

        chat = open_chat(os.fspath(policy))
        replays = _replay_here(
            rows, desk, lambda: PolicyAgent(chat), controls, seeds, max_calls, progress
        )
        agent = os.fspath(policy)
    elif settings.llm.base_url:
        endpoint = endpoint_of(settings)
        budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
        with keep_replies(replies) as cache:
            replays, stopped = replay_with_model(
                rows,
                desk,
                endpoint,
                budget,
                cache,
                controls=controls,
                seeds=seeds,
                max_calls=max_calls,
                temperature=settings.llm.temperature,
                progress=lambda done, total: progress("replay", done, total),
            )
        agent = settings.llm.model
    else:
        replays = _replay_here(rows, desk, RulesAgent, controls, seeds, max_calls, progress)
        agent = RulesAgent.name
    spent = None if budget is None else budget.spent
    return ReplayReport(replays, agent, prior, spent, stopped, time.monotonic() - started)


def _replay_here(
    trails: Sequence[Trail],
    desk: Desk,
    make_agent: Callable[[], Agent],
    controls: Sequence[str],
    seeds: int,
    *rest: Any,
) -> list[Replay]:
    max_calls, progress = rest
    prior = find_prior(trails)
    replays: list[Replay] = []
    for number, trail in enumerate(trails, 1):
        for seed in range(seeds):
            replays += replay_trail(
                trail,
                desk,
                make_agent,
                controls=controls,
                prior=prior,
                max_calls=max_calls,
                seed=seed,
            )
        progress("replay", number, len(trails))
    return replays


def read_trails(path: str | os.PathLike[str]) -> list[Trail]:
    """The trails of a file.

    Raises:
        InputError: a line is no trail; says which.
    """
    return [_decode(where, row, Trail) for where, row in read_objects(path)]


def read_replays(path: str | os.PathLike[str]) -> list[Replay]:
    """The replays of a file.

    Raises:
        InputError: a line is no replay; says which.
    """
    return [_decode(where, row, Replay) for where, row in read_objects(path)]


def _decode(where: str, row: Any, kind: type[Row]) -> Row:
    try:
        return msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        name = kind.__name__.lower()
        raise InputError(
            f"could not read {where}: it is no {name} ({error}); make {name}s with"
            f" upshot {'reconstruct' if name == 'trail' else 'replay'}"
        ) from error


def trails_export(
    trails: str | os.PathLike[str] | None = None,
    target: str = "sft",
    *,
    replays: str | os.PathLike[str] | None = None,
) -> list[dict[str, Any]]:
    """Training data: conversations with tool calls (`sft`) and tasks (`verifiers`) of trails,
    credits (`credit`) and pairs (`preferences`) of replays.

    Raises:
        InputError: there is no such target, its input is not named, or nothing can be exported.
    """
    if target not in TARGETS:
        raise InputError(f"unknown target {target!r}; there are {', '.join(TARGETS)}")
    needs_replays = target in ("credit", "preferences")
    path = replays if needs_replays else trails
    if path is None:
        noun = "replays with --replays" if needs_replays else "a file of trails"
        raise InputError(f"could not export for {target}: name {noun}")
    if needs_replays:
        runs = read_replays(path)
        rows = list(export_credits(runs) if target == "credit" else export_preferences(runs))
    else:
        read = read_trails(path)
        rows = list(export_sft(read) if target == "sft" else export_tasks(read))
    if not rows:
        raise InputError(
            f"nothing exported: {os.fspath(path)} holds no trail that passes the checks of leak,"
            " order and quotes"
            if not needs_replays
            else f"nothing exported: {os.fspath(path)} holds no two replays of a question whose"
            " rewards differ"
        )
    return rows


def report_trails(
    trails: str | os.PathLike[str] | Sequence[Trail], out: str | os.PathLike[str]
) -> int:
    """Write a page that shows each artifact beside its trail and passages; returns how many.

    Raises:
        InputError: there is no trail, or the page cannot be written.
    """
    rows = read_trails(trails) if isinstance(trails, (str, os.PathLike)) else list(trails)
    if not rows:
        raise InputError("could not write the page: there is no trail")
    replace_file(out, trails_to_html(rows).encode())
    return len(rows)
