"""What people say of verdicts, and what that says of all of them."""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from upshot.api.judging import verdicts
from upshot.api.opening import endpoint_of, open_lake
from upshot.config import Settings, load
from upshot.errors import InputError, NotFoundError
from upshot.hindsight.embedded.judge import Reading
from upshot.hindsight.embedded.model import load_shipped_model
from upshot.hindsight.llm import cascade, rubric
from upshot.hindsight.llm.learn_rubric import learn_signs as learn_signs
from upshot.hindsight.trust import audit as audits
from upshot.hindsight.trust import lake_trust
from upshot.hindsight.trust.compare import Comparison
from upshot.hindsight.trust.compare import compare as estimate
from upshot.hindsight.trust.lake_trust import Calibration
from upshot.io.json_lines import encode
from upshot.io.rows import Rows
from upshot.io.writing import replace_file
from upshot.lake import Lake, store_model
from upshot.llm import Budget
from upshot.loop import off_policy
from upshot.report.reliability import reliability_page


def _readings(
    store: Lake, settings: Settings, by: str
) -> Iterator[tuple[Reading, list[str], dict[str, float]]]:
    """Each bucket as read, the arm of each response, and logged propensities by conversation."""
    if not store.exists():
        raise NotFoundError(
            f"could not read {store.root}: there is no lake; make one with `upshot ingest`"
        )
    for part in cascade.judge_buckets(
        store, load_shipped_model(), settings.judge.horizon, 0.0, 0.0
    ):
        conversations = (
            store.read("conversations", part.number).select(["id", "model", "metadata"]).to_pylist()
        )
        metadata = {
            row["id"]: msgspec.json.decode(row["metadata"] or "{}") for row in conversations
        }
        models = {row["id"]: row["model"] for row in conversations}
        own_model = {
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
                (own_model.get((name, index)) or models.get(name, ""))
                if by == "model"
                else str(metadata.get(name, {}).get(by, ""))
            )
        propensities = {
            name: float(fields["propensity"])
            for name, fields in metadata.items()
            if "propensity" in fields
        }
        yield part.reading, arms, propensities


def audit(
    lake: str | os.PathLike[str],
    by: str = "model",
    *,
    rate: float = 0.05,
    seed: str = "audit",
    settings: Settings | None = None,
) -> Rows[audits.Item]:
    """A random sample of a lake's responses to be labelled, drawn independently of what came of
    them.

    `by`: what arms are told apart by: `model`, or a key of the conversations' metadata.
    """
    chosen = settings or load()
    store = open_lake(lake, chosen)
    return Rows(
        lambda: (
            item
            for reading, arms, _ in _readings(store, chosen, by)
            for item in audits.draw_items(reading.line, arms, rate, seed)
        )
    )


def compare(
    lake: str | os.PathLike[str],
    by: str = "model",
    *,
    a: str = "",
    b: str = "",
    labels: str | os.PathLike[str] | None = None,
    rate: float = 0.05,
    seed: str = "audit",
    settings: Settings | None = None,
) -> Comparison:
    """Is arm `b` better than arm `a` for users?

    Without names, the two most frequent arms, the older name first.

    `labels`: those of the audit (`rate` and `seed` as it was drawn with); without them the answer
    is what the logs alone can and cannot tell.

    Raises:
        InputError: there are no two arms, or too little of one.
    """
    settings = settings or load()
    parts = [
        audits.make_rows(reading, arms, logged)
        for reading, arms, logged in _readings(open_lake(lake, settings), settings, by)
    ]
    counts = Counter(arm for part in parts for arm in part.arm if arm)
    if not (a and b):
        if len(counts) < 2:
            raise InputError(
                f"could not compare by {by!r}: the lake has {len(counts)} of it"
                f" ({', '.join(counts) or 'none'}), two are needed"
            )
        a, b = sorted(name for name, _ in counts.most_common(2))
    scores = {(v.id, v.index): v.score for v in verdicts(lake, settings)}
    answers = audits.read_labels(Path(labels)) if labels else audits.Labels({}, {})
    return estimate(audits.make_units(parts, scores, answers, (a, b), rate=rate, seed=seed), (a, b))


class ArmValue(msgspec.Struct, frozen=True):
    """What users would have got from one value of a logged knob, had every response had it."""

    arm: str
    responses: int
    """With this value, of those that were judged."""
    users: int
    value: float
    """Mean verdict, in [0, 1]."""
    low: float
    """Of the interval over users."""
    high: float
    effective: float
    """Effective sample size, (Σw)² / Σw²."""


