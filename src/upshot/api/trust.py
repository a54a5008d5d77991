"""What people say of verdicts, and what that says of all of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from upshot.config import Settings, load
from upshot.errors import InputError, NotFoundError
from upshot.hindsight.embedded.judge import Reading
from upshot.hindsight.embedded.model import shipped
from upshot.hindsight.llm import cascade, rubric
from upshot.hindsight.llm.learn_rubric import learn as learn_signs
from upshot.hindsight.trust import audit as audits
from upshot.lake import Lake
from upshot.llm import Budget

if TYPE_CHECKING:
    from upshot.hindsight.trust.compare import Comparison
    from upshot.hindsight.trust.lake_trust import Calibration

from upshot.api.judging import verdicts
from upshot.api.opening import endpoint_of, open_lake


def _readings(
    store: Lake, settings: Settings, by: str
) -> Iterator[tuple[Reading, list[str], dict[str, float]]]:
    """Each bucket as read, the arm of each response, and logged propensities by conversation."""
    if not store.exists():
        raise NotFoundError(
            f"could not read {store.root}: there is no lake; make one with `upshot ingest`"
        )
    for part in cascade.buckets(store, shipped(), settings.judge.horizon, 0.0, 0.0):
        conversations = (
            store.read("conversations", part.number).select(["id", "model", "metadata"]).to_pylist()
        )
        metadata = {
            row["id"]: msgspec.json.decode(row["metadata"] or "{}") for row in conversations
        }
        models = {row["id"]: row["model"] for row in conversations}
        said = {
            (row["id"], row["index"]): row["model"]
            for row in (
                store.read("messages", part.number).select(["id", "index", "model"]).to_pylist()
            )
            if row["model"]
        }
        arms: list[str] = []
        for p in part.line.responses.tolist():
            name, index = str(part.line.conversation[p]), int(part.line.index[p])
            arms.append(
                (said.get((name, index)) or models.get(name, ""))
                if by == "model"
                else str(metadata.get(name, {}).get(by, ""))
            )
        propensities = {
            name: float(found["propensity"])
            for name, found in metadata.items()
            if "propensity" in found
        }
        yield part.seen, arms, propensities


def audit(
    target: str | os.PathLike[str],
    by: str = "model",
    rate: float = 0.05,
    seed: str = "audit",
    settings: Settings | None = None,
) -> Iterator[audits.Item]:
    """A random sample of a lake's responses to be labelled, drawn independently of what came of
    them.

    `by`: what arms are told apart by: `model`, or a key of the conversations' metadata.
    """
    settings = settings or load()
    for seen, arms, _ in _readings(open_lake(target, settings), settings, by):
        yield from audits.items(seen.line, arms, rate, seed)


def compare(
    target: str | os.PathLike[str],
    by: str = "model",
    a: str = "",
    b: str = "",
    labels: Path | None = None,
    rate: float = 0.05,
    seed: str = "audit",
    settings: Settings | None = None,
) -> Comparison:
    """Is arm `b` better than arm `a` for users?

    Without names, the two most frequent arms, the older name first.

    `labels`: what the audit found (`rate` and `seed` as it was drawn with); without them the answer
    is what the logs alone can and cannot tell.

    Raises:
        InputError: there are no two arms, or too little of one.
    """
    from upshot.hindsight.trust.compare import (
        compare as estimate,  # scipy takes half a second to load
    )

    settings = settings or load()
    parts = [
        audits.rows(seen, arms, logged)
        for seen, arms, logged in _readings(open_lake(target, settings), settings, by)
    ]
    counts = Counter(arm for part in parts for arm in part.arm if arm)
    if not (a and b):
        if len(counts) < 2:
            raise InputError(
                f"could not compare by {by!r}: the lake has {len(counts)} of it"
                f" ({', '.join(counts) or 'none'}), two are needed"
            )
        a, b = sorted(name for name, _ in counts.most_common(2))
    scores = {(v.id, v.index): v.score for v in verdicts(target, settings)}
    known = audits.read_labels(labels) if labels else audits.Labels({}, {})
    return estimate(audits.units(parts, scores, known, a, b, rate, seed), (a, b))


def calibrate(
    target: str | os.PathLike[str],
    labels: Path,
    error: float = 0.1,
    settings: Settings | None = None,
) -> Calibration:
    """Turn a lake's scores into probabilities by people's labels, and say how far to trust them.

    The curve is kept in the lake, with the users who taught it; `verdicts` applies it.

    Raises:
        InputError: too few of the labels are of this lake's responses.
    """
    from upshot.hindsight.trust import lake_trust as trust  # scipy takes half a second to load

    settings = settings or load()
    store = open_lake(target, settings)
    rows = [
        row
        for bucket in range(store.buckets)
        for row in store.read("verdicts", bucket, ["id", "index", "score", "user"]).to_pylist()
    ]
    found, curve, users = trust.calibrate(rows, audits.read_labels(labels), error)
    cascade.keep_model(store, cascade.CALIBRATION, curve, users)
    return found


def learn_rubric(
    target: str | os.PathLike[str], labels: Path, settings: Settings | None = None
) -> rubric.Rubric:
    """The rubric with a domain's signs, which a language model finds in a lake's labelled
    exchanges.
    """
    settings = settings or load()
    known = audits.read_labels(labels)
    everything = (
        item
        for seen, arms, _ in _readings(open_lake(target, settings), settings, "model")
        for item in audits.items(seen.line, ["-"] * len(arms), 1.1, "")
    )
    items = [item for item in everything if (item.id, item.index) in known.mean]
    endpoint = endpoint_of(settings)
    return learn_signs(
        items,
        known,
        rubric.load(settings.llm.rubric),
        endpoint,
        Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd),
    )


def label(
    items: Iterable[audits.Item],
    ask: Callable[[audits.Item], float | None],
    rater: str,
    known: Iterable[tuple[str, int]] = (),
) -> Iterator[audits.Label]:
    """Labels for items that have none yet: `ask` shows one and returns 0, 1, anything between, or
    None to pass.
    """
    done = set(known)
    for item in items:
        if (item.id, item.index) not in done and (value := ask(item)) is not None:
            yield audits.Label(item.id, item.index, value, rater)
