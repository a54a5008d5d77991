"""Training data of trails and replays: conversations with tool calls, credits, pairs, tasks.

Only trails that pass the checks of leak, order and quotes are exported. Train and test are split
by the source that a trail turns on and by date, never by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from upshot.artifacts.agents import describe_tools
from upshot.artifacts.environment import Action, make_task
from upshot.artifacts.records import Step, Trail
from upshot.artifacts.replay import Replay
from upshot.credit.conserve import Credit, conserve_credits
from upshot.llm import load_prompt
from upshot.preferences.exporters.trl import convert_conversation, convert_pair
from upshot.records import Example, Preference, ToolCall, Turn
from upshot.records.training import Source as Origin
from upshot.stats.sampling import draw

TARGETS = ("sft", "credit", "preferences", "verifiers")
"""What trails and replays are exported for."""
TEST_SHARE = 0.2
"""Share of source clusters, and of the newest artifacts, that is kept for tests."""
MIN_MARGIN = 0.1
"""Difference of rewards from which two replays of a question are a pair."""


def split_trails(trails: Sequence[Trail]) -> dict[str, str]:
    """train or test by artifact: test holds a fifth of the clusters of artifacts that turn on the
    same source, and whatever is younger than nine tenths of all.
    """
    dates = sorted(trail.as_of for trail in trails if trail.as_of)
    newest = dates[int(0.9 * len(dates))] if len(dates) >= 10 else "9999"
    splits: dict[str, str] = {}
    for trail in trails:
        sources = make_task(trail).sources
        cluster = sources[0] if sources else trail.artifact
        is_test = draw(f"split {cluster}") < TEST_SHARE or trail.as_of > newest
        splits[trail.artifact] = "test" if is_test else "train"
    return splits


def export_sft(trails: Sequence[Trail]) -> Iterator[dict[str, Any]]:
    """Conversations: task, the expert's calls, what the tools show (masked), the conclusion."""
    splits = split_trails(trails)
    for trail in trails:
        if trail.is_exportable:
            yield {
                "id": trail.artifact,
                "split": splits[trail.artifact],
                **convert_conversation(make_conversation(trail)),
                "tools": list(describe_tools()),
            }


def make_conversation(trail: Trail) -> Example:
    """A trail as one conversation with tool calls; only the assistant's messages are imitated."""
    prompt = (
        Turn("system", load_prompt("upshot.artifacts", "replay.md")),
        Turn("user", _show_task(trail)),
    )
    turns: list[Turn] = []
    for step in trail.steps:
        call = _call_of(step)
        if call is not None:
            name, arguments = call
            identity = f"call_{step.n}"
            calls = (ToolCall(name, msgspec.json.encode(arguments).decode(), identity),)
            turns.append(Turn("assistant", step.why, calls))
            turns.append(Turn("tool", step.text or _results(trail, step), name=name))
    turns.append(Turn("assistant", _conclude(trail)))
    mask = tuple(turn.role == "assistant" for turn in turns)
    return Example(
        prompt,
        tuple(turns),
        1.0,
        1.0,
        Origin("trail", note=trail.artifact),
        train=(*(False for _ in prompt), *mask),
    )


def _show_task(trail: Trail) -> str:
    parts = [trail.question_text, trail.fact_text, f"As of {trail.as_of}." if trail.as_of else ""]
    return "\n\n".join(part for part in parts if part)


def _call_of(step: Step) -> tuple[str, dict[str, str]] | None:
    if step.action == "search":
        return "search", {"query": step.input}
    if step.action == "open":
        return "open", {"source": step.source}
    if step.action == "find":
        return "find", {"source": step.source, "words": step.input}
    return None


def _results(trail: Trail, search: Step) -> str:
    """What is shown of a search: the sources that it led to."""
    return "\n".join(
        f"[{step.source}] {step.text[:200]}"
        for step in trail.steps
        if step.action == "open" and search.n in step.uses
    )


def _conclude(trail: Trail) -> str:
    by_number = {step.n: step for step in trail.steps}
    lines: list[str] = []
    for step in trail.steps:
        if step.action == "infer":
            sources = dict.fromkeys(by_number[n].source for n in step.uses if by_number[n].source)
            marks = "".join(f" [{source}]" for source in sources)
            lines.append(" ".join(step.claim.split()) + marks)
    return "\n".join([*lines, trail.conclusion.text])


def export_tasks(trails: Sequence[Trail]) -> Iterator[dict[str, Any]]:
    """Tasks for `upshot.artifacts.Environment`, with the answer to score by."""
    splits = split_trails(trails)
    for trail in trails:
        if trail.is_exportable:
            yield {**msgspec.to_builtins(make_task(trail)), "split": splits[trail.artifact]}


def export_credits(replays: Iterable[Replay]) -> Iterator[dict[str, Any]]:
    """Each replay's reward split over its actions; the sum is the reward, exactly.

    A step that opened one of the expert's sources earns, one that opened another or searched for
    nothing new does not; the conclusion earns by whether it agrees.
    """
    for replay in replays:
        reward = replay.scores["reward"]
        wanted = {place.source for place in replay.cited if place.is_real and place.is_located}
        raw = [_worth(action, wanted, replay) for action in replay.actions]
        parts = conserve_credits(raw, reward)
        credit = Credit(
            f"{replay.artifact}/{replay.control}/{replay.seed}",
            reward,
            parts.credits,
            "trail",
            parts.prior,
            parts.residual,
        )
        steps = [
            {"action": msgspec.json.encode(action).decode(), "observation": observation}
            for action, observation in zip(replay.actions, replay.observations, strict=True)
        ]
        yield {**msgspec.to_builtins(credit), "task": replay.question, "steps": steps}


def _worth(action: Action, wanted: set[str], replay: Replay) -> float:
    if action.tool == "open" and action.input in wanted:
        return 0.3 / max(1, len(wanted))
    if action.tool == "conclude":
        return 0.4 * replay.scores["conclusion"]
    return 0.0


def export_preferences(replays: Iterable[Replay]) -> Iterator[dict[str, Any]]:
    """Pairs of two replays of one question whose rewards differ, the better one chosen."""
    groups: dict[str, list[Replay]] = {}
    for replay in replays:
        groups.setdefault(replay.artifact, []).append(replay)
    for group in groups.values():
        ranked = sorted(group, key=lambda r: (-r.scores["reward"], r.control, r.seed))
        best, worst = ranked[0], ranked[-1]
        margin = best.scores["reward"] - worst.scores["reward"]
        if margin >= MIN_MARGIN:
            pair = Preference(
                _prompt_of(best),
                _turns_of(best),
                _turns_of(worst),
                margin,
                1.0,
                Origin("replay", note=best.artifact),
            )
            yield convert_pair(pair)


def _prompt_of(replay: Replay) -> tuple[Turn, ...]:
    task = "\n\n".join(part for part in (replay.question, replay.facts) if part)
    return (Turn("system", load_prompt("upshot.artifacts", "replay.md")), Turn("user", task))


def _turns_of(replay: Replay) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for n, (action, observation) in enumerate(
        zip(replay.actions, replay.observations, strict=True)
    ):
        if action.tool == "conclude":
            turns.append(Turn("assistant", msgspec.json.encode(action).decode()))
            continue
        arguments: Mapping[str, str] = {"input": action.input, "source": action.source}
        call = ToolCall(action.tool, msgspec.json.encode(arguments).decode(), f"call_{n}")
        turns += [Turn("assistant", "", (call,)), Turn("tool", observation, name=action.tool)]
    return tuple(turns)
