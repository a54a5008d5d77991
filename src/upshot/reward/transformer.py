# torch, transformers, accelerate, datasets, peft and trl have no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false
"""A Hugging Face model with a scoring head as a reward model, trained by TRL's `RewardTrainer`.

A head of pairs has one logit, its reward (Bradley-Terry with margins); a head of scores has one for
each of `LEVELS`, P(score > level), and their mean is its reward. All heads share the body; each row
trains its own head alone, with its weight. Users are held out for calibration and accuracy. The
effect of form alone on the reward (edits by `restyle`; a linear model of length, layout and marks)
is taken out when scoring. Members of an ensemble differ by seed or by the users they are trained
on; where they disagree, the reward is uncertain.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import msgspec
import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from numpy.typing import NDArray
from peft import PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.reward_trainer import RewardTrainer

from upshot.errors import ConfigError, InputError
from upshot.hub.loss_masks import apply_template
from upshot.hub.models import explain_failure, open_tokenizer, to_device
from upshot.hub.padding import pad_tokens
from upshot.hub.trainers import cpu_settings, is_main, last_checkpoint, quiet
from upshot.records import Example, Preference, Turn
from upshot.records.verdicts import EVEN
from upshot.reward import private
from upshot.reward.batches import (
    Rows,
    answer_text,
    as_examples,
    as_pairs,
    drop_equal_pairs,
    prompt_texts,
    row_owner,
    users_of,
)
from upshot.reward.calibration import Calibration, calibrate, soften
from upshot.reward.domain import Domain, learn, unfamiliarity
from upshot.reward.features import FORM, Features, features, surface_features
from upshot.reward.model import LEVELS, MIN_ROWS, Score, is_inside
from upshot.reward.private import Privacy
from upshot.reward.ratings import take_out_rater_effects
from upshot.reward.recipe import (
    Recipe,
    has_no_weights,
    scoring_adapter,
    scoring_config,
    training_arguments,
)
from upshot.reward.restyle import EDITS, MOVED
from upshot.stats.sampling import draw

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
_BATCH = 16
"""Sequences scored together."""
_RIDGE = 10.0
"""Precision of the slopes of form, as much as ten edits say."""
_EDITED = 200
"""Responses whose form is edited."""
_CLIP = 5.0
"""Features of form are cut off at so many spreads."""
_MIN_SPREAD = 1e-3
"""Added to a feature's spread before it is divided by."""


@dataclass(frozen=True)
class Head:
    """One objective, and the logits it reads."""

    name: str
    kind: Literal["pairs", "scores"]
    columns: tuple[int, ...]
    calibration: Calibration
    rows: int
    accuracy: Mapping[str, float]
    """Share of held-out pairs put right (or of scores on the right side of one half), by slice."""


@dataclass(frozen=True)
class Form:
    """The effect of form on each head's reward."""

    centre: Array
    spread: Array
    slope: Array
    """Shape (features, heads)."""

    def effect(self, surface: Array) -> Array:
        """Shape (responses, heads)."""
        return np.clip((surface - self.centre) / self.spread, -_CLIP, _CLIP) @ self.slope


