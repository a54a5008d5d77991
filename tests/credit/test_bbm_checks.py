"""The benchmark's checks of BIG-Bench-Mistake find mistakes in states, orders, stacks and rows."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from upshot.credit.checks import run_checks

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from bbm_checks import BBM_CHECKS  # pyright: ignore[reportMissingImports]


def find(task: str, *steps: str) -> list[tuple[int, str]]:
    return [(step, name) for step, name in run_checks(task, steps, BBM_CHECKS)]


def test_rewritten_expressions_are_compared_with_the_task() -> None:
    steps = ['It is "A - B", where A = (2 + 3) and B = (4 * 2).', '"A + B" is wrong.']
    assert find("((2 + 3) - (4 * 2)) =", *steps) == [(1, "unequal")]


def test_states_orders_stacks_and_rows_are_checked() -> None:
    swaps = (
        "Ann has a red ball, Bob has a blue ball, and Cid has a green ball. First, Ann and Bob swap"
        " balls. Then, Bob and Cid swap balls. At the end, Ann has the"
    )
    right = [
        "At the start: Ann: red, Bob: blue, Cid: green.",
        "Ann and Bob swap balls: Ann: blue, Bob: red, Cid: green.",
        "Bob and Cid swap balls: Ann: blue, Bob: green, Cid: red.",
        "Ann has the blue ball.",
    ]
    assert find(swaps, *right) == []
    assert find(swaps, right[0], "Ann and Bob swap balls: Ann: blue, Bob: blue, Cid: green.") == [
        (1, "state")
    ]
    words = "pear apple fig"
    assert find(words, 'The first letter: "pear": "p" (16). "apple": "a" (1). "fig": "f" (7).') == [
        (0, "order")
    ]
    brackets = "Complete the rest of the sequence. Input: [ { ("
    good = [
        "We keep track of the stack. stack: empty",
        "Input: [ ; stack: [",
        "Input: { ; stack: [ {",
        "Input: ( ; stack: [ { (",
        "So the answer is ) } ]",
    ]
    assert find(brackets, *good) == []
    assert find(brackets, *good[:2], "Input: { ; stack: {", *good[3:])[0] == (2, "stack")
    rows = [
        '(1) Eve is left of Amy: "(left) ? Eve ? Amy ? (right)".',
        '(2) Combining: "(left) Amy Eve (right)".',
    ]
    assert find("three birds", *rows) == [(1, "relation")]


@given(st.lists(st.text(max_size=80), max_size=6), st.text(max_size=80))
@hypothesis_settings(max_examples=60, deadline=None)
def test_checks_take_any_text(steps: list[str], task: str) -> None:
    assert all(0 <= step < len(steps) for step, _ in find(task, *steps))
