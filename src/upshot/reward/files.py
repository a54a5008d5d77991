"""Reward models and their rows as files: a folder with `model.json`, `weights.npz` and `card.md`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upshot.errors import FormatError, InputError, NotFoundError, RecordError
from upshot.preferences.importers import of_records, read_preferences
from upshot.records import Example, Preference, Source, Turn
from upshot.reward.calibration import Calibration
from upshot.reward.card import card
from upshot.reward.domain import Domain, Shape, Vocabulary
from upshot.reward.features import GROUPS
from upshot.reward.fit import Posterior
from upshot.reward.model import Head, RewardModel, said, score, texts
from upshot.sources import fields
from upshot.sources.files import Bad, json_records, open_input

_VERSION = "embedded/1"
_BATCH = 512


class _Head(msgspec.Struct, frozen=True):
    name: str
    kind: str
    slope: float
    noise: float
    error: float
    bins: list[tuple[float, float, int]]
    rows: int
    accuracy: dict[str, float]


class _Model(msgspec.Struct, frozen=True):
    version: str
    names: list[str]
    groups: list[str]
    heads: list[_Head]
    weights: dict[str, float]
    users: list[str]
    threshold: float
    false_alarms: float
    vocabularies: list[tuple[float, float]]
    shapes: list[tuple[float, float]]


def save(model: RewardModel, path: str | os.PathLike[str]) -> None:
    """Write a model and its card into a folder; each file whole or not at all, `model.json` last."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"group": model.group, "centre": model.centre, "spread": model.spread}
    for number, vocabulary in enumerate(model.domain.vocabularies):
        arrays[f"vocabulary_{number}"] = vocabulary.counts
    for number, shape in enumerate(model.domain.shapes):
        arrays |= {f"shape_{number}_{part}": getattr(shape, part) for part in ("centre", "scale", "precision")}
    for number, head in enumerate(model.heads):
        arrays |= {f"mean_{number}": head.posterior.mean, f"root_{number}": head.posterior.root.astype(np.float32)}
        arrays |= {f"precision_{number}": head.posterior.precision, f"cuts_{number}": head.cuts}
    draft = folder / "weights.part.npz"
    np.savez_compressed(draft, **arrays)
    draft.replace(folder / "weights.npz")
    heads = [
        _Head(h.name, h.kind, h.calibration.slope, h.calibration.noise, h.calibration.error, list(h.calibration.bins), h.rows, dict(h.accuracy))
        for h in model.heads
    ]
    kept = _Model(
        _VERSION, list(model.names), list(GROUPS), heads, dict(model.weights), list(model.users), model.domain.threshold,
        model.domain.false_alarms, [(v.usual, v.spread) for v in model.domain.vocabularies], [(s.usual, s.spread) for s in model.domain.shapes],
    )  # fmt: skip
    _write(folder / "card.md", card(model).encode())
    _write(folder / "model.json", msgspec.json.format(msgspec.json.encode(kept), indent=1))


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(content)
    draft.replace(path)


def load(path: str | os.PathLike[str]) -> RewardModel:
    """Read a model.

    Raises:
        NotFoundError: the folder holds none.
        FormatError: it was written by another version, or is damaged.
    """
    folder = Path(path)
    if not (folder / "model.json").is_file():
        raise NotFoundError(f"could not load a reward model from {folder}: it has no model.json; make one with `upshot train reward`")
    try:
        kept = msgspec.json.decode((folder / "model.json").read_bytes(), type=_Model)
        with np.load(folder / "weights.npz") as archive:
            arrays = {name: archive[name] for name in archive.files}
        if kept.version != _VERSION or kept.groups != list(GROUPS):
            raise FormatError(f"could not load {folder}: it is {kept.version!r}, this is {_VERSION!r}; train it again")
        heads = tuple(
            Head(
                h.name, "pairs" if h.kind == "pairs" else "scores",
                Posterior(arrays[f"mean_{i}"], arrays[f"root_{i}"].astype(np.float64), arrays[f"precision_{i}"]), arrays[f"cuts_{i}"],
                Calibration(h.slope, h.noise, h.error, tuple(h.bins)), h.rows, h.accuracy,
            )
            for i, h in enumerate(kept.heads)
        )  # fmt: skip
        vocabularies = tuple(Vocabulary(arrays[f"vocabulary_{i}"], usual, spread) for i, (usual, spread) in enumerate(kept.vocabularies))
        shapes = tuple(
            Shape(arrays[f"shape_{i}_centre"], arrays[f"shape_{i}_scale"], arrays[f"shape_{i}_precision"], usual, spread)
            for i, (usual, spread) in enumerate(kept.shapes)
        )
    except (msgspec.DecodeError, OSError, KeyError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"could not load a reward model from {folder}: {error}; train it again") from error
    domain = Domain(vocabularies, shapes, kept.threshold, kept.false_alarms)
    return RewardModel(tuple(kept.names), arrays["group"], arrays["centre"], arrays["spread"], heads, domain, tuple(kept.users), kept.weights)