@dataclass(frozen=True)
class Transformer:
    """A trained ensemble. Made by `train`, kept by `files`."""

    members: tuple[Any, ...]
    tokenizer: Any
    max_length: int
    heads: tuple[Head, ...]
    centre: Array
    """Mean reward of the training responses, by head."""
    form: Form
    domain: Domain | None
    users: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    base: str = ""
    epsilon: float | None = None
    """Of differential privacy, by user; None: not private."""
    delta: float = 0.0
    left_out: int = 0
    """Pairs left out because their chosen response equals the rejected one."""
    raters: bool = False
    """Whether rater effects were taken out of the scored examples."""

    def with_weights(self, weights: Mapping[str, float]) -> Transformer:
        """The same heads, combined by other weights.

        Raises:
            InputError: no head has such a name.
        """
        if unknown := sorted(set(weights) - {head.name for head in self.heads}):
            raise InputError(
                f"could not weigh heads {unknown}: the model has"
                f" {[head.name for head in self.heads]}"
            )
        return replace(self, weights=dict(weights))

    def rewards(
        self, prompts: Sequence[Sequence[Turn]], completions: Sequence[Sequence[Turn]]
    ) -> Array:
        """Raw rewards in logits, shape (members, responses, heads), the effect of form included."""
        ids = [
            encode(self.tokenizer, (*p, *c), self.max_length)
            for p, c in zip(prompts, completions, strict=True)
        ]
        return np.stack(
            [
                _by_head(compute_logits(member, ids, self.tokenizer.pad_token_id), self.heads)
                for member in self.members
            ]
        )

    def score(
        self, prompts: Sequence[Sequence[Turn]], completions: Sequence[Sequence[Turn]]
    ) -> list[Score]:
        """Score responses."""
        if not completions:
            return []
        requests, answers = (
            [prompt_texts(p) for p in prompts],
            [answer_text(c) for c in completions],
        )
        table = features(requests, answers)
        raw = self.rewards(prompts, completions) - self.centre
        form = self.form.effect(_moved(table))
        content = raw - form
        weight = np.array([self.weights.get(head.name, 1.0) for head in self.heads])
        total = content @ weight
        spread, variance, mean = (
            np.sqrt(_disagreement(total)),
            _disagreement(content),
            content.mean(axis=0),
        )
        alone = len(self.members) == 1
        better = np.mean(
            [
                head.calibration.apply(soften(mean[:, h], variance[:, h]))
                for h, head in enumerate(self.heads)
            ],
            axis=0,
        )
        distance = (
            None
            if self.domain is None
            else unfamiliarity(self.domain, requests, answers, surface_features(table))
        )
        return [
            Score(
                float(total[:, i].mean()),
                None if alone else float(spread[i]),
                float(better[i]),
                is_inside(self.domain, distance, i),
                None if distance is None else float(distance[i]),
                {"text": float(total[:, i].mean()), "form": float(form[i] @ weight)},
                {head.name: float(mean[i, h]) for h, head in enumerate(self.heads)},
            )
            for i in range(len(answers))
        ]


class Item(NamedTuple):
    """One row, tokenised. A pair has two sequences, a scored response one."""

    ids: tuple[list[int], ...]
    margin: float
    """Of a pair; the score of a scored response."""
    weight: float
    head: int
    owner: str


def encode(tokenizer: Any, turns: Sequence[Turn], max_length: int) -> list[int]:
    """Token ids by the chat template; what is too long loses its beginning.

    Raises:
        InputError: the model's chat template refuses the messages.
    """
    if tokenizer.chat_template is None:
        text = "".join(f"{turn.role}: {turn.content}\n" for turn in turns)
        return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id][
            -max_length:
        ]
    return apply_template(tokenizer, turns)[-max_length:]


def compute_logits(model: Any, ids: Sequence[Sequence[int]], pad: int) -> Array:
    """Logits of sequences of tokens, shape (sequences, columns); long ones share batches."""
    device = next(model.parameters()).device
    order = np.argsort([-len(row) for row in ids], kind="stable")
    out = np.zeros((len(ids), model.config.num_labels))
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            tokens, mask = pad_tokens([ids[int(i)] for i in rows], pad, device=device)
            outputs = model(input_ids=tokens, attention_mask=mask, use_cache=False)
            out[rows] = outputs.logits.float().cpu().numpy()
    return out


def collate(items: Sequence[Item], pad: int) -> dict[str, torch.Tensor]:
    """A batch: the first sequences of all rows, then the second ones of pairs.

    `second` holds where a row's second sequence is, -1 where it has none.
    """
    sequences = [item.ids[0] for item in items]
    second: list[int] = []
    for item in items:
        second.append(len(sequences) if len(item.ids) > 1 else -1)
        sequences += item.ids[1:]
    tokens, mask = pad_tokens(sequences, pad)
    return {
        "input_ids": tokens,
        "attention_mask": mask,
        "second": torch.tensor(second),
        "margin": torch.tensor([item.margin for item in items]),
        "weight": torch.tensor([item.weight for item in items]),
        "head": torch.tensor([item.head for item in items]),
    }


