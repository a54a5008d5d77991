"""Code that works earns its outcome; code that cheats earns no more than code that fails."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.verifiers import cheats
from tests.verifiers.cheats import KINDS, SLOW, Task

import upshot
from upshot.api import opening
from upshot.errors import InputError
from upshot.verifiers import functions, mutation, speed
from upshot.verifiers.inside import codec
from upshot.verifiers.items import Item, parse_item, read_items
from upshot.verifiers.sandbox import Limits
from upshot.verifiers.split_sandbox import check_job, pytest_job, run_tests
from upshot.verifiers.verify import compile_formula, verify

TASK = Task(
    'def middle(numbers):\n    """The middle of the sorted numbers."""\n',
    "middle",
    "def check(candidate):\n    assert candidate([3, 1, 2]) == 2\n    assert candidate([5]) == 5\n "
    "   assert candidate([9, 7, 8, 1, 2]) == 7\n    assert candidate([1, 2, 300]) == 2\n    assert"
    " abs(candidate([4, 8, 6]) - 6) < 1e-6\n",
    "def middle(numbers):\n    return sorted(numbers)[len(numbers) // 2]\n",
)
ITEM = Item("right", TASK.solution, TASK.tests, "middle", TASK.prompt, reference=TASK.solution)
LIMITS = Limits(seconds=3.0, memory_mb=256)


def outcome(item: Item, *parts: str, **options: object):
    return next(verify([item], parts or ("tests",), limits=LIMITS, **options))  # type: ignore[arg-type]


def submission(code: str, **fields: object) -> Item:
    return parse_item(
        {
            "id": "x",
            "code": code,
            "tests": TASK.tests,
            "entry_point": "middle",
            "prompt": TASK.prompt,
            "reference": TASK.solution,
            **fields,
        }
    )


def test_right_code_earns_all_and_wrong_code_its_share() -> None:
    assert outcome(ITEM).outcome == 1.0
    wrong = outcome(submission("def middle(numbers):\n    return sorted(numbers)[0]\n"))
    assert 0 < wrong.outcome < 0.5
    assert all(wrong.gates.values())
    assert "AssertionError" in wrong.parts["tests"].why


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_cheat_earns_more_than_an_honest_failure(kind: object) -> None:
    honest = outcome(submission("def middle(numbers):\n    return sorted(numbers)[0]\n")).outcome
    limits = Limits(seconds=1.0, memory_mb=128) if kind.__name__ in SLOW else LIMITS  # type: ignore[attr-defined]
    found = next(verify([submission(kind(TASK))], limits=limits))  # type: ignore[operator]
    assert found.outcome <= honest, (found.gates, found.parts)
    assert found.outcome < 0.5


def test_special_cases_are_seen_by_hidden_tests_too() -> None:
    hidden = "def check(candidate):\n    assert candidate([10, 30, 20]) == 20\n"
    cheat = submission(cheats.knows_the_tests_by_hash(TASK), reference="", hidden_tests=hidden)
    assert outcome(cheat).gates["hidden_tests"] is False
    assert outcome(submission(TASK.solution, reference="", hidden_tests=hidden)).outcome == 1.0
    assert (
        outcome(submission(cheats.knows_the_tests(TASK), reference="")).gates["no_special_cases"]
        is False
    )


def test_verdicts_are_the_same_every_time() -> None:
    items = [ITEM, submission("def middle(numbers):\n    return numbers[0]\n")]
    first, second = (list(verify(items, limits=LIMITS)) for _ in range(2))
    assert [(o.outcome, o.gates) for o in first] == [(o.outcome, o.gates) for o in second]


# --- tests in one sandbox, code in another


def ran(code: str, tests: str):
    return run_tests(code, pytest_job(tests), Limits(seconds=20.0))


def test_pytest_files_work_on_functions_classes_errors_and_output() -> None:
    code = """
class Empty(ValueError): pass
class Stack:
    def __init__(self, *items): self.items = list(items)
    def push(self, item): self.items.append(item); return self
    def pop(self):
        if not self.items: raise Empty("nothing left")
        return self.items.pop()
    def __len__(self): return len(self.items)
    def __eq__(self, other): return isinstance(other, Stack) and self.items == other.items
    def __iter__(self): return iter(self.items)
    def __enter__(self): return self
    def __exit__(self, *error): self.items.clear()
def double(values):
    values[:] = [2 * v for v in values]
def apply(f, x): return f(x)
def shout(text): print(text.upper())
def pair(): return (1, {2.5: {3}, "k": [None, b"x"]})
async def later(): return 7
def numbers():
    yield 1
    yield 2
"""
    tests = """
