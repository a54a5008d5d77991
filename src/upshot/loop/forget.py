"""Whom a loop's models learned from, and what must be trained anew when one of them is forgotten.

A model holds a user when it learned from their rows, or was trained on from a model that did.
Forgetting takes such models out of service and away, erases the user's rows from every round's
files, and then trains what held them again without them, oldest first, each from what it was
trained from. Killed on the way, it is called again; who taught is forgotten last.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from upshot.io import json_lines
from upshot.loop import lessons
from upshot.loop.state import Loop, Round, State, write

_REDONE = ("agree", "reward", "policy", "gate")


def lineage(loop: Loop) -> dict[str, list[str]]:
    """Every model of a loop, and the rounds whose lessons are in it, by folder name."""
    out: dict[str, list[str]] = {}
    for here in loop.rounds():
        serving = str((here.done("trial") or {}).get("serving", ""))
        for candidate in (here.done("policy") or {}).get("candidates", ()):
            out[candidate["policy"]] = [*out.get(serving, ()), here.folder.name]
        made = here.done("reward") or {}
        if made.get("made"):
            out[made["made"]] = [
                *out.get(str(made.get("from", "")), out.get(serving, [])),
                here.folder.name,
            ]
    return out


def touched(loop: Loop, user: str) -> list[Round]:
    """Rounds whose models hold a user (by pseudonym), in order."""
    direct = {here.folder.name for here in loop.rounds() if user in _users(here)}
    tainted = {model for model, rounds in lineage(loop).items() if direct & set(rounds)}
    out: list[Round] = []
    for here in loop.rounds():
        own = {
            candidate["policy"] for candidate in (here.done("policy") or {}).get("candidates", ())
        } | {(here.done("reward") or {}).get("made", "")}
        if here.folder.name in direct or own & tainted:
            out.append(here)
    return out


def forget(loop: Loop, user: str, again: Callable[[Round], Any]) -> list[str]:
    """Erase a user (by pseudonym) from every round, and train anew what held them.

    `again` runs a round's steps that are not whole.

    Until a round is trained anew, what it released is out of service: the last policy that never
    held the user serves. Models that were rerun on such a round are removed. Returns the rounds'
    names.
    """
    found = touched(loop, user)
    if not found:
        for here in loop.rounds():
            _scrub(here, user)
        return []
    _drop_reruns(loop, {one.number for one in found})
    models = {
        model
        for model, rounds in lineage(loop).items()
        if {one.folder.name for one in found} & set(rounds)
    }
    state = loop.state()
    first = min(one.number for one in found)
    clean = [
        released
        for released in state.history
        if released.policy not in models and released.round < first
    ]
    loop.keep(
        msgspec.structs.replace(
            state,
            history=clean or state.history[:1],
            canary="",
            shadow="",
            waiting={
                name: policy for name, policy in state.waiting.items() if policy not in models
            },
            tests={name: yes for name, yes in state.tests.items() if int(name) < first},
        )
    )
    later = [one for one in loop.rounds() if one.number >= first]
    for here in later:
        _undo(here)
    for here in loop.rounds():
        _scrub(here, user)
    for here in later:
        _rest_on(here, loop.state())
        again(here)
    return [one.folder.name for one in found]


def _drop_reruns(loop: Loop, rounds: Container[int]) -> None:
    """Models that learned from these rounds by `upshot loop rerun`; nothing stands on them, so they
    are not trained anew.
    """
    path = loop.folder / "reruns.json"
    rows = msgspec.json.decode(path.read_bytes()) if path.is_file() else []
    for row in rows:
        if row["round"] in rounds:
            shutil.rmtree(row["folder"], ignore_errors=True)
    if rows:
        write(path, [row for row in rows if row["round"] not in rounds])


def _users(here: Round) -> Sequence[str]:
    path = here.folder / "users.json"
    return msgspec.json.decode(path.read_bytes(), type=list[str]) if path.is_file() else ()


def _scrub(here: Round, user: str) -> None:
    """Their rows out of the lessons, with the answers drawn for them; and the logs, once they are
    in the lake, which has forgotten the user already.
    """
    for path in lessons.at(here.folder):
        lines = path.read_bytes().splitlines() if path.is_file() else []
        kept = [line for line in lines if not _theirs(line, user)]
        if len(kept) < len(lines):
            shutil.rmtree(here.folder / "draws", ignore_errors=True)
            json_lines.replace(path, b"".join(line + b"\n" for line in kept))
    if here.done("read") is not None:
        shutil.rmtree(here.folder / "logs", ignore_errors=True)
    if user in (users := _users(here)):
        write(here.folder / "users.json", [name for name in users if name != user])


def _theirs(line: bytes, user: str) -> bool:
    row = msgspec.json.decode(line)
    return row.get("user") == user or user in row.get("source", {}).get("users", ())


def _rest_on(here: Round, state: State) -> None:
    """A round goes on from the policy that serves now."""
    tried = here.done("trial")
    if tried is not None:
        write(here.folder / "trial.json", {**tried, "serving": state.serving})


def _undo(here: Round) -> None:
    """A round as it was before it trained."""
    for step in (*_REDONE, "release"):
        (here.folder / f"{step}.json").unlink(missing_ok=True)
    for path in _models(here):
        shutil.rmtree(path, ignore_errors=True)


def _models(here: Round) -> Iterator[Path]:
    yield from here.folder.glob("policy-*")
    yield here.folder / "reward"
    yield here.folder / "agreement"
    yield here.folder / "draws"
