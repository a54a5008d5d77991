"""Are logs read whole and by the right speaker? Cases, real files, labels, and broken input.

`cases` is the share of small inputs of many tools that come out as written down beside them, and
`files` of real log files whose conversations and messages are counted right; `files.corrected` with
the counts of `reading_counts.json`, each with its reason, instead of those that were counted wrong.
`silent` are files of which nothing is read without a word. `wrong_speaker` is the share of labelled
messages of a real project whose author is another than a person who read them wrote down
(`reading_labels.csv`), and `messages_lost` those that are not there. `fuzz.*` counts what goes
wrong in mutated files: a traceback, more than five seconds, or nothing read and nothing told;
`fuzz.lost` the files with one damaged line of which anything else was lost, or the line untold.
`slowdown` is how much longer an ingest takes where one line in a hundred is broken. The baseline of
`files` is taking every JSON value with a `role` for a message.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import reading_newcomer
from reading_faults import fuzz, is_read_or_refused

UPSHOT = Path(sys.executable).with_name("upshot")
SMALL = 60_000
"""Bytes of a file that is mutated."""


def run(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line."""
    settings = {"UPSHOT_KEY": "0" * 64, "NO_COLOR": "1", "COLUMNS": "300"}
    return subprocess.run(
        [str(UPSHOT), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **settings, **(environment or {})},
        timeout=300,
        check=False,
    )


