"""Tasks in processes of this machine, each started anew, which end with the process that started
them, however it ends.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from upshot.engine.executor import Result, Task
from upshot.errors import UpshotError
from upshot.io.arrow import system_memory
from upshot.workers import start_worker

_WAITING = 2
"""Tasks handed out for each worker, so that none waits for the next one."""


class Processes:
    """Runs tasks in a number of processes, which stay for the next run."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results as they come; no more tasks are taken than the workers can begin soon.

        Raises:
            UpshotError: a worker was killed.
        """
        flying: set[Future[Any]] = set()
        rest = iter(tasks)
        try:
            while True:
                for task in rest:
                    flying.add(self._open().submit(_call, function, task))
                    if len(flying) >= _WAITING * self.workers:
                        break
                if not flying:
                    return
                finished, flying = wait(flying, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as error:
            self._pool = None
            raise UpshotError(
                "a worker was killed, perhaps for want of memory: what it had not committed is not"
                " done; run it again, with fewer engine.workers"
            ) from error
        finally:
            for future in flying:  # what is in flight ends; nothing new begins
                future.cancel()
            wait(flying)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _open(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=start_worker)
        return self._pool


def _call(function: Callable[[Any], Any], task: Any) -> Any:
    with system_memory():
        return function(task)
