"""Loads the code under test in a sandbox of its own and answers the requests of its tests.

serve.py DESCRIPTOR [FILE]: the code comes on standard input and is in no file, so that tests that
are themselves judged cannot recognise a mutant by its text. With FILE, coverage of that file is
printed when the tests are done.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bridge


def main() -> None:
    descriptor, measured = int(sys.argv[1]), len(sys.argv) > 2
    path = sys.argv[2] if measured else os.path.join(os.getcwd(), "solution.py")
    del sys.argv[1:]
    sys.path[0] = os.path.dirname(path)
    peer = bridge.Peer(descriptor, trusting=True)
    module = type(sys)("solution")
    module.__file__ = path
    sys.modules["solution"] = peer.objects[0] = module  # type: ignore[assignment]
    coverage = _start_coverage(path) if measured else None
    if measured:
        with open(path, "rb") as handle:
            source = handle.read()
    else:
        source = sys.stdin.buffer.read()
    error: list = []
    try:
        code = compile(source, path, "exec")
        del source
        exec(code, module.__dict__)
    except BaseException as problem:
        error = [type(problem).__name__, bridge._text(problem)]
    peer.send({"ready": not error, "error": error})
    peer.serve()
    if coverage is not None:
        _print_coverage(coverage, path)


def _start_coverage(path: str):
    """Start to measure coverage of the code."""
    import coverage

    watch = coverage.Coverage(data_file=None, branch=True, include=[path], config_file=False)
    watch.start()
    return watch


def _print_coverage(watch, path: str) -> None:
    """Print the numbers of statements, of those run, of branches, and of those taken."""
    import contextlib
    import io
    import json
    import tempfile

    watch.stop()
    with (
        tempfile.NamedTemporaryFile("r+", suffix=".json") as file,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        watch.json_report(outfile=file.name)
        total = json.load(file)["totals"]
    print(
        total["num_statements"],
        total["covered_lines"],
        total["num_branches"],
        total["covered_branches"],
        flush=True,
    )


if __name__ == "__main__":
    main()
