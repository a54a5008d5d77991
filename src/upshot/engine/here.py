"""Tasks one after another, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from upshot.engine.executor import Result, Task
from upshot.io.arrow import system_memory


class Here:
    """Runs tasks in this process."""

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results, in the order of the tasks."""
        for task in tasks:
            with system_memory():
                result = function(task)
            yield result
