"""Reward models as folders: `model.json`, `weights.npz`, `card.md`, `users.json` for erasure.

A transformer's members are in folders beside them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from upshot.errors import ConfigError, FormatError, InputError, NotFoundError
from upshot.io.writing import open_folder, replace_file
from upshot.reward.calibration import Calibration
from upshot.reward.card import plot_calibration, render_card
from upshot.reward.domain import Domain, Shape, Vocabulary
from upshot.reward.features import GROUPS
from upshot.reward.fit import Posterior
from upshot.reward.model import Head, RewardModel
from upshot.reward.recipe import Recipe

if TYPE_CHECKING:
    from upshot.reward.transformer import Transformer

_EMBEDDED, _TRANSFORMER = "embedded/2", "transformer/1"
_DAMAGE = (msgspec.DecodeError, msgspec.ValidationError, OSError, KeyError, ValueError)


class _Head(msgspec.Struct, frozen=True):
    name: str
    kind: str
    slope: float
    noise: float
    error: float
    bins: list[tuple[float, float, int]]
    rows: int
    accuracy: dict[str, float | None]
    columns: list[int] = []

    @property
    def calibration(self) -> Calibration:
        return Calibration(self.slope, self.noise, self.error, tuple(self.bins))

    @property
    def shares(self) -> dict[str, float]:
        return {
            name: float("nan") if share is None else share for name, share in self.accuracy.items()
        }


class _Domain(msgspec.Struct, frozen=True):
    threshold: float
    false_alarms: float
    vocabularies: list[tuple[float, float]]
    shapes: list[tuple[float, float]]


class _Model(msgspec.Struct, frozen=True, omit_defaults=True):
    version: str
    heads: list[_Head]
    domain: _Domain | None
    weights: dict[str, float] = {}
    names: list[str] = []
    groups: list[str] = []
    epsilon: float | None = None
    delta: float = 0.0
    recipe: Recipe | None = None
    max_length: int = 0
    left_out: int = 0
    raters: bool = False


def save(model: RewardModel, path: str | os.PathLike[str]) -> None:
    """Write an embedded model and its card; the folder is replaced by one rename."""
    arrays: dict[str, Any] = {"group": model.group, "centre": model.centre, "spread": model.spread}
    for number, head in enumerate(model.heads):
        arrays |= {
            f"mean_{number}": head.posterior.mean,
            f"root_{number}": head.posterior.root.astype(np.float32),
        }
        arrays |= {f"precision_{number}": head.posterior.precision, f"cuts_{number}": head.cuts}
    heads = [_store_head(head) for head in model.heads]
    stored = _Model(
        _EMBEDDED,
        heads,
        _store_domain(model.domain, arrays),
        dict(model.weights),
        list(model.names),
        list(GROUPS),
        model.epsilon,
        model.delta,
        left_out=model.left_out,
        raters=model.raters,
    )
    with open_folder(path) as draft:
        _write_files(draft, arrays, stored, model)


def save_transformer(model: Transformer, recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Write the files that go with the members that `transformer.train` left in the folder; with
    `model.json`, the last, it is a model.
    """
    folder = Path(path)
    arrays: dict[str, Any] = {
        "centre": model.centre,
        "form_centre": model.form.centre,
        "form_spread": model.form.spread,
        "form_slope": model.form.slope,
    }
    heads = [
        msgspec.structs.replace(_store_head(head), columns=list(head.columns))
        for head in model.heads
    ]
    stored = _Model(
        _TRANSFORMER,
        heads,
        _store_domain(model.domain, arrays),
        dict(model.weights),
        epsilon=model.epsilon,
        delta=model.delta,
        recipe=recipe,
        max_length=model.max_length,
        left_out=model.left_out,
        raters=model.raters,
    )
    model.tokenizer.save_pretrained(folder / "tokenizer")
    _write_files(folder, arrays, stored, model)


def _store_head(head: Any) -> _Head:
    c = head.calibration
    return _Head(
        head.name,
        head.kind,
        c.slope,
        c.noise,
        c.error,
        list(c.bins),
        head.rows,
        {name: None if np.isnan(share) else float(share) for name, share in head.accuracy.items()},
    )


def _store_domain(domain: Domain | None, arrays: dict[str, Any]) -> _Domain | None:
    if domain is None:
        return None
    for number, vocabulary in enumerate(domain.vocabularies):
        arrays[f"vocabulary_{number}"] = vocabulary.counts
    for number, shape in enumerate(domain.shapes):
        arrays |= {
            f"shape_{number}_{part}": getattr(shape, part)
            for part in ("centre", "scale", "precision")
        }
    return _Domain(
        domain.threshold,
        domain.false_alarms,
        [(v.usual, v.spread) for v in domain.vocabularies],
        [(s.usual, s.spread) for s in domain.shapes],
    )


