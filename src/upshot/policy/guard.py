"""A panel of reward models that watches a policy which is trained on another (`reward.panel`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from upshot.errors import InputError
from upshot.records import Turn
from upshot.reward import RewardModel, load
from upshot.reward.panel import Watch, check_samples

_SAMPLES = 64
"""Latest answers that are looked at: a standard error of an eighth of their spread."""


class Guard:
    """Checks a trainer's latest answers every few steps, and ends training at the first alarm."""

    def __init__(self, trained: RewardModel, panel: Sequence[RewardModel], every: int = 10) -> None:
        self.trained, self.panel, self.every = trained, panel, every
        self.watch, self.stopped = Watch(), ""
        self.answers: deque[tuple[Sequence[Turn], str]] = deque(maxlen=_SAMPLES)

    def show(self, prompts: Sequence[Sequence[Turn]], answers: Sequence[str]) -> None:
        """Take answers that were just sampled."""
        self.answers.extend(zip(prompts, answers, strict=True))

    def callback(self) -> TrainerCallback:
        """The callback of a trainer whose answers are shown."""
        return _Watching(self)

    def alarm(self) -> str:
        """Check the latest answers; why to stop, or nothing."""
        if len(self.answers) < _SAMPLES // 4:
            return ""
        prompts = [[turn.content for turn in prompt] for prompt, _ in self.answers]
        answers = [answer for _, answer in self.answers]
        alarm = check_samples(self.watch, self.trained, self.panel, prompts, answers)
        return alarm.why if alarm else ""


class _Watching(TrainerCallback):
    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.guard.every == 0 and (why := self.guard.alarm()):
            self.guard.stopped = f"the panel raised an alarm at step {state.global_step}: {why}"
            control.should_training_stop = True


def open_guard(trained: str, panel: Sequence[str]) -> Guard | None:
    """A guard of embedded reward models by their folders; None without a panel.

    Raises:
        InputError: one of them is no embedded reward model.
    """
    if not panel:
        return None
    loaded = [load(folder) for folder in (trained, *panel)]
    models = [model for model in loaded if isinstance(model, RewardModel)]
    if len(models) != len(loaded):
        raise InputError(
            "could not make a guard: the trained reward and its panel must be embedded reward"
            " models (`upshot train reward`)"
        )
    return Guard(models[0], models[1:])
