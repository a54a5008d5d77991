"""What verbs tell a person when they are done, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from upshot.cli.output import log, notice, show

if TYPE_CHECKING:
    from upshot.hindsight.llm.cascade import Report as AskReport
    from upshot.lake import ErasureProof
    from upshot.report.summary import Row, Summary

_STYLES = {"helped": "green", "harmed": "red", "unclear": "yellow", "silent": "bright_black"}
"""In the order of the table's columns."""
_NAME_WIDTH = 24
_BAR_WIDTH = 24
_MAX_KINDS = 8
"""Kinds of skipped records that are named."""


def show_summary(summary: Summary) -> None:
    """What a lake says, in about a dozen lines."""
    totals = summary.all
    notice(
        f"{totals.total:,} responses in {summary.conversations:,} conversations of"
        f" {summary.users:,} users; {summary.joined:,} sessions continue an earlier one.",
    )
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("")
    table.add_column("")
    for fate in _STYLES:
        table.add_column(Text(fate, _STYLES[fate]), justify="right")
    for name, row in [
        ("all", totals),
        *((row.name, row) for row in summary.by_model[:5] if len(summary.by_model) > 1),
    ]:
        table.add_row(
            Text(name[:_NAME_WIDTH]), _bar(row), *(f"{getattr(row, fate):,}" for fate in _STYLES)
        )
    show(table)
    notice(
        f"Hindsight overturned {summary.overturned_down:,} that looked right and"
        f" {summary.overturned_up:,} that looked wrong.",
    )
    redacted = ", ".join(
        f"{n:,} {kind.lower().replace('_', ' ')}" for kind, n in summary.redactions[:6]
    )
    notice(
        f"Redacted: {redacted or 'nothing found'}. Quarantined: {summary.quarantined:,}.",
    )
    for stage, seconds, details in summary.timings:
        notice(
            f"{stage:>7} {seconds:7.2f} s  {details}",
        )


def _bar(row: Row) -> Text:
    """The shares of the fates, drawn."""
    text = Text()
    shares = accumulate(getattr(row, fate) / max(1, row.total) for fate in _STYLES)
    drawn = 0
    for fate, share in zip(_STYLES, shares, strict=True):
        end = round(_BAR_WIDTH * share)
        text.append("█" * (end - drawn), style=_STYLES[fate])
        drawn = end
    return text


def show_asked(report: AskReport) -> None:
    """What a language model judged and what that took."""
    tally, spent = report.tally, report.spent
    notice(
        f"{report.judge} judged {tally.responses:,} responses in {report.chosen_threads:,} of"
        f" {report.all_threads:,} threads: {spent.calls:,} calls, {spent.prompt_tokens:,} prompt"
        f" tokens ({spent.cached_tokens:,} cached), {spent.completion_tokens:,} completion tokens,"
        f" ${spent.usd:.4f}; {spent.unusable:,} calls gave no usable answer;"
        f" {tally.from_cache:,} replies were kept from earlier.",
    )
    notice(
        f"{tally.void:,} of {tally.quotes:,} quotes did not hold; {tally.abstained:,} ties;"
        f" {tally.repaired:,} repairs; {tally.unreadable:,} responses without a readable judgement;"
        f" {tally.suspects:,} messages written for the judge, which would have moved"
        f" {tally.steered:,} scores; {tally.unsupported:,} verdicts did not follow from their"
        " quotes.",
    )
    if report.audit:
        audit = report.audit
        notice(
            f"On a random {audit.threads:,} threads the embedded judge is {audit.error:.3f} off the"
            f" language model [{audit.low:.3f} to {audit.high:.3f}], {audit.bias:+.3f} on average.",
        )
    if report.lesson and report.lesson.error_after < report.lesson.error_before:
        lesson = report.lesson
        notice(
            f"The embedded judge learned from {lesson.responses:,} responses of {lesson.threads:,}"
            f" threads: squared error {lesson.error_before:.4f} before, {lesson.error_after:.4f}"
            " after (cross-validated).",
        )
    if tally.unanswered:
        log.warning(
            "%s requests were not answered and are left out; first: %s",
            f"{tally.unanswered:,}",
            tally.first_problem,
        )
    if report.stopped:
        log.warning("%s", report.stopped)


def show_erasure(proof: ErasureProof) -> None:
    """What an erasure removed and what the scan found."""
    if proof.is_allowed_again:
        notice("The next run may take the user in again.")
        return
    rows = ", ".join(f"{n:,} {table}" for table, n in proof.rows.items() if n)
    notice(f"Erased {rows or 'nothing'}; {proof.files_deleted:,} older files deleted.")
    notice(
        f"Scanned {proof.files_scanned:,} files, {proof.bytes_scanned:,} bytes, for"
        f" {proof.traces:,} ids and texts of the user: none is left.",
    )
    if proof.models:
        notice(
            f"Deleted what learned from them: {', '.join(proof.models)}. Judge again to learn it"
            " without them.",
        )
    for path in proof.exports:
        notice(f"Holds rows of theirs and is still there: {path}. Delete it or export it anew.")
    for folder in proof.retrain:
        notice(
            f"Learned from them and is still there: {folder}. Make its pairs again and train it"
            " anew.",
        )


def show_notes(skipped: Mapping[str, int], notes: Mapping[str, int]) -> None:
    """What readers left out, and what they read with something missing."""
    for title, counts in (("Skipped", skipped), ("Noted", notes)):
        if counts:
            parts = [f"{count:,} {what}" for what, count in _most_frequent(counts)]
            more = len(counts) - len(parts)
            notice(f"{title}: {'; '.join(parts)}{f'; {more:,} kinds more' if more else ''}.")


def _most_frequent(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MAX_KINDS]
