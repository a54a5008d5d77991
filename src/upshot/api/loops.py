"""Rounds, and what is in service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upshot import privacy
from upshot.api.judging import curve_of, erase, ingest, judge_lake, link_lake
from upshot.api.opening import Progress, cleaning, open_lake, quiet
from upshot.api.policies import need_train_extra
from upshot.config import Settings, load
from upshot.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from upshot.loop.config import Config
    from upshot.loop.gather import Collect
    from upshot.loop.hotfix import Fixed
    from upshot.loop.lessons import Scores
    from upshot.loop.rerun import Rerun
    from upshot.loop.run import Verbs
    from upshot.loop.skills import Library
    from upshot.loop.state import State


def loop_config(path: str | os.PathLike[str]) -> Config:
    """A loop's file."""
    need_train_extra()
    from upshot.loop.config import load as load_loop

    return load_loop(os.fspath(path))


def loop_run(
    config: Config,
    rounds: int = 1,
    settings: Settings | None = None,
    collect: Collect | None = None,
    progress: Progress = quiet,
    scores: Scores | None = None,
) -> list[dict[str, Any]]:
    """So many rounds: gather, read, learn, gate, release.

    Killed anywhere, a second call goes on behind the last whole step.

    `collect`: writes a round's log, where neither files nor a command do. `scores`: who judges
    instead of the lake's verdicts.

    Raises:
        InputError: a person has to look at a candidate first.
        NotFoundError: nothing new was logged.
    """
    from upshot.loop.run import run

    return run(config, _verbs(config, settings or load(), collect, scores), rounds, progress)


def _verbs(
    config: Config, settings: Settings, collect: Collect | None = None, scores: Scores | None = None
) -> Verbs:
    from upshot.loop.run import Verbs

    def read_logs(paths: Sequence[Path]) -> dict[str, Any]:
        found = ingest([str(path) for path in paths], config.lake, settings, config.gather.format)
        link_lake(config.lake, settings)
        judge_lake(config.lake, settings)
        return {
            "conversations": found.conversations,
            "known": found.known,
            "quarantined": found.quarantined,
        }

    def lake() -> Any:
        return open_lake(config.lake, settings)

    return Verbs(read_logs, lake, lambda: curve_of(lake()), collect, scores)


def loop_status(config: Config) -> dict[str, Any]:
    """What is in service, what waits for a person, and every round so far."""
    from upshot.loop.state import Loop

    loop = Loop(Path(config.folder))
    state = loop.state()
    rounds: list[dict[str, Any]] = []
    for here in loop.rounds():
        told = {
            step: here.done(step) or {}
            for step in ("read", "trial", "agree", "policy", "gate", "release")
        }
        rounds.append(
            {
                "round": here.number,
                "conversations": told["read"].get("conversations"),
                "examples": told["agree"].get("examples"),
                "good": told["agree"].get("good"),
                "kl": next(
                    (
                        one["kl"]
                        for one in told["policy"].get("candidates", ())
                        if one["policy"] == told["gate"].get("chosen")
                    ),
                    None,
                ),
                "decision": told["release"].get("decision", "under way"),
                "difference": told["gate"].get("difference"),
                "reasons": told["gate"].get("reasons", []),
                "trial": {
                    name: told["trial"].get(name) for name in ("decision", "difference", "low")
                }
                if told["trial"].get("decision")
                else None,
            }
        )
    return {
        "serving": state.serving,
        "waiting": state.waiting,
        "history": state.history,
        "rounds": rounds,
    }


def loop_approve(config: Config, who: str, refuse: bool = False) -> State:
    """Answer for a person who was asked: release the candidate that waits, or do not.

    Raises:
        InputError: nobody was asked.
    """
    import msgspec

    from upshot.loop.state import Loop

    loop = Loop(Path(config.folder))
    state = loop.state()
    if not state.waiting:
        raise InputError("could not approve anything: no candidate waits for a person")
    number, policy = next(iter(state.waiting.items()))
    rest = {name: other for name, other in state.waiting.items() if name != number}
    if refuse:
        return loop.keep(msgspec.structs.replace(state, waiting=rest))
    tests = {**state.tests, **({number: True} if number in state.tests else {})}
    return loop.release(policy, f"approved by {who}", int(number), waiting=rest, tests=tests)


def loop_roll_back(config: Config, who: str) -> State:
    """Put what served before into service again.

    Raises:
        InputError: nothing served before.
    """
    from upshot.loop.state import Loop

    return Loop(Path(config.folder)).roll_back(who)


def loop_forget(
    config: Config, user: str, settings: Settings | None = None, progress: Progress = quiet
) -> dict[str, Any]:
    """Erase a user (by the name in the logs, or by pseudonym) from the lake and from every round,
    and train anew what learned from them.

    Raises:
        NotFoundError: neither the lake nor a model holds anything of that user.
    """
    from upshot.loop.forget import forget, touched
    from upshot.loop.run import again
    from upshot.loop.state import Loop

    settings = settings or load()
    store = open_lake(config.lake, settings)
    name = (
        user
        if user.startswith("u_")
        else privacy.Pseudonyms(cleaning(store, settings).key).user(user)
    )
    loop = Loop(Path(config.folder))
    proof = None
    try:
        proof = erase(user, config.lake, settings)
    except NotFoundError:
        if not touched(loop, name):  # else an earlier forgetting was killed behind the lake
            raise
    verbs = _verbs(config, settings)
    rounds = forget(loop, name, lambda here: again(config, verbs, here, progress))
    return {"user": name, "rounds": rounds, "proof": proof, "serving": loop.state().serving}


def loop_rerun(
    config: Config, model: str, number: int | None = None, progress: Progress = quiet
) -> list[Rerun]:
    """Run the kept recipe on another base model; the table of all models so far."""
    from upshot.loop.rerun import rerun

    return rerun(config, model, number, progress)


def hotfix(
    base: str | os.PathLike[str],
    cases: str | os.PathLike[str],
    rest: str | os.PathLike[str],
    out: str | os.PathLike[str],
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
    need_train_extra()
    from upshot.hub.sampling import Drawing
    from upshot.loop.hotfix import hotfix as fix
    from upshot.loop.hotfix import read_cases
    from upshot.policy.data import read
    from upshot.policy.rewards import open_rewards

    rewards = open_rewards([reward] if reward else [])
    return fix(
        os.fspath(base),
        read_cases(Path(cases)),
        read([rest]).prompts,
        Path(out),
        rank,
        drawing=Drawing(max_tokens, 0.0),
        score=rewards,
        progress=progress,
    )


def skills(target: str | os.PathLike[str], settings: Settings | None = None) -> Library:
    """The skill library of a lake: solutions that the world confirmed."""
    from upshot.loop.skills import of_lake

    return of_lake(open_lake(target, settings))
