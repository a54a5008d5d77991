"""Score-conditioned training (Lu et al., 2022; Korbak et al., 2023).

Answers of every quality are learned behind a line that says how good they were, for whom, in which
style and how long; when serving, the line asks for good ones. It is a system message:
`[score 3/3 | tokens <= 64 | style code]`. A part of the rows has none, so that the policy still
answers without one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta

from upshot.errors import InputError, NotFoundError, NothingToLearnError
from upshot.hub.loss_masks import Tokens, example_tokens
from upshot.policy.methods import sft
from upshot.policy.methods.method import Method
from upshot.records import Example, Turn
from upshot.stats.sampling import draw

if TYPE_CHECKING:
    from upshot.policy.job import Job

CONDITION_FILE = "condition.json"
_OWN_TAGS = frozenset({"score", "tokens"})
"""Tags that the line states by itself."""


class ConditionedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of conditioned training."""

    levels: Annotated[int, Meta(description="how finely scores are told apart; 3")] = 3
    tags: Annotated[
        list[str] | None, Meta(description="which tags stand in the line; all that rows have")
    ] = None
    user: Annotated[bool, Meta(description="whether the user's pseudonym stands in it; false")] = (
        False
    )
    free: Annotated[
        float,
        Meta(
            description=(
                "share of rows without a line, so that the policy still answers unasked; 0.1"
            )
        ),
    ] = 0.1


class Condition(msgspec.Struct, frozen=True):
    """What a policy can be asked for."""

    levels: int
    edges: list[float]
    """Scores between levels."""
    tags: dict[str, list[str]]
    """Values in the training rows, by tag."""
    users: bool = False

    def level(self, score: float) -> int:
        """From 1, the worst, to `levels`."""
        return 1 + int(np.searchsorted(self.edges, score, side="right"))

    def line(
        self,
        level: int | None = None,
        tokens: int | None = None,
        tags: Mapping[str, str] = {},
        user: str = "",
    ) -> str:
        """The line that asks for a level, the best unless named."""
        parts = [f"score {level or self.levels}/{self.levels}"]
        parts += [f"tokens <= {token_budget(tokens)}"] if tokens else []
        parts += [f"{name} {value}" for name, value in sorted(tags.items())]
        parts += [f"user {user}"] if user else []
        return f"[{' | '.join(parts)}]"

    def ask(
        self,
        prompt: Sequence[Turn],
        tokens: int | None = None,
        tags: Mapping[str, str] = {},
        user: str = "",
    ) -> tuple[Turn, ...]:
        """A prompt that asks for the best.

        Raises:
            InputError: no row had such a tag.
        """
        for name, value in tags.items():
            if value not in self.tags.get(name, ()):
                raise InputError(
                    f"could not ask for {name} {value!r}: rows had"
                    f" {self.tags.get(name, 'no such tag')}"
                )
        return add_line(prompt, self.line(None, tokens, tags, user if self.users else ""))


def load_condition(folder: Path) -> Condition:
    """What a policy can be asked for, from its folder.

    Raises:
        NotFoundError: it was not trained by this method.
    """
    if not (folder / CONDITION_FILE).is_file():
        raise NotFoundError(
            f"could not ask {folder} for a score: it was not trained with --method conditioned"
        )
    return msgspec.json.decode((folder / CONDITION_FILE).read_bytes(), type=Condition)


def token_budget(tokens: float) -> int:
    """The smallest power of two that is not less than a length.

    >>> token_budget(50), token_budget(64)
    (64, 64)
    """
    return 1 << max(0, math.ceil(math.log2(max(1.0, tokens))))


def add_line(prompt: Sequence[Turn], line: str) -> tuple[Turn, ...]:
    """A prompt with a line in its system message, which is added where there is none."""
    if prompt and prompt[0].role == "system":
        return (Turn("system", f"{prompt[0].content}\n{line}"), *prompt[1:])
    return (Turn("system", line), *prompt)


def fit(job: Job) -> Path:
    """Learn all examples, each behind its line."""
    from upshot.policy.imitation import imitate  # TRL: seconds to load

    options = job.read_options(ConditionedOptions)
    rows = [row for row in job.need_examples() if row.weight > 0]
    condition = learn_condition(rows, options)
    folder = imitate(job, [_tokenize(job, row, condition, options) for row in rows])
    (folder / CONDITION_FILE).write_bytes(msgspec.json.encode(condition))
    return folder


def learn_condition(rows: Sequence[Example], options: ConditionedOptions) -> Condition:
    """Levels of equal size, and the tags of the rows.

    Raises:
        InputError: all rows have the same score.
    """
    scores = np.array([row.score for row in rows])
    edges = sorted(
        set(np.quantile(scores, np.arange(1, options.levels) / options.levels).tolist())
        - {float(scores.min())}
    )
    if not edges:
        raise NothingToLearnError("could not train by conditioned: all rows have the same score")
    tags: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.tags.items():
            if (
                name not in _OWN_TAGS
                and (options.tags is None or name in options.tags)
                and isinstance(value, str)
            ):
                tags.setdefault(name, set()).add(value)
    return Condition(
        len(edges) + 1, edges, {name: sorted(values) for name, values in tags.items()}, options.user
    )


def _tokenize(job: Job, row: Example, condition: Condition, options: ConditionedOptions) -> Tokens:
    if draw("\n".join(turn.content for turn in (*row.prompt, *row.completion))) >= options.free:
        length = sum(
            len(job.tokenizer(turn.content)["input_ids"])
            for turn in row.completion
            if turn.role == "assistant"
        )
        tags = {name: str(row.tags[name]) for name in condition.tags if name in row.tags}
        line = condition.line(
            condition.level(row.score),
            length,
            tags,
            row.source.users[0] if options.user and row.source.users else "",
        )
        train = row.train and (
            *(() if row.prompt and row.prompt[0].role == "system" else (False,)),
            *row.train,
        )
        row = msgspec.structs.replace(row, prompt=add_line(row.prompt, line), train=train)
    return example_tokens(job.tokenizer, row, row.weight, job.recipe.max_length)


METHOD = Method(
    name="Conditioned on score, tags, user and cost",
    does=(
        "Learns answers of every quality with a line that says how good they were (and in which"
        " style, how long, for whom), then is asked for good ones."
    ),
    choose=(
        "When bad answers are plenty and you want to learn from them too; and to steer length or"
        " style when serving."
    ),
    needs="examples with scores (and tags).",
    steps="no",
    source="Lu et al. 2022 (Quark); Korbak et al. 2023; Chen et al. 2021",
    load_config=sft.load_config,
    fit=fit,
    option_type=ConditionedOptions,
)
