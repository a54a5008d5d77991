"""What the package promises as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import upshot

ROOT = Path(__file__).parents[1]


def test_importing_upshot_loads_nothing_heavy() -> None:
    code = (
        "import sys, upshot; print([m for m in ('torch', 'transformers', 'sklearn', 'scipy', 'ray',"
        " 'fastapi', 'spacy', 'playwright') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_the_public_names_are_these() -> None:
    assert upshot.__all__ == sorted(upshot.__all__)
    assert all(hasattr(upshot, name) for name in upshot.__all__)


def test_the_architecture_page_shows_every_file_of_the_tree() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for path in (ROOT / "src" / "upshot").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py") and "inside" not in path.parts:
            assert path.name in page, path


def test_the_shipped_weights_point_the_way_their_cues_do() -> None:
    from upshot.hindsight.embedded.cues import load_cues
    from upshot.hindsight.embedded.model import load_shipped_model

    weights = load_shipped_model().weights
    for kind in load_cues().kinds:
        weight = weights.get(f"next_{kind.name}", 0.0)
        assert weight * kind.polarity >= 0, kind.name
