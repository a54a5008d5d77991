"""Manifests of what left a lake: each file that was written from it, and whose rows it holds."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa

from upshot.io.arrow import pc
from upshot.lake.erased import mark_of
from upshot.lake.tables import Lake
from upshot.records import SCHEMAS, CleanTable


@contextmanager
def recorded_export(
    lake: Lake, path: str | os.PathLike[str], users: Iterable[str]
) -> Generator[None]:
    """Leave a manifest of the file that is written inside the block: its path, the time, and its
    users by pseudonym. Should the block not end, it names the users of the last version too.
    """
    place, names = os.path.abspath(path), {user for user in users if user}
    lake.create()  # the tables that an earlier version did not have
    _append_manifest(lake, place, names.union(_read_manifests(lake).get(place, ())))
    yield
    _append_manifest(lake, place, names)


def users_in(lake: Lake, table: str) -> set[str]:
    """The users (pseudonyms) with rows in a table."""
    return set(pc.unique(lake.read_all_versions(table, None, ["user"])["user"]).to_pylist())


def _append_manifest(lake: Lake, place: str, users: set[str]) -> None:
    at = datetime.now(UTC)
    row = {"bucket": 0, "path": place, "at": at, "users": sorted(users)}
    rows = CleanTable(pa.Table.from_pylist([row], schema=SCHEMAS["exports"]))
    lake.append("exports", rows, (f"exports/{mark_of(place)}/{at.isoformat()}", 1))


def find_exports(lake: Lake, user: str) -> list[str]:
    """Files that hold a user (by pseudonym), also one who has been erased from the lake since.

    A file that is gone, or was written anew without them, is left out.
    """
    if not lake.exists("exports"):
        return []
    theirs = {user, mark_of(user)}
    return sorted(
        path
        for path, users in _read_manifests(lake).items()
        if theirs.intersection(users) and os.path.exists(path)
    )


def _read_manifests(lake: Lake) -> dict[str, list[str]]:
    """The users of the newest version of each file, by its path."""
    rows = sorted(lake.read("exports", 0).to_pylist(), key=lambda row: row["at"])
    return {row["path"]: row["users"] for row in rows}
