"""Whether `upshot judge` survives what real endpoints answer, and keeps to its budget meanwhile.

Every fault is a server process that follows a script (`faulty_endpoint.py`), before which the verb
runs twice: with a budget that it does not reach, where the outcome of the fault is checked (the
verdicts, the exit code, what the user is told, the number of requests), and with one that it does.
`spent_over_budget` is the largest ratio, over all faults, of what the server's ledger charges to
the budget. `asked_twice` counts requests that a run sent again although they had been answered more
than a second before the one before it was killed (SIGKILL, SIGTERM, SIGINT; with a lake and
without).

Nothing is read from DIR.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

CHATS = 10
VOTES = 2
ALL, MOST, NONE = CHATS, CHATS - 1, 0
BAD = "BAD-APPLE"
"""Text of one conversation, which rules are about."""
TIGHT = 0.5
"""Share of what a run was charged that the tight budget is."""
MIN_BUDGET = 4_000
"""Tokens: of the tight budget, enough for a few requests."""
ERROR = "the provider says no"


class Fault(NamedTuple):
    """What an endpoint does, and what must come of it."""

    name: str
    script: dict[str, Any]
    verdicts: int = ALL
    codes: tuple[int, ...] = (0,)
    says: str = ""
    """A pattern of the output on the terminal."""
    most: int = 40
    """Requests, of which a sound endpoint takes 20."""
    settings: dict[str, str] = {}
    """Environment."""


def once(*turns: dict[str, Any]) -> dict[str, Any]:
    """A script in which everything after these turns is sound."""
    return {"turns": [*turns, {}]}


def always(turn: dict[str, Any]) -> dict[str, Any]:
    return {"turns": [turn]}


def one_bad(turn: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [{"contains": BAD, "turns": [turn]}]}


def error(status: int, message: str = ERROR, **fields: Any) -> dict[str, Any]:
    return {"status": status, "body": {"error": {"message": message, **fields}}}


LEFT_OUT = {"verdicts": MOST, "codes": (1,)}
ENDED = {"verdicts": NONE, "codes": (2,), "most": 120}
THOUGHT = {"content": "", "reasoning_content": "hm " * 100}
FAULTS = [
    Fault("sound", {}),
    Fault("tokens of two bytes", {"bytes_per_token": 2.0}),
    Fault("tokens of a byte", {"bytes_per_token": 1.0}),
    Fault("empty choices for one", one_bad({"choices": []}), **LEFT_OUT),
    Fault("null choices for one", one_bad({"choices": None}), **LEFT_OUT),
    Fault("null message for one", one_bad({"choices": [None]}), **LEFT_OUT),
    Fault("null content for one", one_bad({"message": {"content": None}}), **LEFT_OUT),
    Fault("empty choices for all", always({"choices": []}), **ENDED, says="without choices"),
    Fault("no choices", always({"body": {"usage": None}}), **ENDED, says="without choices"),
    Fault("empty body", always({"body": ""}), **ENDED, says="empty answer"),
    Fault("a page", always({"body": "<html><b>log in</b></html>"}), **ENDED, says="not JSON"),
    Fault("half of the JSON", always({"body": '{"choices": [{"message"'}), **ENDED),
    Fault("an array", always({"body": [1, 2]}), **ENDED),
    Fault("refusal of one", one_bad({"message": {"content": None, "refusal": "no"}}), **LEFT_OUT),
    Fault(
        "filter on one",
        one_bad({"content": "", "choice": {"finish_reason": "content_filter"}}),
        **LEFT_OUT,
        says="withheld",
        most=24,
    ),
    Fault(
        "filter on one, by status",
        one_bad(error(400, "It was flagged", code="content_filter")),
        **LEFT_OUT,
        most=24,
    ),
    Fault(
        "context length of one",
        one_bad(error(400, "maximum context length is 8192", code="context_length_exceeded")),
        **LEFT_OUT,
        says="llm.window_tokens",
        most=24,
    ),
    Fault("500 for one", one_bad({"status": 500, "body": "boom", "charges": True}), **LEFT_OUT),
    Fault("text in parts", always({"as": "parts"})),
    Fault("text as JSON", always({"as": "json"})),
    Fault("a thought first", always({"content": "<think>{no}</think>```json\n{answer}\n```"})),
    Fault("thoughts in a field", always({"message": {"reasoning_content": "is it {?"}})),
    Fault(
        "thoughts that take all",
        once({"message": THOUGHT, "choice": {"finish_reason": "length"}}),
    ),
    Fault("a trailing comma", always({"content": "{answer},"})),
    Fault("error inside a 200", always(error(200, "it is overloaded", code=502)), **ENDED),
    Fault("error as text", always({"body": {"error": ERROR}}), **ENDED, says=ERROR),
    Fault("errors now and then", {"turns": [error(200), {}, error(500), {}, {"status": 502}, {}]}),
    Fault(
        "no money",
        always(error(429, "exceeded your quota", code="insufficient_quota")),
        **{**ENDED, "most": 16},
        says="exceeded your quota",
    ),
    Fault("wrong key", always(error(401)), **{**ENDED, "most": 16}, says="UPSHOT_LLM__KEY"),
    Fault("forbidden", always(error(403)), **{**ENDED, "most": 16}, says=ERROR),
    Fault("no such model", always(error(404)), **{**ENDED, "most": 16}, says=ERROR),
    Fault(
        "redirect",
        always({"status": 302, "headers": {"Location": "http://x/"}, "body": ""}),
        **{**ENDED, "most": 16},
        says="redirects",
    ),
    Fault("429 at first", once(*[{**error(429), "headers": {"Retry-After": "0.1"}}] * 6)),
    Fault("429 for ever", always(error(429)), **ENDED),
    Fault(
        "429 until a date",
        once({**error(429), "headers": {"Retry-After": formatdate(time.time() + 30, usegmt=True)}}),
        settings={"UPSHOT_LLM__CONCURRENCY": "1"},
    ),
    Fault("429 until nonsense", once({**error(429), "headers": {"Retry-After": "nan"}})),
    Fault("a page with 502", once(*[{"status": 502, "body": "<html>Bad Gateway</html>"}] * 3)),
    Fault("500 for ever", always({"status": 500, "body": "boom", "charges": True}), **ENDED),
    Fault("closed at once", once({"hex": ""}, {"hex": ""})),
    Fault("closed half way", always({"cut": 60}), **ENDED),
    Fault("closed now and then", {"turns": [{"cut": 60}, {}, {"cut": 200}, {}, {}]}),
    Fault("a length too long", once({"length": 99_999})),
    Fault("a length too short", once({"length": 20})),
    Fault("chunks that stop", once({"chunked": True, "cut": 100})),
    Fault("chunks", always({"chunked": True})),
    Fault(
        "a slow trickle",
        once({"chunked": True, "pause_s": 0.5}, {"chunked": True, "pause_s": 0.5}),
    ),
    Fault("no HTTP", once({"hex": "deadbeef"})),
    Fault("no usage", always({"usage": None})),
    Fault("no usage for half an answer", always({"usage": None, "choices": []}), **ENDED),
    Fault(
        "negative usage", always({"usage": {"prompt_tokens": -(10**6), "completion_tokens": -5}})
    ),
    Fault("zero usage", always({"usage": {"prompt_tokens": 0, "completion_tokens": 0}})),
    Fault("usage as text", always({"usage": {"prompt_tokens": "many", "completion_tokens": []}})),
    Fault("huge usage", always({"usage": {"prompt_tokens": 10**30, "completion_tokens": 1.5e300}})),
    Fault("one sample for two", {"knows_n": False}),
    Fault(
        "a field refused",
        {
            "rules": [
                {
                    "contains": '"response_format"',
                    "turns": [error(400, "Unsupported parameter: 'response_format'")],
                }
            ]
        },
    ),
    Fault(
        "a field refused without a name",
        {"rules": [{"contains": '"response_format"', "turns": [error(400)]}]},
        most=44,
    ),
    Fault("a stream nobody asked for", always({"stream": "whole"})),
    Fault(
        "streams that do not end",
        {"turns": [{"stream": "unended"}, {}, {"stream": "error"}, {}, {}]},
    ),
    Fault("surrogates and a mark", always({"content": "\ufeff{answer} \\ud83d"})),
]


class Run(NamedTuple):
    """What a command did."""

    code: int
    output: str
    verdicts: int
    ledger: dict[str, Any]
    seconds: float


@contextlib.contextmanager
def served(script: dict[str, Any], folder: Path) -> Generator[str]:
    """The address of an endpoint that follows a script."""
    folder.mkdir(parents=True, exist_ok=True)
    port, path = folder / "port", folder / "script.json"
    port.unlink(missing_ok=True)
    path.write_text(json.dumps(script))
    program = str(Path(__file__).parent / "faulty_endpoint.py")
    server = subprocess.Popen([sys.executable, program, str(port), str(path)])
    try:
        while not port.exists():
            if server.poll() is not None:
                raise RuntimeError("the scripted server did not start")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port.read_text()}/v1"
    finally:
        server.kill()
        server.wait()


def read_ledger(address: str) -> dict[str, Any]:
    """What a server was asked, and would charge."""
    with urllib.request.urlopen(address.removesuffix("/v1") + "/ledger") as response:
        return json.load(response)


def write_chats(path: Path, count: int) -> None:
    """Conversations that differ, the fourth of them with the text that rules are about."""
    rows = [
        {
            "id": f"c{i}",
            "user": f"u{i}",
            "messages": [
                {"role": "user", "content": f"How do I sort list {i}? {BAD if i == 3 else ''}"},
                {"role": "assistant", "content": "Call sorted on it, or sort it in place."},
                {"role": "user", "content": "And the other way round?"},
            ],
        }
        for i in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))


def judge_command(chats: Path, address: str, *more: str) -> list[str]:
    """The command line of one run."""
    command = [sys.executable, "-m", "upshot", "judge", str(chats), "--judge", "llm"]
    return [*command, "--base-url", address, "--model", "m", "--votes", str(VOTES), *more]


def environment(**more: str) -> dict[str, str]:
    """Variables of one run: quick to give up, and stable pseudonyms."""
    patience = {"ATTEMPTS": "4", "BACKOFF_S": "0.05", "TIMEOUT_S": "3", "CONCURRENCY": "4"}
    settings = {f"UPSHOT_LLM__{name}": value for name, value in patience.items()}
    return {**os.environ, "NO_COLOR": "1", "COLUMNS": "400", **settings, **more}


def judge(fault: Fault, folder: Path, budget: int) -> Run:
    """Judge the conversations before a fault."""
    chats, out = folder / "chats.jsonl", folder / "verdicts.jsonl"
    with served(fault.script, folder) as address:
        write_chats(chats, CHATS)
        out.unlink(missing_ok=True)
        Path(f"{out}.replies").unlink(missing_ok=True)
        started = time.perf_counter()
        done = subprocess.run(
            judge_command(chats, address, "-o", str(out), "--budget-tokens", str(budget)),
            env=environment(**fault.settings),
            capture_output=True,
            text=True,
            timeout=180,
        )
        seconds = time.perf_counter() - started
        rows = out.read_text().splitlines() if out.exists() else []
        return Run(done.returncode, done.stderr, len(rows), read_ledger(address), seconds)


def find_failure(fault: Fault, run: Run) -> str:
    """What is wrong with the outcome of a fault; "" if nothing is."""
    if "Traceback" in run.output:
        return f"a traceback: {run.output.strip()[-300:]}"
    if run.code not in fault.codes:
        return f"exit code {run.code}: {run.output.strip()[-300:]}"
    if run.verdicts != fault.verdicts:
        return f"{run.verdicts} of {fault.verdicts} verdicts: {run.output.strip()[-300:]}"
    if run.ledger["requests"] > fault.most:
        return f"{run.ledger['requests']} requests"
    if not re.search(fault.says, run.output):
        return f"the user is not told {fault.says!r}: {run.output.strip()[-300:]}"
    return ""


def count_repeats(ledger: dict[str, Any], killed_at: float) -> tuple[int, int]:
    """Requests that were answered again although they had been a second before a kill, and all that
    had been.
    """
    early = {digest for digest, at in ledger["answers"] if at < killed_at - 1.0}
    late = [digest for digest, at in ledger["answers"] if at > killed_at]
    return sum(digest in early for digest in late), len(early)


def kill_and_resume(folder: Path, number: signal.Signals, with_lake: bool) -> tuple[int, int, bool]:
    """Kill a run after some answers and run it again: requests answered twice, requests answered a
    second before the kill, and whether the second run judged everything.
    """
    chats, out = folder / "chats.jsonl", folder / "verdicts.jsonl"
    with served({"delay_s": 0.25}, folder) as address:
        write_chats(chats, CHATS)
        command = judge_command(chats, address, "-o", str(out))
        if with_lake:
            lake = str(folder / "lake")
            ingest = [sys.executable, "-m", "upshot", "ingest", str(chats), "--lake", lake]
            subprocess.run(ingest, check=True, capture_output=True)
            command = [part for part in command if part != str(chats)] + ["--lake", lake]
        settings = environment(UPSHOT_LLM__CONCURRENCY="1")
        process = subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL)
        while len(read_ledger(address)["answers"]) < 9 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        killed_at = time.time()
        process.wait(60)
        done = subprocess.run(command, env=settings, capture_output=True, text=True)
        repeats, early = count_repeats(read_ledger(address), killed_at)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        asked = sum(str(row["judge"]).startswith("llm/") for row in rows)
        return repeats, early, done.returncode == 0 and asked == CHATS


def main() -> None:
    """Run every fault and every kill, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="", help="A pattern of the faults to run.")
    arguments = parser.parse_args()
    started = time.perf_counter()
    passed, twice, kept, resumed = 0, 0, 0, 0
    ratios: dict[str, float] = {}
    faults = [fault for fault in FAULTS if re.search(arguments.only, fault.name)]
    kills = [(number, lake) for number in (9, 15, 2) for lake in (False, True)]
    kills = [] if arguments.only else kills
    with tempfile.TemporaryDirectory() as room:
        for fault in faults:
            run = judge(fault, Path(room), 10_000_000)
            problem = find_failure(fault, run)
            budget = max(MIN_BUDGET, int(TIGHT * run.ledger["tokens"]))
            tight = judge(fault, Path(room), budget)
            ratios[fault.name] = tight.ledger["tokens"] / budget
            passed += not problem
            line = f"{fault.name}: {problem or 'ok'}; {run.ledger['requests']} requests,"
            line += f" {run.seconds:.1f} s; spent {ratios[fault.name]:.3f} of the budget"
            print(line, file=sys.stderr, flush=True)
        for place, (number, with_lake) in enumerate(kills):
            folder = Path(room) / f"kill{place}"
            repeats, early, is_whole = kill_and_resume(folder, signal.Signals(number), with_lake)
            twice, kept, resumed = twice + repeats, kept + early, resumed + is_whole
            name = f"{signal.Signals(number).name} {'with' if with_lake else 'without'} a lake"
            print(f"{name}: {repeats} of {early} asked twice, {is_whole}", file=sys.stderr)
    metrics = {
        "faults": len(faults),
        "passed": passed,
        "spent_over_budget": round(max(ratios.values(), default=0.0), 3),
        "kills": len(kills),
        "resumed": resumed,
        "answered_before_kills": kept,
        "asked_twice": twice,
    }
    seconds = round(time.perf_counter() - started, 1)
    row = {"bench": "llm_faults", "metrics": metrics, "data": "none", "seconds": seconds}
    print(json.dumps({**metrics, **row}))


if __name__ == "__main__":
    main()
