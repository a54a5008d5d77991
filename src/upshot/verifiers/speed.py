"""Is code faster? Paired runs of it and of the code it replaces, in turn, and how time grows with
size.

One timing says nothing: machines are shared. Both programs stay loaded and take turns on the same
inputs, in the order ABBA, so that what slows the machine slows both; the ratio of each pair counts,
with an interval over the pairs. The clock is not in the code's process, which might turn it back.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from upshot.verifiers.inside import codec
from upshot.verifiers.items import Item, Part
from upshot.verifiers.sandbox import WORK, Limits, Place, Started, python
from upshot.verifiers.split_sandbox import INSIDE, flags

_PAIRS = 12
_ENOUGH_S = 0.02
"""A batch that takes this long is long enough to compare."""
_SIZES = [2**power for power in range(3, 17)]
_GROWTH_SIZES = 4


class Speed(NamedTuple):
    """How two programs compare."""

    ratio: float
    """Seconds of the other over ours: above 1, ours is faster."""
    low: float
    high: float
    """95 % interval over pairs."""
    size: int
    growth: float
    """Exponent of size in our time: about 1 is linear."""
    growth_other: float


def speed(item: Item, limits: Limits) -> Part:
    """How fast the code is beside `reference` on `inputs(size, seed)`: r / (1 + r), .5 for as fast,
    in [0, 1].
    """
    if not (item.inputs and item.reference and item.entry_point):
        return Part(None, why="speed needs `inputs`, `reference` and `entry_point`")
    found = compare(item.code, item.reference, item.entry_point, item.inputs, limits)
    if found is None:
        return Part(None, why="one of the programs did not answer in time")
    facts = {name: round(value, 4) for name, value in found._asdict().items()}
    return Part(
        found.ratio / (1 + found.ratio),
        facts,
        "no faster nor slower as far as can be told" if found.low <= 1 <= found.high else "",
    )


def compare(
    code: str, other: str, entry_point: str, inputs: str, limits: Limits = Limits()
) -> Speed | None:
    """Time two programs in turn; None where one fails or runs past a limit.

    Raises:
        SandboxError: untrusted code cannot be run safely here.
    """
    with contextlib.ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(_timed(text, entry_point, inputs, limits)) for text in (code, other)
        )
        try:
            size, growing = _SIZES[0], list[tuple[int, float, float]]()
            for size in _SIZES:
                growing.append((size, ours.take(size), theirs.take(size)))
                if growing[-1][2] >= _ENOUGH_S or growing[-1][1] >= _ENOUGH_S:
                    break
            ratios = list[float]()
            for pair in range(_PAIRS):
                first, second = (ours, theirs) if pair % 2 else (theirs, ours)
                took = {id(first): first.take(size), id(second): second.take(size)}
                ratios.append(math.log(took[id(theirs)] / took[id(ours)]))
        except (ValueError, ZeroDivisionError, BrokenPipeError):
            return None
    draws = np.median(np.random.default_rng(0).choice(ratios, (1000, len(ratios))), axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Speed(
        math.exp(float(np.median(ratios))),
        math.exp(low),
        math.exp(high),
        size,
        _slope(growing, 1),
        _slope(growing, 2),
    )


def _slope(rows: list[tuple[int, float, float]], column: int) -> float:
    last = rows[-_GROWTH_SIZES:]
    if len(last) < 2:
        return float("nan")
    return float(
        np.polyfit(np.log([row[0] for row in last]), np.log([row[column] for row in last]), 1)[0]
    )


class _Clock:
    """A program that is timed on demand."""

    def __init__(self, tests: Started) -> None:
        self.tests = tests

    def take(self, size: int) -> float:
        """Seconds of a batch of inputs of a size.

        Raises:
            ValueError: it did not answer.
        """
        stdin, stdout = self.tests.process.stdin, self.tests.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{size}\n".encode())
        stdin.flush()
        said = stdout.readline().split()
        if len(said) != 2:
            raise ValueError("no answer")
        return float(said[1])


@contextlib.contextmanager
def _timed(code: str, entry_point: str, inputs: str, limits: Limits) -> Iterator[_Clock]:
    ours, theirs = socket.socketpair()
    null = os.open(os.devnull, os.O_WRONLY)
    job = codec.dumps({"style": "timed", "entry_point": entry_point, "inputs": inputs})
    with ours, theirs:
        served = Started(
            python(*flags(code), f"{INSIDE}/serve.py", str(theirs.fileno())),
            Place({}, [INSIDE], [theirs.fileno()]),
            limits,
        )
        tests = Started(
            python(
                *flags(inputs), f"{INSIDE}/checker.py", str(ours.fileno()), str(null), f"{WORK}/job"
            ),
            Place({"job": job}, [INSIDE], [ours.fileno(), null]),
            limits,
        )
    os.close(null)
    served.give(code.encode())
    served.watch()
    tests.watch()
    try:
        yield _Clock(tests)
    finally:
        tests.kill()
        served.kill()
