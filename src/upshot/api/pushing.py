"""Verdicts back to where the traces live."""

from __future__ import annotations

import os

from upshot.api.judging import curve_of, open_work
from upshot.api.opening import Progress, cleaning, local_executor_of, quiet
from upshot.config import Settings, load
from upshot.errors import InputError, NotFoundError
from upshot.records.verdicts import SURE
from upshot.serve.back import TARGETS
from upshot.serve.back.channel import Retries, check_base_url
from upshot.serve.push import Plan, PushReport, push_lake


def push(
    lake: str | os.PathLike[str],
    *,
    to: str,
    base_url: str | None = None,
    min_confidence: float = SURE,
    dry_run: bool = False,
    settings: Settings | None = None,
    progress: Progress = quiet,
) -> PushReport:
    """Send a lake's verdicts to the system in which the traces are: `langfuse`, `otlp` or
    `phoenix`; each score once, and again only when it has moved by .05 or its label has changed.

    `base_url`: the system's address; left out, the environment names it, as it does for that
    system's own client, and always its keys. `min_confidence`: in [0, 1]; verdicts below it are
    not sent, but those that were sent stay up to date. A response must have in its log the ids by
    which the system knows it (`Verdict.refs`); the report counts the others. Where the system does
    not answer or refuses, the report says so in `stopped` or `refused`, and the next push sends
    the rest. `dry_run`: only count.

    Raises:
        NotFoundError: there is no lake, or nothing in it has been judged.
        InputError: no such system; or no response has an id there, and it is no dry run.
        ConfigError: no address or key is set.
    """
    if to not in TARGETS:
        raise InputError(f"could not push to {to!r}: write one of {', '.join(TARGETS)}")
    if not 0 <= min_confidence <= 1:
        raise InputError(
            f"could not push: a least confidence of {min_confidence:g} is not in [0, 1]"
        )
    settings = settings or load()
    store = open_work("push", lake, settings, progress).lake
    target = TARGETS[to]
    named = (os.environ.get(name, "").strip() for name in target.addresses)
    plan = Plan(
        to,
        check_base_url(target, base_url or next(filter(None, named), "")),
        min_confidence,
        Retries(settings.push.timeout_s, settings.push.attempts, settings.push.backoff_s),
        cleaning(store, settings).key,
        curve_of(store),
        settings.privacy.names,
        dry_run,
    )
    if not store.count_rows("verdicts"):
        raise NotFoundError(
            f"could not push {store.root}: nothing in it has been judged; run `upshot judge --lake`"
        )
    report = push_lake(
        store,
        plan,
        local_executor_of(settings),
        lambda done, total: progress("push", done, total),
    )
    is_empty = report.responses and report.without_refs == report.responses
    if is_empty and not report.skipped and not dry_run:
        raise InputError(
            f"could not push to {to}: none of the {report.responses:,} responses has {target.needs}"
            " in its log; ingest an export of that system, or give its ids as `refs`"
        )
    return report
