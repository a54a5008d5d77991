"""Checks that know how BIG-Bench-Mistake words its tasks: rewritten expressions, alphabetical
order, swapped possessions, bracket stacks, rows of objects.

Kept out of the product: they parse the prompts and answer templates of single benchmark tasks.
`bench/credit.py` passes them to the reviewers. Later steps carry a wrong state along as stated, so
only the step that introduced it is reported.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from upshot.credit.checks import (
    GENERAL_CHECKS,
    Check,
    Finding,
    defined_variable,
    differ,
    evaluate,
    find_equations,
    is_numeric,
)


def check_rewriting(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Multistep arithmetic: quoted expressions that are not equal to the task's."""
    expression = re.sub(r"=\s*\??\s*$", "", task.strip())
    target = evaluate(expression) if re.search(r"\d", expression) else None
    if target is None:
        return
    definitions: dict[str, str] = {}
    for number, step in enumerate(steps):
        for sides in find_equations(step):
            name = defined_variable(sides)
            numeric = [side for side in sides if is_numeric(side)]
            if name and numeric:
                definitions.setdefault(name, numeric[0])
        variables = {k: v for k, text in definitions.items() if (v := evaluate(text)) is not None}
        for quoted in re.findall(r'"([^"]*[A-Z][^"]*)"', step):
            value = evaluate(quoted, variables)
            if value is not None and differ(value, target):
                yield Finding(number, "unequal")


_WORD = re.compile(r'"([^"\s]+)"')
_ITEM = re.compile(r'"([^"\s]+)"(?:\s*:\s*"(\w)")?\s*(?:\((\d+)\))?')
_NUMBERED = re.compile(r'\((\d+)\)\s*(\[[^\]]*\]|"[^"\s]+")')
_GROUP = re.compile(r"\[([^\]]*)\]")
_ORDINALS = {
    name: number
    for number, name in enumerate(
        [
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
        ]
    )
}
_LETTER = re.compile(r"\b(" + "|".join(_ORDINALS) + r")\s+letters?", re.IGNORECASE)


