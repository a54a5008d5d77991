"""Rounds: gather logs, read them, learn, and release a better policy, over and over.

A round is a folder with everything needed to repeat it: the logs with their digests, the versions
of the lake and of the code, the configuration, the lessons, the models with the users they learned
from, the gate's answers and its ruling. A completed step is never repeated; a killed loop resumes
after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from upshot.errors import InputError, LakeError, NothingToLearnError
from upshot.io import json_lines
from upshot.lake import Lake
from upshot.loop import lessons
from upshot.loop.config import Config, RewardPlan
from upshot.loop.examine import examine, examine_in_shadow
from upshot.loop.forget import read_journal
from upshot.loop.gate import trial
from upshot.loop.gather import Collect, LogRequest, gather
from upshot.loop.results import (
    AgreementResult,
    Candidate,
    GateResult,
    GatherResult,
    LessonCounts,
    PolicyResult,
    ReadResult,
    ReleaseResult,
    RewardResult,
    RoundResult,
    ShadowResult,
    TrialResult,
)
from upshot.loop.state import Loop, Round, State, code_version, write
from upshot.policy.data import Data, read_data
from upshot.policy.rewards import Rewards, wrap_function, wrap_model
from upshot.policy.train import train
from upshot.preferences.from_lake import Curve
from upshot.reward import RewardModel
from upshot.reward import files as reward_files
from upshot.reward.model import train as train_embedded
from upshot.reward.recipe import Recipe as RewardRecipe
from upshot.reward.transformer import Transformer
from upshot.reward.transformer import train as train_transformer
from upshot.reward.update import update

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
MIN_REWARD_ROWS = 40
"""Rows below which no reward model is trained; set by hand: fewer fill no held-out fold."""


@dataclass(frozen=True)
class Verbs:
    """What a loop does with a lake; `api.loops` supplies it."""

    read_logs: Callable[[Sequence[Path]], ReadResult]
    """Ingest, link and judge files."""
    lake: Callable[[], Lake]
    curve: Callable[[], Curve | None]
    """The calibration that people's labels taught, where there is one."""
    collect: Collect | None = None
    """Writes a round's log; None: the configuration says where logs are."""
    scores: lessons.Scores | None = None
    """Another judge instead of the lake's verdicts: for comparing judges."""


def run(
    config: Config,
    verbs: Verbs,
    rounds: int = 1,
    progress: Progress = lambda stage, done, total: None,
) -> list[RoundResult]:
    """Run this many rounds; an interrupted one is finished first, and counts.

    Raises:
        InputError: somebody has to approve or refuse a candidate first, or call a forgetting again
            that was interrupted; there is nothing new to learn from.
    """
    loop = Loop(Path(config.folder))
    loop.open(config.base)
    if read_journal(loop) is not None:
        raise InputError(
            f"could not go on with {loop.folder}: the forgetting of a user was interrupted, and"
            " models are missing; call `upshot loop forget` again first"
        )
    results: list[RoundResult] = []
    for _ in range(rounds):
        state = loop.state()
        if state.waiting:
            name, policy = next(iter(state.waiting.items()))
            raise InputError(
                f"could not go on: round {name} waits for a person to look at {policy}; `upshot"
                " loop approve` or `upshot loop approve --refuse`"
            )
        earlier = loop.rounds()
        is_open = bool(earlier) and earlier[-1].record("release") is None
        current = earlier[-1] if is_open else loop.round(len(earlier) + 1)
        results.append(_RoundRunner(config, verbs, loop, current, progress).run())
    return results


def resume(
    config: Config,
    verbs: Verbs,
    round: Round,
    progress: Progress = lambda stage, done, total: None,
) -> RoundResult:
    """Run the steps of a round that are not complete: after a user was forgotten."""
    return _RoundRunner(config, verbs, Loop(Path(config.folder)), round, progress).run()


