"""A language model at an endpoint as the agent: one reply, one action, within budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from upshot.artifacts.agents import (
    ModelReply,
    check_reply,
    reply_to_action,
    show_transcript,
)
from upshot.artifacts.desk import Desk
from upshot.artifacts.environment import Action, Environment, make_task
from upshot.artifacts.records import Trail
from upshot.artifacts.replay import Replay, desk_for, record_replay
from upshot.llm import Asker, Budget, Endpoint, Replies, load_prompt, make_question, work_through

_MAX_TOKENS = 900
"""Of one action; a conclusion with ten citations takes 700."""


class Job(msgspec.Struct, frozen=True):
    """One replay to be made."""

    trail: int
    control: str
    seed: int


def replay_with_model(
    trails: Sequence[Trail],
    desk: Desk,
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    *,
    controls: Sequence[str],
    seeds: int,
    max_calls: int,
    temperature: float,
    progress: Callable[[int, int], None],
) -> tuple[list[Replay], str]:
    """Replays by a model at an endpoint, and why they stopped early ("" if they did not).

    A closed book is the model without tools: it must conclude at once. Replies that are no action
    are sent back once, then count as a search for nothing.
    """
    jobs = [
        Job(number, control, seed)
        for number in range(len(trails))
        for control in controls
        for seed in range(seeds)
    ]

    async def work(number: int, asker: Asker) -> Replay:
        job = jobs[number]
        trail = trails[job.trail]
        calls = 1 if job.control == "closed-book" else max_calls
        place = desk_for(job.control, trail, desk, seed=job.seed)
        env = Environment(make_task(trail), place, max_calls=calls)
        given = env.reset()
        while not env.is_done:
            question = make_question(
                endpoint,
                load_prompt("upshot.artifacts", "replay.md"),
                show_transcript(given, env),
                ModelReply,
                _MAX_TOKENS,
                temperature=temperature,
                seed=job.seed,
            )
            (reply,) = await asker.ask(question, ModelReply, check_reply, trail.artifact)
            if reply is None or check_reply(reply):
                env.step(Action("search"))
                continue
            env.step(reply_to_action(reply))
        env.library = desk.library
        return record_replay(env, trail, endpoint.model, control=job.control, seed=job.seed)

    results, stopped = work_through(len(jobs), work, endpoint, budget, replies, progress=progress)
    return [results[number] for number in sorted(results)], stopped
