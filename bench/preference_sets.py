"""The preference sets of `--data`, in any known shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from upshot.preferences.importers import read_preferences
from upshot.records import Preference


def sets(data: Path) -> Iterator[tuple[str, list[Preference]]]:
    """Name and pairs of every file of `preferences/`."""
    for path in sorted((data / "preferences").iterdir()):
        if path.suffix in (".json", ".jsonl", ".gz", ".parquet"):
            yield path.name.split(".")[0], list(read_preferences(path))
