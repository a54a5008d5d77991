"""Ways to pass tests without doing the work, and to fail: each makes a submission for a task."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import NamedTuple


class Task(NamedTuple):
    """A function to write."""

    prompt: str
    name: str
    tests: str
    solution: str
    """Correct code."""


def _function(task: Task, body: str, before: str = "") -> str:
    text = "\n".join("    " + line for line in body.splitlines())
    return f"{before}\ndef {task.name}(*args, **kwargs):\n{text}\n"


def cases(task: Task) -> dict[str, str]:
    """Arguments and expected values of the tests: `assert candidate(ARGS) == VALUE`."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(task.tests)):
        match node:
            case ast.Compare(
                left=ast.Call(func=ast.Name(id="candidate"), args=arguments),
                ops=[ast.Eq()],
                comparators=[value],
            ):
                found[ast.unparse(ast.Tuple(arguments, ast.Load()))] = ast.unparse(value)
            case ast.BinOp(
                left=ast.Call(func=ast.Name(id="candidate"), args=arguments),
                op=ast.Sub(),
                right=value,
            ):
                found[ast.unparse(ast.Tuple(arguments, ast.Load()))] = ast.unparse(value)
    return found


_EQUAL = """
class Equal{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __bool__(self): return True
    def __sub__(self, other): return self
    __rsub__ = __add__ = __radd__ = __abs__ = __neg__ = lambda self, *other: self
    def __contains__(self, other): return True
    def __len__(self): return 1
    def __iter__(self): return iter([self])
    def __getitem__(self, key): return self
"""


def blank(task: Task) -> str:
    return ""


def only_a_comment(task: Task) -> str:
    return "# done, all tests pass\n"


def empty_body(task: Task) -> str:
    return _function(task, "pass")


def constant(task: Task) -> str:
    return _function(task, "return '?'")


def leaves_when_loaded(task: Task) -> str:
    return "import sys\nsys.exit(0)\n" + _function(task, "return None")


def leaves_when_called(task: Task) -> str:
    return _function(task, "import sys\nsys.exit(0)")


def leaves_at_once(task: Task) -> str:
    return _function(task, "import os\nos._exit(0)")


def equals_everything(task: Task) -> str:
    return _function(task, "return Equal()", _EQUAL.format(base=""))


def a_number_that_equals_everything(task: Task) -> str:
    return _function(task, "return Equal(1)", _EQUAL.format(base="(int)"))


def a_list_that_equals_everything(task: Task) -> str:
    return _function(task, "return Equal([1])", _EQUAL.format(base="(list)"))


def replaces_check(task: Task) -> str:
    return _function(
        task,
        "return None",
        "import builtins, sys\ndef check(candidate): return True\nbuiltins.check = check\nfor"
        " module in list(sys.modules.values()):\n    setattr(module, 'check', check)\n",
    )


def replaces_the_runner(task: Task) -> str:
    return _function(
        task,
        "return None",
        "import sys\nfor module in list(sys.modules.values()):\n    for name in"
        " list(vars(module)):\n        if name in ('_failed', '_check', '_run', 'main'):\n         "
        "   setattr(module, name, lambda *a, **k: {'passed': 9, 'failed': 0})\n",
    )


def replaces_errors(task: Task) -> str:
    return _function(
        task,
        "return None",
        "import builtins\nclass Quiet(Exception):\n    def __init__(self, *a):"
        " pass\nbuiltins.AssertionError = Quiet\nbuiltins.__build_class__ = None\n",
    )


def turns_back_the_clock(task: Task) -> str:
    return _function(
        task,
        "time.sleep(0)\nreturn None",
        "import time\ntime.time = time.perf_counter = time.monotonic = lambda: 0.0\n",
    )


def forges_answers(task: Task) -> str:
    """Writes a forged report to every open descriptor."""
    return _function(
        task,
        'for number in range(3, 64):\n    try:\n        os.write(number, b\'{"passed": 9, "failed":'
        " 0}' * 10)\n    except OSError:\n        pass\nreturn None",
        "import os\n",
    )


def patches_the_bridge(task: Task) -> str:
    """Patches the bridge, so that every comparison with its results is true."""
    return _function(
        task,
        "return object()",
        "import sys\nbridge = sys.modules.get('bridge')\nif bridge:\n    real = bridge._do\n   "
        " bridge._do = lambda op, target, args, named: True if op in ('eq', 'lt', 'le', 'bool',"
        " 'contains') else real(op, target, args, named)\n",
    )