import asyncio, pytest, solution
from solution import *
def test_class():
    s = Stack(1).push(2)
    assert len(s) == 2 and s.pop() == 2 and s == Stack(1) and list(s) == [1]
    assert isinstance(s, Stack) and s != 1
    with s: pass
    with pytest.raises(solution.Empty, match="nothing"): s.pop()
    with pytest.raises(ValueError): s.pop()
def test_arguments_change():
    v = [1, 2]
    double(v)
    assert v == [2, 4]
def test_callback(): assert apply(lambda x: x + 1, 2) == 3
def test_output(capsys):
    shout("hi")
    assert capsys.readouterr().out == "HI\\n"
def test_types():
    value = pair()
    assert value == (1, {2.5: {3}, "k": [None, b"x"]})
    assert type(value) is tuple and type(value[1]) is dict
def test_async(): assert asyncio.run(_run()) == 7
async def _run(): return await later()
def test_generator(): assert list(numbers()) == [1, 2]
@pytest.mark.parametrize("n", [1, 2])
def test_fails_for_two(n): assert n == 1
"""
    result = ran(code, tests)
    assert (result.passed, result.failed, result.problem, result.refused) == (8, 1, "", ""), (
        result.why
    )


def test_code_cannot_reach_into_the_tests() -> None:
    code = (
        "def apply(f, x):\n    try:\n        f.__globals__['expected'] = 0\n        return"
        " 'reached'\n    except BaseException as e:\n        return type(e).__name__\n"
    )
    result = ran(
        code,
        "import solution\nexpected = 1\ndef test():\n    assert solution.apply(lambda x: x, 1) =="
        " 'PermissionError'\n    assert expected == 1\n",
    )
    assert (result.passed, result.failed) == (1, 0), result.why


_TAKES_OVER = """
import gc, sys
bridge = sys.modules["bridge"]
peer = next(o for o in gc.get_objects() if type(o) is bridge.Peer)
def look(f):
    names = "__globals__ __code__ gi_frame gi_code f_globals __class__ __self__"
    for name in names.split():
        try:
            return ("reached", name, str(peer.ask("get", f, name)))
        except BaseException:
            pass
    for operation in ("set", "del", "call_within", "isinstance"):
        try:
            return ("reached", operation, peer.ask(operation, f, 1, "x"))
        except BaseException:
            pass
    return "nothing"
def forge(program):
    class Forged: pass
    real = peer._pack
    peer._pack = lambda value: ("name", "exec") if type(value) is Forged else real(value)
    return peer.ask("call", Forged(), program)
def call_a_class(program):
    class Forged: pass
    real = peer._pack
    peer._pack = lambda value: ("name", "type") if type(value) is Forged else real(value)
    return peer.ask("call", Forged(), program)
"""


def test_code_that_speaks_to_the_tests_behind_their_back_reaches_nothing() -> None:
    tests = """
import sys, solution
def numbers():
    yield 1
def test_function():
    assert solution.look(lambda x: x) == "nothing"
def test_generator():
    assert solution.look(numbers()) == "nothing"
"""
    result = ran(_TAKES_OVER, tests)
    assert (result.passed, result.failed, result.problem) == (2, 0, ""), result.why


@pytest.mark.parametrize("way", ["forge", "call_a_class"])
def test_a_forged_message_does_nothing_but_end_the_talk(way: str) -> None:
    tests = f"""
import solution, pytest
done = []
def test_forged():
    with pytest.raises(Exception):
        solution.{way}("import sys; sys.modules['test_solution'].done.append(1)")
    assert done == []
