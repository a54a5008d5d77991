"""Rounds, forgetting, re-runs and hotfixes: what trains."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from upshot import privacy
from upshot.api.judging import curve_of, erase, ingest, judge_lake, link_lake, resolve_user
from upshot.api.opening import Progress, cleaning, open_lake, quiet
from upshot.config import Settings, load
from upshot.errors import NotFoundError
from upshot.hub.sampling import Drawing
from upshot.lake import Lake, mark_of
from upshot.loop.config import Config
from upshot.loop.forget import find_rounds_with, forget, read_journal
from upshot.loop.gather import Collect
from upshot.loop.hotfix import Fixed, read_cases
from upshot.loop.hotfix import hotfix as fix
from upshot.loop.lessons import Scores
from upshot.loop.rerun import Rerun, rerun
from upshot.loop.results import ForgetResult, ReadResult, RoundResult
from upshot.loop.run import Verbs, resume, run
from upshot.loop.state import Loop
from upshot.policy.data import read_data
from upshot.policy.rewards import open_rewards


def loop_run(
    config: Config,
    rounds: int = 1,
    *,
    settings: Settings | None = None,
    collect: Collect | None = None,
    progress: Progress = quiet,
    scores: Scores | None = None,
) -> list[RoundResult]:
    """Run rounds: gather, read, learn, gate, release.

    Killed at any point, a second call resumes after the last completed step. `collect`: writes a
    round's log, where neither files nor a command do. `scores`: another judge instead of the lake's
    verdicts.

    Raises:
        InputError: a person has to look at a candidate first.
        NotFoundError: nothing new was logged.
    """
    return run(config, _make_verbs(config, settings or load(), collect, scores), rounds, progress)


def _make_verbs(
    config: Config, settings: Settings, collect: Collect | None = None, scores: Scores | None = None
) -> Verbs:
    def read_logs(paths: Sequence[Path]) -> ReadResult:
        logs = [str(path) for path in paths]
        report = ingest(logs, config.lake, settings, format=config.gather.format)
        link_lake(config.lake, settings)
        judge_lake(config.lake, settings)
        return ReadResult(report.conversations, report.known, report.quarantined)

    def lake() -> Lake:
        return open_lake(config.lake, settings)

    return Verbs(read_logs, lake, lambda: curve_of(lake()), collect, scores)


def loop_forget(
    config: Config, user: str, settings: Settings | None = None, *, progress: Progress = quiet
) -> ForgetResult:
    """Erase a user (by the name in the logs, or by pseudonym) from the lake and from every round,
    and retrain what learned from them. Killed at any point, the same call goes on.

    Raises:
        NotFoundError: neither the lake nor a model holds anything of that user.
    """
    settings = settings or load()
    store = open_lake(config.lake, settings)
    pseudonyms = privacy.Pseudonyms(cleaning(store, settings).key)
    name = resolve_user(store, pseudonyms, user)
    loop = Loop(Path(config.folder))
    erased = True
    try:
        erased = any(erase(user, config.lake, settings).rows.values())
    except NotFoundError:
        journal = read_journal(loop)
        is_open = journal is not None and journal.mark == mark_of(name)
        if not is_open and not find_rounds_with(loop, name):
            raise  # else an earlier call was killed after the lake's part
        erased = False
    verbs = _make_verbs(config, settings)
    rounds = forget(loop, name, lambda round: resume(config, verbs, round, progress))
    if not erased and not rounds:  # an earlier call was through with it
        raise NotFoundError(
            f"could not forget {user!r}: neither the lake nor a model holds anything of that user"
        )
    return ForgetResult(name, rounds, loop.state().serving, erased)


def loop_rerun(
    config: Config, model: str, number: int | None = None, *, progress: Progress = quiet
) -> list[Rerun]:
    """Run the kept recipe on another base model; the table of all models so far."""
    return rerun(config, model, number, progress)


def hotfix(
    base: str | os.PathLike[str],
    cases: str | os.PathLike[str],
    rest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    reward: str = "",
    rank: int = 8,
    max_tokens: int = 256,
    progress: Progress = quiet,
) -> Fixed:
    """From a handful of bad cases to a LoRA that fixes them, with proof that the rest held.

    `cases`: JSON lines of `prompt` with `chosen` or `completion`, maybe tests, matches or lacks.
    `rest`: prompts that are fine, with tests of that kind, or without them and `reward`.

    Raises:
        InputError: a case says nothing of what is wanted, or nothing tells whether the rest held.
    """
    rewards = open_rewards([reward] if reward else [])
    return fix(
        os.fspath(base),
        read_cases(Path(cases)),
        read_data([rest]).prompts,
        Path(out),
        rank=rank,
        drawing=Drawing(max_tokens, 0.0),
        score=rewards,
        progress=progress,
    )
