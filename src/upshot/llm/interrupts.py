"""Ending a run from outside: SIGTERM and SIGHUP end it as Ctrl-C does, with everything put away."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_SIGNALS = tuple(
    number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)


def run_interruptible(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` that a signal ends by cancelling `main`, so that its `finally` blocks run.

    A signal that the program handles or ignores already is left as it is.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        SystemExit: another signal; the exit code is 128 and its number, as of a shell.
    """
    received: list[int] = []

    async def guarded() -> T:
        task = asyncio.current_task()

        def end(number: int) -> None:
            received.append(number)
            if task is not None:
                task.cancel()

        with _handled(end):
            return await main

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if received:
            raise SystemExit(128 + received[0]) from None
        raise


@contextmanager
def _handled(end: Callable[[int], None]) -> Generator[None]:
    """Send the signals of an end to `end`, in the loop, where nothing else handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    loop = asyncio.get_running_loop()
    ours = [
        number for number in _SIGNALS if signal.getsignal(number) in (signal.SIG_DFL, _end_program)
    ]
    before = {number: signal.getsignal(number) for number in ours}
    for number in ours:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    finally:
        for number in ours:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end this program as Ctrl-C does: `finally` blocks run, and the exit
    code is 128 and the signal's number. Those that are handled or ignored are left as they are.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _end_program)


def _end_program(number: int, _: object) -> None:
    raise SystemExit(128 + number)