def _write_files(
    folder: Path, arrays: Mapping[str, Any], stored: _Model, model: RewardModel | Transformer
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "weights.part.npz"
    np.savez_compressed(draft, **arrays)
    draft.replace(folder / "weights.npz")
    replace_file(folder / "users.json", msgspec.json.encode(model.users))
    replace_file(folder / "card.md", render_card(model).encode())
    replace_file(folder / "calibration.svg", plot_calibration(model).encode())
    replace_file(folder / "model.json", msgspec.json.format(msgspec.json.encode(stored), indent=1))


def prepare(path: str | os.PathLike[str], identity: str) -> Path:
    """A folder to train a transformer into.

    An interrupted training of the same `identity` goes on. A whole model is replaced: from now on
    the folder holds none, until the training is finished.

    Raises:
        InputError: another training was interrupted there.
    """
    folder = Path(path)
    mark = folder / "training"
    if mark.is_file() and mark.read_text() != identity:
        raise InputError(
            f"could not train into {folder}: another training was interrupted there, with other"
            " data or another recipe; remove the folder or choose another"
        )
    if not mark.is_file():
        (folder / "model.json").unlink(missing_ok=True)
        for member in [*folder.glob("member-*"), folder / "checkpoints"]:
            shutil.rmtree(member, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(identity)
    return folder


def finish_preparation(folder: Path) -> None:
    """Remove what `prepare` and the training needed, once the model is complete."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / "training").unlink(missing_ok=True)


def load(
    path: str | os.PathLike[str], *, trust_remote_code: bool = False
) -> RewardModel | Transformer:
    """Read a model. `trust_remote_code`: the own code of a transformer's base may run.

    Raises:
        NotFoundError: the folder holds none.
        FormatError: it was written by another version, or is damaged.
        ConfigError: it holds code of its own, or asks for it, and that may not run.
    """
    folder = Path(path)
    if not (folder / "model.json").is_file():
        raise NotFoundError(
            f"could not load a reward model from {folder}: it has no model.json; make one with"
            " `upshot train reward`"
        )
    try:
        stored = msgspec.json.decode((folder / "model.json").read_bytes(), type=_Model)
        with np.load(folder / "weights.npz") as archive:
            arrays = {name: archive[name] for name in archive.files}
        users = msgspec.json.decode((folder / "users.json").read_bytes(), type=tuple[str, ...])
        domain = _read_domain(stored.domain, arrays)
        if stored.version == _TRANSFORMER:
            return _read_transformer(
                folder, stored, arrays, domain, users, trust_remote_code=trust_remote_code
            )
        if stored.version != _EMBEDDED or stored.groups != list(GROUPS):
            raise FormatError(
                f"could not load {folder}: it is {stored.version!r}, this is {_EMBEDDED!r};"
                " train it again"
            )
        return _read_embedded(stored, arrays, domain, users)
    except (FormatError, ConfigError):
        raise
    except _DAMAGE as error:
        if isinstance(error.__cause__, ConfigError):  # the stored recipe refuses what it holds
            raise error.__cause__ from None
        raise FormatError(
            f"could not load a reward model from {folder}: {error}; train it again"
        ) from error


def _read_embedded(
    stored: _Model, arrays: Mapping[str, Any], domain: Domain | None, users: tuple[str, ...]
) -> RewardModel:
    heads = tuple(
        Head(
            h.name,
            "pairs" if h.kind == "pairs" else "scores",
            Posterior(
                arrays[f"mean_{i}"],
                arrays[f"root_{i}"].astype(np.float64),
                arrays[f"precision_{i}"],
            ),
            arrays[f"cuts_{i}"],
            h.calibration,
            h.rows,
            h.shares,
        )
        for i, h in enumerate(stored.heads)
    )
    return RewardModel(
        tuple(stored.names),
        arrays["group"],
        arrays["centre"],
        arrays["spread"],
        heads,
        domain,
        users,
        stored.weights,
        stored.epsilon,
        stored.delta,
        stored.left_out,
        stored.raters,
    )


def _read_transformer(
    folder: Path,
    stored: _Model,
    arrays: Mapping[str, Any],
    domain: Domain | None,
    users: tuple[str, ...],
    *,
    trust_remote_code: bool,
) -> Transformer:
    from upshot.hub.models import open_tokenizer  # torch takes seconds to load
    from upshot.reward import transformer  # torch takes seconds to load

    recipe = stored.recipe or Recipe("")
    columns = sum(len(h.columns) for h in stored.heads)
    heads = tuple(
        transformer.Head(
            h.name,
            "pairs" if h.kind == "pairs" else "scores",
            tuple(h.columns),
            h.calibration,
            h.rows,
            h.shares,
        )
        for h in stored.heads
    )
    form = transformer.Form(arrays["form_centre"], arrays["form_spread"], arrays["form_slope"])
    members = tuple(
        transformer.load_member(
            folder / f"member-{number}", columns, recipe, trust_remote_code=trust_remote_code
        )
        for number in range(recipe.members)
    )
    tokenizer = open_tokenizer(
        str(folder / "tokenizer"), needs_template=False, trust_remote_code=trust_remote_code
    )
    return transformer.Transformer(
        members,
        tokenizer,
        stored.max_length,
        heads,
        arrays["centre"],
        form,
        domain,
        users,
        stored.weights,
        recipe.base,
        stored.epsilon,
        stored.delta,
        stored.left_out,
        stored.raters,
    )


def _read_domain(stored: _Domain | None, arrays: Mapping[str, Any]) -> Domain | None:
    if stored is None:
        return None
    vocabularies = tuple(
        Vocabulary(arrays[f"vocabulary_{i}"], usual, spread)
        for i, (usual, spread) in enumerate(stored.vocabularies)
    )
    shapes = tuple(
        Shape(
            arrays[f"shape_{i}_centre"],
            arrays[f"shape_{i}_scale"],
            arrays[f"shape_{i}_precision"],
            usual,
            spread,
        )
        for i, (usual, spread) in enumerate(stored.shapes)
    )
    return Domain(vocabularies, shapes, stored.threshold, stored.false_alarms)


def find_holders(user: str, folders: Sequence[Path]) -> Iterator[Path]:
    """Reward models and policies at or below these folders that learned from a user."""
    for folder in folders:
        for path in sorted(folder.rglob("users.json")):
            if any(
                (path.parent / mark).is_file() for mark in ("model.json", "policy.json")
            ) and user in msgspec.json.decode(path.read_bytes(), type=list[str]):
                yield path.parent
