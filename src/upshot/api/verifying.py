"""Code, tests and proofs in a sandbox, and a model that writes them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from upshot.api.events import write_events
from upshot.api.opening import Progress, endpoint_of, open_lake, quiet
from upshot.config import Settings, load
from upshot.llm import Budget, keep_replies
from upshot.sources.outside import Outside
from upshot.verifiers import attempts
from upshot.verifiers import items as verifier_items
from upshot.verifiers import verify as verifier
from upshot.verifiers.attempts import Attempts
from upshot.verifiers.items import Outcome
from upshot.verifiers.sandbox import Limits


def verify(
    items: str | os.PathLike[str],
    parts: Sequence[str] = ("tests",),
    *,
    formula: str = "",
    seconds: float = 10.0,
    memory_mb: int = 1024,
    workers: int = 2,
    lake: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    progress: Progress = quiet,
) -> Iterator[Outcome]:
    """Run code, tests and proofs in a sandbox; with a `lake`, write the outcomes of items that name
    a response there.

    Raises:
        InputError: an item, a part or the formula cannot be read, or a tool is not installed.
        SandboxError: untrusted code cannot be run safely here.
    """
    tasks = list(verifier_items.read_items(items))
    outcomes: list[Outcome] = []
    for outcome in verifier.verify(
        tasks,
        parts,
        formula,
        limits=Limits(seconds=seconds, memory_mb=memory_mb),
        workers=workers,
        progress=lambda count: progress("verify", count, len(tasks)),
    ):
        outcomes.append(outcome)
        yield outcome
    if lake is not None:
        store = open_lake(lake, settings or load())
        now = time.time()
        events = [
            Outside(
                o.response[0],
                o.response[1],
                "verified",
                2 * o.outcome - 1,
                now,
                "; ".join(o.reasons)[:200],
            )
            for o in outcomes
            if o.response is not None
        ]
        write_events(events, store, settings or load())


def attempt(
    tasks: str | os.PathLike[str],
    *,
    samples: int = 1,
    rounds: int = 4,
    temperature: float = 0.7,
    seconds: float = 10.0,
    settings: Settings | None = None,
    progress: Progress = quiet,
    replies: str | os.PathLike[str] | None = None,
) -> Attempts:
    """Have the language model of the settings write tests and code to tasks, run and fix them;
    every attempt is a run.

    `replies`: a file in which the model's replies are kept, so that a run that is cut short can go
    on.

    Raises:
        InputError: a task cannot be read, or no endpoint is set.
        SandboxError: untrusted code cannot be run safely here.
    """
    settings = settings or load()
    endpoint = endpoint_of(settings)
    budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
    with keep_replies(replies) as cache:
        return attempts.attempt(
            attempts.read_tasks(tasks),
            endpoint,
            budget,
            cache,
            samples=samples,
            rounds=rounds,
            temperature=temperature,
            limits=Limits(seconds=seconds),
            progress=lambda done, total: progress("attempt", done, total),
        )
