"""Do storage, neighbours and time leave verdicts alone, and does a day's work cost a day?

One log goes by the verb into lakes of 1, 16 and 64 buckets, with one and two workers, under two
keys, in file order and shuffled; `scores_changed` counts responses whose score is another than in
one bucket. Then 20 new conversations come to a lake of 1,000: `untouched_moved` counts verdicts of
users who wrote nothing, `rows_per_new_response` the verdict rows written for each new response, the
20 users' older ones included. A hundred days of as much follow: `day100_ratio` is the CPU time of
the last ten days to that of days 2 to 11. `open_ms` is the CPU time of opening a table of 5,000
commits. The baseline is a verdict of what ships alone: `learned` is the share of scores that what
is learned from everybody changes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from upshot.lake import Lake, tend_lake
from upshot.records import SCHEMAS, CleanTable

UPSHOT = Path(sys.executable).with_name("upshot")
ASKS = (
    "please rename the config loader",
    "fix the failing date test",
    "write a regex for invoices",
    "make the table sortable",
    "explain why the build is slow",
    "mail the minutes to ana.roe@example.org",
)
REACTIONS = (
    "that worked, thanks!",
    "perfect, merged it",
    "no, still fails with the same error",
    "that is wrong, it deletes the header",
    "ok, next: what about the docs?",
    "and now the same for the other module",
    "hm",
)
WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "config",
    "loader",
    "test",
    "table",
    "list",
    "view",
    "async",
    "regex",
    "cache",
    "queue",
]


def make_conversation(rng: random.Random, user: int, session: int) -> dict[str, Any]:
    """A conversation of one to six exchanges."""
    messages: list[dict[str, str]] = []
    text = f"{rng.choice(ASKS)} (case {rng.randrange(1000)})"
    for _ in range(rng.randint(1, 6)):
        answer = "Here is a version. " + " ".join(rng.choices(WORDS, k=30))
        messages += [
            {"role": "user", "content": text},
            {"role": "assistant", "content": answer},
        ]
        text = f"{rng.choice(REACTIONS)} {rng.choice(ASKS) if rng.random() < 0.4 else ''}".strip()
    messages.append({"role": "user", "content": text})
    return {
        "id": f"u{user}s{session}",
        "user": f"u{user}",
        "started_at": 1.75e9 + 86_400 * session + user,
        "messages": messages,
    }


def run(log: Path, lake: Path, *, key: str = "ab", buckets: int = 16, workers: int = 1) -> float:
    """The main job; returns its CPU seconds."""
    environment = {
        **os.environ,
        "UPSHOT_KEY": key * 32,
        "UPSHOT_LAKE__BUCKETS": str(buckets),
        "UPSHOT_ENGINE__WORKERS": str(workers),
    }
    before = os.times()
    subprocess.run(
        [str(UPSHOT), "run", str(log), "--lake", str(lake)],
        env=environment,
        check=True,
        capture_output=True,
    )
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def verdicts_of(lake: Path) -> dict[tuple[str, int], tuple[float, float, str]]:
    """Score, confidence and label of each response."""
    rows = Lake(lake).read("verdicts", columns=["id", "index", "score", "confidence", "label"])
    return {
        (r["id"], r["index"]): (r["score"], r["confidence"], r["label"]) for r in rows.to_pylist()
    }


def write_log(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def measure_storage(room: Path, rng: random.Random) -> dict[str, float]:
    """The same log in many lakes."""
    rows = [make_conversation(rng, user, session) for user in range(300) for session in range(3)]
    log = write_log(room / "log.jsonl", rows)
    rng.shuffle(rows)
    shuffled = write_log(room / "shuffled.jsonl", rows)
    run(log, room / "one", buckets=1)
    expected = verdicts_of(room / "one")
    changed = 0
    kinds = [
        (log, {"buckets": 16}),
        (log, {"buckets": 64, "workers": 2}),
        (shuffled, {"buckets": 16, "key": "cd"}),
        (shuffled, {"buckets": 1, "workers": 2}),
    ]
    for number, (path, options) in enumerate(kinds):
        run(path, room / f"lake{number}", **options)
        found = verdicts_of(room / f"lake{number}")
        changed += sum(found.get(place) != row for place, row in expected.items())
    out = room / "file.jsonl"
    subprocess.run(
        [str(UPSHOT), "judge", str(log), "-o", str(out)],
        env={**os.environ, "UPSHOT_KEY": "ef" * 32},
        check=True,
        capture_output=True,
    )
    for line in out.read_text().splitlines():
        verdict = json.loads(line)
        score = expected[(verdict["id"], verdict["index"])][0]
        changed += verdict["score"] != round(score, 4)
    run(write_log(room / "first.jsonl", rows[:40]), room / "small", buckets=1)
    shipped = verdicts_of(room / "small")
    learned = sum(row[0] != expected[place][0] for place, row in shipped.items()) / len(shipped)
    return {"responses": len(expected), "scores_changed": changed, "learned": round(learned, 3)}


def measure_growth(room: Path, rng: random.Random, days: int) -> dict[str, float]:
    """20 conversations a day to a lake of 1,000."""
    lake = room / "growing"
    rows = [make_conversation(rng, user, session) for user in range(250) for session in range(4)]
    run(write_log(room / "old.jsonl", rows), lake)
    before, stored = verdicts_of(lake), Lake(lake).count_rows("verdicts")
    seconds: list[float] = []
    result: dict[str, float] = {}
    for day in range(days):
        users = rng.sample(range(250), 20)
        new = [make_conversation(rng, user, 4 + day) for user in users]
        seconds.append(run(write_log(room / "day.jsonl", new), lake))
        if day == 0:
            after = verdicts_of(lake)
            written = Lake(lake).count_rows("verdicts") - stored
            wrote = {f"u{user}s" for user in users}
            result["untouched_moved"] = sum(
                after[place] != row
                for place, row in before.items()
                if place[0].split("s")[0] + "s" not in wrote
            )
            fresh = len(after.keys() - before.keys())
            result["rows_per_new_response"] = round(written / fresh, 3)
    if days > 20:
        result["day100_ratio"] = round(sum(seconds[-10:]) / sum(seconds[1:11]), 3)
        result["day_cpu_s"] = round(sum(seconds[-10:]) / 10, 2)
    return result


def measure_opening(room: Path, commits: int) -> float:
    """CPU milliseconds of opening a table of many commits, the best of five."""
    lake = Lake(room / "opened", 16)
    lake.create()
    row = dict.fromkeys(SCHEMAS["quarantine"].names, "") | {"bucket": 0, "ingested_at": None}
    rows = CleanTable(pa.Table.from_pylist([row], schema=SCHEMAS["quarantine"]))
    for number in range(commits):
        lake.append("quarantine", rows, (f"bench/{number}", 1))
        if number % 50 == 0:
            tend_lake(lake)
    times: list[float] = []
    for _ in range(5):
        before = time.process_time()
        DeltaTable(lake.uri("quarantine"))
        times.append(time.process_time() - before)
    return round(min(times) * 1000, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="not used; every bench takes it")
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--commits", type=int, default=5000)
    arguments = parser.parse_args()
    started = time.perf_counter()
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        metrics = measure_storage(room, rng)
        metrics |= measure_growth(room, rng, arguments.days)
        metrics["open_ms"] = measure_opening(room, arguments.commits)
    print(
        json.dumps(
            {
                "bench": "invariance",
                "metrics": metrics,
                "data": "",
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