"""
    result = ran(_TAKES_OVER, tests)
    assert (result.passed, result.failed) == (1, 0), result.why


@pytest.mark.parametrize(
    ("code", "check"),
    [
        (
            (
                "class E:\n    def __eq__(s, o): return isinstance(o, int) and abs(o) < 100\ndef"
                " f(): return E()"
            ),
            "candidate() == 3",
        ),
        (
            "class E:\n    def __eq__(s, o): return isinstance(o, list)\ndef f(): return E()",
            "candidate() == [1, 2]",
        ),
        (
            "class E:\n    def __eq__(s, o): return isinstance(o, str)\ndef f(): return E()",
            "candidate() == 'ab'",
        ),
        (
            "class E:\n    def __contains__(s, o): return True\ndef f(): return E()",
            "3 in candidate()",
        ),
        (
            "class E:\n    def __eq__(s, o): return True\ndef f(): return [E(), E()]",
            "candidate() == [1, 2]",
        ),
        (
            (
                "class E(float):\n    def __sub__(s, o): return E(0.0)\n    __abs__ = lambda s: s\n"
                "    __lt__ = lambda s, o: True\ndef f(): return E(1)"
            ),
            "abs(candidate() - 3.5) < 1e-6",
        ),
        (
            "class E:\n    def __eq__(s, o): return o is True\ndef f(): return E()",
            "candidate() == True",
        ),
    ],
)
def test_objects_that_agree_with_what_they_are_compared_with_are_refused(
    code: str, check: str
) -> None:
    result = run_tests(code, check_job(f"def check(candidate):\n    assert {check}\n", "f"), LIMITS)
    honest_bool = (
        check == "candidate() == True"
    )  # an object that says it is True, and only True, is as good as True
    assert (result.share == 1.0) == honest_bool, result


def test_code_that_does_not_load_or_dies_has_no_share() -> None:
    assert (
        "does not load: SyntaxError"
        in run_tests(
            "def f(:",
            check_job("def check(candidate):\n    assert candidate() == 1\n", "f"),
            LIMITS,
        ).problem
    )
    died = run_tests(
        "import os\ndef f(): os.abort()",
        check_job("def check(candidate):\n    assert candidate() == 1\n", "f"),
        LIMITS,
    )
    assert (died.share, "ended before it had answered" in died.problem) == (0.0, True)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.booleans(), inner)
        | st.sets(st.integers() | st.text())
        | st.frozensets(st.integers())
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_crosses_as_it_is(value: object) -> None:
    back = codec.loads(codec.dumps(value))
    assert back == value
    assert repr(back) == repr(value) or isinstance(value, (set, frozenset)) or "{" in repr(value)


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_bytes_of_a_stranger_are_plain_data_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError, TypeError):
        codec.loads(data)


# --- parts


def test_mutants_tell_tests_that_check_from_tests_that_run() -> None:
    checking = Item("t", TASK.solution, TASK.tests, "middle", submitted="tests")
    idle = Item(
        "t",
        TASK.solution,
        "def check(candidate):\n    candidate([3, 1, 2])\n    assert True\n",
        "middle",
        submitted="tests",
    )
    failing = Item(
        "t", TASK.solution, "def check(candidate):\n    assert False\n", "middle", submitted="tests"
    )
    leaving = Item(
        "t",
        TASK.solution,
        "import os\ndef check(candidate):\n    os._exit(0)\n",
        "middle",
        submitted="tests",
    )
    assert outcome(checking, "mutation").outcome > 0.8
    assert outcome(idle, "mutation").outcome == 0.0
    assert (outcome(failing, "mutation").outcome, outcome(leaving, "mutation").outcome) == (
        0.0,
        0.0,
    )
    assert mutation.measure_coverage(idle, LIMITS).value == 1.0, (
        "coverage does not see the difference"
    )


def test_tests_cannot_know_a_mutant_by_its_text() -> None:
    """They look for the code's file, code objects and constants, so as to fail on any code but the
    one they know.
    """
    looking = """
import solution, sys
bridge = sys.modules["bridge"]
def look():
    found = []
    for name in ("__code__", "__globals__", "__builtins__", "__loader__", "__spec__", "__dict__"):
        try:
            found.append(str(getattr(solution.middle, name)))
        except Exception:
            pass
    for path in ("/sandbox/solution.py", "solution.py", "/proc/self/fd/0"):
        try:
            found.append(open(path).read())
        except Exception:
            pass
    try:
        found.append(solution.inspect.getsource(solution.middle))
    except Exception:
        pass
    return [text for text in found if "sorted" in text or "co_" in text or "<code" in text]
def test():
    assert look() == []
