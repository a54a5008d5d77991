"""What a round teaches: the judged answers of recent rounds, as examples and pairs, and prompts of
users who teach nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from upshot import preferences
from upshot.io import json_lines
from upshot.lake import Lake
from upshot.loop.config import Learn
from upshot.loop.gate import split_of
from upshot.policy import agreement
from upshot.policy.data import Data, read
from upshot.policy.job import Progress
from upshot.policy.recipe import Recipe
from upshot.preferences.examples import unpaired
from upshot.preferences.lake import Curve
from upshot.preferences.pairs import pairs as pairs_of
from upshot.records import Example, Preference, Turn
from upshot.stats.sampling import draw

Scores = Callable[[str, int], tuple[float, float] | None]
"""Another judge: score and confidence of the response at (conversation, index); None: it says
nothing of it.
"""


class Lessons(NamedTuple):
    """Files of a round."""

    judged: Path
    """Every answer to users who teach, with its verdict, also those of which nothing was said."""
    examples: Path
    """Those of them that are sure enough to teach, as all users together see them."""
    pairs: Path
    choose: Path
    """Prompts with their users, of those to choose a candidate on."""
    test: Path
    shadow: Path
    """Requests and what users got for an answer, to be answered again unseen."""


class Prompt(msgspec.Struct, frozen=True):
    """A frozen prompt."""

    prompt: tuple[Turn, ...]
    user: str
    id: str
    index: int
    answer: str = ""
    """What the user got; of frozen prompts nothing is kept."""


def at(folder: Path) -> Lessons:
    """Where a round's lessons lie."""
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
    most_prompts: int,
    curve: Curve | None = None,
    scores: Scores | None = None,
) -> dict[str, Any]:
    """Write the lessons of what was ingested since, and count them.

    `scores`: who judges instead of the lake's verdicts; pairs are left out then.
    """
    recent = _recent(lake, since)
    to = at(folder)
    judged: list[Example] = []
    pairs: list[Preference] = []
    prompts: dict[str, list[Prompt]] = {"choose": [], "test": []}
    for seen in preferences.buckets(lake, curve):
        for row in unpaired(seen, 0.0):
            place, user = row.source.chosen, row.source.users[0]
            if place is None or place.id not in recent or not row.prompt:
                continue
            split = split_of(user, splits)
            if split == "learn":
                judged.append(_judged(row, scores))
            elif all(turn.role != "assistant" for turn in row.prompt):
                prompts[split].append(Prompt(row.prompt, user, place.id, place.index))
        if scores is None:
            pairs += [
                pair
                for pair in pairs_of(seen)
                if split_of(pair.source.users[0], splits) == "learn" and _of(pair, recent)
            ]
    json_lines.write(judged, to.judged)
    json_lines.write(pairs, to.pairs)
    for split, path in (("choose", to.choose), ("test", to.test)):
        json_lines.write(_spread(prompts[split], most_prompts), path)
    return {
        "answers": len(judged),
        "pairs": len(pairs),
        "choose": len(prompts["choose"]),
        "test": len(prompts["test"]),
    }


def agree(folder: Path, recipe: Recipe, plan: Learn, progress: Progress) -> dict[str, Any]:
    """Write the examples: answers that verdicts, and other users' agreement where that is asked
    for, are sure of.
    """
    to = at(folder)
    judged = [
        msgspec.json.decode(line, type=Example) for line in to.judged.read_bytes().splitlines()
    ]
    found = (
        agreement.agree(recipe, judged, folder / "agreement", progress=progress)
        if plan.agreement
        else agreement.Agreed(judged, {})
    )
    examples = [row for row in found.rows if row.weight >= plan.least_weight]
    json_lines.write(examples, to.examples)
    asked = judged if "slope" in found.told else examples
    users = sorted({*taught(folder).users, *(user for row in asked for user in row.source.users)})
    (folder / "users.json").write_bytes(msgspec.json.encode(users))
    return {
        "examples": len(examples),
        "good": sum(row.score >= 0.5 for row in examples),
        "users": len(users),
        "agreement": found.told,
    }


def taught(folder: Path) -> Data:
    """What a round's policy learns from."""
    to = at(folder)
    return read([path for path in (to.examples, to.pairs) if path.stat().st_size])


def _judged(row: Example, scores: Scores | None) -> Example:
    """An example as another judge sees it."""
    place = row.source.chosen
    if scores is None or place is None:
        return row
    score, weight = scores(place.id, place.index) or (0.5, 0.0)
    return msgspec.structs.replace(row, score=score, weight=weight)


def arms(
    lake: Lake,
    since: datetime,
    models: Sequence[str],
    curve: Curve | None = None,
    scores: Scores | None = None,
) -> list[dict[str, list[float]]]:
    """For each model the verdicts of all its answers in conversations ingested since, by user."""
    out: list[dict[str, list[float]]] = [{} for _ in models]
    model = _recent(lake, since)
    for bucket in range(lake.buckets):
        found = lake.read("verdicts", bucket, ("id", "index", "user", "score"))
        score = found["score"].to_numpy()
        score = curve(score) if curve is not None and len(score) else score
        for name, index, user, value in zip(
            found["id"].to_pylist(),
            found["index"].to_pylist(),
            found["user"].to_pylist(),
            score.tolist(),
            strict=True,
        ):
            other = scores(name, index) if scores is not None else (value, 1.0)
            if model.get(name) in models and other is not None:
                out[models.index(model[name])].setdefault(user, []).append(other[0])
    return out


def requests(lake: Lake, since: datetime, share: float, most: int) -> list[Prompt]:
    """A share of the first requests that were ingested since, drawn at random, with what their
    users got; at most so many.
    """
    recent = _recent(lake, since)
    found: list[Prompt] = []
    for seen in preferences.buckets(lake, None):
        for row in unpaired(seen, 0.0):
            place = row.source.chosen
            if (
                place is None
                or place.id not in recent
                or not row.prompt
                or any(turn.role == "assistant" for turn in row.prompt)
            ):
                continue
            if draw(f"shadow/{place.id}/{place.index}") < share:
                found.append(
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
    return _spread(found, most)


def read_prompts(path: Path) -> list[Prompt]:
    """Frozen prompts."""
    return [msgspec.json.decode(line, type=Prompt) for line in path.read_bytes().splitlines()]


def _recent(lake: Lake, since: datetime) -> dict[str, str]:
    """Conversations ingested since, and whose answers they hold."""
    found: dict[str, str] = {}
    for bucket in range(lake.buckets):
        rows = lake.read("conversations", bucket, ["id", "model", "ingested_at"])
        found |= {
            name: model
            for name, model, when in zip(
                *(rows[key].to_pylist() for key in ("id", "model", "ingested_at")), strict=True
            )
            if when >= since
        }
    return found


def _of(pair: Preference, recent: Container[str]) -> bool:
    places = [place for place in (pair.source.chosen, pair.source.rejected) if place is not None]
    return any(place.id in recent for place in places)


def _spread(rows: Sequence[Prompt], most: int) -> list[Prompt]:
    """At most so many, of as many users as there are."""
    ordered = sorted(rows, key=lambda row: (row.id, row.index))
    rank: dict[str, int] = {}
    keyed: list[tuple[int, int, Prompt]] = []
    for number, row in enumerate(ordered):
        rank[row.user] = rank.get(row.user, -1) + 1
        keyed.append((rank[row.user], number, row))
    return [row for _, _, row in sorted(keyed, key=lambda one: one[:2])[:most]]
