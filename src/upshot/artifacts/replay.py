"""Replays: question and facts alone; does an agent come to the same sources and conclusion?

Beside every replay stand three controls: closed book (no library), the key source removed (a sound
agent then changes its conclusion or abstains), and a library of as many random sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from upshot.artifacts.agents import Agent, ClosedBookAgent
from upshot.artifacts.citations import index_names
from upshot.artifacts.citations.us_tax import section_number
from upshot.artifacts.desk import Desk
from upshot.artifacts.environment import Action, CitedPassage, Environment, Task, make_task
from upshot.artifacts.library import Library
from upshot.artifacts.records import Conclusion, Trail
from upshot.artifacts.rules import Provision, apply_rules
from upshot.stats.intervals import ratio_interval
from upshot.stats.sampling import draw

CONTROLS = ("none", "closed-book", "without-key", "random-sources")
"""none is the replay itself."""
_MIN_RANDOM = 5


class Replay(msgspec.Struct, frozen=True):
    """One replay of a trail and its measures."""

    artifact: str
    agent: str
    control: str
    seed: int
    actions: tuple[Action, ...]
    observations: tuple[str, ...]
    opened: tuple[str, ...]
    cited: tuple[CitedPassage, ...]
    conclusion: Conclusion
    scores: dict[str, float]
    expert: Conclusion
    """What the artifact concludes."""
    removed: str = ""
    """The key source, where it was removed."""
    as_of: str = ""
    question: str = ""
    facts: str = ""


class Estimate(msgspec.Struct, frozen=True):
    """A mean over replays with its 95 % interval, artifacts being the clusters."""

    mean: float
    low: float
    high: float
    count: int


def run_agent(agent: Agent, task: Task, desk: Desk, *, max_calls: int = 40) -> Environment:
    """Let an agent work through a task; returns the environment as it ended."""
    env = Environment(task, desk, max_calls=max_calls)
    given = env.reset()
    while not env.is_done:
        env.step(agent.act(given, env))
    return env


def record_replay(
    env: Environment, trail: Trail, agent: str, *, control: str = "none", seed: int = 0
) -> Replay:
    """What is kept of a run that ended."""
    last = env.conclusion
    conclusion = Conclusion("") if last is None else Conclusion(last.text, last.label, last.number)
    return Replay(
        trail.artifact,
        agent,
        control,
        seed,
        tuple(env.actions),
        tuple(env.observations),
        tuple(env.opened),
        tuple(env.cited),
        conclusion,
        env.measure(),
        trail.conclusion,
        find_key_source(trail, env.library) if control == "without-key" else "",
        trail.as_of,
        trail.question_text,
        trail.fact_text,
    )


def replay_trail(
    trail: Trail,
    desk: Desk,
    make_agent: Callable[[], Agent],
    *,
    controls: Sequence[str] = CONTROLS,
    prior: str = "",
    max_calls: int = 40,
    seed: int = 0,
) -> list[Replay]:
    """A replay and its controls. `prior`: the commonest conclusion, which a closed book answers.

    An agent that needs a library only (not one that knows things by heart) answers a closed book
    by the prior.
    """
    task = make_task(trail)
    replays: list[Replay] = []
    for control in controls:
        place = desk_for(control, trail, desk, seed=seed)
        agent = ClosedBookAgent(prior) if control == "closed-book" else make_agent()
        env = run_agent(agent, task, place, max_calls=max_calls)
        env.library = desk.library
        replays.append(record_replay(env, trail, agent.name, control=control, seed=seed))
    return replays


def desk_for(control: str, trail: Trail, desk: Desk, *, seed: int = 0) -> Desk:
    """The library of a control: whole, without its key source, or as many random sources."""
    if control == "without-key":
        return desk.without(find_key_source(trail, desk.library))
    if control == "random-sources":
        return Desk(draw_random_sources(trail, desk.library, seed), desk.index.backend)
    return desk


def draw_random_sources(trail: Trail, library: Library, seed: int) -> Library:
    """As many sources as the artifact cites (at least 5), none of them cited by it."""
    own = set(make_task(trail).sources)
    others = [s for s in library.sources.values() if s.id not in own and s.id != trail.artifact]
    others.sort(key=lambda s: draw(f"{seed} {trail.artifact} {s.id}"))
    return index_names(Library(others[: max(_MIN_RANDOM, len(own))]))


def find_key_source(trail: Trail, library: Library) -> str:
    """The source without which the provisions on the trail come to the opposite, else to nothing,
    else to another amount; where that cannot be told, the one that most claims rest on.
    """
    by_number = {step.n: step for step in trail.steps}
    uses = Counter(
        by_number[n].source
        for step in trail.steps
        if step.action == "infer"
        for n in step.uses
        if by_number[n].source
    )
    ranked = [source for source, _ in uses.most_common() if source in library.sources]
    label, amount = _apply(trail, ranked, library)
    without = {s: _apply(trail, [o for o in ranked if o != s], library) for s in ranked}
    if label:
        flips = [s for s in ranked if without[s][0] not in ("", label)]
        open_ends = [s for s in ranked if not without[s][0]]
        changes = [s for s in ranked if without[s][1] != amount]
        ranked = [*flips, *open_ends, *changes, *ranked]
    return ranked[0] if ranked else ""


def _apply(trail: Trail, sources: Iterable[str], library: Library) -> tuple[str, float | None]:
    provisions = [
        Provision(section_number(library[source]), library.text_of(passage))
        for source in sources
        for passage in library.passages(source)
    ]
    finding = apply_rules(trail.question_text, trail.fact_text, provisions)
    return finding.label, finding.amount


def find_prior(trails: Iterable[Trail]) -> str:
    """The commonest conclusion of trails."""
    counts = Counter(trail.conclusion.label for trail in trails if trail.conclusion.label)
    return counts.most_common(1)[0][0] if counts else ""


def estimate(replays: Sequence[Replay], control: str, measure: str) -> Estimate:
    """The mean of a measure over the replays of one control."""
    totals: dict[str, list[float]] = {}
    for replay in replays:
        if replay.control == control and measure in replay.scores:
            totals.setdefault(replay.artifact, []).append(replay.scores[measure])
    if not totals:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    sums = np.array([sum(values) for values in totals.values()], np.float64)
    sizes = np.array([len(values) for values in totals.values()], np.float64)
    mean, low, high = ratio_interval(sums, sizes)
    return Estimate(mean, max(0.0, low), high, int(sizes.sum()))


def changed_without_key(replays: Sequence[Replay]) -> float:
    """Share of artifacts whose conclusion changed, or was withheld, without the key source; NaN
    where no replay went without it.
    """
    by_control: dict[tuple[str, int], dict[str, Conclusion]] = {}
    for replay in replays:
        key = (replay.artifact, replay.seed)
        by_control.setdefault(key, {})[replay.control] = replay.conclusion
    changed = [
        (pair["none"].label, pair["none"].number)
        != (pair["without-key"].label, pair["without-key"].number)
        for pair in by_control.values()
        if "none" in pair and "without-key" in pair and pair["none"].label
    ]
    return sum(changed) / len(changed) if changed else float("nan")
