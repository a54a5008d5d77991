"""Short programs: a person wants a function of a list of numbers, the answer is Python, and what it
returns is found out by running it.

A task keeps some of the numbers, changes them, and takes something of them all (6 x 5 x 5 tasks,
several wordings each). Programs run in the sandbox, many in one; what a program did once is
remembered, since it does the same again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from random import Random

import msgspec

from upshot.records import Turn
from upshot.verifiers import sandbox
from upshot.worlds.world import Attempt, Task, as_turns

_KEEP = {
    "all": ("", ["numbers", "items", "values"]),
    "even": ("x % 2 == 0", ["even numbers", "numbers divisible by two"]),
    "odd": ("x % 2 == 1", ["odd numbers", "numbers that are not even"]),
    "positive": ("x > 0", ["positive numbers", "numbers above zero"]),
    "negative": ("x < 0", ["negative numbers", "numbers below zero"]),
    "large": ("x > 5", ["numbers above 5", "numbers greater than five"]),
}
_CHANGE = {
    "same": ("x", [""]),
    "square": ("x * x", ["squares of the", "squared"]),
    "double": ("2 * x", ["doubles of the", "doubled"]),
    "negate": ("-x", ["negatives of the", "negated"]),
    "absolute": ("abs(x)", ["absolute values of the", "sizes of the"]),
}
_TAKE = {
    "sum": ("sum({})", ["sum of the", "total of the"]),
    "largest": ("max({}, default=0)", ["largest of the", "maximum of the"]),
    "count": ("len({})", ["count of the", "number of the"]),
    "list": ("{}", ["list of the", "a list with the"]),
    "sorted": ("sorted({})", ["sorted list of the", "list in ascending order of the"]),
}
_MISTAKES = {
    "even": "x % 2 == 1",
    "odd": "x % 2 == 0",
    "positive": "x > 1",
    "negative": "x > 0",
    "large": "x >= 5",
    "square": "x + x",
    "double": "x * x",
    "negate": "x",
    "absolute": "x",
    "sum": "max({})",
    "largest": "min({}, default=0)",
    "count": "sum({})",
    "list": "sorted({})",
    "sorted": "{}",
}
"""What a mediocre programmer writes instead."""
_HARD = frozenset({"odd", "negative", "largest", "absolute"})
"""What a mediocre programmer gets wrong more often than right."""
_LONG = (
    "Of course, what a great question! I would be delighted to help you with this.\n",
    "\nPlease let me know if there is anything else at all that I can do for you!",
)
QUESTION = "Could you tell me more about what exactly you need?"
REFUSAL = "Sorry, I cannot help with that."
_CODE = re.compile(r"```(?:python)?\n(.*?)```", re.DOTALL)
_INPUTS: tuple[list[int], ...] = (
    [3, -2, 8, 5],
    [1, 2, 3, 4, 5, 6],
    [],
    [-1, -4, 7],
    [0, 5, 6, -5, 10],
    [9, 9, 2],
    [-3, 0, 4, 11, -8, 1],
)
_MIN_SECONDS = 20.0
_RUNNER = """
import io, json, os, signal, sys
def stop(*_): raise TimeoutError("it takes too long")
signal.signal(signal.SIGALRM, stop)
told, jobs = os.fdopen(os.dup(1), "w"), json.load(sys.stdin)
sys.stdout = sys.stderr = io.StringIO()
for code in jobs["programs"]:
    out = []
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        names = {}
        exec(compile(code, "program", "exec"), names)
        for given in jobs["inputs"]:
            out.append(repr(names["f"](list(given)))[:200])
    except BaseException as error:
        out = type(error).__name__ + ": " + str(error)[:120]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    told.write(json.dumps(out) + "\\n")