def evaluate(
    lake: str | os.PathLike[str],
    by: str = "model",
    *,
    estimator: off_policy.Kind = "snips",
    level: float = 0.95,
    settings: Settings | None = None,
) -> list[ArmValue]:
    """Off-policy evaluation of a knob whose values were drawn at random: what every response would
    have earned under each value, best first.

    `by`: the knob, `model` or a key of the conversations' metadata, whose `propensity` is the
    probability with which the value was drawn. `estimator`: `ips`, `snips`, `dm` or `dr`
    (`upshot.loop.off_policy`). Rewards are verdicts, so what `compare` says of flattery holds here
    too.

    Raises:
        InputError: the lake has no judged responses with a value of the knob, some of them have no
            logged propensity, or one below the floor.
    """
    settings = settings or load()
    scores = {(v.id, v.index): v.score for v in verdicts(lake, settings)}
    rows = [
        (name, part.arm[row], float(part.propensity[row]), part.user[row], part.prompt[row])
        for part in (
            audits.make_rows(reading, arms, logged)
            for reading, arms, logged in _readings(open_lake(lake, settings), settings, by)
        )
        for row, name in enumerate(part.names)
        if part.arm[row] and name in scores
    ]
    if not rows:
        raise InputError(
            f"could not evaluate {by!r}: the lake has no judged responses whose conversations name"
            " a value of it; run `upshot judge`, or name another with --by"
        )
    names, _, propensities, users, prompts = zip(*rows, strict=True)
    if missing := [name[0] for name, p in zip(names, propensities, strict=True) if math.isnan(p)]:
        raise InputError(
            f"could not evaluate {by!r}: {len(missing)} of {len(rows)} judged responses have no"
            f" metadata.propensity (conversation {missing[0]}, for one); without the probability"
            " with which each value was drawn, use `upshot compare`"
        )
    arms, action = np.unique([row[1] for row in rows], return_inverse=True)
    logged = off_policy.Logged(
        action.astype(np.int64),
        np.array([scores[name] for name in names]),
        np.array(propensities),
        np.array(users, object),
    )
    expected = None
    if estimator in ("dm", "dr"):
        expected = off_policy.predict_rewards(logged, np.array(prompts), len(arms))
    values: list[ArmValue] = []
    for number, arm in enumerate(arms.tolist()):
        policy = np.zeros((len(rows), len(arms)))
        policy[:, number] = 1.0
        value = off_policy.estimate(logged, policy, estimator, expected=expected, level=level)
        own = action == number
        values.append(ArmValue(arm, int(own.sum()), len(set(logged.user[own].tolist())), *value))
    return sorted(values, key=lambda row: -row.value)


def calibrate(
    lake: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    error: float = 0.1,
    out: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
) -> Calibration:
    """Turn a lake's scores into probabilities by people's labels, and say how far to trust them.

    The curve is stored in the lake, with the users whose verdicts taught it; `verdicts` applies it.
    `out`: where to write a reliability plot, as HTML.

    Raises:
        InputError: too few of the labels are of this lake's responses.
    """
    settings = settings or load()
    store = open_lake(lake, settings)
    rows = [
        row
        for bucket in range(store.buckets)
        for row in store.read("verdicts", bucket, ["id", "index", "score", "user"]).to_pylist()
    ]
    calibration, curve, users = lake_trust.calibrate(rows, audits.read_labels(Path(labels)), error)
    store_model(store, cascade.CALIBRATION, msgspec.json.encode(curve).decode(), users)
    if out is not None:
        replace_file(out, reliability_page(calibration).encode())
    return calibration


def rubric_learn(
    lake: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
) -> rubric.Rubric:
    """The rubric with a domain's signs, which a language model finds in a lake's labelled
    exchanges; `out`: where to write it.

    Raises:
        ConfigError: no endpoint or model is named.
        InputError: too few labels are of this lake's responses.
    """
    settings = settings or load()
    answers = audits.read_labels(Path(labels))
    everything = (
        item
        for reading, arms, _ in _readings(open_lake(lake, settings), settings, "model")
        for item in audits.draw_items(reading.line, ["-"] * len(arms), 1.1, "")
    )
    items = [item for item in everything if (item.id, item.index) in answers.mean]
    endpoint = endpoint_of(settings)
    learned = learn_signs(
        items,
        answers,
        rubric.load_rubric(settings.llm.rubric),
        endpoint,
        Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd),
    )
    if out is not None:
        replace_file(out, rubric.render_rubric(learned).encode())
    return learned


def rubric_show() -> str:
    """The shipped rubric as TOML, to be edited and passed back as `llm.rubric`."""
    return rubric.render_rubric()


def label(
    items: str | os.PathLike[str] | Iterable[audits.Item],
    ask: Callable[[audits.Item], float | None],
    *,
    rater: str = "me",
    out: str | os.PathLike[str] | None = None,
) -> Iterator[audits.Label]:
    """Labels for the items of an audit: `ask` shows one and returns 0, 1, anything between, or None
    to pass.

    With `out`, items that have a label in that file are passed over, and each label is appended to
    it before the next item is shown.

    Raises:
        InputError: an item or an earlier label cannot be read.
    """
    path = None if out is None else Path(out)
    labelled: set[tuple[str, int]] = set()
    if path is not None and path.is_file():
        labelled.update(audits.read_labels(path).mean)
    with contextlib.ExitStack() as stack:
        handle = None if path is None else stack.enter_context(open(path, "ab"))
        for item in _read_items(items):
            if (item.id, item.index) in labelled or (value := ask(item)) is None:
                continue
            answer = audits.Label(item.id, item.index, value, rater)
            if handle is not None:
                handle.write(encode(answer) + b"\n")
                handle.flush()
            yield answer


def _read_items(items: str | os.PathLike[str] | Iterable[audits.Item]) -> Iterable[audits.Item]:
    return audits.read_items(Path(items)) if isinstance(items, (str, os.PathLike)) else items
