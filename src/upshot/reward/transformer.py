"""A transformer as a reward model: any Hugging Face model with a scoring head, trained by TRL's
`RewardTrainer`.

A head of pairs has one logit, its reward (Bradley-Terry with margins); a head of scores has one for
each of `LEVELS`, P(score > level), and their mean is its reward. All heads share the body, each row
teaches only its own head, with its weight. Users are held out for calibration and accuracy. What
edits of form alone change in the reward (`restyle`; a linear model of length, layout and marks) is
taken out when scoring. Members of an ensemble differ by seed or by the users they were shown; where
they disagree, the reward is uncertain.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.reward_trainer import RewardTrainer

from upshot.errors import ConfigError, InputError
from upshot.hub.models import explain_failure, open_tokenizer
from upshot.hub.trainers import cpu_settings, is_main, last_checkpoint, quiet
from upshot.records import Example, Preference, Turn
from upshot.reward import private
from upshot.reward.calibration import Calibration, calibrate, soften
from upshot.reward.domain import Domain, learn, unfamiliarity
from upshot.reward.features import FORM, Features, features, surface_features
from upshot.reward.model import (
    LEVELS,
    Rows,
    Score,
    answer_text,
    is_inside,
    prompt_texts,
    row_owner,
    users_of,
)
from upshot.reward.private import Privacy
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
_LEAST = 20
_RIDGE = 10.0
_EDITED = 200
"""Responses whose form is edited."""
_CLIP = 5.0


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
    """What edits of form change in each head's reward."""

    centre: Array
    spread: Array
    slope: Array
    """Shape (features, heads)."""

    def of(self, look: Array) -> Array:
        """Shape (responses, heads)."""
        return np.clip((look - self.centre) / self.spread, -_CLIP, _CLIP) @ self.slope


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
    weights: Mapping[str, float] = field(default_factory=dict)
    base: str = ""
    epsilon: float | None = None
    """What differential privacy costs a user, where it was asked for."""
    delta: float = 0.0

    def with_weights(self, weights: Mapping[str, float]) -> Transformer:
        """The same heads, combined otherwise.

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
        """Raw rewards in logits, shape (members, responses, heads), form and all."""
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
        asked, answers = [prompt_texts(p) for p in prompts], [answer_text(c) for c in completions]
        seen = features(asked, answers)
        raw = self.rewards(prompts, completions) - self.centre
        form = self.form.of(_moved(seen))
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
        strange = (
            None
            if self.domain is None
            else unfamiliarity(self.domain, asked, answers, surface_features(seen))
        )
        return [
            Score(
                float(total[:, i].mean()),
                None if alone else float(spread[i]),
                float(better[i]),
                is_inside(self.domain, strange, i),
                None if strange is None else float(strange[i]),
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
    """Token ids by the chat template; too long a prompt loses its beginning.

    Raises:
        InputError: the model's chat template refuses the messages.
    """
    if tokenizer.chat_template is None:
        text = "".join(f"{turn.role}: {turn.content}\n" for turn in turns)
        return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id][
            -max_length:
        ]
    try:
        ids = tokenizer.apply_chat_template(
            [{"role": turn.role, "content": turn.content} for turn in turns], return_dict=True
        )["input_ids"]
    except Exception as error:  # templates raise whatever they like
        raise InputError(
            f"could not format {[turn.role for turn in turns]}: the model's chat template says"
            f" {error}"
        ) from error
    return ids[-max_length:]


def compute_logits(model: Any, ids: Sequence[Sequence[int]], pad: int) -> Array:
    """Shape (sequences, columns); long sequences share batches."""
    device = next(model.parameters()).device
    order = np.argsort([-len(one) for one in ids], kind="stable")
    out = np.zeros((len(ids), model.config.num_labels))
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = {
                name: value.to(device)
                for name, value in _padded([ids[i] for i in rows], pad).items()
            }
            out[rows] = model(**batch, use_cache=False).logits.float().cpu().numpy()
    return out


def _padded(ids: Sequence[Sequence[int]], pad: int) -> dict[str, torch.Tensor]:
    width = max(map(len, ids))
    return {
        "input_ids": torch.tensor([[*one, *[pad] * (width - len(one))] for one in ids]),
        "attention_mask": torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in ids]),
    }


def collate(items: Sequence[Item], pad: int) -> dict[str, torch.Tensor]:
    """First sequences of all rows, then the second ones of pairs; `second` says where a row's is,
    -1 for none.
    """
    sequences = [item.ids[0] for item in items]
    second: list[int] = []
    for item in items:
        second.append(len(sequences) if len(item.ids) > 1 else -1)
        sequences += item.ids[1:]
    return {
        **_padded(sequences, pad),
        "second": torch.tensor(second),
        "margin": torch.tensor([item.margin for item in items]),
        "weight": torch.tensor([item.weight for item in items]),
        "head": torch.tensor([item.head for item in items]),
    }


def row_losses(
    found: torch.Tensor, batch: Mapping[str, torch.Tensor], columns: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each row, unweighted, and whether the model is right about it.

    `found`: logits, shape (sequences, columns).
    """
    rows = len(batch["second"])
    loss, right = [found.new_zeros(()) for _ in range(rows)], found.new_zeros(rows)
    for i in range(rows):
        own = list(columns[int(batch["head"][i])])
        other = int(batch["second"][i])
        if other >= 0:
            difference = found[i, own[0]] - found[other, own[0]]
            loss[i] = -torch.nn.functional.logsigmoid(difference - batch["margin"][i])
            right[i] = (difference > 0).float()
        else:
            above = (batch["margin"][i] > torch.tensor(LEVELS, device=found.device)).to(found.dtype)
            loss[i] = torch.nn.functional.binary_cross_entropy_with_logits(found[i, own], above)
            right[i] = ((found[i, own].mean() > 0) == (batch["margin"][i] > 0.5)).float()
    return torch.stack(loss), right


