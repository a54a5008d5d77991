# peft has no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
"""One training run of a policy, whatever the method: opening, resuming, metrics, bounds, saving.

A run's folder is its policy, which any library opens. Beside the weights are `metrics.jsonl`,
`users.json` (whose data it learned from), `card.md`, and `policy.json`, which is written last and
marks the run as complete. While it runs its checkpoints are there; a killed run goes on from the
last one.
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
from typing import Any, TypeVar

import msgspec
import torch
from peft import PeftConfig, PeftModel
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from upshot.errors import InputError
from upshot.hub.loss_masks import prompt_ids
from upshot.hub.models import open_policy, open_tokenizer
from upshot.hub.sampling import Drawing
from upshot.hub.trainers import is_main, last_checkpoint, quiet
from upshot.io import json_lines
from upshot.io.writing import replace_file
from upshot.policy.data import Data, Prompt, Run
from upshot.policy.guard import Guard
from upshot.policy.kl import Bound, Distance, has_adapter, measure
from upshot.policy.recipe import Recipe, policy_adapter, read_options, training_arguments
from upshot.policy.rewards import Rewards
from upshot.records import Example, Preference

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Called with a stage, and how much of how much of it is done."""
MARK = "policy.json"
"""The file that marks a run as complete."""


class Trained(msgspec.Struct, frozen=True):
    """What a run did."""

    method: str
    base: str
    rows: int
    users: int
    steps: int
    seconds: float
    kl: float | None
    """Nats per answer, from the base."""
    kl_error: float | None
    stopped: str
    """Why it ended early; empty: it did not."""
    memory_gb: float
    """Peak memory of the process, or of the GPU where there is one."""
    recipe: Recipe
    left_out: int = 0
    """Pairs left out because their chosen answer equals the rejected one."""


@dataclass(frozen=True)
class Job:
    """Everything that a method trains with."""

    recipe: Recipe
    folder: Path
    data: Data
    rewards: Rewards | None = None
    guard: Guard | None = None
    progress: Progress = lambda stage, done, total: None
    trust_remote_code: bool = False
    """Whether the base's own code may run."""

    @cached_property
    def tokenizer(self) -> Any:
        """The base's."""
        return open_tokenizer(self.recipe.base, trust_remote_code=self.trust_remote_code)

    @property
    def model_options(self) -> dict[str, Any]:
        """How the base is opened: the recipe's [init], and whether its own code may run."""
        return {**self.recipe.init, "trust_remote_code": self.trust_remote_code}

    def read_options(self, kind: type[T]) -> T:
        """The recipe's [options] as the method takes them."""
        return read_options(self.recipe, kind)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie while the run goes on."""
        return self.folder / "checkpoints"

    def arguments(self, kind: type[T], **defaults: Any) -> T:
        """The library's configuration, with checkpoints in this run's folder."""
        return training_arguments(self.recipe, kind, self.checkpoints, **defaults)

    def model(self) -> Any:
        """The base to train; an adapter is trained on."""
        return open_trainable(self.recipe, trust_remote_code=self.trust_remote_code)

    @property
    def adapts(self) -> bool:
        """Whether the base is an adapter already, which is trained on."""
        return _is_adapter(self.recipe.base)

    @property
    def penalty(self) -> dict[str, float]:
        """The coefficient of the KL penalty as TRL calls it, where the recipe states one."""
        return {} if self.recipe.kl.coefficient is None else {"beta": self.recipe.kl.coefficient}

    def with_reference(self, kind: type[Any], **defaults: Any) -> tuple[Any, Any]:
        """Model and configuration for trainers that compare with the base.

        An adapter is switched off for the comparison; a whole model is named by its path and loaded
        twice.
        """
        if self.recipe.lora is not None or self.adapts:
            return self.model(), self.arguments(kind, **defaults)
        init = {"dtype": "float32", **self.model_options}
        return self.recipe.base, self.arguments(kind, model_init_kwargs=init, **defaults)

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

    def need_pairs(self) -> Sequence[Preference]:
        """The pairs; raises an `InputError` where there are none."""
        return self._need("pairs", self.data.pairs)

    def need_examples(self) -> Sequence[Example]:
        """The examples; raises an `InputError` where there are none."""
        return self._need("examples", self.data.examples)

    def need_runs(self) -> Sequence[Run]:
        """The runs; raises an `InputError` where there are none."""
        return self._need("runs", self.data.runs)

    def need_prompts(self) -> Sequence[Prompt]:
        """The prompts; raises an `InputError` where there are none."""
        return self._need("prompts", self.data.prompts)

    def _need(self, kind: str, rows: Sequence[T]) -> Sequence[T]:
        if not rows:
            kinds = ("pairs", "examples", "runs", "prompts")
            present = ", ".join(name for name in kinds if getattr(self.data, name)) or "nothing"
            raise InputError(
                f"could not train by {self.recipe.method}: it learns from {kind}, and the data has"
                f" {present}; see `upshot train policy --explain {self.recipe.method}`"
            )
        return rows

    @quiet()
    def run(self, trainer: Any, read_kl: Callable[[Any, int], float | None] | None = None) -> Path:
        """Train to the end, or on from where a killed run was, and write the policy's folder.

        `read_kl`: the KL that the trainer itself knows at a step; without it KL is measured where
        the recipe bounds it.
        """
        started = time.monotonic()
        bound = Bound(self.recipe.kl, read_kl or self._measure_kl)
        metrics = _MetricsWriter(self.folder / "metrics.jsonl", self.progress, self.recipe.method)
        trainer.remove_callback(PrinterCallback)
        for callback in (metrics, bound, *([self.guard.callback()] if self.guard else [])):
            trainer.add_callback(callback)
        last = last_checkpoint(self.checkpoints)
        metrics.drop_after(_step_of(last))
        trainer.train(resume_from_checkpoint=last)
        trainer.accelerator.wait_for_everyone()
        model = trainer.accelerator.unwrap_model(trainer.model)
        distance = self.distance(model)
        if is_main():
            trained = Trained(
                self.recipe.method,
                self.recipe.base,
                self.data.rows,
                len(self.data.users),
                trainer.state.global_step,
                time.monotonic() - started,
                distance.nats,
                distance.error,
                bound.stopped or (self.guard.stopped if self.guard else ""),
                _memory_gb(),
                self.recipe,
                self.data.left_out,
            )
            self._save(trainer, trained)
        trainer.accelerator.wait_for_everyone()
        return self.folder

    def _save(self, trainer: Any, trained: Trained) -> None:
        with quiet():
            trainer.save_model(str(self.folder))
            self.tokenizer.save_pretrained(self.folder)
        (self.folder / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody needs
        (self.folder / "README.md").unlink(missing_ok=True)
        finish(self.folder, trained, self.data.users)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def spread_prompts(self, count: int) -> list[Prompt]:
        """At most `count` of the prompts, spread evenly."""
        prompts = self.data.prompts
        count = min(count, len(prompts))
        return [prompts[i * len(prompts) // count] for i in range(count)]

    @property
    def drawing(self) -> Drawing:
        """How this run samples answers outside its trainer."""
        return Drawing(
            self.recipe.draw.max_tokens, self.recipe.draw.temperature, seed=self.recipe.seed
        )

    def distance(self, model: Any, base: Any = None) -> Distance:
        """KL of a policy's answers to some of the prompts, from `base` or this run's own base."""
        prompts = self.spread_prompts(self.recipe.kl.prompts)
        ids = [prompt_ids(self.tokenizer, prompt.turns) for prompt in prompts]
        base = base or (None if has_adapter(model) else self._base)
        return measure(model, base, self.tokenizer, ids, self.drawing)

    @cached_property
    def _base(self) -> Any:
        return open_policy(self.recipe.base, **self.model_options)

    def _measure_kl(self, model: Any, step: int) -> float | None:
        rule = self.recipe.kl
        is_due = rule.stop is not None and step % rule.every == 0
        return self.distance(model).nats if is_due else None

    def store_rows(
        self, name: str, make_rows: Callable[[], Iterable[Mapping[str, Any]]]
    ) -> list[dict[str, Any]]:
        """Rows of a file in the run's folder; made and written unless a killed run did that."""
        path = self.folder / name
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            json_lines.write(make_rows(), path)
        return [json.loads(line) for line in path.read_bytes().splitlines()]