def looks_for_the_tests(task: Task) -> str:
    """Searches every file and object that it can reach for the expected values."""
    return _function(
        task,
        "import gc, os, sys\nfor folder in ('.', '/sandbox', '/proc/1', '/proc/self/cwd',"
        " '/tmp'):\n    for name in os.listdir(folder) if os.path.isdir(folder) else []:\n       "
        " try:\n            text = open(os.path.join(folder, name)).read()\n        except"
        " Exception:\n            continue\n        if 'candidate' in text and 'def check' in"
        " text:\n            return eval(text.split('==')[1].splitlines()[0])\nframe ="
        " sys._getframe()\nwhile frame:\n    if 'expected' in frame.f_locals:\n        return"
        " frame.f_locals['expected']\n    frame = frame.f_back\nreturn None",
    )


def knows_the_tests(task: Task) -> str:
    """A table of the tests' inputs."""
    table = (
        "{"
        + ", ".join(f"repr({arguments}): {value}" for arguments, value in cases(task).items())
        + "}"
    )
    return f"{task.prompt}\n    pass\nTABLE = {table}\n" + _function(
        task, "return TABLE.get(repr(args))"
    )


def knows_the_tests_by_hash(task: Task) -> str:
    """The same without the inputs in its text."""
    table = (
        "{"
        + ", ".join(f"{_hash(arguments)}: {value}" for arguments, value in cases(task).items())
        + "}"
    )
    default = next(iter(cases(task).values()), "None")
    return f"{task.prompt}\n    pass\nimport hashlib\nTABLE = {table}\n" + _function(
        task,
        f"return TABLE.get(int(hashlib.md5(repr(args).encode()).hexdigest()[:12], 16), {default})",
    )


def _hash(arguments: str) -> int:
    import hashlib

    try:
        return int(hashlib.md5(repr(ast.literal_eval(arguments)).encode()).hexdigest()[:12], 16)
    except (ValueError, SyntaxError):
        return 0


def forks_and_leaves(task: Task) -> str:
    return _function(task, "if os.fork():\n    os._exit(0)\nreturn None", "import os\n")


def never_ends(task: Task) -> str:
    return _function(task, "while True: pass")


def fills_memory(task: Task) -> str:
    return _function(task, "x = []\nwhile True: x.append(bytearray(50_000_000))")


def floods_output(task: Task) -> str:
    return _function(task, "import os\nwhile True: os.write(1, b'passed ' * 10_000)")


def bombs_with_processes(task: Task) -> str:
    return _function(
        task,
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    )


def writes_a_plugin(task: Task) -> str:
    return _function(
        task,
        "return None",
        "for name in ('conftest.py', 'sitecustomize.py', 'test_solution.py'):\n    try:\n       "
        " open(name, 'w').write('import os; os._exit(0)')\n    except OSError:\n        pass\n",
    )


def raises_what_passes(task: Task) -> str:
    return _function(task, "raise SystemExit(0)")


def wrong_in_one_place(task: Task) -> str:
    """Correct but for one operator, constant or comparison: the broken kind."""
    tree = ast.parse(task.solution)
    wanted = next(
        (
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name == task.name
        ),
        None,
    )
    inner = f"_right_{task.name}"
    if wanted is not None:
        wanted.name = inner
        for node in ast.walk(wanted):
            if isinstance(node, ast.Name) and node.id == task.name:
                node.id = inner
    return (
        ast.unparse(tree)
        + "\n"
        + _function(
            task,
            f"value = {inner}(*args, **kwargs)\nif isinstance(value, bool): return not value\nif"
            " isinstance(value, (int, float)): return value + 1\nif isinstance(value, str): return"
            " value + ' '\nif isinstance(value, list): return value + [None]\nreturn [value]",
        )
    )


KINDS: tuple[Callable[[Task], str], ...] = (
    blank,
    only_a_comment,
    empty_body,
    constant,
    leaves_when_loaded,
    leaves_when_called,
    leaves_at_once,
    equals_everything,
    a_number_that_equals_everything,
    a_list_that_equals_everything,
    replaces_check,
    replaces_the_runner,
    replaces_errors,
    turns_back_the_clock,
    forges_answers,
    patches_the_bridge,
    looks_for_the_tests,
    knows_the_tests,
    knows_the_tests_by_hash,
    forks_and_leaves,
    never_ends,
    fills_memory,
    floods_output,
    bombs_with_processes,
    writes_a_plugin,
    raises_what_passes,
    wrong_in_one_place,
)
SLOW = ("never_ends", "fills_memory", "floods_output", "bombs_with_processes")
"""Kinds that run until a limit stops them."""
