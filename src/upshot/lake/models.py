"""Small models that a lake holds: each with its name, a version, and the users it learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
import pyarrow as pa

from upshot.errors import NotFoundError
from upshot.lake.tables import Lake
from upshot.records import SCHEMAS, CleanTable


class LakeModel(msgspec.Struct, frozen=True):
    """A model of a lake."""

    name: str
    version: str
    """A short hash of its content."""
    content: str
    """As JSON."""


def model_version(content: str) -> str:
    """Eight hexadecimal digits, the same for the same content."""
    return hashlib.blake2b(content.encode(), digest_size=4).hexdigest()


def store_model(lake: Lake, name: str, content: str, users: Iterable[str]) -> LakeModel:
    """Store a model with the users whose data it was learned from, by which erasure finds it."""
    lake.create()
    at = datetime.now(UTC)
    row = {"bucket": 0, "name": name, "at": at, "content": content, "users": sorted(set(users))}
    version = model_version(content)
    lake.append(
        "models",
        CleanTable(pa.Table.from_pylist([row], schema=SCHEMAS["models"])),
        (f"models/{name}/{version}/{at.isoformat()}", 1),
    )
    return LakeModel(name, version, content)


def load_model(lake: Lake, name: str, version: str = "") -> LakeModel | None:
    """The newest model of a name, or the one of a version; None where there is none.

    Raises:
        NotFoundError: there is none of that version.
    """
    if not lake.exists("models"):
        return None
    rows = [row for row in lake.read("models", 0).to_pylist() if row["name"] == name]
    rows.sort(key=lambda row: row["at"])
    models = [LakeModel(name, model_version(row["content"]), row["content"]) for row in rows]
    if not version:
        return models[-1] if models else None
    for model in reversed(models):
        if model.version == version:
            return model
    raise NotFoundError(
        f"could not read model {name} {version} of {lake.root}: it is gone; another process may"
        " have erased a user it learned from: run the command again"
    )
