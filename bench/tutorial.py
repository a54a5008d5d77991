"""The tutorial as a newcomer types it, with its real output.

`python bench/tutorial.py [--data DIR] [--write]` runs every command of `docs/tutorial.md` in an
empty folder; `--write` puts their output into the page. `before`, `after_one`, `after_loop`: true
success of the assistant at first, of the policy after one log, and of the last round's candidate.
Nothing is read from DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
_BLOCK = re.compile(
    r"^```(sh|toml)\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.DOTALL | re.MULTILINE
)
_FILE = re.compile(r"# file: (\S+)\n")
_PROGRESS = re.compile(r"[\w-]+: [\d,]+ of [\d,]+\b.*")
"""A line of progress, which slow commands print every half minute."""
_WIDE = 180
"""Characters of a line that are shown."""


class Said(NamedTuple):
    """A command and its output."""

    command: str
    output: str
    seconds: float


def run(
    page: str,
    folder: Path,
    numbers: Mapping[str, str] | None = None,
    may_refuse: str = "nothing",
    **more: str,
) -> Iterator[tuple[str, list[Said]]]:
    """Write the page's files and run its commands, block by block.

    `numbers`: other values for flags, so that a test is faster; `may_refuse`: a verb that then has
    reason to refuse; `more`: variables of the environment.

    Raises:
        RuntimeError: a command failed.
    """
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        **more,
    }
    for block in _BLOCK.finditer(page):
        text = block[2]
        for flag, value in (numbers or {}).items():
            text = re.sub(rf"({re.escape(flag)}) \d+", rf"\1 {value}", text)
        said: list[Said] = []
        if block[1] == "toml":
            if (name := _FILE.match(text)) is not None:
                (folder / name[1]).write_text(text[name.end() :])
        else:
            for command in text.splitlines():
                began = time.monotonic()
                done = subprocess.run(
                    command,
                    shell=True,
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode and may_refuse not in command:
                    raise RuntimeError(
                        f"{command} ended with {done.returncode}:\n{done.stderr[-3000:]}"
                    )
                said.append(
                    Said(
                        command,
                        _shown((done.stdout + done.stderr).replace(f"{folder}{os.sep}", "")),
                        time.monotonic() - began,
                    )
                )
        yield block[0], said


def _shown(output: str) -> str:
    lines = [line.rstrip() for line in output.splitlines()]
    return "\n".join(
        line if len(line) <= _WIDE else f"{line[: _WIDE - 2]} …"
        for line in lines
        if line and not _PROGRESS.fullmatch(line)
    )


def _with_output(block: str, said: list[Said]) -> str:
    code = block.partition("\n```text\n")[0]
    told = "\n".join(
        f"$ {one.command}   # {one.seconds:.0f} s\n{one.output}".rstrip() for one in said
    )
    return f"{code}\n```text\n{told}\n```\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    began = time.monotonic()
    page = PAGE.read_text("utf-8")
    success: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
        for block, said in run(page, Path(folder)):
            for one in said:
                print(f"{one.command}: {one.seconds:.0f} s", file=sys.stderr, flush=True)
                success += [
                    float(value) for value in re.findall(r'"success": ?([\d.]+)', one.output)
                ]
            if said:
                page = page.replace(block, _with_output(block, said))
    if given.write:
        PAGE.write_text(page, "utf-8")
    metrics = {
        **dict(zip(("before", "after_one", "after_loop"), success, strict=True)),
        "minutes": (time.monotonic() - began) / 60,
    }
    print(
        json.dumps(
            {
                "bench": "tutorial",
                "metrics": {name: round(value, 4) for name, value in metrics.items()},
                "data": "world: programs",
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
