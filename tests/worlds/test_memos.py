"""The world of memoranda: the same for the same seed, and its truth is what its text says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.worlds.memos import FAULTS, load_styles, make_code, write_memo

CODE = make_code(5, 6)


@given(st.integers(0, 10_000), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_memo_says_what_is_true_of_it(number: int, held_out: bool) -> None:
    memo = write_memo(CODE, number, held_out=held_out)
    assert memo == write_memo(CODE, number, held_out=held_out)
    assert (memo.label == "yes") == (memo.amount > 0)
    if memo.amount:
        assert f"{memo.amount:,.2f}" in memo.text
    texts = {record["id"]: record["text"] for record in CODE.records()}
    for cited in memo.cited:
        assert cited.path in texts[cited.source]
        assert cited.quote in texts[cited.source]
        assert cited.quote in memo.text


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in ("leak", "out of order")])
def test_a_fault_changes_the_memo(fault: str) -> None:
    memo = write_memo(CODE, 3, fault=fault)
    assert memo.fault == fault


def test_codes_have_repealed_twins_and_styles_are_kept_apart() -> None:
    old = [record for record in CODE.records() if record["valid_to"]]
    assert len(old) == 6
    assert not set(load_styles()) & set(load_styles(held_out=True))
    assert len(make_code(1, 57).records()) == 399
