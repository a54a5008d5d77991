"""What a round teaches: judged answers of recent rounds as examples and pairs, and frozen prompts.

The prompts are of users who teach nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from upshot.io import json_lines
from upshot.io.writing import replace_file
from upshot.lake import Lake
from upshot.loop.config import Learn
from upshot.loop.gate import split_of
from upshot.loop.results import AgreementResult, LessonCounts
from upshot.policy import agreement
from upshot.policy.data import Data, read_data
from upshot.policy.job import Progress
from upshot.policy.recipe import Recipe
from upshot.preferences.examples import make_examples
from upshot.preferences.from_lake import Curve, read_buckets
from upshot.preferences.pairs import make_pairs
from upshot.records import Example, Preference, Turn
from upshot.records.verdicts import EVEN
from upshot.stats.sampling import draw

Scores = Callable[[str, int], tuple[float, float] | None]
"""Another judge: score and confidence of the response at (conversation, index); None: no verdict.
"""


class Lessons(NamedTuple):
    """Files of a round."""

    judged: Path
    """Every answer to users who teach, with its verdict, those without a reaction too."""
    examples: Path
    """Those sure enough to teach, other users' agreement weighed in."""
    pairs: Path
    choose: Path
    """Prompts of the users to choose a candidate on."""
    test: Path
    shadow: Path
    """Requests with the answers users got, to be answered again unseen."""


class Prompt(msgspec.Struct, frozen=True):
    """A frozen prompt."""

    prompt: tuple[Turn, ...]
    user: str
    id: str
    index: int
    answer: str = ""
    """What the user got; left out of frozen prompts."""


def files_in(folder: Path) -> Lessons:
    """Where a round's lessons are."""
    return Lessons(
        *(
            folder / f"{name}.jsonl"
            for name in ("judged", "examples", "pairs", "choose", "test", "shadow")
        )
    )


def write(
    lake: Lake,
    folder: Path,
    since: datetime,
    splits: Sequence[float],
    max_prompts: int,
    *,
    curve: Curve | None = None,
    scores: Scores | None = None,
) -> LessonCounts:
    """Write the lessons of what was ingested since a time, and count them.

    `scores`: another judge instead of the lake's verdicts; pairs are then left out.
    """
    recent = _recent_conversations(lake, since)
    to = files_in(folder)
    judged: list[Example] = []
    pairs: list[Preference] = []
    prompts: dict[str, list[Prompt]] = {"choose": [], "test": []}
    for bucket in read_buckets(lake, curve):
        for row in make_examples(bucket, 0.0):
            place, user = row.source.chosen, row.source.users[0]
            if place is None or place.id not in recent or not row.prompt:
                continue
            split = split_of(user, splits)
            if split == "learn":
                judged.append(_rejudge(row, scores))
            elif all(turn.role != "assistant" for turn in row.prompt):
                prompts[split].append(Prompt(row.prompt, user, place.id, place.index))
        if scores is None:
            pairs += [
                pair
                for pair in make_pairs(bucket)
                if split_of(pair.source.users[0], splits) == "learn" and _is_recent(pair, recent)
            ]
    json_lines.write(judged, to.judged)
    json_lines.write(pairs, to.pairs)
    for split, path in (("choose", to.choose), ("test", to.test)):
        json_lines.write(_spread_over_users(prompts[split], max_prompts), path)
    return LessonCounts(len(judged), len(pairs), len(prompts["choose"]), len(prompts["test"]))


def weigh_agreement(
    folder: Path, recipe: Recipe, plan: Learn, progress: Progress
) -> AgreementResult:
    """Write the examples: answers whose verdicts are sure enough, other users' agreement weighed in
    where the plan asks for that.
    """
    files = files_in(folder)
    judged = [
        msgspec.json.decode(line, type=Example) for line in files.judged.read_bytes().splitlines()
    ]
    weighed = (
        agreement.agree(recipe, judged, folder / "agreement", progress=progress)
        if plan.agreement
        else agreement.Agreed(judged, {})
    )
    examples = [row for row in weighed.rows if row.weight >= plan.least_weight]
    json_lines.write(examples, files.examples)
    taught_by = judged if "slope" in weighed.details else examples
    users = {user for row in taught_by for user in row.source.users}
    users |= set(read_training_data(folder).users)
    replace_file(folder / "users.json", msgspec.json.encode(sorted(users)))
    return AgreementResult(
        len(examples), sum(row.score >= EVEN for row in examples), len(users), weighed.details
    )


