"""One training run of a policy, whatever the method: opening, resuming, metrics, bounds, saving.

A run's folder is its policy, which any library opens; beside the weights stand `metrics.jsonl`,
`policy.json` (written last: the run is whole),
`users.json` (whom it learned from) and `card.md`. While it runs, checkpoints lie in it; a killed
run goes on from the last.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from upshot.errors import InputError
from upshot.hub.loss_masks import open_tokenizer, prompt_ids
from upshot.hub.sampling import Drawing, open_policy
from upshot.hub.trainers import is_main, last_checkpoint, quiet
from upshot.io import json_lines
from upshot.policy.data import Asked, Data
from upshot.policy.guard import Guard
from upshot.policy.kl import Bound, Distance, has_adapter, measure
from upshot.policy.recipe import Recipe, adapter, arguments
from upshot.policy.rewards import Rewards

Progress = Callable[[str, int, int], None]
MARK = "policy.json"


class Trained(msgspec.Struct, frozen=True):
    """What a run did."""

    method: str
    base: str
    rows: int
    users: int
    steps: int
    seconds: float
    kl: float | None
    """Nats an answer, from the base."""
    kl_error: float | None
    stopped: str
    """Why it ended before its time; empty: it did not."""
    memory_gb: float
    """Most that the process has held, or the GPU where there is one."""
    recipe: Recipe


@dataclass(frozen=True)
class Job:
    """What a method is given."""

    recipe: Recipe
    folder: Path
    data: Data
    rewards: Rewards | None = None
    guard: Guard | None = None
    progress: Progress = lambda stage, done, total: None

    @cached_property
    def tokenizer(self) -> Any:
        """Of the base, padding where prompts are padded."""
        return open_tokenizer(self.recipe.base)

    @property
    def checkpoints(self) -> Path:
        """Where the run is while it runs."""
        return self.folder / "checkpoints"

    def arguments(self, kind: type[Any], **usual: Any) -> Any:
        """The library's configuration, checkpoints in this run's folder."""
        return arguments(self.recipe, kind, self.checkpoints, **usual)

    def model(self) -> Any:
        """The base to train: an adapter goes on as an adapter, anything else gets the recipe's."""
        return open_trainable(self.recipe)

    @property
    def adapts(self) -> bool:
        """Is the base an adapter already, which goes on as one?"""
        return (Path(self.recipe.base) / "adapter_config.json").is_file()

    @property
    def penalty(self) -> dict[str, float]:
        """The coefficient of the KL penalty as TRL calls it, where the recipe says one."""
        return {} if self.recipe.kl.coefficient is None else {"beta": self.recipe.kl.coefficient}

    def with_reference(self, kind: type[Any], **usual: Any) -> tuple[Any, Any]:
        """Model and configuration for trainers that compare with the base: an adapter is switched
        off for that, a whole model is named by its path and loaded twice.
        """
        if self.recipe.lora is not None or self.adapts:
            return self.model(), self.arguments(kind, **usual)
        return self.recipe.base, self.arguments(
            kind, model_init_kwargs={"dtype": "float32", **self.recipe.init}, **usual
        )

    def part(self, name: str, base: str, seed: int) -> Job:
        """A run within this run, in a folder of its own."""
        return replace(
            self,
            recipe=msgspec.structs.replace(self.recipe, base=base, seed=seed),
            folder=self.folder / name,
        )

    def need_rewards(self) -> Rewards:
        """The rewards.

        Raises:
            InputError: there are none.
        """
        if self.rewards is None:
            raise InputError(
                f"could not train by {self.recipe.method}: it draws answers and needs to know what"
                " they are worth; name a --reward"
            )
        return self.rewards

    def need(self, what: str) -> Sequence[Any]:
        """Rows of a kind: pairs, examples, runs or prompts.

        Raises:
            InputError: there are none.
        """
        found = getattr(self.data, what)
        if not found:
            has = (
                ", ".join(
                    kind
                    for kind in ("pairs", "examples", "runs", "prompts")
                    if getattr(self.data, kind)
                )
                or "nothing"
            )
            raise InputError(
                f"could not train by {self.recipe.method}: it learns from {what}, and the data has"
                f" {has}; see `upshot train policy --explain {self.recipe.method}`"
            )
        return found

    @quiet()
    def run(self, trainer: Any, look: Callable[[Any, int], float | None] | None = None) -> Path:
        """Train to the end, or on from where a killed run was, and write the policy into the
        folder.

        `look`: the KL that the trainer itself sees at a step; without it a bound is kept by
        measuring.
        """
        started = time.monotonic()
        bound = Bound(self.recipe.kl, look or self._measured)
        seen = _Seen(self.folder / "metrics.jsonl", self.progress, self.recipe.method)
        trainer.remove_callback(PrinterCallback)
        for callback in (seen, bound, *([self.guard.callback()] if self.guard else [])):
            trainer.add_callback(callback)
        last = last_checkpoint(self.checkpoints)
        seen.forget_after(_step_of(last))
        trainer.train(resume_from_checkpoint=last)
        trainer.accelerator.wait_for_everyone()
        model = trainer.accelerator.unwrap_model(trainer.model)
        distance = self.distance(model)
        if is_main():
            stopped = bound.stopped or (self.guard.stopped if self.guard else "")
            self._save(
                trainer,
                Trained(
                    self.recipe.method,
                    self.recipe.base,
                    self.data.rows,
                    len(self.data.users),
                    trainer.state.global_step,
                    time.monotonic() - started,
                    distance.nats,
                    distance.error,
                    stopped,
                    _memory_gb(),
                    self.recipe,
                ),
            )
        trainer.accelerator.wait_for_everyone()
        return self.folder

    def _save(self, trainer: Any, done: Trained) -> None:
        with quiet():
            trainer.save_model(str(self.folder))
            self.tokenizer.save_pretrained(self.folder)
        (self.folder / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody needs
        (self.folder / "README.md").unlink(missing_ok=True)
        finish(self.folder, done, self.data.users)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def prompts(self, count: int) -> list[Asked]:
        """So many of the prompts, spread evenly."""
        found = self.data.prompts
        return [
            found[i * len(found) // min(count, len(found))] for i in range(min(count, len(found)))
        ]

    @property
    def drawing(self) -> Drawing:
        """How this run draws answers, outside its trainer."""
        return Drawing(
            self.recipe.draw.max_tokens, self.recipe.draw.temperature, seed=self.recipe.seed
        )

    def distance(self, model: Any, base: Any = None) -> Distance:
        """KL of a policy's answers to some of the prompts, from `base` or from what this run began
        with.
        """
        ids = [
            prompt_ids(self.tokenizer, one.turns) for one in self.prompts(self.recipe.kl.prompts)
        ]
        base = base or (None if has_adapter(model) else self._base)
        return measure(model, base, self.tokenizer, ids, self.drawing)

    @cached_property
    def _base(self) -> Any:
        return open_policy(self.recipe.base, **self.recipe.init)

    def _measured(self, model: Any, step: int) -> float | None:
        rule = self.recipe.kl
        return (
            self.distance(model).nats if rule.stop is not None and step % rule.every == 0 else None
        )

    def kept(
        self, name: str, make: Callable[[], Iterable[Mapping[str, Any]]]
    ) -> list[dict[str, Any]]:
        """Rows made once and kept in the folder, so that a killed run does not make them again."""
        path = self.folder / name
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            json_lines.write(make(), path)
        return [json.loads(line) for line in path.read_bytes().splitlines()]


@quiet()
def open_trainable(recipe: Recipe) -> Any:
    """The base to train: a folder with an adapter goes on training it, unmerged; else the whole
    model.

    Raises:
        ConfigError: it cannot be loaded.
    """
    if (Path(recipe.base) / "adapter_config.json").is_file():
        from peft import PeftConfig, PeftModel

        inner = PeftConfig.from_pretrained(recipe.base).base_model_name_or_path
        return PeftModel.from_pretrained(
            open_policy(str(inner), **recipe.init), recipe.base, is_trainable=True
        )
    return open_policy(recipe.base, **recipe.init)


def lora_of(recipe: Recipe) -> Any:
    """The adapter to put on the base; none, where the base is one already."""
    return None if (Path(recipe.base) / "adapter_config.json").is_file() else adapter(recipe)


def finish(folder: Path, done: Trained, users: Sequence[str]) -> None:
    """Write what is known of a run; the mark last."""
    (folder / "users.json").write_bytes(msgspec.json.encode(users))
    (folder / "card.md").write_text(_card(done), "utf-8")
    json_lines.replace(folder / MARK, msgspec.json.format(msgspec.json.encode(done), indent=1))


def read_trained(folder: Path) -> Trained | None:
    """What a finished run did; None: it is not finished."""
    path = folder / MARK
    return msgspec.json.decode(path.read_bytes(), type=Trained) if path.is_file() else None


def _card(done: Trained) -> str:
    kl = (
        "not measured"
        if done.kl is None
        else f"{done.kl:.2f} ± {done.kl_error or 0:.2f} nats an answer"
    )
    stopped = f"\nIt ended early: {done.stopped}.\n" if done.stopped else ""
    return (
        f"# Policy\n\nTrained from `{done.base}` by `{done.method}` on {done.rows:,} rows of"
        f" {done.users:,} users, {done.steps:,} steps in {done.seconds:.0f} s. "
        f"KL from its base: {kl}.\n{stopped}\nMetrics by step: `metrics.jsonl`. Whom it learned"
        " from, by pseudonym: `users.json`.\n\n"
        f"```json\n{msgspec.json.format(msgspec.json.encode(done.recipe), indent=1).decode()}\n```\n"
    )


def _step_of(checkpoint: str | None) -> int:
    return int(checkpoint.rpartition("-")[2]) if checkpoint else 0


def _memory_gb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


class _Seen(TrainerCallback):
    """Progress, and one line of metrics for each time the trainer reports."""

    def __init__(self, path: Path, progress: Progress, method: str) -> None:
        self.path, self.progress, self.method = path, progress, method
        self.began = time.monotonic()

    def forget_after(self, step: int) -> None:
        """Of a killed run, what the checkpoint does not hold."""
        if not self.path.is_file():
            return
        lines = [
            line
            for line in self.path.read_text("utf-8").splitlines()
            if line.strip() and json.loads(line)["step"] <= step
        ]
        self.path.write_text("".join(line + "\n" for line in lines), "utf-8")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(self.method, state.global_step, state.max_steps)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = {
            "step": state.global_step,
            "seconds": round(time.monotonic() - self.began, 2),
            **{k: v for k, v in logs.items() if isinstance(v, int | float)},
        }
        with open(self.path, "ab") as handle:
            handle.write(msgspec.json.encode(row) + b"\n")
