"""Training data from the verdicts of a lake."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from upshot.api.judging import curve_of
from upshot.api.opening import Progress, endpoint_of, open_lake, quiet
from upshot.config import Settings, load
from upshot.errors import InputError, NotFoundError
from upshot.hindsight.llm import cascade
from upshot.io.rows import Rows
from upshot.lake import Lake, recorded_export
from upshot.llm import Budget
from upshot.preferences import balance as balancing
from upshot.preferences import rewrites
from upshot.preferences.balance import Balance
from upshot.preferences.examples import make_examples, make_masked_conversations
from upshot.preferences.exporters import EXPORTERS
from upshot.preferences.exporters.exporter import Exporter, write_rows
from upshot.preferences.from_lake import read_buckets, read_pairs
from upshot.preferences.kinds import KINDS, REWRITE
from upshot.records import Example, Preference


def pairs(
    lake: str | os.PathLike[str],
    kinds: Sequence[str] = KINDS,
    *,
    least_users: int = 5,
    test_share: float = 0.1,
    settings: Settings | None = None,
    progress: Progress = quiet,
    on_report: Callable[[rewrites.Tally], None] | None = None,
) -> Rows[Preference]:
    """Pairs of a lake's responses, each marked as train or test by its users; near-duplicates once.

    `kinds`: of sibling, thread, edit, across, and rewrite, which asks the language model of the
    settings; `on_report` then gets what became of its rewrites. `least_users`: people who must have
    made a request before pairs across users leave the lake.

    Raises:
        InputError: there is no such kind.
        NotFoundError: the lake has no verdicts.
    """
    if unknown := sorted(set(kinds) - {*KINDS, REWRITE}):
        raise InputError(
            f"could not make pairs of kind {unknown}: there are {', '.join((*KINDS, REWRITE))}"
        )
    store = _judged_lake(lake, settings)

    def read() -> Iterator[Preference]:
        rows: Iterable[Preference] = read_pairs(store, kinds, least_users, curve_of(store))
        if REWRITE in kinds:
            rewritten = _rewrite(store, settings or load(), progress, on_report)
            rows = itertools.chain(rows, rewritten)
        return balancing.split(balancing.drop_duplicates(rows), test_share)

    return Rows(read)


def _rewrite(
    store: Lake,
    settings: Settings,
    progress: Progress,
    on_report: Callable[[rewrites.Tally], None] | None,
) -> Sequence[Preference]:
    endpoint = endpoint_of(settings)
    budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
    rewritten, tally = rewrites.rewrite_answers(
        read_buckets(store, curve_of(store)),
        endpoint,
        budget,
        cascade.open_replies(store),
        lambda done, total: progress("rewrite", done, total),
    )
    if on_report is not None:
        on_report(tally)
    return rewritten


def _judged_lake(lake: str | os.PathLike[str], settings: Settings | None) -> Lake:
    store = open_lake(lake, settings)
    if not store.exists("verdicts"):
        raise NotFoundError(
            f"could not make pairs of {store.root}: it has no verdicts; make some with `upshot"
            " judge --lake`"
        )
    return store


def examples(
    lake: str | os.PathLike[str],
    *,
    masked: bool = False,
    test_share: float = 0.1,
    settings: Settings | None = None,
) -> Rows[Example]:
    """Scored responses of a lake, or (`masked`) whole conversations in which only what helped is to
    be imitated.

    Raises:
        NotFoundError: the lake has no verdicts.
    """
    store = _judged_lake(lake, settings)
    make = make_masked_conversations if masked else make_examples
    return Rows(
        lambda: balancing.split(
            (row for part in read_buckets(store, curve_of(store)) for row in make(part)),
            test_share,
        )
    )


class Exported(msgspec.Struct, frozen=True):
    """What an export wrote."""

    format: str
    train: int
    test: int
    test_file: str
    balance: Balance | None


def export_pairs(
    lake: str | os.PathLike[str],
    out: str | os.PathLike[str],
    format: str = "jsonl",
    *,
    kinds: Sequence[str] = KINDS,
    least_users: int = 5,
    test_share: float = 0.1,
    even_length: bool = False,
    even_position: bool = False,
    settings: Settings | None = None,
    progress: Progress = quiet,
    on_report: Callable[[rewrites.Tally], None] | None = None,
) -> Exported:
    """Write a lake's pairs or examples for a trainer; the test side goes to a second file,
    `NAME.test.EXT`. The lake keeps a manifest of both, so that an erasure can name them.

    Raises:
        InputError: there is no such format.
    """
    exporter: Exporter = EXPORTERS.load(format)
    balance: Balance | None = None
    rows: Sequence[Preference] | Sequence[Example]
    if exporter.rows == "pairs":
        rows = pairs(
            lake,
            kinds,
            least_users=least_users,
            test_share=test_share,
            settings=settings,
            progress=progress,
            on_report=on_report,
        ).to_list()
        rows = balancing.balance_length(rows) if even_length else rows
        rows = balancing.balance_position(rows) if even_position else rows
        balance = balancing.measure_balance(rows)
    else:
        masked = exporter.rows == "masked"
        rows = examples(lake, masked=masked, test_share=test_share, settings=settings).to_list()
    path = os.fspath(out)
    train = [exporter.convert(row) for row in rows if row.source.split != "test"]
    held_out = [exporter.convert(row) for row in rows if row.source.split == "test"]
    if path == "-":
        return Exported(format, write_rows(train, path, exporter), 0, "", balance)
    test_file = str(Path(path).with_suffix(".test" + Path(path).suffix))
    store = open_lake(lake, settings)
    with recorded_export(store, path, _users_of(rows, is_test=False)):
        written = write_rows(train, path, exporter)
    if not held_out:
        return Exported(format, written, 0, "", balance)
    with recorded_export(store, test_file, _users_of(rows, is_test=True)):
        held = write_rows(held_out, test_file, exporter)
    return Exported(format, written, held, test_file, balance)


def _users_of(rows: Sequence[Preference] | Sequence[Example], *, is_test: bool) -> set[str]:
    sources = [row.source for row in rows if (row.source.split == "test") == is_test]
    return {user for source in sources for user in source.users}
