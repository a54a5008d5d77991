"""Rounds: gather logs, read them, learn, and let a better policy out, over and over.

A round is a folder with everything needed to repeat it: the logs with their digests, the versions
of the lake and of the code, the configuration, the lessons, the models with whom they learned from,
the gate's answers and its ruling. A step that is whole is never done again; a killed loop goes on
behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from upshot.errors import InputError, NothingToLearnError
from upshot.io import json_lines
from upshot.lake import Lake
from upshot.loop import lessons
from upshot.loop.config import Config
from upshot.loop.examine import examine, in_shadow
from upshot.loop.gate import trial
from upshot.loop.gather import Asked, Collect, gather
from upshot.loop.state import Loop, Round, code_version, write
from upshot.policy.data import Data, read
from upshot.policy.rewards import Rewards, of_function, of_model
from upshot.policy.train import train
from upshot.preferences.lake import Curve
from upshot.reward import RewardModel
from upshot.reward import files as reward_files
from upshot.reward.model import train as train_embedded
from upshot.reward.recipe import Recipe as RewardRecipe
from upshot.reward.transformer import Transformer
from upshot.reward.transformer import train as train_transformer
from upshot.reward.update import update

Progress = Callable[[str, int, int], None]
_LEAST = 40
"""Rows that a reward model learns from, at least."""
STEPS = (
    "gather",
    "read",
    "shadow",
    "trial",
    "learn",
    "agree",
    "reward",
    "policy",
    "gate",
    "release",
)


@dataclass(frozen=True)
class Verbs:
    """What a loop does with a lake; `api.loops` gives them."""

    read_logs: Callable[[Sequence[Path]], Mapping[str, Any]]
    """Ingest, link and judge files."""
    lake: Callable[[], Lake]
    curve: Callable[[], Curve | None]
    """The calibration that people's labels gave, where there is one."""
    collect: Collect | None = None
    """Writes a round's log; None: the configuration says where logs are."""
    scores: lessons.Scores | None = None
    """Who judges instead of the lake's verdicts: for comparing judges."""


def run(
    config: Config,
    verbs: Verbs,
    rounds: int = 1,
    progress: Progress = lambda stage, done, total: None,
) -> list[dict[str, Any]]:
    """So many rounds more; one that was cut short is finished first, and counts.

    Returns each round's release.

    Raises:
        InputError: somebody has to approve or refuse a candidate first; there is nothing new to
            learn from.
    """
    loop = Loop(Path(config.folder))
    loop.open(config.base)
    out: list[dict[str, Any]] = []
    for _ in range(rounds):
        state = loop.state()
        if state.waiting:
            name, policy = next(iter(state.waiting.items()))
            raise InputError(
                f"could not go on: round {name} waits for a person to look at {policy}; `upshot"
                " loop approve` or `upshot loop approve --refuse`"
            )
        known = loop.rounds()
        current = (
            known[-1] if known and known[-1].done("release") is None else loop.round(len(known) + 1)
        )
        out.append(_Round(config, verbs, loop, current, progress).run())
    return out


def again(
    config: Config, verbs: Verbs, here: Round, progress: Progress = lambda stage, done, total: None
) -> dict[str, Any]:
    """The steps of a round that are not whole: after a user was forgotten."""
    return _Round(config, verbs, Loop(Path(config.folder)), here, progress).run()


