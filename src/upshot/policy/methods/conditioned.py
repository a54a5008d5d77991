"""Score-conditioned training (Lu et al., 2022; Korbak et al., 2023): answers of every quality are
learned behind a line that says how good they were, for whom, in which style and how long; when
serving, the line asks for good ones.

The line is a system message: `[score 3/3 | tokens <= 64 | style code]`. A part of the rows has
none, so that the policy still answers unasked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from upshot.errors import InputError, NotFoundError, NothingToLearnError
from upshot.hub.loss_masks import Tokens, tokens_of
from upshot.policy.job import Job
from upshot.policy.methods import sft
from upshot.policy.recipe import options
from upshot.records import Example, Turn
from upshot.stats.sampling import draw

CONFIG = sft.CONFIG
KEPT = "condition.json"
_OWN = frozenset({"score", "tokens"})


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of this method."""

    levels: int = 3
    tags: list[str] | None = None
    user: bool = False
    free: float = 0.1


class Condition(msgspec.Struct, frozen=True):
    """What a policy can be asked for."""

    levels: int
    edges: list[float]
    """Scores between levels."""
    tags: dict[str, list[str]]
    """Values that were seen, by tag."""
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
        """The line that asks."""
        parts = [f"score {level or self.levels}/{self.levels}"]
        parts += [f"tokens <= {budget(tokens)}"] if tokens else []
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
        return with_line(prompt, self.line(None, tokens, tags, user if self.users else ""))


def load(folder: Path) -> Condition:
    """What a policy's folder says it can be asked for.

    Raises:
        NotFoundError: it was not trained so.
    """
    if not (folder / KEPT).is_file():
        raise NotFoundError(
            f"could not ask {folder} for a score: it was not trained with --method conditioned"
        )
    return msgspec.json.decode((folder / KEPT).read_bytes(), type=Condition)


def budget(tokens: float) -> int:
    """The power of two that a length stays within.

    >>> budget(50), budget(64)
    (64, 64)
    """
    return 1 << max(0, math.ceil(math.log2(max(1.0, tokens))))


def with_line(prompt: Sequence[Turn], line: str) -> tuple[Turn, ...]:
    """A prompt with a line in its system message, which is made where there is none."""
    if prompt and prompt[0].role == "system":
        return (Turn("system", f"{prompt[0].content}\n{line}"), *prompt[1:])
    return (Turn("system", line), *prompt)


def fit(job: Job) -> Path:
    """Learn all examples, each behind its line."""
    chosen = options(job.recipe, Options)
    rows = [row for row in job.need("examples") if row.weight > 0]
    condition = learn(rows, chosen)
    folder = sft.imitate(job, [_tokens(job, row, condition, chosen) for row in rows])
    (folder / KEPT).write_bytes(msgspec.json.encode(condition))
    return folder


def learn(rows: Sequence[Example], chosen: Options) -> Condition:
    """Levels of equal size, and the tags there are.

    Raises:
        InputError: all rows have the same score.
    """
    scores = np.array([row.score for row in rows])
    edges = sorted(
        set(np.quantile(scores, np.arange(1, chosen.levels) / chosen.levels).tolist())
        - {float(scores.min())}
    )
    if not edges:
        raise NothingToLearnError("could not train by conditioned: all rows have the same score")
    tags: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.tags.items():
            if (
                name not in _OWN
                and (chosen.tags is None or name in chosen.tags)
                and isinstance(value, str)
            ):
                tags.setdefault(name, set()).add(value)
    return Condition(
        len(edges) + 1, edges, {name: sorted(values) for name, values in tags.items()}, chosen.user
    )


def _tokens(job: Job, row: Example, condition: Condition, chosen: Options) -> Tokens:
    if draw("\n".join(turn.content for turn in (*row.prompt, *row.completion))) >= chosen.free:
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
            row.source.users[0] if chosen.user and row.source.users else "",
        )
        train = row.train and (
            *(() if row.prompt and row.prompt[0].role == "system" else (False,)),
            *row.train,
        )
        row = msgspec.structs.replace(row, prompt=with_line(row.prompt, line), train=train)
    return tokens_of(job.tokenizer, row, row.weight, job.recipe.max_length)
