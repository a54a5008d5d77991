"""Which users a loop's models learned from, and what must be retrained when one is forgotten.

A model holds a user when it learned from their rows, or was trained on from a model that did.
Forgetting takes such models out of service and deletes them, erases the user's rows from every
round's files, and then retrains without them what held them, oldest first, each from the model it
was trained from. A journal beside the state says how far it has come: if it is killed on the way,
the same call goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from upshot.errors import InputError
from upshot.io.writing import replace_file
from upshot.lake import mark_of
from upshot.loop import lessons
from upshot.loop.results import PolicyResult, RewardResult, TrialResult
from upshot.loop.state import Loop, Round, State, write

_JOURNAL = "forgetting.json"
_RETRAINED_STEPS = ("agree", "reward", "policy", "gate", "release")


def trace_lineage(loop: Loop) -> dict[str, list[str]]:
    """Every model of a loop, and the rounds whose lessons are in it, by folder name."""
    lineage: dict[str, list[str]] = {}
    for round in loop.rounds():
        trial, reward = round.load("trial", TrialResult), round.load("reward", RewardResult)
        serving = trial.serving if trial else ""
        for policy in _candidates(round):
            lineage[policy] = [*lineage.get(serving, ()), round.folder.name]
        if reward is not None and reward.made:
            earlier = lineage.get(reward.previous, lineage.get(serving, []))
            lineage[reward.made] = [*earlier, round.folder.name]
    return lineage


def _candidates(round: Round) -> list[str]:
    result = round.load("policy", PolicyResult)
    return [candidate.policy for candidate in result.candidates] if result else []


def find_rounds_with(loop: Loop, user: str) -> list[Round]:
    """Rounds whose models hold a user (by pseudonym), in order."""
    direct = {round.folder.name for round in loop.rounds() if user in _read_users(round)}
    tainted = {model for model, rounds in trace_lineage(loop).items() if direct & set(rounds)}
    affected: list[Round] = []
    for round in loop.rounds():
        reward = round.load("reward", RewardResult)
        own = {*_candidates(round), reward.made if reward else ""}
        if round.folder.name in direct or own & tainted:
            affected.append(round)
    return affected


class Journal(msgspec.Struct):
    """How far a forgetting has come."""

    mark: str
    """Of the user; not their pseudonym."""
    rounds: list[str]
    """Names of the rounds that held the user."""
    models: list[str]
    """Folders of what learned from them."""
    pending: list[str]
    """Names of the rounds that are to be trained again, in order."""
    is_erased: bool = False
    """The user's rows are in no round any more, and the models are deleted."""
    started: str = ""
    """The pending round that goes on from the policy in service already."""


def read_journal(loop: Loop) -> Journal | None:
    """The forgetting that was interrupted; None: none was."""
    path = loop.folder / _JOURNAL
    return msgspec.json.decode(path.read_bytes(), type=Journal) if path.is_file() else None


def forget(loop: Loop, user: str, resume: Callable[[Round], Any]) -> list[str]:
    """Erase a user (by pseudonym) from every round, and retrain what held them.

    `resume` runs a round's steps that are not complete. Until a round is retrained, what it
    released is out of service: the last policy that never held the user serves. Models that were
    rerun on such a round are removed. Returns the rounds' names.

    Raises:
        InputError: the forgetting of another user was interrupted before their rows were erased.
    """
    journal = read_journal(loop)
    if journal is not None and journal.mark != mark_of(user):
        if not journal.is_erased:
            raise InputError(
                f"could not forget another user in {loop.folder}: a forgetting was interrupted"
                " before everything of its user was erased; call that one again first"
            )
        _retrain(loop, journal, resume)
        journal = None
    journal = journal or _open_journal(loop, user)
    if journal is None:
        for round in loop.rounds():
            _erase_rows(round, user)
        return []
    if not journal.is_erased:
        _erase(loop, user, journal)
    _retrain(loop, journal, resume)
    return journal.rounds


def _open_journal(loop: Loop, user: str) -> Journal | None:
    """None: no round holds the user."""
    affected = find_rounds_with(loop, user)
    if not affected:
        return None
    names = {round.folder.name for round in affected}
    first = min(round.number for round in affected)
    journal = Journal(
        mark_of(user),
        [round.folder.name for round in affected],
        [model for model, rounds in trace_lineage(loop).items() if names & set(rounds)],
        [round.folder.name for round in loop.rounds() if round.number >= first],
    )
    write(loop.folder / _JOURNAL, journal)
    return journal


