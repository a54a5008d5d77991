"""Training data and reward models."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from upshot import preferences
from upshot.config import Settings, load
from upshot.errors import InputError, NotFoundError
from upshot.hindsight.llm import cascade
from upshot.lake import Lake
from upshot.llm import Budget
from upshot.preferences import rewrites
from upshot.records import Example, Preference

if TYPE_CHECKING:
    from upshot.reward import RewardModel
    from upshot.reward.leaks import Leak
    from upshot.reward.private import Privacy
    from upshot.reward.recipe import Recipe, Size
    from upshot.reward.transformer import Transformer

from upshot.api.judging import curve_of
from upshot.api.opening import Progress, endpoint_of, open_lake, quiet


def pairs(
    target: str | os.PathLike[str],
    kinds: Sequence[str] = preferences.KINDS,
    least_users: int = 5,
    test_share: float = 0.1,
    settings: Settings | None = None,
    progress: Progress = quiet,
    said: Callable[[rewrites.Tally], None] | None = None,
) -> Iterator[Preference]:
    """Pairs of a lake's responses, each marked as train or test by its users; near-duplicates once.

    `kinds`: of sibling, thread, edit, across, and rewrite, which asks the language model of the
    settings; `said` then gets what became of its rewrites. `least_users`: people who made a request
    before pairs across users leave.

    Raises:
        InputError: there is no such kind.
    """
    if unknown := sorted(set(kinds) - {*preferences.KINDS, rewrites.KIND}):
        raise InputError(
            f"could not make pairs of kind {unknown}: there are"
            f" {', '.join((*preferences.KINDS, rewrites.KIND))}"
        )
    store = _judged_lake(target, settings)
    made: Iterable[Preference] = preferences.pairs(store, kinds, least_users, curve_of(store))
    if rewrites.KIND in kinds:
        made = itertools.chain(made, _rewritten(store, settings or load(), progress, said))
    return preferences.split(preferences.distinct(made), test_share)


def _rewritten(
    store: Lake,
    settings: Settings,
    progress: Progress,
    said: Callable[[rewrites.Tally], None] | None,
) -> Sequence[Preference]:
    endpoint = endpoint_of(settings)
    budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
    seen = preferences.buckets(store, curve_of(store))
    made, tally = rewrites.pairs(
        seen,
        endpoint,
        budget,
        cascade.replies_of(store),
        lambda done, total: progress("rewrite", done, total),
    )
    if said:
        said(tally)
    return made


def _judged_lake(target: str | os.PathLike[str], settings: Settings | None) -> Lake:
    store = open_lake(target, settings)
    if not store.exists("verdicts"):
        raise NotFoundError(
            f"could not make pairs of {store.root}: it has no verdicts; make some with `upshot"
            " judge --lake`"
        )
    return store


def examples(
    target: str | os.PathLike[str],
    masked: bool = False,
    test_share: float = 0.1,
    settings: Settings | None = None,
) -> Iterator[Example]:
    """Scored responses of a lake, or (`masked`) whole conversations in which only what helped is to
    be imitated.
    """
    store = _judged_lake(target, settings)
    make = preferences.masked if masked else preferences.unpaired
    return preferences.split(
        (row for seen in preferences.buckets(store, curve_of(store)) for row in make(seen)),
        test_share,
    )


def export(
    target: str | os.PathLike[str],
    out: str | os.PathLike[str],
    format: str = "jsonl",
    kinds: Sequence[str] = preferences.KINDS,
    least_users: int = 5,
    test_share: float = 0.1,
    even_length: bool = False,
    even_position: bool = False,
    settings: Settings | None = None,
    progress: Progress = quiet,
    said: Callable[[rewrites.Tally], None] | None = None,
) -> Exported:
    """Write a lake's pairs or examples for a trainer; the test side goes to a second file,
    `NAME.test.EXT`.

    Raises:
        InputError: there is no such format.
    """
    made: Sequence[Preference] | Sequence[Example]
    shape: Callable[[Any], dict[str, Any]]
    if format in preferences.PAIRED:
        made = list(pairs(target, kinds, least_users, test_share, settings, progress, said))
        made = preferences.even_length(made) if even_length else made
        made = preferences.even_position(made) if even_position else made
        shape, describe = preferences.PAIRED[format], preferences.report(made)
    elif format in preferences.UNPAIRED or format in preferences.MASKED:
        shape = {**preferences.UNPAIRED, **preferences.MASKED}[format]
        made, describe = (
            list(examples(target, format in preferences.MASKED, test_share, settings)),
            None,
        )
    else:
        raise InputError(
            f"could not export for {format!r}: there are {', '.join(preferences.FORMATS)}"
        )
    path = os.fspath(out)
    train = preferences.write(
        (shape(row) for row in made if row.source.split != "test"), path, format
    )
    held = [shape(row) for row in made if row.source.split == "test"]
    where = (
        "" if path == "-" or not held else str(Path(path).with_suffix(".test" + Path(path).suffix))
    )
    return Exported(
        format, train, preferences.write(held, where, format) if where else 0, where, describe
    )


class Exported(msgspec.Struct, frozen=True):
    """What an export wrote."""

    format: str
    train: int
    test: int
    test_file: str
    balance: preferences.Balance | None


def train_reward(
    data: Mapping[str, str | os.PathLike[str]],
    out: str | os.PathLike[str],
    embed: bool = False,
    false_alarms: float = 0.05,
    recipe: Recipe | None = None,
    privacy: Privacy | None = None,
    progress: Progress = quiet,
) -> RewardModel | Transformer:
    """Train a reward model, one head for each file of pairs or of scored examples, and keep it in a
    folder.

    The embedded model, or with a `recipe` a transformer (the `train` extra). `embed`: the embedded
    one reads MiniLM embeddings too (the `minilm` extra). Rows marked as test are left out. An
    interrupted training of a transformer goes on.
    `privacy`: train with differential privacy, by user.
    """
    from upshot import reward  # scipy takes half a second to load

    rows = {name: reward.training_rows(path) for name, path in data.items()}
    if recipe is None:
        from upshot.reward import private

        model = (
            reward.train(rows, embed, false_alarms)
            if privacy is None
            else private.train(rows, privacy, embed)
        )
        reward.save(model, out)
        return model
    from upshot.hub.trainers import is_main
    from upshot.reward import files, transformer  # torch takes seconds to load

    folder = files.prepare(out, blake2b(msgspec.json.encode([rows, recipe, privacy])).hexdigest())
    trained = transformer.train(
        rows,
        recipe,
        folder,
        false_alarms,
        privacy,
        lambda done, total: progress("train", done, total),
    )
    if is_main():
        files.save_transformer(trained, recipe, folder)
        files.prepared(folder)
    return trained


def audit_leaks(
    data: str | os.PathLike[str],
    embed: bool = False,
    privacy: Privacy | None = None,
    canaries: int = 1000,
    runs: int = 2,
    progress: Progress = quiet,
) -> Leak:
    """How much the embedded reward model tells of whom it was trained on, by planted canaries;
    `privacy`: with it on.

    Raises:
        InputError: the file holds scored examples: canaries are pairs.
    """
    from upshot import reward
    from upshot.reward import leaks, private

    rows = reward.training_rows(data)
    pairs = [row for row in rows if isinstance(row, Preference)]
    if len(pairs) < len(rows):
        raise InputError(
            f"could not audit on {os.fspath(data)}: it holds scored examples, and canaries are"
            " pairs"
        )

    def train(part: list[Preference]) -> RewardModel:
        return (
            reward.train({"audited": part}, embed)
            if privacy is None
            else private.train({"audited": part}, privacy, embed)
        )

    return leaks.audit(
        pairs,
        train,
        canaries,
        runs,
        delta=privacy.delta if privacy else 0.0,
        progress=lambda done, total: progress("audit", done, total),
    )


def check_recipe(recipe: Recipe, data: Mapping[str, str | os.PathLike[str]]) -> Size:
    """Validate how a transformer would be trained on these files, without a GPU and without its
    weights.
    """
    from upshot.reward.recipe import check
    from upshot.reward.rows import training_rows
    from upshot.reward.transformer import heads_of

    return check(
        recipe,
        sum(
            len(columns)
            for _, _, columns in heads_of(
                {name: training_rows(path) for name, path in data.items()}
            )
        ),
    )


def update_reward(
    model: str | os.PathLike[str],
    data: Mapping[str, str | os.PathLike[str]],
    out: str | os.PathLike[str],
    keep: float = 1.0,
) -> RewardModel:
    """Teach an embedded reward model new rows, without the old ones.

    `keep`: share of the old evidence that still counts.

    Raises:
        InputError: it is a transformer (train on from its member: `base = "MODEL/member-0"`), or
            lacks a head.
    """
    from upshot import reward
    from upshot.reward.update import update

    loaded = reward.load(model)
    if not isinstance(loaded, reward.RewardModel):
        raise InputError(
            f"could not update {os.fspath(model)}: it is a transformer; train on with a recipe"
            f" whose base is {os.fspath(model)}/member-0"
        )
    made = update(loaded, {name: reward.training_rows(path) for name, path in data.items()}, keep)
    reward.save(made, out)
    return made


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
    weights: Mapping[str, float] | None = None,
    people: str | os.PathLike[str] | None = None,
    objective: Objective | None = None,
) -> Iterator[dict[str, Any]]:
    """Score responses: JSON lines of prompt and completion (or of chosen and rejected, both are
    scored).

    `people`: rows that users rated; with them each score says what the response is worth by
    `objective`.

    Raises:
        InputError: an objective without people, or of a user or group that is not there; people and
            a transformer.
    """
    from upshot import reward

    loaded = reward.load(model)
    loaded = loaded.with_weights(weights) if weights else loaded
    worth = None
    if objective is not None:
        if people is None or not isinstance(loaded, reward.RewardModel):
            raise InputError(
                f"could not score by {objective.kind}: "
                + (
                    "it needs rows that users rated"
                    if people is None
                    else "the model is a transformer, which knows no users"
                )
            )
        worth = _worth(loaded, people, objective)
    yield from reward.score_file(loaded, items, worth)


def _worth(
    model: RewardModel, people: str | os.PathLike[str], objective: Objective
) -> Callable[[Sequence[Any], Sequence[Any]], Any]:
    """What responses are worth by an objective; prompts and completions in, an array out."""
    from upshot import reward
    from upshot.reward import objectives
    from upshot.reward import user_effects as known

    found = known.learn(model, reward.training_rows(people))
    if objective.kind == "user":
        if objective.user not in found.names:
            raise InputError(
                f"could not score for user {objective.user!r}: {os.fspath(people)} has no rows of"
                " theirs"
            )
        alone = [found.names.index(objective.user)]
        found = found._replace(names=(objective.user,), shift=found.shift[alone])
    missing = (
        [name for name in found.names if name not in objective.groups]
        if objective.kind == "worst-group"
        else []
    )
    if missing:
        raise InputError(
            f"could not score by the worst group: {len(missing)} users have no group,"
            f" {missing[0]!r} for one"
        )

    def worth(prompts: Sequence[Any], completions: Sequence[Any]) -> Any:
        table = known.rewards(model, found, prompts, completions)
        if objective.kind == "cvar":
            return objectives.cvar(table, objective.alpha)
        if objective.kind == "worst-group":
            return objectives.worst_group(table, [objective.groups[name] for name in found.names])
        return objectives.mean(table)

    return worth
