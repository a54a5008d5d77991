"""Reward models: training, audits of what they give away, scores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from upshot import reward
from upshot.api.opening import Progress, quiet
from upshot.errors import InputError
from upshot.hub.trainers import is_main
from upshot.records import Preference
from upshot.reward import RewardModel, files, leaks, objectives, private, user_effects
from upshot.reward.leaks import Leak
from upshot.reward.private import Privacy
from upshot.reward.recipe import Recipe, Size, check, load_recipe
from upshot.reward.update import update

if TYPE_CHECKING:
    from upshot.reward.transformer import Transformer


def train_reward(
    data: Mapping[str, str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    embeddings: bool = False,
    false_alarms: float = 0.05,
    recipe: Recipe | None = None,
    privacy: Privacy | None = None,
    raters: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = quiet,
) -> RewardModel | Transformer:
    """Train a reward model, one head for each file of pairs or of scored examples, and write it to
    a folder.

    The embedded model, or with a `recipe` a transformer (the `train` extra), whose interrupted
    training goes on. `embeddings`: the embedded one reads MiniLM embeddings too (the `minilm`
    extra). Rows marked as test are left out, and pairs of equal responses, which the card counts.
    `privacy`: train with differential privacy, by user. `raters`: take leniency, scale and taste of
    raters out of scored examples first. `trust_remote_code`: run Python code that a base model's
    folder brings along; without it no such code runs.

    Raises:
        InputError: a file holds nothing to learn from; with `raters`, no scored example names its
            rater, or `privacy` is asked for too.
    """
    if raters and privacy is not None:
        raise InputError(
            "could not take out rater effects of a private model: they are fitted to all raters at"
            " once, without noise"
        )
    counts: list[int] = []
    rows = {name: reward.training_rows(path, counts.append) for name, path in data.items()}
    if recipe is not None:
        return _train_transformer(
            rows,
            out,
            recipe,
            false_alarms,
            privacy=privacy,
            progress=progress,
            raters=raters,
            left_out=sum(counts),
            trust_remote_code=trust_remote_code,
        )
    model = (
        reward.train(rows, embeddings, false_alarms, rater_effects=raters, left_out=sum(counts))
        if privacy is None
        else private.train(rows, privacy, embeddings, left_out=sum(counts))
    )
    reward.save(model, out)
    return model


def _train_transformer(
    rows: Mapping[str, Sequence[Any]],
    out: str | os.PathLike[str],
    recipe: Recipe,
    false_alarms: float,
    *,
    privacy: Privacy | None,
    progress: Progress,
    raters: bool,
    left_out: int,
    trust_remote_code: bool,
) -> Transformer:
    from upshot.reward import transformer  # torch: the train extra, seconds to load

    folder = files.prepare(
        out, blake2b(msgspec.json.encode([rows, recipe, privacy, raters])).hexdigest()
    )
    trained = transformer.train(
        rows,
        recipe,
        folder,
        false_alarms,
        privacy,
        progress=lambda done, total: progress("train", done, total),
        rater_effects=raters,
        left_out=left_out,
        trust_remote_code=trust_remote_code,
    )
    if is_main():
        files.save_transformer(trained, recipe, folder)
        files.finish_preparation(folder)
    return trained


def train_audit(
    data: str | os.PathLike[str],
    *,
    embeddings: bool = False,
    privacy: Privacy | None = None,
    canaries: int = 1000,
    runs: int = 2,
    progress: Progress = quiet,
) -> Leak:
    """How much the embedded reward model reveals of whom it was trained on, by planted canaries;
    `privacy`: with differential privacy on.

    Raises:
        InputError: the file holds scored examples: canaries are pairs.
    """
    rows = reward.training_rows(data)
    pairs = [row for row in rows if isinstance(row, Preference)]
    if len(pairs) < len(rows):
        raise InputError(
            f"could not audit on {os.fspath(data)}: it holds scored examples, and canaries are"
            " pairs"
        )

    def train(part: list[Preference]) -> RewardModel:
        return (
            reward.train({"audited": part}, embeddings)
            if privacy is None
            else private.train({"audited": part}, privacy, embeddings)
        )

    return leaks.audit(
        pairs,
        train,
        count=canaries,
        runs=runs,
        delta=privacy.delta if privacy else 0.0,
        progress=lambda done, total: progress("audit", done, total),
    )


def check_reward_recipe(
    recipe: Recipe,
    data: Mapping[str, str | os.PathLike[str]],
    *,
    trust_remote_code: bool = False,
) -> Size:
    """Validate how a transformer would be trained on these files, without a GPU and without its
    weights.

    Raises:
        ConfigError: a library refuses something of the recipe.
    """
    from upshot.reward.transformer import lay_out_heads  # torch: the train extra, seconds to load

    heads = lay_out_heads({name: reward.training_rows(path) for name, path in data.items()})
    columns = sum(len(columns) for _, _, columns in heads)
    return check(recipe, columns, trust_remote_code=trust_remote_code)


def reward_recipe(path: str | os.PathLike[str] | None = None, base: str = "") -> Recipe:
    """The recipe of a transformer: from a file, from a base's name or folder, or both.

    Raises:
        NotFoundError: the file is not there.
        ConfigError: a key is unknown or a value out of bounds.
    """
    return Recipe(base) if path is None else load_recipe(Path(path), base)


def update_reward(
    model: str | os.PathLike[str],
    data: Mapping[str, str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    keep: float = 1.0,
) -> RewardModel:
    """Teach an embedded reward model new rows, without the old ones.

    `keep`: share of the old evidence that still counts.

    Raises:
        InputError: it is a transformer (train on from its member: `base = "MODEL/member-0"`), or
            lacks a head.
    """
    loaded = reward.load(model)
    if not isinstance(loaded, RewardModel):
        raise InputError(
            f"could not update {os.fspath(model)}: it is a transformer; train on with a recipe"
            f" whose base is {os.fspath(model)}/member-0"
        )
    updated = update(
        loaded, {name: reward.training_rows(path) for name, path in data.items()}, keep
    )
    reward.save(updated, out)
    return updated


class Objective(msgspec.Struct, frozen=True):
    """Whose rewards count, and how: `mean` over users, `cvar` (the worst-served share `alpha`),
    `worst-group`, or one `user`.
    """

    kind: Literal["mean", "cvar", "worst-group", "user"]
    alpha: float = 0.1
    user: str = ""
    groups: Mapping[str, str] = {}
    """Group of each user, for `worst-group`."""


def score(
    model: str | os.PathLike[str],
    items: str | os.PathLike[str],
    *,
    weights: Mapping[str, float] | None = None,
    people: str | os.PathLike[str] | None = None,
    objective: Objective | None = None,
    trust_remote_code: bool = False,
) -> Iterator[dict[str, Any]]:
    """Score responses: JSON lines of prompt and completion (or of chosen and rejected, both are
    scored).

    `people`: rows that users rated; with them each score holds the reward under `objective`.
    `trust_remote_code`: run Python code that a transformer's folder brings along; without it no
    such code runs.

    Raises:
        InputError: an objective without people, or of a user or group that is not there; people and
            a transformer.
    """
    loaded = reward.load(model, trust_remote_code=trust_remote_code)
    loaded = loaded.with_weights(weights) if weights else loaded
    if objective is None:
        yield from reward.score_file(loaded, items, None)
        return
    if people is None or not isinstance(loaded, RewardModel):
        raise InputError(
            f"could not score by {objective.kind}: "
            + (
                "it needs rows that users rated"
                if people is None
                else "the model is a transformer, which knows no users"
            )
        )
    yield from reward.score_file(loaded, items, _reward_by_objective(loaded, people, objective))


def _reward_by_objective(
    model: RewardModel, people: str | os.PathLike[str], objective: Objective
) -> Callable[[Sequence[Any], Sequence[Any]], Any]:
    """The reward of responses under an objective; prompts and completions in, an array out."""
    effects = user_effects.learn(model, reward.training_rows(people))
    if objective.kind == "user":
        if objective.user not in effects.names:
            raise InputError(
                f"could not score for user {objective.user!r}: {os.fspath(people)} has no rows of"
                " theirs"
            )
        alone = [effects.names.index(objective.user)]
        effects = effects._replace(names=(objective.user,), shift=effects.shift[alone])
    groups: Mapping[str, str] = objective.groups if objective.kind == "worst-group" else {}
    if objective.kind == "worst-group" and (
        missing := [name for name in effects.names if name not in groups]
    ):
        raise InputError(
            f"could not score by the worst group: {len(missing)} users have no group,"
            f" {missing[0]!r} for one"
        )

    def combine(prompts: Sequence[Any], completions: Sequence[Any]) -> Any:
        table = user_effects.rewards(model, effects, prompts, completions)
        if objective.kind == "cvar":
            return objectives.cvar(table, objective.alpha)
        if objective.kind == "worst-group":
            return objectives.worst_group(table, [groups[name] for name in effects.names])
        return objectives.mean(table)

    return combine
