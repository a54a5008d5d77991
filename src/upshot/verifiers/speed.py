# pyright: reportUnknownMemberType=false
# the codec, which is standard-library-only code of the sandbox
"""The speed of code: paired runs of it and of the code it replaces, and how time grows with size.

A single timing says nothing, since machines are shared. Both programs stay loaded and take turns on
the same inputs, in the order ABBA, so that a slow machine slows both; the ratio of each pair
counts, with an interval over the pairs. The clock is not in the code's process, which might
manipulate it.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Generator
from typing import IO, NamedTuple, cast

import numpy as np

from upshot.verifiers.inside import codec
from upshot.verifiers.items import Item, Part
from upshot.verifiers.sandbox import WORK, Limits, Place, Started, python
from upshot.verifiers.split_sandbox import INSIDE, python_flags

_PAIRS = 12
"""Enough for an interval of a few percent."""
_MIN_BATCH_S = 0.02
"""Seconds of a batch from which noise of the clock no longer matters."""
_SIZES = [2**power for power in range(3, 17)]
"""Tried in order until a batch takes long enough."""
_GROWTH_SIZES = 4
"""The largest sizes, by which growth is estimated: small ones measure overhead."""


class Speed(NamedTuple):
    """The comparison of two programs."""

    ratio: float
    """Seconds of the other over ours; above 1, ours is faster."""
    low: float
    high: float
    """95 % interval over pairs."""
    size: int
    growth: float
    """Exponent of size in our time: about 1 is linear."""
    growth_other: float


def measure_speed(item: Item, limits: Limits) -> Part:
    """Compare the code's speed with that of `reference`: r / (1 + r), .5 if equally fast."""
    if not (item.inputs and item.reference and item.entry_point):
        return Part(None, why="speed needs `inputs`, `reference` and `entry_point`")
    comparison = compare_speed(item.code, item.reference, item.entry_point, item.inputs, limits)
    if comparison is None:
        return Part(None, why="one of the programs did not answer in time")
    facts = {name: round(value, 4) for name, value in comparison._asdict().items()}
    return Part(
        comparison.ratio / (1 + comparison.ratio),
        facts,
        "neither faster nor slower, within the error"
        if comparison.low <= 1 <= comparison.high
        else "",
    )


def compare_speed(
    code: str, other: str, entry_point: str, inputs: str, limits: Limits = Limits()
) -> Speed | None:
    """Time two programs in turns; None if one fails or exceeds a limit.

    Raises:
        SandboxError: untrusted code cannot be run safely on this machine.
    """
    with contextlib.ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(_start_timed(text, entry_point, inputs, limits))
            for text in (code, other)
        )
        try:
            size, growing = _SIZES[0], list[tuple[int, float, float]]()
            for size in _SIZES:
                growing.append((size, ours.take(size), theirs.take(size)))
                if growing[-1][2] >= _MIN_BATCH_S or growing[-1][1] >= _MIN_BATCH_S:
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
        _growth_exponent(growing, 1),
        _growth_exponent(growing, 2),
    )


def _growth_exponent(rows: list[tuple[int, float, float]], column: int) -> float:
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
        """The seconds of a batch of inputs of a size.

        Raises:
            ValueError: it did not answer.
        """
        stdin = cast(IO[bytes], self.tests.process.stdin)
        stdout = cast(IO[bytes], self.tests.process.stdout)
        stdin.write(f"{size}\n".encode())
        stdin.flush()
        fields = stdout.readline().split()
        if len(fields) != 2:
            raise ValueError("no answer")
        return float(fields[1])


@contextlib.contextmanager
def _start_timed(code: str, entry_point: str, inputs: str, limits: Limits) -> Generator[_Clock]:
    ours, theirs = socket.socketpair()
    null = os.open(os.devnull, os.O_WRONLY)
    job = codec.dumps({"style": "timed", "entry_point": entry_point, "inputs": inputs})
    with ours, theirs:
        served = Started(
            python(*python_flags(code), f"{INSIDE}/serve.py", str(theirs.fileno())),
            Place({}, [INSIDE], [theirs.fileno()]),
            limits,
        )
        tests = Started(
            python(
                *python_flags(inputs),
                f"{INSIDE}/checker.py",
                str(ours.fileno()),
                str(null),
                f"{WORK}/job",
            ),
            Place({"job": job}, [INSIDE], [ours.fileno(), null]),
            limits,
        )
    os.close(null)
    served.write_stdin(code.encode())
    served.watch()
    tests.watch()
    try:
        yield _Clock(tests)
    finally:
        tests.kill()
        served.kill()