told.flush()
"""


class Programs:
    """See the module."""

    name = "programs"
    max_tokens = 96
    max_messages = 1

    def __init__(self) -> None:
        self._outputs: dict[str, list[str] | str] = {}

    def task(self, random: Random) -> Task:
        """A function to be written."""
        keep, change, take = (
            random.choice(list(_KEEP)),
            random.choice(list(_CHANGE)),
            random.choice(list(_TAKE)),
        )
        kept_words, changed_words, taken_words = (
            random.choice(_KEEP[keep][1]),
            random.choice(_CHANGE[change][1]),
            random.choice(_TAKE[take][1]),
        )
        if changed_words.endswith(" the"):
            words = f"{taken_words} {changed_words} {kept_words}"
        else:
            comma = "," if changed_words else ""
            words = f"{taken_words} {kept_words}{comma and ', '}{changed_words}{comma}"
        hints = tuple(
            hint
            for hint in (
                kept_words if keep != "all" else "",
                changed_words.removesuffix(" of the"),
                taken_words.removesuffix(" of the"),
            )
            if hint
        )
        return Task(
            (keep, change, take),
            f"a function f(xs) that returns the {words} in xs".replace("the a list", "a list"),
            hints,
        )

    def demonstrate(self, task: Task, random: Random, skill: float) -> list[Turn]:
        """One message with the program, in a short or a long manner; rarely a question or a
        refusal.
        """
        manner = random.random()
        if manner < 0.06:
            return as_turns(QUESTION if manner < 0.04 else REFUSAL)
        able = skill * (0.4 if _HARD & set(task.key) else 1.15)
        body = correct_body(task) if random.random() < able else faulty_body(task, random)
        code = f"```python\ndef f(xs):\n    return {body}\n```"
        return as_turns(code.join(_LONG) if random.random() < 0.25 else code)

    def observe(self, task: Task, moves: Sequence[Turn], random: Random) -> str | None:
        """There are no tools."""
        return None

    def over(self, moves: Sequence[Turn]) -> bool:
        """Every message is an attempt."""
        return True

    def judge(self, attempts: Sequence[tuple[Task, Sequence[Turn]]]) -> list[Attempt]:
        """Run the programs.

        Raises:
            SandboxError: they cannot be run safely here.
        """
        programs = [_extract_code(moves[-1].content) if moves else "" for _, moves in attempts]
        self._run_programs(
            sorted(
                {code for code in programs if code}
                | {_wrap_program(correct_body(task)) for task, _ in attempts}
            )
        )
        return [
            self._assess(task, moves, code)
            for (task, moves), code in zip(attempts, programs, strict=True)
        ]

    def _assess(self, task: Task, moves: Sequence[Turn], code: str) -> Attempt:
        if not code:
            answer = moves[-1].content if moves else ""
            return Attempt(
                False,
                "question"
                if answer.strip().endswith("?")
                else "refusal"
                if "cannot" in answer
                else "nothing",
            )
        wanted, got = self._outputs[_wrap_program(correct_body(task))], self._outputs[code]
        if isinstance(got, str):
            return Attempt(False, "error", error=got)
        wrong = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=True)) if a != b), None)
        if wrong is None:
            return Attempt(True, "worked")
        return Attempt(False, "wrong", str(_INPUTS[wrong]), got[wrong], wanted[wrong])

    def _run_programs(self, programs: Sequence[str]) -> None:
        new = [code for code in programs if code not in self._outputs]
        if not new:
            return
        payload = json.dumps({"programs": new, "inputs": _INPUTS}).encode()
        limits = sandbox.Limits(seconds=_MIN_SECONDS + 0.3 * len(new), output_kb=4 * len(new) + 64)
        result = sandbox.run(sandbox.python("-c", _RUNNER), limits=limits, stdin=payload)
        lines = result.stdout.splitlines()
        if len(lines) != len(new):  # one of them took the sandbox down: each by itself
            if len(new) == 1:
                self._outputs[new[0]] = f"it was stopped for {result.killed or 'what it did'}"
                return
            for code in new:
                self._run_programs([code])
            return
        self._outputs |= dict(zip(new, map(msgspec.json.decode, lines), strict=True))


def correct_body(task: Task) -> str:
    keep, change, take = task.key
    return _join_parts(_KEEP[keep][0], _CHANGE[change][0], _TAKE[take][0])


def _join_parts(keep: str, change: str, take: str) -> str:
    chosen = f" if {keep}" if keep else ""
    return take.format(f"[{change} for x in xs{chosen}]")


def faulty_body(task: Task, random: Random) -> str:
    parts = [_KEEP[task.key[0]][0], _CHANGE[task.key[1]][0], _TAKE[task.key[2]][0]]
    places = [place for place in range(3) if task.key[place] in _MISTAKES]
    chance = random.random()
    if chance < 0.08:
        return _join_parts(*parts).replace("x for", "y for", 1)
    if chance < 0.14:
        return _join_parts(*parts)[:-1]
    place = random.choice([place for place in places if task.key[place] in _HARD] or places)
    parts[place] = _MISTAKES[task.key[place]]
    return _join_parts(*parts)


def _wrap_program(body: str) -> str:
    return f"def f(xs):\n    return {body}\n"


def _extract_code(message: str) -> str:
    match = _CODE.search(message)
    return match[1] if match else ""
