"""The files with which a newcomer begins, and what must come of each; a part of `reading.py`.

Each check goes through the command line, as the newcomer does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Run = Callable[..., subprocess.CompletedProcess[str]]
INHOUSE = (
    "messages=turns[*],role=speaker,content=body,time=ts,user=customer.login,id=conversation_uuid"
)
SESSION = [
    ("person", "how do I sort rows by date?"),
    ("model", "use df.sort"),
    ("person", "that does not work, AttributeError"),
    ("model", "use sort_values"),
    ("person", "thanks, works now"),
    ("model", "you are welcome"),
]
"""The one conversation of three traces of one session."""
AGENT = ["person", "model", "tool", "model", "person"]


def check(files: Path, run: Run) -> Iterator[tuple[str, bool]]:
    """(name, as expected) of every file."""
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        yield "inhouse.jsonl", check_inhouse(files, run, room)
        (gateway,) = read(files / "gateway.json", run, room)
        yield "gateway.json", _turns(gateway) == [("person", "hi"), ("model", "yo")]
        for name in ("lf.json", "lf_list.json", "otel_turns.json"):
            conversations = read(files / name, run, room)
            whole = [_turns(c) for c in conversations] == [SESSION]
            first, second = judge(files / name, run, room)[:2]
            yield name, whole and first < 0.4 and second > 0.6
        yield "events_trace_style.jsonl", check_events(files, run, room)
        yield "a.jsonl, b.jsonl", check_keys(files, run, room)
        yield "claude_code_s1.jsonl", check_agent(files, run, room)
        yield from check_wild(files, run, room)


def read(logs: Path, run: Run, room: Path, *options: str) -> list[dict[str, Any]]:
    """The conversations of a file."""
    out = room / "out.jsonl"
    out.unlink(missing_ok=True)
    run("read", "--raw", logs, "-o", out, *options)
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def _turns(conversation: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["author"], message["content"]) for message in conversation["messages"]]


def judge(logs: Path, run: Run, room: Path) -> list[float]:
    """The scores of a file's responses, in order."""
    out = room / "verdicts.jsonl"
    run("judge", logs, "-o", out)
    return [json.loads(line)["score"] for line in out.read_text().splitlines()]


def check_inhouse(files: Path, run: Run, room: Path) -> bool:
    """A company's own JSON: three conversations of one customer, with a mapping."""
    conversations = read(files / "inhouse.jsonl", run, room, "--map", INHOUSE)
    wanted = [("person", "how do I sort"), ("model", "use sort()"), ("person", "that did not work")]
    return (
        [c["id"] for c in conversations] == ["k0", "k1", "k2"]
        and {c["user"] for c in conversations} == {"bo"}
        and all(_turns(c) == wanted and c["messages"][0]["time"] for c in conversations)
    )


def check_events(files: Path, run: Run, room: Path) -> bool:
    """An event keyed by a trace reaches its response; those of unknown ones are told."""
    lake = room / "events-lake"
    run("ingest", files / "lf_list.json", "--lake", lake)
    done = run("ingest", "--events", files / "events_trace_style.jsonl", "--lake", lake)
    report = json.loads(done.stdout)
    return (done.returncode, report["events"], report["quarantined"]) == (1, 1, 2)


def check_keys(files: Path, run: Run, room: Path) -> bool:
    """A lake refuses a second pseudonym key."""
    lake = room / "keys-lake"
    first = run("ingest", files / "a.jsonl", "--lake", lake)
    other = run("ingest", files / "b.jsonl", "--lake", lake, environment={"UPSHOT_KEY": "1" * 64})
    return first.returncode == 0 and other.returncode == 2 and "key" in other.stderr


def check_agent(files: Path, run: Run, room: Path) -> bool:
    """A session of a coding agent: turns, call, result, commit."""
    (session,) = read(files / "claude_code_s1.jsonl", run, room)
    messages = session["messages"]
    return (
        [m["author"] for m in messages] == AGENT
        and messages[1]["tool_calls"][0]["name"] == "Bash"
        and [s["detail"] for s in messages[1]["signals"] if s["kind"] == "commit"] == ["1a2b3c4"]
    )


def check_wild(files: Path, run: Run, room: Path) -> Iterator[tuple[str, bool]]:
    """400 conversations in Parquet: all read, verdicts whatever buckets and key, and pairs from at
    least half of the threads that failed and then worked.
    """
    subprocess.run([sys.executable, str(files / "make_wild.py")], cwd=room, check=True)
    wild = room / "wild.parquet"
    conversations = read(wild, run, room)
    users = {conversation["user"] for conversation in conversations}
    yield "make_wild.py, read", len(conversations) == 400 and len(users) == 60
    verdicts: list[list[Any]] = []
    for number, (buckets, key) in enumerate((("1", "0"), ("16", "0"), ("16", "1"))):
        lake, out = room / f"wild{number}", room / f"wild{number}.jsonl"
        environment = {"UPSHOT_LAKE__BUCKETS": buckets, "UPSHOT_KEY": key * 64}
        run("run", wild, "--lake", lake, environment=environment)
        run("judge", "--lake", lake, "-o", out, environment=environment)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        verdicts.append(sorted((row["id"], row["index"], row["score"]) for row in rows))
    yield "make_wild.py, verdicts", verdicts[0] == verdicts[1] == verdicts[2] != []
    pairs = room / "pairs.jsonl"
    run("pairs", "--lake", room / "wild1", "-o", pairs)
    count = len(pairs.read_text().splitlines())
    failed = sum(len(conversation["messages"]) == 6 for conversation in conversations)
    print(f"wild: {count} pairs of {failed} that failed and then worked", file=sys.stderr)
    yield "make_wild.py, pairs", count >= failed / 2
