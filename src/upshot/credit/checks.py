"""What a step says that can be checked without knowing the answer: arithmetic, orders, states,
stacks, and what was there before.

Each check is a function from the task and the steps to findings: (step, name). A finding says that
a step contradicts arithmetic, the alphabet, an earlier step, or the task. What came in wrong is
carried along as it is, so that the step that made it wrong is found and not those that followed
from it.
"""

from __future__ import annotations

import ast
import itertools
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

NAMES = (
    "arithmetic",
    "substitution",
    "unequal",
    "order",
    "lost",
    "skipped",
    "state",
    "stack",
    "relation",
    "premature",
)


class Finding(NamedTuple):
    """A step that contradicts something."""

    step: int
    name: str


Check = Callable[[str, Sequence[str]], Iterator[Finding]]

_MOST = 400
"""Characters of one expression."""
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_EXPRESSION = re.compile(r"[-+*/().\d\sA-Z×·÷−=,]+")
_NUMBER = re.compile(r"\d")
_VARIABLE = re.compile(r"\b[A-Z]\b")
_NEAR = 1e-6


def evaluate(text: str, known: Mapping[str, float] | None = None) -> float | None:
    """The value of an arithmetic expression, None where it is none.

    >>> evaluate("(2 + 3) * -4"), evaluate("A - 1", {"A": 3.0}), evaluate("__import__('os')")
    (-20.0, 2.0, None)
    """
    text = text.strip().replace("×", "*").replace("·", "*").replace("÷", "/").replace("−", "-")
    if not text or len(text) > _MOST:
        return None
    try:
        return _value(ast.parse(text, mode="eval").body, known or {})
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError, OverflowError):
        return None


def _value(node: ast.expr, known: Mapping[str, float]) -> float:
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, known)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, known), _value(node.right, known))
    raise ValueError("not arithmetic")


def _chains(text: str) -> Iterator[list[str]]:
    """Runs of expressions joined by `=`; prose and commas end one."""
    for found in _EXPRESSION.findall(text):
        for part in re.split(r",|\.(?=\s|$)", found):
            sides = [side.strip() for side in part.split("=")]
            if len(sides) > 1 and any(_NUMBER.search(side) for side in sides):
                yield sides


