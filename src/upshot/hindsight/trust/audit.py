"""A random audit of responses, and its labels.

Which responses are drawn depends on a hash of their names alone, not on what followed. A label
comes from someone whom the answer could not flatter: a person, a test, a strong judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError, NotFoundError
from upshot.hindsight.embedded.judge import Reading
from upshot.hindsight.embedded.timeline import ROLES, USER, Timeline
from upshot.hindsight.trust.units import Units
from upshot.stats.sampling import draw

_MAX_FOLLOWING = 6
"""Messages after the response that a rater is shown: as many as the embedded judge reads."""
_BEFORE = (
    "request_lexicon",
    "request_failed",
    "request_complains",
    "request_thanks",
    "request_rejects",
    "request_missing",
    "first_exchange",
)
"""Features that are known before the response is given."""


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One response to be labelled."""

    id: str
    index: int
    arm: str
    """The arm of a comparison, for instance the model."""
    rate: float
    """Probability with which it was drawn."""
    request: str
    response: str
    after: list[str]
    """The messages that followed, each prefixed by its role.

    For raters who judge by the follow-ups; those who must not be flattered do without.
    """


class Label(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rater's label of one response."""

    id: str
    index: int
    label: float
    """1: it helped its user toward the goal, 0: it did not; in between: the rater is unsure."""
    rater: str = ""


def draw_items(line: Timeline, arms: Sequence[str], rate: float, seed: str) -> Iterator[Item]:
    """The responses of a timeline that the audit draws; `arms`: one name per response."""
    requests = line.texts_at(line.before(USER))
    for row, p in enumerate(cast(list[int], line.responses.tolist())):
        name, index = str(line.conversation[p]), int(line.index[p])
        if not arms[row] or draw(f"{seed}/{name}/{index}") >= rate:
            continue
        end = int(line.ends[row])
        stop = min(end + _MAX_FOLLOWING, len(line.role))
        after = [
            f"{ROLES[line.role[q]]}: {line.text[q]}"
            for q in range(end, stop)
            if line.thread[q] == line.thread[p]
        ]
        yield Item(
            name,
            index,
            arms[row],
            rate,
            requests[row],
            line.text_of(row),
            after,
        )


def read_items(path: Path) -> list[Item]:
    """Read a file of audited responses (JSON lines).

    Raises:
        NotFoundError, InputError: the file is not there, or a line is no item.
    """
    if not path.is_file():
        raise NotFoundError(f"could not read {path}: it is not a file; `upshot audit` writes one")
    items: list[Item] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            items.append(msgspec.json.decode(line, type=Item))
        except msgspec.DecodeError as error:
            raise InputError(
                f"could not read {path} line {number}: {error}; `upshot audit` writes such files"
            ) from error
    return items


class Labels(NamedTuple):
    """Labels of a file."""

    mean: dict[tuple[str, int], float]
    """(conversation, index) → mean over raters."""
    by_rater: dict[str, dict[tuple[str, int], float]]


def read_labels(path: Path) -> Labels:
    """Read labels from JSON lines: `id`, `index`, `label` or `score`, and optionally `rater`.

    `score` is the name in another judge's verdicts.

    Raises:
        NotFoundError, InputError: the file is not there, or a line is no label.
    """
    if not path.is_file():
        raise NotFoundError(f"could not read labels: {path} is not a file")
    by_rater: dict[str, dict[tuple[str, int], float]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line)
            value = float(row["label"] if "label" in row else row["score"])
            name = (str(row["id"]), int(row["index"]))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f'could not read labels: {path} line {number}: {error}; write {{"id": "c1",'
                ' "index": 3, "label": 1}'
            ) from error
        if not 0 <= value <= 1:
            raise InputError(
                f"could not read labels: {path} line {number}: label {value} is not in [0, 1]"
            )
        by_rater.setdefault(str(row.get("rater") or row.get("judge") or ""), {})[name] = value
    names = {name for labels in by_rater.values() for name in labels}
    mean = {
        name: float(np.mean([labels[name] for labels in by_rater.values() if name in labels]))
        for name in names
    }
    return Labels(mean, by_rater)


class Rows(NamedTuple):
    """Responses of one bucket, as input of a comparison."""

    names: list[tuple[str, int]]
    arm: NDArray[np.object_]
    prompt: NDArray[np.float64]
    user: NDArray[np.object_]
    propensity: NDArray[np.float64]
    """Logged P(this arm); NaN where it was not logged."""


def make_rows(reading: Reading, arms: Sequence[str], propensities: Mapping[str, float]) -> Rows:
    """What was known about each response before it was given.

    `propensities`: by conversation, where the log has them.
    """
    line = reading.line
    features = reading.features
    columns = [features.values[:, features.names.index(name)] for name in _BEFORE]
    requests = line.before(USER)
    texts = line.visible_at(requests)
    columns += [
        np.array([np.log1p(len(text)) for text in texts]),
        np.array(["```" in text for text in texts], float),
        np.array(["?" in text for text in texts], float),
        np.log1p(line.index[line.responses].astype(float)),
    ]
    names = [(str(line.conversation[p]), int(line.index[p])) for p in line.responses]
    logged = np.array([propensities.get(name, np.nan) for name, _ in names])
    return Rows(
        names,
        np.array(arms, object),
        np.column_stack(columns).astype(float),
        line.user[line.responses],
        logged,
    )


def make_units(
    parts: Sequence[Rows],
    scores: Mapping[tuple[str, int], float],
    labels: Labels,
    arms: tuple[str, str],
    *,
    rate: float,
    seed: str,
) -> Units:
    """The judged responses of two arms; labels count only where the audit drew the response."""
    a, b = arms
    rows: list[_UnitRow] = []
    for part in parts:
        for row, name in enumerate(part.names):
            arm = part.arm[row]
            if arm not in arms or name not in scores:
                continue
            drawn = draw(f"{seed}/{name[0]}/{name[1]}") < rate
            logged = float(part.propensity[row])
            rows.append(
                _UnitRow(
                    int(arm == b),
                    scores[name],
                    part.prompt[row],
                    part.user[row],
                    drawn and name in labels.mean,
                    labels.mean.get(name, 0.0),
                    logged if arm == b else 1 - logged,
                )
            )
    if not rows:
        raise InputError(
            f"could not compare {a!r} with {b!r}: the lake has no judged responses of them"
        )
    audited = np.array([row.audited for row in rows], bool)
    arm = np.array([row.arm for row in rows], np.int64)
    # A drawn response without a label (yet) counts as not drawn, as if labelling had stopped at
    # random: the rate is the share that was labelled.
    labelled = np.array(
        [max(audited[arm == k].mean(), 1e-9) if (arm == k).any() else rate for k in (0, 1)]
    )
    propensity = np.array([row.propensity for row in rows])
    return Units(
        arm,
        np.array([row.verdict for row in rows], float),
        np.array([row.prompt for row in rows], float),
        np.array([row.user for row in rows], object),
        audited,
        np.array([row.label for row in rows], float),
        labelled[arm],
        None if np.isnan(propensity).any() else propensity,
    )


class _UnitRow(NamedTuple):
    """One row of `Units`."""

    arm: int
    verdict: float
    prompt: NDArray[np.float64]
    user: str
    audited: bool
    label: float
    propensity: float