class _Trainer(RewardTrainer):
    """TRL's trainer with weights, ordinal heads and several objectives."""

    columns: Sequence[Sequence[int]] = ()
    usual_weight = 1.0

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
        found = outputs.logits.float()
        each, right = row_losses(found, inputs, self.columns)
        loss = (each * inputs["weight"] / self.usual_weight).mean()
        args: Any = self.args
        if args.center_rewards_coefficient is not None:
            loss = loss + args.center_rewards_coefficient * (found**2).mean()
        gathered: Any = self.accelerator.gather_for_metrics(right)
        self._metrics["train" if model.training else "eval"]["accuracy"].append(
            gathered.mean().item()
        )
        return (loss, outputs) if return_outputs else loss


class _Shown(TrainerCallback):
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
        if len(rows) < _LEAST:
            raise InputError(
                f"could not train head {name!r} on {len(rows)} rows: at least {_LEAST} are needed"
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
    """Model and tokenizer: the base's weights, or new ones where its folder has a configuration
    only.

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


def train(
    data: Mapping[str, Rows],
    recipe: Recipe,
    folder: Path,
    false_alarms: float = 0.05,
    privacy: Privacy | None = None,
    *,
    progress: Progress = lambda done, total: None,
    trust_remote_code: bool = False,
) -> Transformer:
    """Train an ensemble and leave its members in `folder`; what an interrupted run finished is not
    repeated. `trust_remote_code`: the base's own code may run.

    Under `accelerate launch` every process calls it, and all return the model. With `privacy` it is
    trained by DP-SGD (`dp_sgd`); members share ε and δ.

    Raises:
        InputError: a set has too few rows, or no user could be held out.
        ConfigError: the recipe holds something that a library refuses.
    """
    if privacy is not None:
        data = {name: private.limit_rows(rows, privacy.rows_a_user) for name, rows in data.items()}
    layout = lay_out_heads(data)
    columns = [head[2] for head in layout]
    size = sum(map(len, columns))
    args = training_arguments(recipe, folder / "checkpoints", 0, **cpu_settings(recipe.trainer))
    max_length = args.max_length or 1024
    tokenizer = open_tokenizer(
        recipe.base, needs_template=False, trust_remote_code=trust_remote_code
    )
    items = make_items(data, tokenizer, max_length)
    held = hold_out(items, recipe.held_out)
    learned = np.flatnonzero(~held)
    for number in range(recipe.members):
        if not (folder / f"member-{number}").is_dir():
            _train_member(
                recipe,
                folder,
                number,
                [items[i] for i in learned],
                columns,
                size,
                privacy,
                progress,
                trust_remote_code=trust_remote_code,
            )
    members = tuple(
        load_member(folder / f"member-{number}", size, recipe, trust_remote_code=trust_remote_code)
        for number in range(recipe.members)
    )
    made = Transformer(
        members,
        tokenizer,
        max_length,
        tuple(Head(*head, Calibration(1.0, 0.0, 0.0, ()), 0, {}) for head in layout),
        np.zeros(len(layout)),
        empty_form(len(layout)),
        None,
        users_of(data),
        base=recipe.base,
    )
    return (
        measure(made, data, held, false_alarms)
        if privacy is None
        else _measured_privately(made, data, held, privacy)
    )


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
def _train_member(
    recipe: Recipe,
    folder: Path,
    number: int,
    items: Sequence[Item],
    columns: Sequence[Sequence[int]],
    size: int,
    privacy: Privacy | None,
    progress: Progress,
    *,
    trust_remote_code: bool,
) -> None:
    checkpoints = folder / "checkpoints" / f"member-{number}"
    args = training_arguments(recipe, checkpoints, number, **cpu_settings(recipe.trainer))
    model, tokenizer = open_base(recipe, size, number, trust_remote_code=trust_remote_code)
    shown = (
        items if recipe.vary == "seed" or recipe.members == 1 else resample_owners(items, number)
    )
    draft = folder / f"member-{number}.part"
    if privacy is not None:
        _fit_privately(recipe, args, model, tokenizer, shown, columns, privacy, progress, draft)
    else:
        _fit(recipe, args, model, tokenizer, shown, columns, size, progress, draft)
    if is_main():
        (draft / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody needs
        draft.replace(folder / f"member-{number}")
        shutil.rmtree(checkpoints, ignore_errors=True)
    PartialState().wait_for_everyone()


def _fit(
    recipe: Recipe,
    args: Any,
    model: Any,
    tokenizer: Any,
    items: Sequence[Item],
    columns: Sequence[Sequence[int]],
    size: int,
    progress: Progress,
    draft: Path,
) -> None:
    model.config.num_labels = 1  # TRL takes no more; its own loss is not used
    trainer = _Trainer(
        model=model,
        args=args,
        train_dataset=_dataset(items),
        processing_class=tokenizer,
        peft_config=scoring_adapter(recipe),
        data_collator=lambda rows: collate([_item(row) for row in rows], tokenizer.pad_token_id),
        callbacks=[_Shown(progress)],
    )
    model.config.num_labels = size
    trainer.remove_callback(PrinterCallback)
    trainer.columns, trainer.usual_weight = columns, float(np.mean([item.weight for item in items]))
    trainer.train(resume_from_checkpoint=last_checkpoint(Path(args.output_dir)))
    trainer.save_model(str(draft))
    trainer.accelerator.wait_for_everyone()


def _fit_privately(
    recipe: Recipe,
    args: Any,
    model: Any,
    tokenizer: Any,
    items: Sequence[Item],
    columns: Sequence[Sequence[int]],
    privacy: Privacy,
    progress: Progress,
    draft: Path,
) -> None:
    from upshot.reward import dp_sgd

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("could not train privately in several processes: start it in one")
    if (lora := scoring_adapter(recipe)) is not None:
        from peft import get_peft_model

        model = get_peft_model(model, lora)
    share = msgspec.structs.replace(
        privacy, epsilon=privacy.epsilon / recipe.members, delta=privacy.delta / recipe.members
    )
    dp_sgd.fit(
        model.to("cuda" if torch.cuda.is_available() else "cpu"),
        args,
        items,
        lambda rows: collate(rows, tokenizer.pad_token_id),
        lambda found, batch: row_losses(found, batch, columns)[0],
        share,
        progress,
    )
    model.save_pretrained(draft)


def _dataset(items: Sequence[Item]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([item._asdict() for item in items])


def _item(row: Mapping[str, Any]) -> Item:
    return Item(tuple(row["ids"]), row["margin"], row["weight"], row["head"], row["owner"])


def resample_owners(items: Sequence[Item], seed: int) -> list[Item]:
    """Owners drawn with replacement, each with all rows."""
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
            from peft import PeftModel

            base, _ = open_base(recipe, columns, seed=0, trust_remote_code=trust_remote_code)
            model: Any = PeftModel.from_pretrained(base, str(folder))
        else:
            model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def empty_form(heads: int) -> Form:
    """Nothing that form explains."""
    return Form(np.zeros(len(MOVED)), np.ones(len(MOVED)), np.zeros((len(MOVED), heads)))


def measure(
    model: Transformer, data: Mapping[str, Rows], held: NDArray[np.bool_], false_alarms: float
) -> Transformer:
    """The same model with its calibration, accuracy, domain, centre and what form explains."""
    prompts, completions, place = flatten_rows(data)
    raw = model.rewards(prompts, completions)
    answers, asked = [answer_text(c) for c in completions], [prompt_texts(p) for p in prompts]
    seen = features(asked, answers)
    heads = [_measured(*part) for part in _by_set(model, data, held, raw, place)]
    form = fit_form(model, prompts, completions, raw.mean(axis=0), _moved(seen))
    return replace(
        model,
        heads=tuple(heads),
        centre=raw.mean(axis=(0, 1)),
        form=form,
        domain=learn(asked, answers, surface_features(seen), false_alarms),
    )


def _moved(seen: Features) -> Array:
    return seen.values[:, [FORM.index(name) for name in MOVED]].astype(np.float64)


def _measured_privately(
    model: Transformer, data: Mapping[str, Rows], held: NDArray[np.bool_], privacy: Privacy
) -> Transformer:
    """Calibration and accuracy with noise, of users whom the weights never met; nothing else is
    kept of the data.
    """
    prompts, completions, place = flatten_rows(data)
    raw = model.rewards(prompts, completions)
    heads: list[Head] = []
    for head, rows, values, out in _by_set(model, data, held, raw, place):
        logits = np.where(_good(rows), 1.0, -1.0) * soften(
            values.mean(axis=0), _disagreement(values)
        )
        weight = private.bound_weights(
            [row.weight for row in rows], [row_owner(row) for row in rows]
        )
        calibration, accuracy = private.measure_privately(
            logits[out], weight[out], privacy.epsilon / len(data)
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


def fit_form(
    model: Transformer,
    prompts: Sequence[Sequence[Turn]],
    completions: Sequence[Sequence[Turn]],
    raw: Array,
    look: Array,
) -> Form:
    """Form's own effect on the reward, from edits of a sample.

    `raw`: shape (responses, heads); `look`: form, shape (responses, features).
    """
    centre, spread = look.mean(axis=0), look.std(axis=0) + 1e-3
    sample = np.random.default_rng(0).permutation(len(completions))[:_EDITED].tolist()
    of = [i for i in sample for _ in EDITS]
    edited = [
        (Turn("assistant", edit(answer_text(completions[i]))),) for i in sample for edit in EDITS
    ]
    moved = _moved(
        features([prompt_texts(prompts[i]) for i in of], [answer_text(c) for c in edited])
    )
    z = np.clip((moved - look[of]) / spread, -_CLIP, _CLIP)
    change = model.rewards([prompts[i] for i in of], edited).mean(axis=0) - raw[of]
    slope = np.linalg.solve(z.T @ z + _RIDGE * np.eye(z.shape[1]), z.T @ change)
    return Form(centre, spread, slope)


def flatten_rows(
    data: Mapping[str, Rows],
) -> tuple[
    list[tuple[Turn, ...]],
    list[tuple[Turn, ...]],
    list[tuple[NDArray[np.int64], NDArray[np.int64]]],
]:
    """All prompts and completions of all rows, and for each set where its first and second ones
    are.
    """
    prompts: list[tuple[Turn, ...]] = []
    completions: list[tuple[Turn, ...]] = []
    place: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for rows in data.values():
        start = len(prompts)
        first = np.arange(start, start + len(rows))
        prompts += [row.prompt for row in rows]
        completions += [
            row.chosen if isinstance(row, Preference) else row.completion for row in rows
        ]
        second = np.arange(0)
        if isinstance(rows[0], Preference):
            second = np.arange(len(prompts), len(prompts) + len(rows))
            prompts += [row.prompt for row in rows]
            completions += [row.rejected for row in rows if isinstance(row, Preference)]
        place.append((first, second))
    return prompts, completions, place


def _by_set(
    model: Transformer,
    data: Mapping[str, Rows],
    held: NDArray[np.bool_],
    raw: Array,
    place: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> Iterator[tuple[Head, Rows, Array, NDArray[np.bool_]]]:
    """Each head with its rows, their logits (shape (members, rows)), and which of them were held
    out.
    """
    start = 0
    for h, (head, rows) in enumerate(zip(model.heads, data.values(), strict=True)):
        first, second = place[h]
        values = raw[:, first, h] - (raw[:, second, h] if head.kind == "pairs" else 0.0)
        yield head, rows, values, held[start : start + len(rows)]
        start += len(rows)


def _measured(head: Head, rows: Rows, values: Array, held: NDArray[np.bool_]) -> Head:
    """`values`: logits that should be positive where the label says so; shape (members, rows)."""
    weight = np.array([row.weight for row in rows])
    mean, good = values.mean(axis=0), _good(rows)
    right = (mean > 0) == good
    slices = {"all": held, "seen in training": ~held}
    if head.kind == "pairs":
        longer = np.array(
            [
                len(answer_text(row.chosen)) > len(answer_text(row.rejected))
                for row in rows
                if isinstance(row, Preference)
            ]
        )
        slices |= {"the longer was chosen": held & longer, "the shorter was chosen": held & ~longer}
    else:
        slices |= {"good": held & good, "bad": held & ~good}
    accuracy = {name: float(right[of].mean()) for name, of in slices.items() if of.any()}
    accuracy.setdefault("all", float("nan"))
    signed = np.where(good, 1.0, -1.0) * soften(mean, _disagreement(values))
    calibration = calibrate(signed[held], weight[held]) if held.any() else head.calibration
    return replace(head, calibration=calibration, rows=len(rows), accuracy=accuracy)


def _disagreement(values: Array) -> Array:
    """Variance between members, shape of one member's; 0 for one alone."""
    return values.var(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])


def _good(rows: Rows) -> NDArray[np.bool_]:
    """Does the label say that the (first) response is good?"""
    return np.array([row.score > 0.5 if isinstance(row, Example) else True for row in rows])


def _by_head(found: Array, heads: Sequence[Head]) -> Array:
    return np.stack([found[:, list(head.columns)].mean(axis=1) for head in heads], axis=1)