def arithmetic(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Equations that do not hold; values put in for a letter that are not what the letter stands
    for; expressions that are not the task's.
    """
    shown = re.sub(r"=\s*\??\s*$", "", task.strip())
    wanted = evaluate(shown) if _NUMBER.search(shown) else None
    meaning: dict[str, str] = {}
    value: dict[str, float] = {}
    for number, step in enumerate(steps):
        for sides in _chains(step):
            name = sides[0] if re.fullmatch(r"[A-Z]", sides[0]) else ""
            numbers = [
                v
                for side in sides
                if not _VARIABLE.search(side) and (v := evaluate(side)) is not None
            ]
            if any(abs(a - b) > _NEAR * max(1.0, abs(a)) for a, b in itertools.pairwise(numbers)):
                yield Finding(number, "arithmetic")
            if name and numbers:
                if (
                    name in meaning
                    and (first := evaluate(meaning[name])) is not None
                    and abs(first - numbers[0]) > _NEAR
                ):
                    yield Finding(number, "substitution")
                meaning.setdefault(
                    name,
                    next(
                        s for s in sides[1:] if not _VARIABLE.search(s) and evaluate(s) is not None
                    ),
                )
                value[name] = numbers[-1]
            elif not name and numbers:
                symbolic = [
                    v
                    for side in sides
                    if _VARIABLE.search(side) and (v := evaluate(side, value)) is not None
                ]
                if symbolic and abs(symbolic[0] - numbers[0]) > _NEAR * max(1.0, abs(numbers[0])):
                    yield Finding(number, "substitution")
        if wanted is not None:
            for quoted in re.findall(r'"([^"]*[A-Z][^"]*)"', step):
                known = {k: v for k, m in meaning.items() if (v := evaluate(m)) is not None}
                found = evaluate(quoted, known)
                if found is not None and abs(found - wanted) > _NEAR * max(1.0, abs(wanted)):
                    yield Finding(number, "unequal")


_WORD = re.compile(r'"([^"\s]+)"')
_ITEM = re.compile(r'"([^"\s]+)"(?:\s*:\s*"(\w)")?\s*(?:\((\d+)\))?')
_NUMBERED = re.compile(r'\((\d+)\)\s*(\[[^\]]*\]|"[^"\s]+")')
_GROUP = re.compile(r"\[([^\]]*)\]")
_ORDINALS = {
    name: number
    for number, name in enumerate(
        (
            "first",
            "second",
            "third",
            "fourth",
            "fifth",
            "sixth",
            "seventh",
            "eighth",
            "ninth",
            "tenth",
        )
    )
}
_LETTER = re.compile(r"\b(" + "|".join(_ORDINALS) + r")\s+letters?", re.IGNORECASE)


def orders(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Words out of the alphabet's order, letters that are not a word's, words lost or doubled, and
    groups left unsorted.
    """
    listed = Counter(task.replace(",", " ").split("List:")[-1].split())
    before: Counter[str] = Counter()
    open_groups: list[list[str]] = []
    whole: list[str] = []
    letter = -1
    for number, step in enumerate(steps):
        if told := _LETTER.findall(step):
            letter = _ORDINALS[told[-1].lower()]
            yield from _letters(number, step, letter)
        asked = [words for group in _GROUP.findall(step) if len(words := _WORD.findall(group)) > 1]
        for part in _orderings(step):
            flat = [word for group in part for word in group]
            yield from _alphabet(
                number, part, letter if len(flat) < 0.6 * sum(before.values()) else -1
            )
            if before and len(flat) >= 0.6 * sum(before.values()):
                if Counter(flat) != before:
                    yield Finding(number, "lost")
                open_groups, before, whole = (
                    [group for group in part if len(group) > 1],
                    Counter(flat),
                    flat,
                )
            elif not before and len(flat) > 3:
                if (
                    listed
                    and sum((Counter(flat) & listed).values()) > 0.5 * len(flat)
                    and Counter(flat) != listed
                ):
                    yield Finding(number, "lost")
                open_groups, before, whole = (
                    [group for group in part if len(group) > 1],
                    Counter(flat),
                    flat,
                )
        sorts = (
            re.search(r"\bsort\b|\bsubpart\b", step)
            and "We now have" not in step
            and "Hence" not in step
        )
        if sorts and asked and open_groups:
            if Counter(asked[0]) != Counter(open_groups[0]):
                yield Finding(number, "skipped")
            open_groups = open_groups[1:]
        if re.search(r"\banswer is\b", step, re.IGNORECASE) and whole:
            said = [
                w
                for w in re.split(
                    r"[\s,.]+", re.split(r"\banswer is\b:?", step, flags=re.IGNORECASE)[-1]
                )
                if w
            ]
            if len(said) > 3 and said != whole:
                yield Finding(number, "lost")


def _letters(number: int, step: str, letter: int) -> Iterator[Finding]:
    for word, sign, place in _ITEM.findall(step):
        if sign and (letter >= len(word) or word[letter].lower() != sign.lower()):
            yield Finding(number, "order")
        if sign and place and ord(sign.lower()) - 96 != int(place):
            yield Finding(number, "order")


def _orderings(step: str) -> Iterator[list[list[str]]]:
    """Words joined by `<`, as groups in order; a group in brackets is not yet sorted."""
    for clause in re.split(r"\.\s|Hence|We now have", step):
        if "<" not in clause and not _NUMBERED.search(clause):
            continue
        parts = re.split(r"<", clause)
        groups = [found for part in parts if (found := _WORD.findall(part))]
        if len(groups) > 1 or (groups and "[" in clause):
            yield groups


def _alphabet(number: int, groups: Sequence[Sequence[str]], letter: int) -> Iterator[Finding]:
    for one, other in itertools.pairwise(groups):
        if max(word.lower() for word in one) > min(word.lower() for word in other):
            yield Finding(number, "order")
            return
    if letter >= 0:
        for group in groups:
            if len({word.lower()[: letter + 1] for word in group}) > 1:
                yield Finding(number, "order")
                return


_SWAP = re.compile(r"\b([A-Z]\w*) and ([A-Z]\w*) (?:swap|switch|trade|exchange)")
_HOLDS = re.compile(
    r"\b([A-Z]\w*)(?:: *| (?:has|gets|got|holds|with|is (?:now )?(?:holding|dancing"
    r" with|playing|with|at)) (?:an? |the )?)([^,.;:]+?)(?=,|;|\.(?:\s|$)|\s+and [A-Z]|\s*$)",
    re.MULTILINE,
)
_KINDS = frozenset(
    {
        "the",
        "a",
        "an",
        "ball",
        "balls",
        "book",
        "books",
        "gift",
        "present",
        "position",
        "now",
        "still",
        "with",
    }
)


def states(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Who has what: claims that do not follow from the last claims and the swaps since; swaps that
    are not the task's next.

    People may be named by the start of their name.
    """
    swaps = [frozenset(pair) for pair in _SWAP.findall(task)]
    if not swaps:
        return
    people = {name for pair in swaps for name in pair}
    state = _claims(task.split("Options")[0], people)
    told = set(state)
    done = 0
    for number, step in enumerate(steps):
        for pair in _SWAP.findall(step):
            one, other = (_person(name, people) for name in pair)
            if done < len(swaps) and {one, other} != swaps[done]:
                yield Finding(number, "skipped")
            done += 1
            if one in state and other in state:
                state[one], state[other] = state[other], state[one]
        claims = _claims(step, people)
        silent = not _SWAP.search(step) and number > 0 and done < len(swaps)
        if (
            silent
            and len(claims) > 1
            and any(not _same(state.get(name, thing), thing) for name, thing in claims.items())
        ):
            one, other = swaps[done]  # the swap is not said, its result is
            done += 1
            if one in state and other in state:
                state[one], state[other] = state[other], state[one]
        if any(name in state and not _same(state[name], thing) for name, thing in claims.items()):
            yield Finding(number, "state")
        state.update(claims)
        if (
            len(claims) > 1
            and len(claims) < len(told)
            and number > 0
            and _complete(steps[number - 1], people, told)
        ):
            yield Finding(number, "lost")
        if done < len(swaps) and done > 0 and re.search(r"\banswer is\b", step):
            yield Finding(number, "premature")


def _complete(step: str, people: set[str], told: set[str]) -> bool:
    return set(_claims(step, people)) >= told


def _person(name: str, people: set[str]) -> str:
    if name in people:
        return name
    found = [person for person in people if person.startswith(name)]
    return found[0] if len(found) == 1 else ""


def _claims(text: str, people: set[str]) -> dict[str, str]:
    """What each is said to have, by the first thing that is said of them."""
    found = _HOLDS.findall(_SWAP.sub(" ", text))
    return {
        person: thing.strip().lower()
        for name, thing in reversed(found)
        if (person := _person(name, people))
    }


def _same(one: str, other: str) -> bool:
    a, b = (set(re.findall(r"\w+", text.lower())) - _KINDS for text in (one, other))
    return bool(a & b) and (a <= b or b <= a)


_OPEN, _CLOSE = "([{<", ")]}>"
_STACK = re.compile(
    r"stack:?\s*(?:is now |is |configuration:? ?)?[\"'`]?((?:[\[\](){}<>]\s*)+|empty)",
    re.IGNORECASE,
)
_INPUT = re.compile(r"(?:input:?\s*|^\d+:\s*)[\"'`]?([\[\](){}<>])", re.IGNORECASE | re.MULTILINE)


def stacks(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Brackets: stacks that do not follow from the last stack and the bracket that came, and
    endings that do not close it.
    """
    given = re.search(r"Input:\s*((?:[\[\](){}<>]\s*)+)", task)
    if given is None:
        return
    wanted = [sign for sign in given[1] if sign in _OPEN + _CLOSE]
    stack: list[str] = []
    read = 0
    for number, step in enumerate(steps):
        come = _INPUT.findall(step)
        for sign in come:
            if read < len(wanted) and sign != wanted[read]:
                yield Finding(number, "skipped")
            read += 1
            stack = _pushed(stack, sign)
        said = _STACK.findall(step)
        if said:
            claimed = [sign for sign in said[-1] if sign in _OPEN + _CLOSE]
            if claimed != stack:
                yield Finding(number, "stack")
            stack = claimed
        if re.search(r"reached the end|final stack", step, re.IGNORECASE) and read < len(wanted):
            yield Finding(number, "premature")
        if re.search(r"\banswer is\b", step, re.IGNORECASE):
            answer = [
                sign
                for sign in re.split(r"\banswer is\b:?", step, flags=re.IGNORECASE)[-1]
                if sign in _CLOSE
            ]
            if answer != [_CLOSE[_OPEN.index(sign)] for sign in reversed(stack) if sign in _OPEN]:
                yield Finding(number, "stack")


def _pushed(stack: Sequence[str], sign: str) -> list[str]:
    if sign in _CLOSE and stack and stack[-1] == _OPEN[_CLOSE.index(sign)]:
        return list(stack[:-1])
    return [*stack, sign]


_ROW = re.compile(
    r'"\((?:left|above|top|most|first|newest|oldest|cheapest|most'
    r' expensive)?[^)]*\)([^"]*)\((?:right|below|bottom|least|last)?[^)]*\)"'
)


def relations(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Orders of things drawn as rows of names and `?`: pairs that contradict an earlier row, names
    lost.
    """
    before: set[tuple[str, str]] = set()
    names: set[str] = set()
    for number, step in enumerate(steps):
        for row in _ROW.findall(step):
            found = [
                name for name in re.split(r"[?\s]*\?[?\s]*|\s{2,}|,", row.strip()) if name.strip()
            ]
            found = [
                part
                for name in found
                for part in (name.split() if "?" not in row else [name.strip()])
            ]
            pairs = {(a, b) for i, a in enumerate(found) for b in found[i + 1 :]}
            if any((b, a) in before for a, b in pairs):
                yield Finding(number, "relation")
            if "?" not in row and names and not names <= set(found):
                yield Finding(number, "lost")
            names |= set(found)
            before |= {pair for pair in pairs if pair[::-1] not in before}


ALL: tuple[Check, ...] = (arithmetic, orders, states, stacks, relations)


def findings(task: str, steps: Sequence[str]) -> list[Finding]:
    """Everything that can be held against the steps, in order; a step has each name once."""
    return sorted({found for check in ALL for found in check(task, steps)})
