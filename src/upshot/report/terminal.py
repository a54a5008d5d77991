"""A short summary on the terminal."""

from __future__ import annotations

from itertools import accumulate

from rich.console import Console
from rich.table import Table
from rich.text import Text

from upshot.hindsight.llm import cascade
from upshot.lake import ErasureProof
from upshot.report.summary import FATES, Row, Summary

_STYLES = {"helped": "green", "harmed": "red", "unclear": "yellow", "silent": "bright_black"}
_NAME = 24
_WIDTH = 24


def print_summary(console: Console, summary: Summary) -> None:
    """What a lake says, in about a dozen lines."""
    every = summary.all
    console.print(
        f"{every.total:,} responses in {summary.conversations:,} conversations of {summary.users:,}"
        f" users; {summary.joined:,} sessions continue an earlier one.",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("")
    table.add_column("")
    for fate in FATES:
        table.add_column(Text(fate, _STYLES[fate]), justify="right")
    for name, row in [
        ("all", every),
        *((row.name, row) for row in summary.by_model[:5] if len(summary.by_model) > 1),
    ]:
        table.add_row(Text(name[:_NAME]), _bar(row), *(f"{getattr(row, fate):,}" for fate in FATES))
    console.print(table)
    console.print(
        f"Hindsight overturned {summary.overturned_down:,} that looked right and"
        f" {summary.overturned_up:,} that looked wrong.",
        highlight=False,
    )
    redacted = ", ".join(
        f"{n:,} {kind.lower().replace('_', ' ')}" for kind, n in summary.redactions[:6]
    )
    console.print(
        f"Redacted: {redacted or 'nothing found'}. Quarantined: {summary.quarantined:,}.",
        highlight=False,
        markup=False,
    )
    for stage, seconds, said in summary.timings:
        console.print(
            f"{stage:>7} {seconds:7.2f} s  {said}",
            highlight=False,
            markup=False,
            style="bright_black",
        )


def _bar(row: Row) -> Text:
    """The shares of the fates, drawn."""
    text = Text()
    shares = accumulate(getattr(row, fate) / max(1, row.total) for fate in FATES)
    drawn = 0
    for fate, share in zip(FATES, shares, strict=True):
        end = round(_WIDTH * share)
        text.append("█" * (end - drawn), style=_STYLES[fate])
        drawn = end
    return text


def print_asked(console: Console, done: cascade.Report) -> None:
    """What a language model judged and what that took."""
    tally, spent = done.tally, done.spent
    console.print(
        f"{done.judge} judged {tally.responses:,} responses in {done.chosen_threads:,} of"
        f" {done.all_threads:,} threads: {spent.calls:,} calls, {spent.prompt_tokens:,} prompt"
        f" tokens ({spent.cached_tokens:,} cached), {spent.completion_tokens:,} completion tokens,"
        f" ${spent.usd:.4f}; {tally.from_cache:,} replies came from the lake.",
        highlight=False,
        markup=False,
    )
    console.print(
        f"{tally.void:,} of {tally.quotes:,} quotes did not hold; {tally.abstained:,} ties;"
        f" {tally.repaired:,} repairs; {tally.unreadable:,} responses without a readable judgement;"
        f" {tally.suspects:,} messages written for the judge, which would have moved"
        f" {tally.steered:,} scores; {tally.unsupported:,} verdicts did not follow from their"
        " quotes.",
        highlight=False,
        markup=False,
    )
    if done.audit:
        audit = done.audit
        console.print(
            f"On a random {audit.threads:,} threads the embedded judge is {audit.error:.3f} off the"
            f" language model [{audit.low:.3f} to {audit.high:.3f}], {audit.bias:+.3f} on average.",
            highlight=False,
            markup=False,
        )
    if done.lesson and done.lesson.error_after < done.lesson.error_before:
        lesson = done.lesson
        console.print(
            f"The embedded judge learned from {lesson.responses:,} responses of {lesson.threads:,}"
            f" threads: squared error {lesson.error_before:.4f} before, {lesson.error_after:.4f}"
            " after (cross-validated).",
            highlight=False,
            markup=False,
        )
    if done.stopped:
        console.print(done.stopped, style="yellow", highlight=False, markup=False)


def print_erasure(console: Console, proof: ErasureProof) -> None:
    """What an erasure removed and what the scan found."""
    rows = ", ".join(f"{n:,} {table}" for table, n in proof.rows.items() if n)
    console.print(
        f"Erased {rows or 'nothing'}; {proof.files_deleted:,} older files deleted.", highlight=False
    )
    console.print(
        f"Scanned {proof.files_scanned:,} files, {proof.bytes_scanned:,} bytes, for"
        f" {proof.traces:,} ids and texts of the user: none is left.",
        highlight=False,
    )
    if proof.models:
        console.print(
            f"Deleted what learned from them: {', '.join(proof.models)}. Judge again to learn it"
            " without them.",
            highlight=False,
        )
    for folder in proof.retrain:
        console.print(
            f"Learned from them and is still there: {folder}. Make its pairs again and train it"
            " anew.",
            highlight=False,
            soft_wrap=True,
        )
