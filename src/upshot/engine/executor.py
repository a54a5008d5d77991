"""Where tasks run. A step never knows which: an executor takes a function and tasks, and gives
results as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs a function on many tasks.

    The function must be importable by name, and tasks and results must pickle, so that another
    process can take them. What a task reads and writes is in the lake; results are small.
    """

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results, in any order. A task that fails ends the run with its error, after those in
        flight are finished.
        """
        ...