def row_losses(
    logits: torch.Tensor, batch: Mapping[str, torch.Tensor], columns: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unweighted loss of each row, and 1.0 where the model is right about it.

    `logits`: logits, shape (sequences, columns).
    """
    rows = len(batch["second"])
    loss, right = [logits.new_zeros(()) for _ in range(rows)], logits.new_zeros(rows)
    for i in range(rows):
        own = list(columns[int(batch["head"][i])])
        other = int(batch["second"][i])
        if other >= 0:
            difference = logits[i, own[0]] - logits[other, own[0]]
            loss[i] = -torch.nn.functional.logsigmoid(difference - batch["margin"][i])
            right[i] = (difference > 0).float()
        else:
            above = (batch["margin"][i] > torch.tensor(LEVELS, device=logits.device)).to(
                logits.dtype
            )
            loss[i] = torch.nn.functional.binary_cross_entropy_with_logits(logits[i, own], above)
            right[i] = ((logits[i, own].mean() > 0) == (batch["margin"][i] > 0.5)).float()
    return torch.stack(loss), right


class WeightedRewardTrainer(RewardTrainer):
    """TRL's trainer with weights, ordinal heads and several objectives."""

    columns: Sequence[Sequence[int]] = ()
    mean_weight = 1.0

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, dataset_name: str
    ) -> Any:
        return dataset  # it is tokenised

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        )
        logits = outputs.logits.float()
        by_row, right = row_losses(logits, inputs, self.columns)
        loss = (by_row * inputs["weight"] / self.mean_weight).mean()
        args: Any = self.args
        if args.center_rewards_coefficient is not None:
            loss = loss + args.center_rewards_coefficient * (logits**2).mean()
        gathered: Any = self.accelerator.gather_for_metrics(right)
        self._metrics["train" if model.training else "eval"]["accuracy"].append(
            gathered.mean().item()
        )
        return (loss, outputs) if return_outputs else loss


