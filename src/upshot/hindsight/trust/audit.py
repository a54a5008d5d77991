"""A random audit of responses, and the labels that come of it.

Which responses are drawn depends on a hash of their names and on nothing that came of them. A label
is what somebody says whom the answer could not charm: a person, a test, a strong judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError, NotFoundError
from upshot.hindsight.embedded.judge import Reading
from upshot.hindsight.embedded.timeline import ROLES, USER, Timeline
from upshot.hindsight.trust.units import Units
from upshot.stats.sampling import draw

_FOLLOWING = 6
_BEFORE = (
    "request_lexicon",
    "request_failed",
    "request_complains",
    "request_thanks",
    "request_rejects",
    "request_missing",
    "first_exchange",
)
"""Features that are known before the answer."""


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One response to be labelled."""

    id: str
    index: int
    arm: str
    """What it is compared by, for instance its model."""
    rate: float
    """Probability with which it was drawn."""
    request: str
    response: str
    after: list[str]
    """The messages that followed, each behind its role.

    A rater of helpfulness by the follow-ups reads them; one who must not be charmed does not.
    """


class Label(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a rater says of one response."""

    id: str
    index: int
    label: float
    """1: it helped its user toward the goal, 0: it did not; anything between where the rater is
    unsure.
    """
    rater: str = ""


def items(line: Timeline, arms: Sequence[str], rate: float, seed: str) -> Iterator[Item]:
    """The responses of a timeline that are drawn; `arms` is one name a response."""
    requests = line.before(USER)
    for row, p in enumerate(line.responses.tolist()):
        name, index = str(line.conversation[p]), int(line.index[p])
        if not arms[row] or draw(f"{seed}/{name}/{index}") >= rate:
            continue
        stop = min(p + 1 + _FOLLOWING, len(line.role))
        after = [
            f"{ROLES[line.role[q]]}: {line.text[q]}"
            for q in range(p + 1, stop)
            if line.thread[q] == line.thread[p]
        ]
        yield Item(
            name,
            index,
            arms[row],
            rate,
            line.text[requests[row]] if requests[row] >= 0 else "",
            line.text[p],
            after,
        )


def read_items(path: Path) -> list[Item]:
    """What `items` drew, from JSON lines.

    Raises:
        NotFoundError, InputError: the file is not there, or a line is no item.
    """
    if not path.is_file():
        raise NotFoundError(f"could not read {path}: it is not a file; `upshot audit` writes one")
    found: list[Item] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            found.append(msgspec.json.decode(line, type=Item))
        except msgspec.DecodeError as error:
            raise InputError(
                f"could not read {path} line {number}: {error}; `upshot audit` writes such files"
            ) from error
    return found


class Labels(NamedTuple):
    """Labels of a file."""

    mean: dict[tuple[str, int], float]
    """(conversation, index) → mean over raters."""
    by_rater: dict[str, dict[tuple[str, int], float]]


def read_labels(path: Path) -> Labels:
    """Labels from JSON lines: `id`, `index`, and `label` (or `score`, as in another judge's
    verdicts), maybe `rater`.

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
    names = {name for given in by_rater.values() for name in given}
    mean = {
        name: float(np.mean([given[name] for given in by_rater.values() if name in given]))
        for name in names
    }
    return Labels(mean, by_rater)


class Rows(NamedTuple):
    """Responses of one bucket, as a comparison needs them."""

    names: list[tuple[str, int]]
    arm: NDArray[np.object_]
    prompt: NDArray[np.float64]
    user: NDArray[np.object_]
    propensity: NDArray[np.float64]
    """Logged P(this arm); NaN where none was."""


def rows(seen: Reading, arms: Sequence[str], propensities: Mapping[str, float]) -> Rows:
    """What was known of each response before it was given.

    `propensities`: by conversation, where the log has them.
    """
    line = seen.line
    found = seen.found
    columns = [found.values[:, found.names.index(name)] for name in _BEFORE]
    requests = line.before(USER)
    texts = [line.read[p] if p >= 0 else "" for p in requests.tolist()]
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


def units(
    parts: Sequence[Rows],
    scores: Mapping[tuple[str, int], float],
    labels: Labels,
    a: str,
    b: str,
    rate: float,
    seed: str,
) -> Units:
    """The responses of two arms. Labels count where the audit drew them, and nowhere else."""
    kept: dict[str, list[Any]] = {
        name: [] for name in ("arm", "verdict", "prompt", "user", "audited", "label", "logged")
    }
    for part in parts:
        for row, name in enumerate(part.names):
            arm = part.arm[row]
            if arm not in (a, b) or name not in scores:
                continue
            drawn = draw(f"{seed}/{name[0]}/{name[1]}") < rate
            logged = part.propensity[row] if arm == b else 1 - part.propensity[row]
            audited = drawn and name in labels.mean
            for column, value in zip(
                kept.values(),
                (
                    int(arm == b),
                    scores[name],
                    part.prompt[row],
                    part.user[row],
                    audited,
                    labels.mean.get(name, 0.0),
                    logged,
                ),
                strict=True,
            ):
                column.append(value)
    if not kept["arm"]:
        raise InputError(
            f"could not compare {a!r} with {b!r}: the lake has no judged responses of them"
        )
    audited = np.array(kept["audited"], bool)
    arm = np.array(kept["arm"], np.int64)
    # Drawn but not labelled (yet) is as good as not drawn, where labelling stopped by itself: the
    # rate is what was labelled.
    reached = np.array(
        [max(audited[arm == k].mean(), 1e-9) if (arm == k).any() else rate for k in (0, 1)]
    )
    logged = np.array(kept["logged"])
    return Units(
        arm,
        np.array(kept["verdict"], float),
        np.array(kept["prompt"], float),
        np.array(kept["user"], object),
        audited,
        np.array(kept["label"], float),
        reached[arm],
        None if np.isnan(logged).any() else logged,
    )
