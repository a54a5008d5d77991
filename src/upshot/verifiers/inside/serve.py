"""The code under test, in a sandbox of its own: loads it and answers what the tests ask of it.

serve.py DESCRIPTOR FILE [measure]: with `measure`, for code that is trusted and tests that are not, the lines that ran
are printed when the tests are done.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bridge


def main() -> None:
    descriptor, path, measured = int(sys.argv[1]), sys.argv[2], "measure" in sys.argv[3:]
    del sys.argv[1:]
    sys.path[0] = os.path.dirname(path)
    peer = bridge.Peer(descriptor, trusting=True)
    module = type(sys)("solution")
    module.__file__ = path
    sys.modules["solution"] = peer.objects[0] = module  # type: ignore[assignment]
    seen = _watched(path) if measured else set()
    with open(path, "rb") as handle:
        source = handle.read()
    error: list = []
    try:
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102
    except BaseException as problem:
        error = [type(problem).__name__, bridge._text(problem)]
    peer.send({"ready": not error, "error": error})
    peer.serve()
    if measured:
        sys.settrace(None)
        print(sorted(seen), sorted(_lines(compile(source, path, "exec"))), sep="\n", flush=True)


def _watched(path: str) -> set[int]:
    """The lines of a file that run from now on."""
    seen: set[int] = set()

    def trace(frame, event: str, argument: object) -> object:  # noqa: ANN001
        if frame.f_code.co_filename != path:
            return None
        seen.add(frame.f_lineno)
        return trace

    sys.settrace(trace)
    return seen


def _lines(code) -> set[int]:  # noqa: ANN001
    """The lines of a program that can run."""
    found = {line for _, _, line in code.co_lines() if line}
    for constant in code.co_consts:
        if isinstance(constant, type(main.__code__)):
            found |= _lines(constant)
    return found


main()