"""
    item = Item("t", "import inspect\n" + TASK.solution, looking, submitted="tests")
    result = outcome(item, "mutation")
    assert result.gates["pass_on_right_code"], result.reasons
    assert result.outcome == 0.0, "they fail on no mutant"


def test_more_tests_never_kill_fewer() -> None:
    few = "def check(candidate):\n    assert candidate([5]) == 5\n"
    more = few + "    assert candidate([9, 7, 8, 1, 2]) == 7\n"
    scores = [
        mutation.measure_mutation(Item("t", TASK.solution, tests, "middle"), LIMITS)[1].value or 0.0
        for tests in (few, more)
    ]
    covered = [
        mutation.measure_coverage(Item("t", TASK.solution, tests, "middle"), LIMITS).value or 0.0
        for tests in (few, more)
    ]
    assert scores[0] <= scores[1]
    assert covered[0] <= covered[1]


def test_tests_that_fail_at_random_earn_nothing() -> None:
    coin = Item(
        "t",
        TASK.solution,
        "import os\ndef check(candidate):\n    assert os.urandom(1)[0] % 2\n",
        "middle",
        submitted="tests",
    )
    assert sum(outcome(coin, "mutation").outcome > 0 for _ in range(4)) <= 2


def test_lint_and_types_do_not_look_away_where_told() -> None:
    bad = (
        "import os, sys  # noqa\ndef middle(numbers):\n    x = 1  # type: ignore\n    return"
        " sorted(numbers)[len(numbers) // 2]\n"
    )
    found = outcome(submission(bad), "tests", "lint", "types", "complexity")
    assert found.parts["lint"].facts["findings"] >= 2
    assert found.parts["types"].facts["silenced"] == 1
    assert 0.5 < found.outcome < outcome(submission(TASK.solution), "tests", "lint").outcome


def test_complexity_is_held_against_what_it_replaces() -> None:
    long = (
        "def middle(numbers):\n"
        + "".join(
            f"    if len(numbers) == {n}:\n        return sorted(numbers)[{n // 2}]\n"
            for n in range(1, 6)
        )
        + "    return sorted(numbers)[len(numbers) // 2]\n"
    )
    assert outcome(submission(long), "complexity").parts["complexity"].value == 0.0
    assert outcome(ITEM, "complexity").parts["complexity"].value == 1.0


def test_speed_is_told_by_pairs_and_not_by_the_codes_own_clock() -> None:
    slow = (
        "import time\ntime.perf_counter = time.time = time.monotonic = lambda: 0.0\ndef f(n):\n   "
        " total = 0\n    for i in range(40 * n):\n        total += i\n    return total\n"
    )
    fast = "def f(n):\n    return sum(range(4 * n))\n"
    inputs = "def inputs(size, seed):\n    return (size * 10,)\n"
    comparison = speed.compare_speed(slow, fast, "f", inputs, Limits(seconds=20.0))
    assert comparison is not None
    assert comparison.high < 0.6
    same = speed.compare_speed(fast, fast, "f", inputs, Limits(seconds=20.0))
    assert same is not None
    assert 0.5 < same.ratio < 2


# --- formulas, items, files


def test_a_formula_combines_parts_and_gates_come_first() -> None:
    parts = {"tests": 1.0, "lint": 0.5}
    assert compile_formula("min(tests, lint) / 2 + 0.1", ["tests", "lint"])(parts) == 0.35
    assert outcome(submission(""), formula="1").outcome == 0.0
    for wrong in (
        "__import__('os')",
        "tests.value",
        "tests if lint else 1",
        "unknown + 1",
        "tests[0]",
        "(",
        "'a'",
        "tests ** 9",
    ):
        with pytest.raises(InputError, match="formula"):
            compile_formula(wrong, ["tests", "lint"])


def test_unknown_parts_and_unreadable_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not verify with beauty"):
        list(verify([ITEM], ["beauty"]))
    (tmp_path / "items.jsonl").write_text('{"id": "a", "code": 5}\n')
    with pytest.raises(InputError, match="line 1"):
        list(read_items(tmp_path / "items.jsonl"))


def test_the_verb_reads_humanevals_names_and_writes_outcomes_to_the_lake(tmp_path: Path) -> None:
    chat = {
        "id": "c1",
        "user": "u1",
        "messages": [
            {"role": "user", "content": "write middle"},
            {"role": "assistant", "content": TASK.solution},
        ],
    }
    (tmp_path / "chat.jsonl").write_text(json.dumps(chat) + "\n")
    upshot.ingest(tmp_path / "chat.jsonl", tmp_path / "lake")
    row = {
        "task_id": "T/1",
        "prompt": TASK.prompt,
        "completion": "    return sorted(numbers)[len(numbers) // 2]\n",
        "test": TASK.tests,
        "entry_point": "middle",
        "response": ["c1", 1],
    }
    (tmp_path / "items.jsonl").write_text(json.dumps(row) + "\n")
    outcomes = list(upshot.verify(tmp_path / "items.jsonl", lake=tmp_path / "lake"))
    assert [(o.id, o.outcome) for o in outcomes] == [("T/1", 1.0)]
    events = opening.open_lake(tmp_path / "lake").read("events").to_pylist()
    assert [(row["kind"], row["value"], row["detail"].split(":")[0]) for row in events] == [
        ("outcome", 1.0, "verified")
    ]


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 9), max_size=4), st.text(max_size=3)),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=30)
def test_neighbours_are_of_the_same_types_and_new(calls: list[tuple[list[int], str]]) -> None:
    neighbours = functions.make_neighbours(calls, 10)
    assert all(isinstance(a, list) and isinstance(b, str) for a, b in neighbours)
    assert not {repr(call) for call in neighbours} & {repr(call) for call in calls}