def _erase(loop: Loop, user: str, journal: Journal) -> None:
    """Take the models out of service and delete them, and the user's rows; may be repeated."""
    pending = [round for round in loop.rounds() if round.folder.name in journal.pending]
    affected = {round.number for round in pending if round.folder.name in journal.rounds}
    _drop_reruns(loop, affected)
    loop.save(_state_without(loop.state(), journal.models, pending[0].number))
    for round in pending:
        _undo_training(round)
    for round in loop.rounds():
        _erase_rows(round, user)
    journal.is_erased = True
    write(loop.folder / _JOURNAL, journal)


def _retrain(loop: Loop, journal: Journal, resume: Callable[[Round], Any]) -> None:
    rounds = {round.folder.name: round for round in loop.rounds()}
    while journal.pending:
        name = journal.pending[0]
        if journal.started != name:
            _rebase(rounds[name], loop.state())
            journal.started = name
            write(loop.folder / _JOURNAL, journal)
        resume(rounds[name])
        del journal.pending[0]
        write(loop.folder / _JOURNAL, journal)
    (loop.folder / _JOURNAL).unlink()


def _state_without(state: State, models: Container[str], first: int) -> State:
    """The state with the models, and every test from the first affected round on, taken out."""
    history = [
        entry for entry in state.history if entry.policy not in models and entry.round < first
    ]
    waiting = {name: policy for name, policy in state.waiting.items() if policy not in models}
    tests = {name: promoted for name, promoted in state.tests.items() if int(name) < first}
    return msgspec.structs.replace(
        state,
        history=history or state.history[:1],
        canary="",
        shadow="",
        waiting=waiting,
        tests=tests,
    )


def _drop_reruns(loop: Loop, rounds: Container[int]) -> None:
    """Delete models that learned from these rounds by `upshot loop rerun`; nothing builds on them,
    so they are not retrained.
    """
    path = loop.folder / "reruns.json"
    content = path.read_bytes() if path.is_file() else b"[]"
    rows = msgspec.json.decode(content, type=list[dict[str, Any]])
    for row in rows:
        if row["round"] in rounds:
            shutil.rmtree(row["folder"], ignore_errors=True)
    if rows:
        write(path, [row for row in rows if row["round"] not in rounds])


def _read_users(round: Round) -> Sequence[str]:
    path = round.folder / "users.json"
    return msgspec.json.decode(path.read_bytes(), type=list[str]) if path.is_file() else ()


def _erase_rows(round: Round, user: str) -> None:
    """Take a user's rows out of the lessons, with the answers sampled for them; and the logs out
    of the round once they are in the lake, which has forgotten the user already.
    """
    for path in lessons.files_in(round.folder):
        lines = path.read_bytes().splitlines() if path.is_file() else []
        others = [line for line in lines if not _is_theirs(line, user)]
        if len(others) < len(lines):
            shutil.rmtree(round.folder / "draws", ignore_errors=True)
            replace_file(path, b"".join(line + b"\n" for line in others))
    if round.record("read") is not None:
        shutil.rmtree(round.folder / "logs", ignore_errors=True)
    if user in (users := _read_users(round)):
        write(round.folder / "users.json", [name for name in users if name != user])


def _is_theirs(line: bytes, user: str) -> bool:
    row = msgspec.json.decode(line)
    return row.get("user") == user or user in row.get("source", {}).get("users", ())


def _rebase(round: Round, state: State) -> None:
    """Let a round go on from the policy that serves now."""
    record = round.record("trial")
    if record is not None:
        write(round.folder / "trial.json", {**record, "serving": state.serving})


def _undo_training(round: Round) -> None:
    """Put a round back to where it was before it trained."""
    for step in _RETRAINED_STEPS:
        (round.folder / f"{step}.json").unlink(missing_ok=True)
    for path in _model_folders(round):
        shutil.rmtree(path, ignore_errors=True)


def _model_folders(round: Round) -> Iterator[Path]:
    yield from round.folder.glob("policy-*")
    yield round.folder / "reward"
    yield round.folder / "agreement"
    yield round.folder / "draws"
