"""Small models that a lake holds: each with its name, a version, and the users it learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
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


def load_model(lake: Lake, name: str) -> LakeModel | None:
    """The newest model of a name; None where there is none."""
    return load_models(lake, [name]).get(name)


def load_models(lake: Lake, names: Iterable[str]) -> dict[str, LakeModel]:
    """The newest model of each name; names without one are left out."""
    rows = lake.read("models", 0).to_pylist() if lake.exists("models") else []
    newest = {row["name"]: row["content"] for row in sorted(rows, key=lambda row: row["at"])}
    return {
        name: LakeModel(name, model_version(newest[name]), newest[name])
        for name in names
        if name in newest
    }


def load_contents(lake: Lake, versions: Mapping[str, str]) -> dict[str, str]:
    """The contents of models of these versions, by name.

    Raises:
        NotFoundError: one of them is gone.
    """
    rows = lake.read("models", 0).to_pylist() if versions else []
    contents = {
        row["name"]: row["content"]
        for row in rows
        if versions.get(row["name"]) == model_version(row["content"])
    }
    for name, version in versions.items():
        if name not in contents:
            raise NotFoundError(
                f"could not read model {name} {version} of {lake.root}: it is gone; another process"
                " may have erased a user it learned from: run the command again"
            )
    return contents
