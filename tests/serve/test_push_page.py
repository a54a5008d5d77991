"""Every command of docs/push.md runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from judged_chats import Server  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "push.md").read_text("utf-8")


def test_every_command_of_the_page_runs(tmp_path: Path, server: Server) -> None:
    shutil.copy(ROOT / "tests" / "sources" / "files" / "langfuse.json", tmp_path / "traces.json")
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    script = "set -e\n" + "".join(blocks).replace("http://localhost:3000", server.url)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^upshot", "".join(blocks), re.MULTILINE)) == 3
    taken = server.taken.values()
    helped = [one for one in taken if one["name"] == "upshot_helped"]
    assert {(one["traceId"], one.get("observationId")) for one in helped} == {
        ("tr-1", "ob-1"),
        ("tr-2", None),
    }
