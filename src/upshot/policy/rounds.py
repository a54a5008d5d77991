"""Methods that draw and imitate several times over: each time from the policy that the last time
made.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container
from pathlib import Path

import msgspec

from upshot.hub.trainers import is_main
from upshot.policy.job import Job, finish, open_trainable, read_trained

_OWN = frozenset({"policy.json", "users.json", "card.md", "metrics.jsonl", "drawn.jsonl"})
_AGAIN = 1_000_003
"""Between the seeds of two rounds."""


def rounds(job: Job, count: int, once: Callable[[Job], Path]) -> Path:
    """Run `once` so often, each in a folder of its own; the last one's policy is the run's, its KL
    measured from the first base.
    """
    base, seconds, steps = job.recipe.base, 0.0, 0
    for number in range(count):
        part = job.part(f"round-{number}", base, job.recipe.seed + number * _AGAIN)
        done = read_trained(part.folder)
        if done is None:
            once(part)
            done = read_trained(part.folder)
        assert done is not None
        seconds, steps, base = seconds + done.seconds, steps + done.steps, str(part.folder)
        if done.stopped:
            break
    return _adopt(job, Path(base), seconds, steps)


def _adopt(job: Job, last: Path, seconds: float, steps: int) -> Path:
    """The last round's policy as the run's own."""
    done = read_trained(last)
    assert done is not None
    policy = open_trainable(msgspec.structs.replace(job.recipe, base=str(last)))
    distance = job.distance(policy)
    if is_main():
        lines = [
            line
            for number in range(len(list(job.folder.glob("round-*"))))
            for line in _metrics(job.folder / f"round-{number}", number)
        ]
        (job.folder / "metrics.jsonl").write_bytes(b"".join(lines))
        adopt(last, job.folder, "round-*", _OWN)
        finish(
            job.folder,
            msgspec.structs.replace(
                done,
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
    """The files of the last part as the whole's own; parts (a pattern of folder names) go."""
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