def check_cases(cases: Path) -> dict[str, float]:
    """The share of cases of logs, faults and a newcomer's files that come out right."""
    command = [sys.executable, str(cases / "check_logs.py"), str(cases / "logs"), "-j", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    counts = re.search(r"(\d+) of (\d+) as expected", done.stdout)
    right, total = (int(counts[1]), int(counts[2])) if counts else (0, 1)
    print(done.stdout.strip().splitlines()[-1][:600], file=sys.stderr)
    good = cases / "faults" / "zz-good.jsonl"
    paths = sorted(path for path in (cases / "faults").iterdir() if path.is_file())
    results = {
        f"faults/{path.name}": is_fault_contained(path, good)
        for path in paths
        if path.suffix != ".py" and path != good
    }
    for path in sorted((cases / "faults" / "fuzz").glob("*.bin")):
        results[f"fuzz/{path.name}"] = is_read_or_refused(path)
    results |= {f"newcomer/{n}": ok for n, ok in reading_newcomer.check(cases / "newcomer", run)}
    for name, ok in results.items():
        if not ok:
            print(f"not as expected: {name}", file=sys.stderr)
    shares: dict[str, list[bool]] = {}
    for name, ok in results.items():
        shares.setdefault(name.partition("/")[0], []).append(ok)
    return {
        "cases": (right + sum(results.values())) / (total + len(results)),
        "cases.logs": right / total,
        **{f"cases.{name}": sum(oks) / len(oks) for name, oks in shares.items()},
    }


def is_fault_contained(path: Path, good: Path) -> bool:
    """Whether a broken file beside a good one is one bad record at most, and the good one is in."""
    with tempfile.TemporaryDirectory() as room:
        box, lake = Path(room, "in"), Path(room, "lake")
        box.mkdir()
        shutil.copy(path, box)
        shutil.copy(good, box)
        done = run("ingest", box, "--lake", lake)
        again = run("ingest", box, "--lake", lake)
        if "Traceback" in done.stderr or done.returncode not in (0, 1):
            return False
        report, second = (json.loads(one.stdout.splitlines()[-1]) for one in (done, again))
        return (
            report["conversations"] >= 1
            and second["conversations"] == 0
            and (done.returncode == 1) == (report["quarantined"] > 0)
        )


FOLDER = " (a folder)"
"""Behind the names of folders in `counts.json`."""
COUNTS = ("conversations", "person", "assistant", "tool")


def check_files(cases: Path, logs: Path, corrections: Path) -> dict[str, float]:
    """The share of real files that are counted right, and those of which nothing is told."""
    counts = json.loads((logs / "counts.json").read_text())
    by_path = {name.removesuffix(FOLDER): wanted for name, wanted in counts.items()}
    rows = json.loads(corrections.read_text())
    doubtful = {name: wanted for name, wanted in by_path.items() if name in rows}
    settled = {name: wanted for name, wanted in by_path.items() if name not in rows}
    corrected = {name: {key: rows[name][key] for key in COUNTS} for name in doubtful}
    with tempfile.TemporaryDirectory() as room:
        box = Path(room, "logs")
        shutil.copytree(logs, box)
        right, silent = compare_counts(cases, box, settled)
        as_given, more_silent = compare_counts(cases, box, doubtful)
        as_corrected, _ = compare_counts(cases, box, corrected)
    return {
        "files": (right + as_given) / len(by_path),
        "files.corrected": (right + as_corrected) / len(by_path),
        "files.plain": count_plainly(logs),
        "silent": float(silent + more_silent),
    }


def compare_counts(cases: Path, logs: Path, wanted: dict[str, dict[str, int]]) -> tuple[int, int]:
    """(right, silent) of the files of a folder."""
    (logs / "counts.json").write_text(json.dumps(wanted))
    command = [sys.executable, str(cases / "format_counts.py"), str(logs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout.strip().splitlines()[-1][:900], file=sys.stderr)
    counts = re.search(r"(\d+) of \d+ as counted; (\d+) silent", done.stdout)
    if counts is None:
        raise SystemExit(f"could not count the files: {done.stderr[-300:]}")
    return int(counts[1]), int(counts[2])


def count_plainly(logs: Path) -> float:
    """The baseline: every JSON value with a `role` and a `content` is a message."""
    wanted = json.loads((logs / "counts.json").read_text())
    right = 0
    for name, counts in wanted.items():
        path = logs / name
        roles: Counter[str] = Counter()
        if path.is_file():
            try:
                text = path.read_text()
                values = [json.loads(line) for line in text.splitlines() if line.strip()]
            except (ValueError, UnicodeDecodeError):
                try:
                    values = [json.loads(path.read_text())]
                except (ValueError, UnicodeDecodeError):
                    values = []
            for message in _find_messages(values):
                roles[str(message["role"])] += 1
        right += all(
            counts[key] in (None, "?", roles[role])
            for key, role in (("person", "user"), ("assistant", "assistant"), ("tool", "tool"))
        )
    return right / len(wanted)


def _find_messages(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _find_messages(item)
    elif isinstance(value, dict):
        if "role" in value and "content" in value:
            yield value
        else:
            for item in value.values():
                yield from _find_messages(item)


def check_speakers(sessions: Path, labels: Path) -> dict[str, float]:
    """Labelled messages of real sessions: the author as read, and whether it is there."""
    wanted: dict[str, dict[str, str]] = {}
    with labels.open() as handle:
        for row in csv.DictReader(handle):
            wanted.setdefault(row["file"], {})[row["message"]] = row["author"]
    wrong = lost = total = 0
    for name, authors in wanted.items():
        with tempfile.TemporaryDirectory() as room:
            log, out = Path(room, name.removesuffix(".gz")), Path(room, "out.jsonl")
            log.write_bytes(gzip.decompress((sessions / name).read_bytes()))
            run("read", "--raw", log, "-o", out)
            read_authors: dict[str, set[str]] = {}
            for line in out.read_text().splitlines():
                for message in json.loads(line)["messages"]:
                    spans = {span["author"] for span in message.get("spans", ())}
                    for key in message.get("refs", {}).values():
                        read_authors.setdefault(key, set()).update({message["author"], *spans})
        for message, author in authors.items():
            total += 1
            lost += message not in read_authors
            wrong += message in read_authors and author not in read_authors[message]
    return {"wrong_speaker": wrong / max(1, total), "messages_lost": lost / max(1, total)}


def measure_slowdown(repeats: int = 5) -> float:
    """CPU time of an ingest with one bad line in a hundred, relative to one without."""
    rng = random.Random(0)
    words = ["sort", "list", "file", "error", "please", "thanks", "value", "table", "query"]
    rows = [
        json.dumps(
            {
                "id": f"c{n}",
                "user": f"u{n % 500}",
                "messages": [
                    {"role": role, "content": " ".join(rng.choices(words, k=80))}
                    for role in ("user", "assistant", "user", "assistant")
                ],
            }
        )
        for n in range(10_000)
    ]
    times: dict[str, list[float]] = {"clean": [], "broken": []}
    with tempfile.TemporaryDirectory() as room:
        for name in times:
            lines = list(rows)
            if name == "broken":
                for n in range(0, len(lines), 100):
                    lines[n] = lines[n][: rng.randrange(20, 200)]
            Path(room, f"{name}.jsonl").write_text("\n".join(lines))
        for number in range(repeats):
            for name in times:
                before = _children_cpu()
                run("ingest", Path(room, f"{name}.jsonl"), "--lake", Path(room, f"{name}{number}"))
                times[name].append(_children_cpu() - before)
    return min(times["broken"]) / min(times["clean"])


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    data: Path = arguments.data
    cases, logs = data.parent / "cases", data / "real-logs"
    here = Path(__file__).parent
    metrics = {
        **check_cases(cases),
        **check_files(cases, logs, here / "reading_counts.json"),
        **check_speakers(data / "coding-agents" / "claude-code", here / "reading_labels.csv"),
    }
    own = sorted((here.parent / "tests" / "sources" / "files").rglob("*"))
    files = [
        p for p in [*own, *sorted(logs.rglob("*"))] if p.is_file() and p.stat().st_size < SMALL
    ]
    metrics |= fuzz(files, arguments.inputs, arguments.seed)
    metrics["slowdown"] = measure_slowdown()
    print(
        json.dumps(
            {
                "bench": "reading",
                "metrics": {name: round(value, 4) for name, value in metrics.items()},
                "data": str(data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
