"""Runs tests in a sandbox of their own against the code under test in another process.

checker.py DESCRIPTOR REPORT JOB: JOB is a file, the report goes to the descriptor REPORT, both in
the format of codec.py.
"""

from __future__ import annotations

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bridge
import codec

_BATCH = 5
"""Inputs timed together."""


def main() -> None:
    descriptor, report, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with open(path, "rb") as handle:
        job = codec.loads(handle.read())
    del sys.argv[1:]
    peer = bridge.Peer(descriptor, trusting=False)
    try:
        report_content = _run(peer, job)
    except bridge.Ended as error:
        report_content = {"problem": str(error)}
    except bridge.Refused as error:
        report_content = {"refused": str(error)}
    os.write(report, codec.dumps(report_content))


def _run(peer: bridge.Peer, job: dict) -> dict:
    ready = peer.receive()
    if not ready.get("ready"):
        return {
            "problem": "the code does not load: "
            + ": ".join(map(str, ready.get("error") or ["no reason given"]))[:500]
        }
    module = bridge.solution(peer)
    sys.modules[job.get("module", "solution")] = module
    return {"check": _check, "pytest": _pytest, "timed": _timed, "answers": _answers}[job["style"]](
        peer, module, job
    )


# --- functions named check, as HumanEval has them


def _check(peer: bridge.Peer, module: object, job: dict) -> dict:
    passed: list[int] = []
    failed: list[list] = []
    calls: list[str] = []
    space: dict = {"__name__": "tests"}
    if job.get("prompt"):
        # helpers are the prompt's own, not the code's
        exec(compile(job["prompt"], "prompt", "exec"), space)
    candidate = getattr(module, job["entry_point"])

    def called(*arguments: object, **named: object) -> object:
        if len(calls) < 200:
            calls.append(repr(arguments))
        return candidate(*arguments, **named)

    space.update(
        {
            "_passed": passed.append,
            "_failed": lambda line, error: failed.append(_failure(line, error)),
            "_fatal": (bridge.Ended, bridge.Refused),
        }
    )
    space[job["entry_point"]] = called
    try:
        exec(compile(job["tests"], "tests", "exec"), space)
        if "check" in space:
            space["check"](called)
    except (bridge.Ended, bridge.Refused):
        raise
    except Exception as error:
        failed.append(_failure(0, error))
    report = {
        "passed": len(passed),
        "failed": len(failed),
        "why": [why[:2] for why in failed[:5]],
        "asserted": sum(why[2] for why in failed),
        "calls": calls,
    }
    return report if failed or not job.get("inputs") else {**report, **_answers(peer, module, job)}


def _failure(place: object, error: BaseException) -> list:
    """Place, text, and whether an assertion of the tests noticed it."""
    return [place, f"{type(error).__name__}: {error}"[:300], isinstance(error, AssertionError)]


# --- pytest


def _pytest(peer: bridge.Peer, module: object, job: dict) -> dict:
    import pytest

    class Collect:
        def __init__(self) -> None:
            self.outcomes: dict[str, str] = {}
            self.why: list[list] = []
            self.asserted = 0

        def pytest_exception_interact(self, node, call, report) -> None:
            self.asserted += issubclass(call.excinfo.type, (AssertionError, pytest.fail.Exception))

        def pytest_runtest_logreport(self, report) -> None:
            if report.when == "call" or report.outcome != "passed":
                self.outcomes[report.nodeid] = report.outcome
                if report.outcome == "failed":
                    self.why.append([report.nodeid, str(report.longrepr)[-500:]])

        def pytest_collectreport(self, report) -> None:
            if report.failed:
                self.outcomes[report.nodeid or "collection"] = "failed"
                self.why.append([report.nodeid, str(report.longrepr)[-500:]])

    with open("test_solution.py", "w", encoding="utf-8") as handle:
        handle.write(job["tests"])
    collector = Collect()
    pytest.main(
        [
            "-q",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "-p",
            "no:xdist",
            "--no-header",
            "-c",
            "/dev/null",
            "--rootdir",
            os.getcwd(),
            "test_solution.py",
        ],
        plugins=[collector],
    )
    outcomes = list(collector.outcomes.values())
    return {
        "passed": outcomes.count("passed"),
        "failed": outcomes.count("failed"),
        "skipped": outcomes.count("skipped"),
        "why": collector.why[:5],
        "asserted": collector.asserted,
        "outcomes": collector.outcomes,
    }


# --- answers


def _answers(peer: bridge.Peer, module: object, job: dict) -> dict:
    """The code's answers to some inputs; a result that is not plain data is an error."""
    candidate = getattr(module, job["entry_point"])
    answers: list[list] = []
    for arguments in job["inputs"]:
        try:
            value = peer.ask("call_within", candidate, job["within"], *arguments)
            codec.dumps(value)
            answers.append(["value", value])
        except bridge.Ended:
            raise
        except Exception as error:
            answers.append(["error", type(error).__name__])
    return {"answers": answers}


# --- time


def _timed(peer: bridge.Peer, module: object, job: dict) -> dict:
    """Time the code on a batch of inputs for each size on standard input; prints seconds."""
    candidate = getattr(module, job["entry_point"])
    space: dict = {}
    exec(compile(job["inputs"], "inputs", "exec"), space)
    for line in sys.stdin:
        size = int(line)
        batch = [space["inputs"](size, seed) for seed in range(_BATCH)]
        started = time.perf_counter()
        for arguments in batch:
            candidate(*arguments)
        took = time.perf_counter() - started
        print(size, took, flush=True)
    return {}


if __name__ == "__main__":
    main()