def _is_adapter(base: str) -> bool:
    return (Path(base) / "adapter_config.json").is_file()


@quiet()
def open_trainable(recipe: Recipe, *, trust_remote_code: bool = False) -> Any:
    """The base to train: an adapter's folder is trained on unmerged, else the whole model.

    Raises:
        ConfigError: it cannot be loaded.
    """
    options = {**recipe.init, "trust_remote_code": trust_remote_code}
    if not _is_adapter(recipe.base):
        return open_policy(recipe.base, **options)
    inner = PeftConfig.from_pretrained(recipe.base).base_model_name_or_path
    model = open_policy(str(inner), **options)
    return PeftModel.from_pretrained(model, recipe.base, is_trainable=True)


def lora_of(recipe: Recipe) -> Any:
    """The adapter to put on the base; None where the base is one already."""
    return None if _is_adapter(recipe.base) else policy_adapter(recipe)


def finish(folder: Path, trained: Trained, users: Sequence[str]) -> None:
    """Write the files that describe a run; the mark last."""
    (folder / "users.json").write_bytes(msgspec.json.encode(users))
    (folder / "card.md").write_text(_render_card(trained), "utf-8")
    replace_file(folder / MARK, msgspec.json.format(msgspec.json.encode(trained), indent=1))


def read_trained(folder: Path) -> Trained | None:
    """The result of a finished run; None: it is not finished."""
    path = folder / MARK
    return msgspec.json.decode(path.read_bytes(), type=Trained) if path.is_file() else None


def _render_card(trained: Trained) -> str:
    kl = (
        "not measured"
        if trained.kl is None
        else f"{trained.kl:.2f} ± {trained.kl_error or 0:.2f} nats per answer"
    )
    stopped = f"\nIt ended early: {trained.stopped}.\n" if trained.stopped else ""
    left_out = (
        f"\nLeft out: {trained.left_out:,} pairs whose chosen answer equals the rejected one.\n"
        if trained.left_out
        else ""
    )
    recipe = msgspec.json.format(msgspec.json.encode(trained.recipe), indent=1).decode()
    return (
        f"# Policy\n\nTrained from `{trained.base}` by `{trained.method}` on {trained.rows:,} rows"
        f" of {trained.users:,} users, {trained.steps:,} steps in {trained.seconds:.0f} s. KL from"
        f" its base: {kl}.\n{stopped}{left_out}\nMetrics by step: `metrics.jsonl`. The users it"
        f" learned from, by pseudonym: `users.json`.\n\n```json\n{recipe}\n```\n"
    )


def _step_of(checkpoint: str | None) -> int:
    return int(checkpoint.rpartition("-")[2]) if checkpoint else 0


def _memory_gb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


class _MetricsWriter(TrainerCallback):
    """Reports progress, and writes one line of metrics each time the trainer logs."""

    def __init__(self, path: Path, progress: Progress, method: str) -> None:
        self.path, self.progress, self.method = path, progress, method
        self.began = time.monotonic()

    def drop_after(self, step: int) -> None:
        """Drop the lines of a killed run that its checkpoint does not cover."""
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
