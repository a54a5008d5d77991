"""How long Upshot takes to start.

`help_cpu_s`: CPU seconds (user and system, of the whole process) of `upshot --help`;
`import_cpu_s`: of `python -c "import upshot"`; `python_cpu_s`, the cheap baseline: of an
interpreter that does nothing. The smallest of `--runs` runs each, so that other work on the machine
counts little. Nothing is read from DIR.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "help_cpu_s": ["-m", "upshot", "--help"],
    "import_cpu_s": ["-c", "import upshot"],
    "python_cpu_s": ["-c", ""],
}


def cpu_seconds(arguments: list[str]) -> float:
    """CPU seconds of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    started = time.perf_counter()
    metrics = {
        name: round(min(cpu_seconds(command) for _ in range(arguments.runs)), 3)
        for name, command in COMMANDS.items()
    }
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({"bench": "startup", "metrics": metrics, "data": "none", "seconds": seconds}))


if __name__ == "__main__":
    main()