class _ReportProgress(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(state.global_step, state.max_steps)


def lay_out_heads(
    data: Mapping[str, Rows],
) -> list[tuple[str, Literal["pairs", "scores"], tuple[int, ...]]]:
    """Name, kind and columns of each head.

    Raises:
        InputError: a set has too few rows.
    """
    out: list[tuple[str, Literal["pairs", "scores"], tuple[int, ...]]] = []
    start = 0
    for name, rows in data.items():
        if len(rows) < MIN_ROWS:
            raise InputError(
                f"could not train head {name!r} on {len(rows)} rows: at least {MIN_ROWS} are needed"
            )
        size = 1 if isinstance(rows[0], Preference) else len(LEVELS)
        out.append((name, "pairs" if size == 1 else "scores", tuple(range(start, start + size))))
        start += size
    return out


def make_items(data: Mapping[str, Rows], tokenizer: Any, max_length: int) -> list[Item]:
    """All rows, tokenised, in the order of `data`."""
    out: list[Item] = []
    for head, rows in enumerate(data.values()):
        for row in rows:
            if isinstance(row, Preference):
                ids = (
                    encode(tokenizer, (*row.prompt, *row.chosen), max_length),
                    encode(tokenizer, (*row.prompt, *row.rejected), max_length),
                )
                out.append(Item(ids, row.margin, row.weight, head, row_owner(row)))
            else:
                out.append(
                    Item(
                        (encode(tokenizer, (*row.prompt, *row.completion), max_length),),
                        row.score,
                        row.weight,
                        head,
                        row_owner(row),
                    )
                )
    return out


def open_base(
    recipe: Recipe, columns: int, seed: int, *, trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """Model and tokenizer; new weights where the base's folder has a configuration only.

    Raises:
        NotFoundError: there is no such base.
        ConfigError: it holds code of its own, which may not run.
    """
    torch.manual_seed(seed)
    config = scoring_config(recipe, columns, trust_remote_code=trust_remote_code)
    tokenizer = open_tokenizer(
        recipe.base, needs_template=False, trust_remote_code=trust_remote_code
    )
    config.pad_token_id = tokenizer.pad_token_id
    options = {"dtype": "float32", **recipe.init, "trust_remote_code": trust_remote_code}
    with explain_failure(f"open the base model {recipe.base!r}", ConfigError):
        model: Any = (
            AutoModelForSequenceClassification.from_config(
                config, trust_remote_code=trust_remote_code
            )
            if has_no_weights(recipe)
            else AutoModelForSequenceClassification.from_pretrained(
                recipe.base, config=config, **options
            )
        )
    return model, tokenizer


class _Run(NamedTuple):
    """What all members of a training share."""

    recipe: Recipe
    folder: Path
    columns: list[tuple[int, ...]]
    """Logits of each head."""
    privacy: Privacy | None
    progress: Progress
    trust_remote_code: bool

    @property
    def size(self) -> int:
        """Number of logits."""
        return sum(map(len, self.columns))


def train(
    data: Mapping[str, Rows],
    recipe: Recipe,
    folder: Path,
    false_alarms: float = 0.05,
    privacy: Privacy | None = None,
    *,
    progress: Progress = lambda done, total: None,
    rater_effects: bool = False,
    left_out: int = 0,
    trust_remote_code: bool = False,
) -> Transformer:
    """Train an ensemble and leave its members in `folder`; an interrupted run goes on.

    Under `accelerate launch` every process calls it, and all return the model. With `privacy` it is
    trained by DP-SGD (`dp_sgd`); members share ε and δ. Pairs whose chosen response equals the
    rejected one are left out; `left_out`: how many were so before. `rater_effects`: leniency, scale
    and taste of raters are taken out of scored examples first (`ratings`). `trust_remote_code`: the
    base's own code may run.

    Raises:
        InputError: a set has too few rows, or no user could be held out; with `rater_effects`, rows
            name no raters, or the model is to be private.
        ConfigError: the recipe holds something that a library refuses.
    """
    if rater_effects and privacy is not None:
        raise InputError(
            "could not take out rater effects of a private model: they are fitted to all raters at"
            " once, without noise"
        )
    data, equal = drop_equal_pairs(data)
    if privacy is not None:
        data = {name: private.limit_rows(rows, privacy.rows_a_user) for name, rows in data.items()}
    users = users_of(data)
    if rater_effects:
        data = take_out_rater_effects(data)
    layout = lay_out_heads(data)
    run = _Run(recipe, folder, [head[2] for head in layout], privacy, progress, trust_remote_code)
    args = training_arguments(recipe, folder / "checkpoints", 0, **cpu_settings(recipe.trainer))
    max_length = args.max_length or 1024
    tokenizer = open_tokenizer(
        recipe.base, needs_template=False, trust_remote_code=trust_remote_code
    )
    items = make_items(data, tokenizer, max_length)
    is_held_out = hold_out(items, recipe.held_out)
    learned = [items[i] for i in np.flatnonzero(~is_held_out)]
    for number in range(recipe.members):
        if not (folder / f"member-{number}").is_dir():
            _train_member(run, number, learned)
    members = tuple(
        load_member(
            folder / f"member-{number}", run.size, recipe, trust_remote_code=trust_remote_code
        )
        for number in range(recipe.members)
    )
    model = Transformer(
        members,
        tokenizer,
        max_length,
        tuple(Head(*head, Calibration(1.0, 0.0, 0.0, ()), 0, {}) for head in layout),
        np.zeros(len(layout)),
        empty_form(len(layout)),
        None,
        users,
        base=recipe.base,
        left_out=left_out + equal,
        raters=rater_effects,
    )
    if privacy is None:
        return measure(model, data, is_held_out, false_alarms)
    return _calibrate_privately(model, data, is_held_out, privacy)


def hold_out(items: Sequence[Item], share: float) -> NDArray[np.bool_]:
    """Rows of the owners who are held out, at least one of them.

    Raises:
        InputError: nobody would be left to learn from.
    """
    owners = sorted({item.owner for item in items}, key=lambda name: draw(f"held-out/{name}"))
    chosen = set(owners[: max(1, round(share * len(owners)))])
    if len(chosen) == len(owners):
        raise InputError(
            f"could not hold out {share:.0%} of {len(owners)} users or threads for calibration;"
            " give more of them"
        )
    return np.array([item.owner in chosen for item in items])


@quiet()
def _train_member(run: _Run, number: int, items: Sequence[Item]) -> None:
    recipe = run.recipe
    checkpoints = run.folder / "checkpoints" / f"member-{number}"
    args = training_arguments(recipe, checkpoints, number, **cpu_settings(recipe.trainer))
    model, tokenizer = open_base(recipe, run.size, number, trust_remote_code=run.trust_remote_code)
    if recipe.vary != "seed" and recipe.members > 1:
        items = resample_owners(items, number)
    draft = run.folder / f"member-{number}.part"
    if run.privacy is not None:
        _fit_privately(run, run.privacy, args, (model, tokenizer), items).save_pretrained(draft)
    else:
        _fit(run, args, (model, tokenizer), items, draft)
    if is_main():
        (draft / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody needs
        draft.replace(run.folder / f"member-{number}")
        shutil.rmtree(checkpoints, ignore_errors=True)
    PartialState().wait_for_everyone()


def _fit(run: _Run, args: Any, opened: tuple[Any, Any], items: Sequence[Item], draft: Path) -> None:
    """Train an opened model and tokenizer, and write the member into a draft folder."""
    model, tokenizer = opened
    model.config.num_labels = 1  # TRL takes no more; its own loss is not used
    trainer = WeightedRewardTrainer(
        model=model,
        args=args,
        train_dataset=_make_dataset(items),
        processing_class=tokenizer,
        peft_config=scoring_adapter(run.recipe),
        data_collator=lambda rows: collate(
            [_read_item(row) for row in rows], tokenizer.pad_token_id
        ),
        callbacks=[_ReportProgress(run.progress)],
    )
    model.config.num_labels = run.size
    trainer.remove_callback(PrinterCallback)
    trainer.columns = run.columns
    trainer.mean_weight = float(np.mean([item.weight for item in items]))
    trainer.train(resume_from_checkpoint=last_checkpoint(Path(args.output_dir)))
    trainer.save_model(str(draft))
    trainer.accelerator.wait_for_everyone()


def _fit_privately(
    run: _Run, privacy: Privacy, args: Any, opened: tuple[Any, Any], items: Sequence[Item]
) -> Any:
    """The member, trained by DP-SGD."""
    from upshot.reward import dp_sgd  # Opacus: seconds to load

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("could not train privately in several processes: start it in one")
    model, tokenizer = opened
    if (lora := scoring_adapter(run.recipe)) is not None:
        model = get_peft_model(model, lora)
    members = run.recipe.members
    share = msgspec.structs.replace(
        privacy, epsilon=privacy.epsilon / members, delta=privacy.delta / members
    )
    dp_sgd.fit(
        to_device(model),
        args,
        items,
        lambda rows: collate(rows, tokenizer.pad_token_id),
        lambda logits, batch: row_losses(logits, batch, run.columns)[0],
        privacy=share,
        progress=run.progress,
    )
    return model


def _make_dataset(items: Sequence[Item]) -> Any:
    return Dataset.from_list([item._asdict() for item in items])


def _read_item(row: Mapping[str, Any]) -> Item:
    return Item(tuple(row["ids"]), row["margin"], row["weight"], row["head"], row["owner"])


def resample_owners(items: Sequence[Item], seed: int) -> list[Item]:
    """Rows of owners drawn with replacement, each with all of theirs."""
    by_owner: dict[str, list[Item]] = {}
    for item in items:
        by_owner.setdefault(item.owner, []).append(item)
    names = sorted(by_owner)
    chosen = np.random.default_rng(seed).integers(len(names), size=len(names))
    return [item for i in chosen for item in by_owner[names[i]]]


@quiet()
def load_member(
    folder: Path, columns: int, recipe: Recipe, *, trust_remote_code: bool = False
) -> Any:
    """One member, whole or an adapter on its base.

    Raises:
        ConfigError: it cannot be loaded.
    """
    options = {"dtype": "float32", **recipe.init, "trust_remote_code": trust_remote_code}
    with explain_failure(f"load {folder}", ConfigError):
        if (folder / "adapter_config.json").is_file():
            base, _ = open_base(recipe, columns, seed=0, trust_remote_code=trust_remote_code)
            model: Any = PeftModel.from_pretrained(base, str(folder))
        else:
            model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    return to_device(model).eval()


def empty_form(heads: int) -> Form:
    """No effect of form."""
    return Form(np.zeros(len(MOVED)), np.ones(len(MOVED)), np.zeros((len(MOVED), heads)))


def measure(
    model: Transformer,
    data: Mapping[str, Rows],
    is_held_out: NDArray[np.bool_],
    false_alarms: float,
) -> Transformer:
    """The model with its calibration, accuracy, domain, centre and effect of form."""
    parts = flatten_rows(data)
    raw = model.rewards(parts.prompts, parts.completions)
    requests = [prompt_texts(prompt) for prompt in parts.prompts]
    answers = [answer_text(completion) for completion in parts.completions]
    table = features(requests, answers)
    heads = [_measure_head(*part) for part in _split_by_head(model, data, is_held_out, raw, parts)]
    return replace(
        model,
        heads=tuple(heads),
        centre=raw.mean(axis=(0, 1)),
        form=fit_form(model, parts, raw.mean(axis=0), _moved(table)),
        domain=learn(requests, answers, surface_features(table), false_alarms),
    )


def _moved(table: Features) -> Array:
    """The features that edits of form move, shape (responses, features)."""
    return table.values[:, [FORM.index(name) for name in MOVED]].astype(np.float64)


def _calibrate_privately(
    model: Transformer, data: Mapping[str, Rows], is_held_out: NDArray[np.bool_], privacy: Privacy
) -> Transformer:
    """The model with calibration and accuracy, with noise, of users whom it was not trained on.

    Nothing else is kept of the data.
    """
    parts = flatten_rows(data)
    raw = model.rewards(parts.prompts, parts.completions)
    heads: list[Head] = []
    for head, rows, values, test in _split_by_head(model, data, is_held_out, raw, parts):
        logits = np.where(_labels(rows), 1.0, -1.0) * soften(
            values.mean(axis=0), _disagreement(values)
        )
        weight = private.bound_weights(
            [row.weight for row in rows], [row_owner(row) for row in rows]
        )
        calibration, accuracy = private.measure_privately(
            logits[test], weight[test], privacy.epsilon / len(data)
        )
        heads.append(
            replace(
                head,
                calibration=calibration,
                rows=private.round_count(len(rows)),
                accuracy={"all": accuracy},
            )
        )
    return replace(model, heads=tuple(heads), epsilon=privacy.epsilon, delta=privacy.delta)


def fit_form(model: Transformer, parts: Parts, raw: Array, surface: Array) -> Form:
    """Form's own effect on the reward, from edits of a sample.

    `raw`: shape (responses, heads); `surface`: form, shape (responses, features).
    """
    centre, spread = surface.mean(axis=0), surface.std(axis=0) + _MIN_SPREAD
    count = len(parts.completions)
    sample: list[int] = np.random.default_rng(0).permutation(count)[:_EDITED].tolist()
    row = [i for i in sample for _ in EDITS]
    texts = [answer_text(parts.completions[i]) for i in sample]
    edited = [edit(text) for text in texts for edit in EDITS]
    prompts = [parts.prompts[i] for i in row]
    moved = _moved(features([prompt_texts(prompt) for prompt in prompts], edited))
    z = np.clip((moved - surface[row]) / spread, -_CLIP, _CLIP)
    completions = [(Turn("assistant", text),) for text in edited]
    change = model.rewards(prompts, completions).mean(axis=0) - raw[row]
    curve = z.T @ z + _RIDGE * np.eye(z.shape[1])
    return Form(centre, spread, cast("Array", np.linalg.solve(curve, z.T @ change)))


class Parts(NamedTuple):
    """All responses of all rows, one after the other."""

    prompts: list[tuple[Turn, ...]]
    completions: list[tuple[Turn, ...]]
    places: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
    """Of each head where its rows' first responses are, and of pairs their second ones."""


def flatten_rows(data: Mapping[str, Rows]) -> Parts:
    """All prompts and completions of all rows."""
    parts = Parts([], [], [])
    for rows in data.values():
        start = len(parts.prompts)
        first, second = np.arange(start, start + len(rows)), np.arange(0)
        parts.prompts.extend(row.prompt for row in rows)
        if (pairs := as_pairs(rows)) is not None:
            second = first + len(rows)
            parts.prompts.extend(row.prompt for row in rows)
            parts.completions.extend(row.chosen for row in pairs)
            parts.completions.extend(row.rejected for row in pairs)
        else:
            parts.completions.extend(row.completion for row in as_examples(rows))
        parts.places.append((first, second))
    return parts


def _split_by_head(
    model: Transformer,
    data: Mapping[str, Rows],
    is_held_out: NDArray[np.bool_],
    raw: Array,
    parts: Parts,
) -> Iterator[tuple[Head, Rows, Array, NDArray[np.bool_]]]:
    """Each head with its rows, their logits (shape (members, rows)), and which were held out."""
    start = 0
    for h, (head, rows) in enumerate(zip(model.heads, data.values(), strict=True)):
        first, second = parts.places[h]
        values = raw[:, first, h] - (raw[:, second, h] if head.kind == "pairs" else 0.0)
        yield head, rows, values, is_held_out[start : start + len(rows)]
        start += len(rows)


def _measure_head(head: Head, rows: Rows, values: Array, is_held_out: NDArray[np.bool_]) -> Head:
    """`values`: logits that should be positive where the label says so; shape (members, rows)."""
    weight = np.array([row.weight for row in rows])
    mean, good = values.mean(axis=0), _labels(rows)
    right = (mean > 0) == good
    slices = {"all": is_held_out, "seen in training": ~is_held_out}
    if (pairs := as_pairs(rows)) is not None:
        longer = np.array(
            [len(answer_text(row.chosen)) > len(answer_text(row.rejected)) for row in pairs]
        )
        slices |= {
            "the longer was chosen": is_held_out & longer,
            "the shorter was chosen": is_held_out & ~longer,
        }
    else:
        slices |= {"good": is_held_out & good, "bad": is_held_out & ~good}
    accuracy = {name: float(right[part].mean()) for name, part in slices.items() if part.any()}
    accuracy.setdefault("all", float("nan"))
    signed = np.where(good, 1.0, -1.0) * soften(mean, _disagreement(values))
    calibration = (
        calibrate(signed[is_held_out], weight[is_held_out])
        if is_held_out.any()
        else head.calibration
    )
    return replace(head, calibration=calibration, rows=len(rows), accuracy=accuracy)


def _disagreement(values: Array) -> Array:
    """Variance between members, of the shape of one member's values; 0 for a single member."""
    return values.var(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])


def _labels(rows: Rows) -> NDArray[np.bool_]:
    """Whether the label says that the (first) response is good."""
    return np.array([row.score > EVEN if isinstance(row, Example) else True for row in rows])


def _by_head(logits: Array, heads: Sequence[Head]) -> Array:
    return np.stack([logits[:, list(head.columns)].mean(axis=1) for head in heads], axis=1)
