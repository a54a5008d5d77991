"""Methods that sample and imitate several times over, each time from the last policy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container
from pathlib import Path

import msgspec

from upshot.errors import InputError
from upshot.hub.trainers import is_main
from upshot.policy.job import Job, Trained, finish, open_trainable, read_trained

_OWN_FILES = frozenset({"policy.json", "users.json", "card.md", "metrics.jsonl", "drawn.jsonl"})
"""Files of a round that its whole run has of its own."""
_SEED_STEP = 1_000_003
"""Between the seeds of two rounds: a prime, so that seeds of neighbouring runs do not meet."""


def run_rounds(job: Job, count: int, train_round: Callable[[Job], Path]) -> Path:
    """Train `count` rounds, each in a folder of its own.

    The last one's policy becomes the run's, its KL measured from the first base.
    """
    base, seconds, steps = job.recipe.base, 0.0, 0
    for number in range(count):
        part = job.part(f"round-{number}", base, job.recipe.seed + number * _SEED_STEP)
        if read_trained(part.folder) is None:
            train_round(part)
        trained = _need_trained(part.folder)
        seconds, steps, base = seconds + trained.seconds, steps + trained.steps, str(part.folder)
        if trained.stopped:
            break
    return _adopt_last(job, Path(base), seconds, steps)


def _need_trained(folder: Path) -> Trained:
    trained = read_trained(folder)
    if trained is None:
        raise InputError(f"could not go on from {folder}: its training is not finished")
    return trained


def _adopt_last(job: Job, last: Path, seconds: float, steps: int) -> Path:
    """Make the last round's policy the run's own."""
    trained = _need_trained(last)
    recipe = msgspec.structs.replace(job.recipe, base=str(last))
    policy = open_trainable(recipe, trust_remote_code=job.trust_remote_code)
    distance = job.distance(policy)
    if is_main():
        lines = [
            line
            for number in range(len(list(job.folder.glob("round-*"))))
            for line in _metrics(job.folder / f"round-{number}", number)
        ]
        (job.folder / "metrics.jsonl").write_bytes(b"".join(lines))
        adopt(last, job.folder, "round-*", _OWN_FILES)
        finish(
            job.folder,
            msgspec.structs.replace(
                trained,
                base=job.recipe.base,
                recipe=job.recipe,
                kl=distance.nats,
                kl_error=distance.error,
                seconds=seconds,
                steps=steps,
            ),
            job.data.users,
        )
    return job.folder


def adopt(last: Path, folder: Path, parts: str, without: Container[str] = ()) -> None:
    """Copy the files of the last part into the whole; parts (a pattern of folders) are removed."""
    for path in last.iterdir():
        if path.is_file() and path.name not in without:
            shutil.copy2(path, folder / path.name)
    for path in folder.glob(parts):
        shutil.rmtree(path, ignore_errors=True)


def _metrics(folder: Path, number: int) -> list[bytes]:
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    return [
        msgspec.json.encode({"round": number, **msgspec.json.decode(line)}) + b"\n"
        for line in path.read_bytes().splitlines()
    ]