class _RoundRunner:
    """One round, step by step."""

    def __init__(
        self, config: Config, verbs: Verbs, loop: Loop, round: Round, progress: Progress
    ) -> None:
        self.config = config
        self.verbs = verbs
        self.loop = loop
        self.round = round
        self.progress = progress

    def run(self) -> RoundResult:
        """Run every step that is not complete yet."""
        steps: dict[str, Callable[[], msgspec.Struct]] = {
            "gather": self._gather,
            "read": self._read,
            "shadow": self._decide_shadow,
            "trial": self._decide_trial,
            "learn": self._write_lessons,
            "agree": self._weigh_agreement,
            "reward": self._train_reward,
            "policy": self._train_candidates,
            "gate": self._examine_candidates,
            "release": self._release,
        }
        write(self.round.folder / "config.json", self.config)
        name = f"round {self.round.number}"
        for number, (step, make) in enumerate(steps.items()):
            self.progress(name, number, len(steps))
            self.round.run_step(step, make)
        self.progress(name, len(steps), len(steps))
        end = self._result("release", ReleaseResult)
        return RoundResult(self.round.number, end.decision, end.reasons, end.serving)

    def _gather(self) -> GatherResult:
        state = self.loop.state()
        gathered = [other.load("gather", GatherResult) for other in self.loop.rounds()]
        request = LogRequest(
            state.serving,
            self.round.number,
            self.config.seed * 1_000 + self.round.number,
            state.canary,
            self.config.serve.canary if state.canary else 0.0,
        )
        began = datetime.now(UTC)
        logs = gather(
            self.config.gather,
            request,
            self.round.folder / "logs",
            [digest for result in gathered if result for digest in result.logs.values()],
            self.verbs.collect,
        )
        return GatherResult(
            logs, state.serving, state.canary, state.shadow, code_version(), began.isoformat()
        )

    def _read(self) -> ReadResult:
        names = self._result("gather", GatherResult).logs
        result = self.verbs.read_logs([self.round.folder / "logs" / name for name in names])
        lake = self.verbs.lake()
        tables = ("conversations", "messages", "events", "threads", "verdicts")
        versions = {name: lake.version(name) for name in tables if lake.exists(name)}
        return msgspec.structs.replace(result, lake=versions)

    def _decide_shadow(self) -> ShadowResult:
        """Let the guards decide on a candidate that answered unseen: on to a share of the users,
        or into service.
        """
        gathered, state = self._result("gather", GatherResult), self.loop.state()
        candidate = gathered.shadow
        if not candidate or state.shadow != candidate:
            return ShadowResult()
        prompts = lessons.sample_requests(
            self.verbs.lake(),
            datetime.fromisoformat(gathered.began),
            self.config.serve.shadow,
            self.config.learn.prompts,
        )
        json_lines.write(prompts, lessons.files_in(self.round.folder).shadow)
        ruling = examine_in_shadow(self.config, self.round, candidate, prompts, self._judge())
        number = self.loop.round_of(candidate)
        state = msgspec.structs.replace(state, shadow="")
        if ruling.decision == "ask":
            waiting = {**state.waiting, str(number): candidate}
            self.loop.save(msgspec.structs.replace(state, waiting=waiting))
        elif ruling.decision == "promote" and self.config.serve.canary:
            self.loop.save(msgspec.structs.replace(state, canary=candidate))
        elif ruling.decision == "promote":
            self.loop.release(candidate, "promoted", number, shadow="")
        else:
            self.loop.save(state)
        return ShadowResult(ruling.decision, ruling.reasons, ruling.guards)

    def _decide_trial(self) -> TrialResult:
        """Decide on a candidate that a share of the users got by what came of its answers."""
        gathered, state = self._result("gather", GatherResult), self.loop.state()
        canary = gathered.canary
        if not canary or state.canary != canary:  # none was under way, or a killed run decided it
            return TrialResult(state.serving)
        present, candidate = lessons.verdicts_by_model(
            self.verbs.lake(),
            datetime.fromisoformat(gathered.began),
            [gathered.serving, canary],
            self.verbs.curve(),
            self.verbs.scores,
        )
        outcome = trial(
            present, candidate, self.config.serve.least_users, state.before, self.config.gate
        )
        if outcome.decision != "wait":
            promoted = outcome.decision == "promote"
            tests = {**state.tests, str(self.round.number): promoted}
            if promoted:
                state = self.loop.release(
                    canary, "promoted", self.round.number, canary="", tests=tests
                )
            else:
                state = self.loop.save(msgspec.structs.replace(state, canary="", tests=tests))
        return TrialResult(
            state.serving,
            outcome.decision,
            outcome.difference,
            outcome.low,
            outcome.level,
            outcome.users,
        )

    def _write_lessons(self) -> LessonCounts:
        plan = self.config.learn
        gathered = [
            result
            for other in self.loop.rounds()
            if other.number > self.round.number - plan.recent
            and (result := other.load("gather", GatherResult)) is not None
        ]
        return lessons.write(
            self.verbs.lake(),
            self.round.folder,
            min(datetime.fromisoformat(result.began) for result in gathered),
            plan.splits,
            plan.prompts,
            curve=self.verbs.curve(),
            scores=self.verbs.scores,
        )

    def _weigh_agreement(self) -> AgreementResult:
        recipe = self.config.recipe(self._serving())
        return lessons.weigh_agreement(self.round.folder, recipe, self.config.learn, self.progress)

    def _train_reward(self) -> RewardResult:
        if self.config.reward is None:
            return RewardResult("")
        data = read_data([lessons.files_in(self.round.folder).examples])
        if len(data.examples) < MIN_REWARD_ROWS:
            why = f"{len(data.examples)} judged answers; at least {MIN_REWARD_ROWS} are needed"
            return RewardResult("", why=why)
        previous = self._previous_reward()
        folder = make_reward(
            self.config.reward,
            data,
            previous,
            self._serving(),
            self.round.folder / "reward",
            progress=self.progress,
        )
        return RewardResult(str(folder), previous)

    def _train_candidates(self) -> PolicyResult:
        data = lessons.read_training_data(self.round.folder)
        if not data.rows:
            return PolicyResult([], "no verdict of this round is sure enough to teach")
        candidates: list[Candidate] = []
        rewards = self._rewards()
        for number in range(self.config.learn.candidates):
            recipe = self.config.recipe(self._serving(), number)
            folder = self.round.folder / f"policy-{number}"
            try:
                trained = train(recipe, data, folder, rewards, progress=self.progress)
            except NothingToLearnError as error:  # the next round may teach more
                return PolicyResult([], str(error))
            candidates.append(
                Candidate(str(folder), trained.kl, trained.steps, trained.seconds, trained.stopped)
            )
        return PolicyResult(candidates)

    def _examine_candidates(self) -> GateResult:
        trained = self._result("policy", PolicyResult)
        if not trained.candidates:
            return GateResult("refuse", "", None, None, 0.0, [trained.why or "no candidate"], {})
        return examine(
            self.config,
            self.round,
            self.loop.state(),
            [candidate.policy for candidate in trained.candidates],
            self._judge(),
            serving=self._serving(),
        )

    def _release(self) -> ReleaseResult:
        ruling, state = self._result("gate", GateResult), self.loop.state()
        number, serve = self.round.number, self.config.serve
        if ruling.level:
            tests = {**state.tests, str(number): ruling.decision == "promote"}
            state = msgspec.structs.replace(state, tests=tests)
        first = "shadow" if serve.shadow else "canary" if serve.canary else ""
        if first and ruling.decision == "promote":
            return self._start_trial(first, ruling, state)
        if ruling.decision == "ask":
            waiting = {**state.waiting, str(number): ruling.chosen}
            self.loop.save(msgspec.structs.replace(state, waiting=waiting))
        elif ruling.decision == "promote" and state.history[-1].round != number:
            self.loop.release(ruling.chosen, "promoted", number, tests=state.tests)
        elif ruling.decision == "refuse":
            self.loop.save(state)
        return ReleaseResult(ruling.decision, ruling.reasons, self.loop.state().serving)

    def _start_trial(self, first: str, ruling: GateResult, state: State) -> ReleaseResult:
        """Send a candidate into the shadow or to a share of the users, unless one is there."""
        is_free = not state.shadow and not state.canary and state.serving == self._serving()
        if is_free:
            state = self.loop.save(msgspec.structs.replace(state, **{first: ruling.chosen}))
        names = {"shadow": "shadow", "canary": "trial"}
        under_way = ruling.chosen in (state.shadow, state.canary)
        decision = names[first] if under_way else "wait"
        return ReleaseResult(decision, ruling.reasons, state.serving)

    def _result(self, step: str, kind: type[T]) -> T:
        result = self.round.load(step, kind)
        if result is None:
            raise LakeError(
                f"could not go on with {self.round.folder}: {step}.json is missing; restore it, or"
                " remove the later steps' files too"
            )
        return result

    def _serving(self) -> str:
        """The policy that the round goes on from."""
        return self._result("trial", TrialResult).serving

    def _previous_reward(self) -> str:
        """The reward model that an earlier round made."""
        for other in reversed(self.loop.rounds()):
            result = other.load("reward", RewardResult)
            if other.number < self.round.number and result is not None and result.made:
                return result.made
        return ""

    def _judge(self) -> RewardModel | Transformer | None:
        """What scores fresh answers at the gate: the round's reward model."""
        result = self.round.load("reward", RewardResult)
        folder = (result.made if result else "") or self._previous_reward()
        return reward_files.load(folder) if folder else None

    def _rewards(self) -> Rewards | None:
        model = self._judge() if self.config.reward is not None and self.config.reward.use else None
        return None if model is None else wrap_function(wrap_model(model), "reward model")


def make_reward(
    plan: RewardPlan,
    data: Data,
    previous: str,
    serving: str,
    folder: Path,
    *,
    progress: Progress,
) -> Path:
    """Train a reward model on judged answers; it goes on from the previous round's, if there is
    one, rather than from scratch.
    """
    rows = {"helpful": data.examples}
    if not plan.recipe:
        old = reward_files.load(previous) if previous else None
        updated = (
            update(old, rows, plan.keep) if isinstance(old, RewardModel) else train_embedded(rows)
        )
        reward_files.save(updated, folder)
        return folder
    base = str(Path(previous) / "member-0") if previous else serving
    recipe = msgspec.convert({**plan.recipe, "base": base}, RewardRecipe)
    folder.mkdir(parents=True, exist_ok=True)
    model = train_transformer(
        rows, recipe, folder, progress=lambda done, total: progress("reward", done, total)
    )
    reward_files.save_transformer(model, recipe, folder)
    return folder
