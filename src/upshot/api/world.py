"""What the world says: credit for outcomes, events, code in git, tests and proofs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from upshot import sources
from upshot.config import Settings, load
from upshot.errors import InputError
from upshot.hindsight.llm import cascade
from upshot.lake import Lake
from upshot.llm import Budget, Replies
from upshot.privacy import Pseudonyms
from upshot.records import BadRecord, RawConversation
from upshot.sources.ingest import quarantine
from upshot.sources.outside import Outside, Recorded, read_events, record_events

if TYPE_CHECKING:
    from upshot.credit import Credit
    from upshot.credit.llm_reviewer import Cost as CreditCost
    from upshot.retention.pipeline import Followed
    from upshot.verifiers.attempts import Attempts
    from upshot.verifiers.items import Outcome

from upshot.api.opening import Paths, Progress, cleaning, endpoint_of, open_lake, quiet


class Credited(msgspec.Struct, frozen=True):
    """Credits of runs, and what they took and told."""

    credits: list[Credit]
    cost: CreditCost | None
    """Of a language model."""
    seconds: float
    worth: float
    """Samples that uniform credit would take to tell kinds of action apart as well, over those of
    this credit; NaN where kinds are too rare.
    """
    kinds: int


def credit(
    path: str | os.PathLike[str] | None = None,
    reviewer: str = "trained",
    labelled: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    progress: Progress = quiet,
    lake: str | os.PathLike[str] | None = None,
) -> Credited:
    """Split the outcome of every run over its steps; the sum is the outcome, exactly.

    Runs come from a file (`path`), or are the threads of a `lake` of which something is known:
    responses are steps, and the outcome is what the world said of the thread, or its verdicts.

    `reviewer`: trained, llm (two requests a run, to the endpoint of the settings), uniform, last,
    first-mistake, leave-one-out, shapley. `labelled`: other runs, in which a `label` says which
    step was to blame, or credits of a language model's review of these runs, for the trained one.

    Raises:
        InputError: there is no such reviewer, too little to learn from, or neither a file nor a
            lake.
    """
    from upshot import credit as credits  # scikit-learn takes a second to load
    from upshot.credit import llm_reviewer as llm
    from upshot.credit import training_signals as use
    from upshot.credit.thread_trajectories import of_lake

    started = time.monotonic()
    if reviewer not in (*credits.REVIEWERS, "llm"):
        raise InputError(
            f"could not review with {reviewer!r}: there are"
            f" {', '.join((*credits.REVIEWERS, 'llm'))}"
        )
    store = None if lake is None else open_lake(lake, settings or load())
    if (path is None) == (store is None):
        raise InputError(
            "could not split outcomes: name a file of runs, or a lake with --lake, and not both"
        )
    works = [] if store is None else list(of_lake(store))
    runs = list(credits.read(path)) if path is not None else [work.run for work in works]
    cost: CreditCost | None = None
    if reviewer == "llm":
        settings = settings or load()
        endpoint = endpoint_of(settings)
        budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
        reviews, cost = llm.review(
            runs,
            endpoint,
            budget,
            cascade.replies_of(store),
            settings.llm.votes,
            settings.llm.temperature,
            lambda done, total: progress("review", done, total),
        )
        made = credits.credit(runs, lambda _: reviews, "llm")
    elif labelled is not None:
        others = credits.labelled(runs, labelled)
        made = credits.credit(runs, lambda part: credits.trained(part, others), "trained")
    else:
        made = credits.credit(runs, credits.REVIEWERS[reviewer], reviewer)
    made = (
        [
            msgspec.structs.replace(one, responses=tuple(work.places))
            for one, work in zip(made, works, strict=True)
        ]
        if works
        else made
    )
    found = (
        use.worth(runs, made, credits.credit(runs, credits.REVIEWERS["uniform"], "uniform"))
        if runs
        else use.Worth(0, float("nan"))
    )
    return Credited(made, cost, time.monotonic() - started, found.ratio, found.classes)


def ingest_events(
    path: str | os.PathLike[str], target: str | os.PathLike[str], settings: Settings | None = None
) -> Recorded:
    """Read events that an application reports of responses (a ticket closed, a deploy that worked)
    into a lake.

    Raises:
        NotFoundError: there is no lake yet: its logs come first.
    """
    settings = settings or load()
    store = open_lake(target, settings)
    done, bad = _record(read_events(path), store, settings)
    quarantine(store, bad, cleaning(store, settings))
    return done


def _record(
    events: Iterable[Outside | BadRecord], store: Lake, settings: Settings
) -> tuple[Recorded, list[BadRecord]]:
    return record_events(events, store, Pseudonyms(cleaning(store, settings).key))


def retention(
    repo: str | os.PathLike[str],
    logs: Paths | None = None,
    lake: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    progress: Progress = quiet,
    **options: Any,
) -> Followed:
    """Which AI-written lines of a repository survive, release by release.

    With `logs` or a `lake`, commits that they name are tied to their responses; in the lake each
    response gets its retention as an event, which the next judging counts as evidence. `options`
    are those of `verifiers.follow.follow`.

    Raises:
        InputError: the repository, a note, a record or the kept history cannot be read.
    """
    from upshot.retention import pipeline as following

    store = None if lake is None else open_lake(lake, settings or load())
    mentions = [] if store is None else list(following.of_lake(store))
    if logs is not None:
        mentions += following.of_logs(
            item for item in sources.read(logs) if isinstance(item, RawConversation)
        )
    found = following.follow(repo, mentions, progress=progress, **options)
    if store is not None:
        _record(following.outcomes(found.report, time.time()), store, settings or load())
    return found


def verify(
    path: str | os.PathLike[str],
    parts: Sequence[str] = ("tests",),
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
    from upshot.verifiers import items as items_
    from upshot.verifiers.sandbox import Limits
    from upshot.verifiers.verify import verify as verified

    items = list(items_.read(path))
    done: list[Outcome] = []
    for outcome in verified(
        items,
        parts,
        formula,
        Limits(seconds=seconds, memory_mb=memory_mb),
        workers,
        lambda n: progress("verify", n, len(items)),
    ):
        done.append(outcome)
        yield outcome
    if lake is not None:
        store = open_lake(lake, settings or load())
        now = time.time()
        told = [
            Outside(
                o.response[0],
                o.response[1],
                "verified",
                2 * o.outcome - 1,
                now,
                "; ".join(o.reasons)[:200],
            )
            for o in done
            if o.response is not None
        ]
        _record(told, store, settings or load())


def attempt(
    path: str | os.PathLike[str],
    samples: int = 1,
    rounds: int = 4,
    temperature: float = 0.7,
    seconds: float = 10.0,
    settings: Settings | None = None,
    progress: Progress = quiet,
) -> Attempts:
    """Have the language model of the settings write tests and code to tasks, run and fix them;
    every attempt is a run.

    Raises:
        InputError: a task cannot be read, or no endpoint is set.
        SandboxError: untrusted code cannot be run safely here.
    """
    from upshot.verifiers import attempts
    from upshot.verifiers.sandbox import Limits

    settings = settings or load()
    endpoint = endpoint_of(settings)
    budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
    tasks = attempts.read(path)
    return attempts.attempt(
        tasks,
        endpoint,
        budget,
        Replies(),
        samples,
        rounds,
        temperature,
        Limits(seconds=seconds),
        lambda done, total: progress("attempt", done, total),
    )
