"""Whether canonical solutions are accepted, and broken and cheating ones refused.

On HumanEval (`--data DIR/code`). `accepted`: share of canonical solutions with outcome 1.
`slipped`: share of broken and cheating submissions, of 27 kinds for every task, whose outcome is .5
or more (all tests passed and no gate closed). The kinds that run until a limit are tried on every
fourth task, with a limit of a second. `per_second`: verdicts per second on 2 cores, on canonical
solutions, once the reference of each task has run (`first_per_second`: before that). `start_ms`: an
empty program in a sandbox.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.verifiers.cheats import KINDS, SLOW, Task

from upshot.verifiers import sandbox
from upshot.verifiers.items import Item, parse_item
from upshot.verifiers.sandbox import Limits
from upshot.verifiers.verify import verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    began = time.perf_counter()
    with gzip.open(folder / "code" / "HumanEval.jsonl.gz", "rt") as handle:
        rows = [json.loads(line) for line in handle]
    right = [parse_item({**row, "completion": row["canonical_solution"]}) for row in rows]
    started = time.perf_counter()
    whole = [outcome.outcome == 1.0 for outcome in verify(right)]
    first = time.perf_counter() - started
    started = time.perf_counter()
    whole = [
        again and once
        for again, once in zip(
            (outcome.outcome == 1.0 for outcome in verify(right)), whole, strict=True
        )
    ]
    second = time.perf_counter() - started
    quick, slow = list[Item](), list[Item]()
    for number, (row, item) in enumerate(zip(rows, right, strict=True)):
        task = Task(row["prompt"], row["entry_point"], row["test"], item.code)
        for kind in KINDS:
            if kind.__name__ not in SLOW or number % 4 == 0:
                made = parse_item({**row, "id": kind.__name__, "code": kind(task)})
                (slow if kind.__name__ in SLOW else quick).append(made)
    outcomes = [*verify(quick), *verify(slow, limits=Limits(seconds=1.0, memory_mb=256))]
    slipped = [outcome for outcome in outcomes if outcome.outcome >= 0.5]
    started = time.perf_counter()
    for _ in range(50):
        sandbox.run(["/bin/true"])
    start = (time.perf_counter() - started) / 50
    metrics = {
        "accepted": sum(whole) / len(whole),
        "slipped": len(slipped) / len(outcomes),
        "slipped_number": len(slipped),
        "submissions": len(outcomes),
        "kinds": len(KINDS),
        "per_second": round(len(right) / second, 1),
        "first_per_second": round(len(right) / first, 1),
        "start_ms": round(1000 * start, 1),
    }
    print(Counter(outcome.id for outcome in slipped).most_common(), file=sys.stderr)
    print(
        json.dumps(
            {
                "bench": "verifiers",
                "metrics": metrics,
                "data": str(folder),
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