class _Round:
    """One round, step by step."""

    def __init__(
        self, config: Config, verbs: Verbs, loop: Loop, here: Round, progress: Progress
    ) -> None:
        self.config, self.verbs, self.loop, self.here, self.progress = (
            config,
            verbs,
            loop,
            here,
            progress,
        )

    def run(self) -> dict[str, Any]:
        """All steps that are not whole yet."""
        write(self.here.folder / "config.json", self.config)
        for number, name in enumerate(STEPS):
            self.progress(f"round {self.here.number}", number, len(STEPS))
            self.here.step(name, getattr(self, f"_{name}"))
        self.progress(f"round {self.here.number}", len(STEPS), len(STEPS))
        return {"round": self.here.number, **(self.here.done("release") or {})}

    def _gather(self) -> dict[str, Any]:
        state = self.loop.state()
        known = [
            digest
            for other in self.loop.rounds()
            for digest in (other.done("gather") or {}).get("logs", {}).values()
        ]
        asked = Asked(
            state.serving,
            self.here.number,
            self.config.seed * 1_000 + self.here.number,
            state.canary,
            self.config.serve.canary if state.canary else 0.0,
        )
        began = datetime.now(UTC)
        logs = gather(
            self.config.gather, asked, self.here.folder / "logs", known, self.verbs.collect
        )
        return {
            "logs": logs,
            "serving": state.serving,
            "canary": state.canary,
            "shadow": state.shadow,
            "code": code_version(),
            "began": began.isoformat(),
        }

    def _read(self) -> dict[str, Any]:
        told = dict(
            self.verbs.read_logs(
                [self.here.folder / "logs" / name for name in self._left("gather")["logs"]]
            )
        )
        lake = self.verbs.lake()
        tables = ("conversations", "messages", "events", "threads", "verdicts")
        return {**told, "lake": {name: lake.version(name) for name in tables if lake.exists(name)}}

    def _shadow(self) -> dict[str, Any]:
        """What the guards say of a candidate that answered unseen; it goes on to a share of the
        users, or into service.
        """
        gathered, state = self._left("gather"), self.loop.state()
        candidate = gathered.get("shadow", "")
        if not candidate or state.shadow != candidate:
            return {"decision": ""}
        prompts = lessons.requests(
            self.verbs.lake(),
            datetime.fromisoformat(gathered["began"]),
            self.config.serve.shadow,
            self.config.learn.prompts,
        )
        json_lines.write(prompts, lessons.at(self.here.folder).shadow)
        found = in_shadow(self.config, self.here, candidate, prompts, self._judge())
        number = self.loop.round_of(candidate)
        state = msgspec.structs.replace(state, shadow="")
        if found.decision == "ask":
            self.loop.keep(
                msgspec.structs.replace(state, waiting={**state.waiting, str(number): candidate})
            )
        elif found.decision == "promote" and self.config.serve.canary:
            self.loop.keep(msgspec.structs.replace(state, canary=candidate))
        elif found.decision == "promote":
            self.loop.release(candidate, "promoted", number, shadow="")
        else:
            self.loop.keep(state)
        return msgspec.to_builtins(found)

    def _trial(self) -> dict[str, Any]:
        """What came of a candidate that some users got; then the policy that this round goes on
        from.
        """
        gathered, state = self._left("gather"), self.loop.state()
        canary = gathered["canary"]
        if (
            not canary or state.canary != canary
        ):  # none was under way, or this was done and the loop was killed
            return {"decision": "", "serving": state.serving}
        present, candidate = lessons.arms(
            self.verbs.lake(),
            datetime.fromisoformat(gathered["began"]),
            [gathered["serving"], canary],
            self.verbs.curve(),
            self.verbs.scores,
        )
        found = trial(
            present, candidate, self.config.serve.least_users, state.before, self.config.gate
        )
        if found.decision == "promote":
            state = self.loop.release(
                canary,
                "promoted",
                self.here.number,
                canary="",
                tests={**state.tests, str(self.here.number): True},
            )
        elif found.decision == "refuse":
            state = self.loop.keep(
                msgspec.structs.replace(
                    state, canary="", tests={**state.tests, str(self.here.number): False}
                )
            )
        return {**msgspec.to_builtins(found), "serving": state.serving}

    def _learn(self) -> dict[str, Any]:
        rounds = [
            one
            for one in self.loop.rounds()
            if one.number > self.here.number - self.config.learn.recent and one.done("gather")
        ]
        since = min(datetime.fromisoformat((one.done("gather") or {})["began"]) for one in rounds)
        plan = self.config.learn
        return lessons.write(
            self.verbs.lake(),
            self.here.folder,
            since,
            plan.splits,
            plan.prompts,
            self.verbs.curve(),
            self.verbs.scores,
        )

    def _agree(self) -> dict[str, Any]:
        return lessons.agree(
            self.here.folder,
            self.config.recipe(self._left("trial")["serving"]),
            self.config.learn,
            self.progress,
        )

    def _reward(self) -> dict[str, Any]:
        if self.config.reward is None:
            return {"made": ""}
        data = read([lessons.at(self.here.folder).examples])
        if len(data.examples) < _LEAST:
            return {
                "made": "",
                "why": f"{len(data.examples)} judged answers; at least {_LEAST} are needed",
            }
        before = self._last("reward")
        made = make_reward(
            self.config,
            data,
            before,
            self._left("trial")["serving"],
            self.here.folder / "reward",
            self.progress,
        )
        return {"made": str(made), "from": before}

    def _policy(self) -> dict[str, Any]:
        data = lessons.taught(self.here.folder)
        if not data.rows:
            return {"candidates": [], "why": "no verdict of this round is sure enough to teach"}
        made: list[dict[str, Any]] = []
        rewards = self._rewards()
        for number in range(self.config.learn.candidates):
            recipe = self.config.recipe(self._left("trial")["serving"], number)
            try:
                done = train(
                    recipe,
                    data,
                    self.here.folder / f"policy-{number}",
                    rewards,
                    None,
                    self.progress,
                )
            except NothingToLearnError as error:  # the next round may know more
                return {"candidates": [], "why": str(error)}
            made.append(
                {
                    "policy": str(self.here.folder / f"policy-{number}"),
                    "kl": done.kl,
                    "steps": done.steps,
                    "seconds": done.seconds,
                    "stopped": done.stopped,
                }
            )
        return {"candidates": made}

    def _gate(self) -> dict[str, Any]:
        candidates = [one["policy"] for one in self._left("policy")["candidates"]]
        if not candidates:
            return {
                "decision": "refuse",
                "chosen": "",
                "reasons": [self._left("policy").get("why", "no candidate")],
                "guards": {},
            }
        ruling = examine(
            self.config,
            self.here,
            self.loop.state(),
            candidates,
            self._judge(),
            self._left("trial")["serving"],
        )
        return msgspec.to_builtins(ruling)

    def _release(self) -> dict[str, Any]:
        ruling, state = self._left("gate"), self.loop.state()
        number, decision, chosen = self.here.number, ruling["decision"], ruling["chosen"]
        tested = (
            {"tests": {**state.tests, str(number): decision == "promote"}}
            if ruling.get("level")
            else {}
        )
        first = (
            "shadow" if self.config.serve.shadow else "canary" if self.config.serve.canary else ""
        )
        if first and decision == "promote":
            if (
                not state.shadow
                and not state.canary
                and state.serving == self._left("trial")["serving"]
            ):
                state = self.loop.keep(msgspec.structs.replace(state, **{first: chosen}, **tested))
            under_way = (
                {"shadow": "shadow", "canary": "trial"}[first]
                if chosen in (state.shadow, state.canary)
                else "wait"
            )
            return {"decision": under_way, "reasons": ruling["reasons"], "serving": state.serving}
        if decision == "ask":
            self.loop.keep(
                msgspec.structs.replace(
                    state, waiting={**state.waiting, str(number): chosen}, **tested
                )
            )
        elif decision == "promote" and state.history[-1].round != number:
            self.loop.release(chosen, "promoted", number, **tested)
        elif decision == "refuse":
            self.loop.keep(msgspec.structs.replace(state, **tested))
        return {
            "decision": decision,
            "reasons": ruling["reasons"],
            "serving": self.loop.state().serving,
        }

    def _left(self, step: str) -> dict[str, Any]:
        found = self.here.done(step)
        assert found is not None, step
        return found

    def _last(self, step: str) -> str:
        """What the same step made in an earlier round."""
        for other in reversed(self.loop.rounds()):
            if other.number < self.here.number and (made := (other.done(step) or {}).get("made")):
                return str(made)
        return ""

    def _judge(self) -> RewardModel | Transformer | None:
        """What scores fresh answers at the gate: the round's reward model."""
        made = (self.here.done("reward") or {}).get("made") or self._last("reward")
        return reward_files.load(made) if made else None

    def _rewards(self) -> Rewards | None:
        model = self._judge() if self.config.reward is not None and self.config.reward.use else None
        return None if model is None else of_function(of_model(model), "reward model")


def make_reward(
    config: Config, data: Data, before: str, serving: str, folder: Path, progress: Progress
) -> Path:
    """A reward model from judged answers: the last round's goes on learning, it does not start
    again from nothing.
    """
    plan, rows = config.reward, {"helpful": data.examples}
    assert plan is not None
    old = reward_files.load(before) if before else None
    if not plan.recipe:
        reward_files.save(
            update(old, rows, plan.keep) if isinstance(old, RewardModel) else train_embedded(rows),
            folder,
        )
        return folder
    recipe = msgspec.convert(
        {**plan.recipe, "base": str(Path(before) / "member-0") if before else serving}, RewardRecipe
    )
    folder.mkdir(parents=True, exist_ok=True)
    made = train_transformer(
        rows, recipe, folder, progress=lambda done, total: progress("reward", done, total)
    )
    reward_files.save_transformer(made, recipe, folder)
    return folder