def read_rows(path: str | os.PathLike[str]) -> list[Preference] | list[Example]:
    """Pairs of any shape that `preferences.importers` knows, or scored examples: `prompt`, `completion`, `score` in [0, 1].

    Raises:
        FormatError: the rows are neither.
    """
    name = os.fspath(path)
    if name.endswith(".parquet"):
        return list(read_preferences(path))
    source = open_input(name)
    try:
        records = json_records(source)
        start = list(islice(records, 1))
        everything = chain(start, records)
        if start and isinstance(first := start[0][1], Mapping) and "score" in first and ("completion" in first or "response" in first):
            return [_example(record, position, name) for position, record in _objects(name, everything)]
        return list(of_records(name, everything))
    finally:
        source.close()


def training_rows(path: str | os.PathLike[str]) -> list[Preference] | list[Example]:
    """The same without the rows that are marked as test."""
    return [row for row in read_rows(path) if row.source.split != "test"]  # pyright: ignore[reportReturnType]  # one kind only


def _records(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    source = open_input(name)
    try:
        yield from _objects(name, json_records(source))
    finally:
        source.close()


def _objects(name: str, records: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Records that are objects; the first that is none raises."""
    for position, record in records:
        if isinstance(record, Bad) or not isinstance(record, Mapping):
            raise RecordError(f"could not read {name}: {position}: {record.reason if isinstance(record, Bad) else 'not an object'}")
        yield position, record


def _example(record: Mapping[str, Any], position: str, name: str) -> Example:
    try:
        value = float(record["score"])
        if not 0 <= value <= 1:
            raise InputError(f"score {value} is not in [0, 1]")
        from_us = record.get("source")
        known: Mapping[str, Any] = from_us if isinstance(from_us, Mapping) else {}
        users = tuple(known.get("users", ())) or tuple(str(record[key]) for key in ("user", "rater") if record.get(key))[:1]
        source = Source(str(known.get("kind", "scores")), users, str(known.get("thread", "")), split=str(known.get("split", "")))
        return Example(_turns(record.get("prompt", ()), "user"), _turns(record.get("completion", record.get("response")), "assistant"), value, float(record.get("weight", 1.0)), source)
    except (KeyError, TypeError, ValueError, AttributeError, RecordError) as error:
        raise InputError(f"could not read {name}: {position}: {error}; a row needs prompt, completion and score") from error


def _turns(value: Any, role: Any) -> tuple[Turn, ...]:
    if isinstance(value, str):
        return (Turn(role, value),)
    return tuple(Turn(fields.role(turn["role"]), fields.text(turn["content"])) for turn in value)


def score_file(model: RewardModel, path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Score every row of a file, in order: `completion` (or `response`), or both of `chosen` and `rejected`."""
    name = os.fspath(path)
    records = _records(name)
    while batch := list(islice(records, _BATCH)):
        asked: list[list[str]] = []
        answers: list[str] = []
        keys: list[list[str]] = []
        for position, record in batch:
            found = [key for key in ("completion", "response", "chosen", "rejected") if key in record]
            if not found:
                raise InputError(f"could not score {name}: {position} has none of completion, response, chosen, rejected")
            keys.append(found)
            prompt = texts(_turns(record.get("prompt", ()), "user"))
            for key in found:
                asked.append(prompt)
                answers.append(said(_turns(record[key], "assistant")))
        scores = iter(score(model, asked, answers))
        for (_, record), found in zip(batch, keys, strict=True):
            given = {key: msgspec.to_builtins(next(scores)) for key in found}
            out = {"id": record["id"]} if "id" in record else {}
            yield out | (next(iter(given.values())) if len(given) == 1 else given)