def read_training_data(folder: Path) -> Data:
    """What a round's policy learns from."""
    to = files_in(folder)
    return read_data([path for path in (to.examples, to.pairs) if path.stat().st_size])


def _rejudge(row: Example, scores: Scores | None) -> Example:
    """An example as another judge sees it."""
    place = row.source.chosen
    if scores is None or place is None:
        return row
    score, weight = scores(place.id, place.index) or (EVEN, 0.0)
    return msgspec.structs.replace(row, score=score, weight=weight)


def verdicts_by_model(
    lake: Lake,
    since: datetime,
    models: Sequence[str],
    curve: Curve | None = None,
    scores: Scores | None = None,
) -> list[dict[str, list[float]]]:
    """For each model the verdicts of all its answers in conversations ingested since, by user."""
    out: list[dict[str, list[float]]] = [{} for _ in models]
    model_of = _recent_conversations(lake, since)
    for bucket in range(lake.buckets):
        verdicts = lake.read("verdicts", bucket, ("id", "index", "user", "score"))
        score = verdicts["score"].to_numpy()
        score = curve(score) if curve is not None and len(score) else score
        rows = verdicts.select(["id", "index", "user"]).to_pylist()
        for row, value in zip(rows, score.tolist(), strict=True):
            name = row["id"]
            other = scores(name, row["index"]) if scores is not None else (value, 1.0)
            if model_of.get(name) in models and other is not None:
                out[models.index(model_of[name])].setdefault(row["user"], []).append(other[0])
    return out


def sample_requests(lake: Lake, since: datetime, share: float, limit: int) -> list[Prompt]:
    """A random share of the first requests that were ingested since a time, with the answers their
    users got; at most `limit`.
    """
    recent = _recent_conversations(lake, since)
    prompts: list[Prompt] = []
    for bucket in read_buckets(lake, None):
        for row in make_examples(bucket, 0.0):
            place = row.source.chosen
            if (
                place is None
                or place.id not in recent
                or not row.prompt
                or any(turn.role == "assistant" for turn in row.prompt)
            ):
                continue
            if draw(f"shadow/{place.id}/{place.index}") < share:
                prompts.append(
                    Prompt(
                        row.prompt,
                        row.source.users[0],
                        place.id,
                        place.index,
                        "\n".join(
                            turn.content for turn in row.completion if turn.role == "assistant"
                        ),
                    )
                )
    return _spread_over_users(prompts, limit)


def read_prompts(path: Path) -> list[Prompt]:
    """Read frozen prompts."""
    return [msgspec.json.decode(line, type=Prompt) for line in path.read_bytes().splitlines()]


def _recent_conversations(lake: Lake, since: datetime) -> dict[str, str]:
    """Conversations ingested since a time, and the model that answered in each."""
    models: dict[str, str] = {}
    for bucket in range(lake.buckets):
        rows = lake.read("conversations", bucket, ["id", "model", "ingested_at"])
        models |= {
            name: model
            for name, model, when in zip(
                *(rows[key].to_pylist() for key in ("id", "model", "ingested_at")), strict=True
            )
            if when >= since
        }
    return models


def _is_recent(pair: Preference, recent: Container[str]) -> bool:
    places = [place for place in (pair.source.chosen, pair.source.rejected) if place is not None]
    return any(place.id in recent for place in places)


def _spread_over_users(rows: Sequence[Prompt], limit: int) -> list[Prompt]:
    """At most `limit` rows, of as many users as possible."""
    ordered = sorted(rows, key=lambda row: (row.id, row.index))
    rank: dict[str, int] = {}
    keyed: list[tuple[int, int, Prompt]] = []
    for number, row in enumerate(ordered):
        rank[row.user] = rank.get(row.user, -1) + 1
        keyed.append((rank[row.user], number, row))
    return [row for _, _, row in sorted(keyed, key=lambda entry: entry[:2])[:limit]]