def check_word_order(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Word sorting: words out of order, wrong letters, lost or doubled words, unsorted groups."""
    listed = Counter(task.replace(",", " ").split("List:")[-1].split())
    before: Counter[str] = Counter()
    open_groups: list[list[str]] = []
    sequence: list[str] = []
    compared = -1
    for number, step in enumerate(steps):
        if ordinals := _LETTER.findall(step):
            compared = _ORDINALS[ordinals[-1].lower()]
            yield from _check_letters(number, step, compared)
        groups = [words for group in _GROUP.findall(step) if len(words := _WORD.findall(group)) > 1]
        for part in _find_orderings(step):
            flat = [word for group in part for word in group]
            yield from _check_alphabet(
                number, part, compared if len(flat) < 0.6 * sum(before.values()) else -1
            )
            if before and len(flat) >= 0.6 * sum(before.values()):
                if Counter(flat) != before:
                    yield Finding(number, "lost")
                open_groups, before, sequence = (
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
                open_groups, before, sequence = (
                    [group for group in part if len(group) > 1],
                    Counter(flat),
                    flat,
                )
        sorts = (
            re.search(r"\bsort\b|\bsubpart\b", step)
            and "We now have" not in step
            and "Hence" not in step
        )
        if sorts and groups and open_groups:
            if Counter(groups[0]) != Counter(open_groups[0]):
                yield Finding(number, "skipped")
            open_groups = open_groups[1:]
        if re.search(r"\banswer is\b", step, re.IGNORECASE) and sequence:
            answer = [
                w
                for w in re.split(
                    r"[\s,.]+", re.split(r"\banswer is\b:?", step, flags=re.IGNORECASE)[-1]
                )
                if w
            ]
            if len(answer) > 3 and answer != sequence:
                yield Finding(number, "lost")


def _check_letters(number: int, step: str, letter: int) -> Iterator[Finding]:
    for word, sign, place in _ITEM.findall(step):
        if sign and (letter >= len(word) or word[letter].lower() != sign.lower()):
            yield Finding(number, "order")
        if sign and place and ord(sign.lower()) - 96 != int(place):
            yield Finding(number, "order")


def _find_orderings(step: str) -> Iterator[list[list[str]]]:
    """Words joined by `<`, as ordered groups; a group in brackets is not sorted yet."""
    for clause in re.split(r"\.\s|Hence|We now have", step):
        if "<" not in clause and not _NUMBERED.search(clause):
            continue
        parts = re.split(r"<", clause)
        groups = [words for part in parts if (words := _WORD.findall(part))]
        if len(groups) > 1 or (groups and "[" in clause):
            yield groups


def _check_alphabet(number: int, groups: Sequence[Sequence[str]], letter: int) -> Iterator[Finding]:
    for earlier, later in itertools.pairwise(groups):
        if max(word.lower() for word in earlier) > min(word.lower() for word in later):
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
_STOP_WORDS = frozenset(
    [
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
    ]
)


def check_possessions(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Tracking shuffled objects: claims that do not follow from the swaps, swaps out of turn.

    People may be named by a prefix of their name.
    """
    swaps = [frozenset(pair) for pair in _SWAP.findall(task)]
    if not swaps:
        return
    people = {name for pair in swaps for name in pair}
    state = _find_claims(task.split("Options")[0], people)
    owners = set(state)
    swaps_made = 0
    for number, step in enumerate(steps):
        for pair in _SWAP.findall(step):
            first, second = (_find_person(name, people) for name in pair)
            if swaps_made < len(swaps) and {first, second} != swaps[swaps_made]:
                yield Finding(number, "skipped")
            swaps_made += 1
            if first in state and second in state:
                state[first], state[second] = state[second], state[first]
        claims = _find_claims(step, people)
        silent = not _SWAP.search(step) and number > 0 and swaps_made < len(swaps)
        if (
            silent
            and len(claims) > 1
            and any(
                not _same_thing(state.get(name, thing), thing) for name, thing in claims.items()
            )
        ):
            # the step states the result of the swap without naming it
            first, second = swaps[swaps_made]
            swaps_made += 1
            if first in state and second in state:
                state[first], state[second] = state[second], state[first]
        if any(
            name in state and not _same_thing(state[name], thing) for name, thing in claims.items()
        ):
            yield Finding(number, "state")
        state.update(claims)
        if (
            len(claims) > 1
            and len(claims) < len(owners)
            and number > 0
            and _is_complete(steps[number - 1], people, owners)
        ):
            yield Finding(number, "lost")
        if swaps_made < len(swaps) and swaps_made > 0 and re.search(r"\banswer is\b", step):
            yield Finding(number, "premature")


def _is_complete(step: str, people: set[str], owners: set[str]) -> bool:
    return set(_find_claims(step, people)) >= owners


def _find_person(name: str, people: set[str]) -> str:
    if name in people:
        return name
    matches = [person for person in people if person.startswith(name)]
    return matches[0] if len(matches) == 1 else ""


def _find_claims(text: str, people: set[str]) -> dict[str, str]:
    """Who has what, by the first claim about each person."""
    matches = _HOLDS.findall(_SWAP.sub(" ", text))
    return {
        person: thing.strip().lower()
        for name, thing in reversed(matches)
        if (person := _find_person(name, people))
    }


def _same_thing(one: str, other: str) -> bool:
    a, b = (set(re.findall(r"\w+", text.lower())) - _STOP_WORDS for text in (one, other))
    return bool(a & b) and (a <= b or b <= a)


_OPEN, _CLOSE = "([{<", ")]}>"
_STACK = re.compile(
    r"stack:?\s*(?:is now |is |configuration:? ?)?[\"'`]?((?:[\[\](){}<>]\s*)+|empty)",
    re.IGNORECASE,
)
_INPUT = re.compile(r"(?:input:?\s*|^\d+:\s*)[\"'`]?([\[\](){}<>])", re.IGNORECASE | re.MULTILINE)


def check_bracket_stack(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Dyck languages: stacks that do not follow from the last one, endings that do not close it."""
    match = re.search(r"Input:\s*((?:[\[\](){}<>]\s*)+)", task)
    if match is None:
        return
    expected = [sign for sign in match[1] if sign in _OPEN + _CLOSE]
    stack: list[str] = []
    read = 0
    for number, step in enumerate(steps):
        signs = _INPUT.findall(step)
        for sign in signs:
            if read < len(expected) and sign != expected[read]:
                yield Finding(number, "skipped")
            read += 1
            stack = _push(stack, sign)
        stacks = _STACK.findall(step)
        if stacks:
            claimed = [sign for sign in stacks[-1] if sign in _OPEN + _CLOSE]
            if claimed != stack:
                yield Finding(number, "stack")
            stack = claimed
        if re.search(r"reached the end|final stack", step, re.IGNORECASE) and read < len(expected):
            yield Finding(number, "premature")
        if re.search(r"\banswer is\b", step, re.IGNORECASE):
            answer = [
                sign
                for sign in re.split(r"\banswer is\b:?", step, flags=re.IGNORECASE)[-1]
                if sign in _CLOSE
            ]
            if answer != [_CLOSE[_OPEN.index(sign)] for sign in reversed(stack) if sign in _OPEN]:
                yield Finding(number, "stack")


def _push(stack: Sequence[str], sign: str) -> list[str]:
    if sign in _CLOSE and stack and stack[-1] == _OPEN[_CLOSE.index(sign)]:
        return list(stack[:-1])
    return [*stack, sign]


_ROW = re.compile(
    r'"\((?:left|above|top|most|first|newest|oldest|cheapest|most'
    r' expensive)?[^)]*\)([^"]*)\((?:right|below|bottom|least|last)?[^)]*\)"'
)


def check_rows(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Logical deduction: rows of names and `?` that contradict an earlier row or lose a name."""
    before: set[tuple[str, str]] = set()
    names: set[str] = set()
    for number, step in enumerate(steps):
        for row in _ROW.findall(step):
            members = [
                name for name in re.split(r"[?\s]*\?[?\s]*|\s{2,}|,", row.strip()) if name.strip()
            ]
            members = [
                part
                for name in members
                for part in (name.split() if "?" not in row else [name.strip()])
            ]
            pairs = {(a, b) for i, a in enumerate(members) for b in members[i + 1 :]}
            if any((b, a) in before for a, b in pairs):
                yield Finding(number, "relation")
            if "?" not in row and names and not names <= set(members):
                yield Finding(number, "lost")
            names |= set(members)
            before |= {pair for pair in pairs if pair[::-1] not in before}


BBM_CHECKS: tuple[Check, ...] = (
    *GENERAL_CHECKS,
    check_rewriting,
    check_word_order,
    check_possessions,
    check_bracket_stack,
    check_rows,
)
