"""The gate at work: fresh answers of candidates and of the policy in service to frozen prompts,
scored, guarded, ruled on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import re2
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.hub.sampling import Drawing, open_sampler
from upshot.io import json_lines
from upshot.loop import guards, lessons
from upshot.loop.config import Config
from upshot.loop.gate import Answers, Harm, Rules, Ruling, choose, rule, rule_by_guards
from upshot.loop.lessons import Prompt
from upshot.loop.state import Round, State
from upshot.policy.data import Asked, read
from upshot.policy.job import read_trained
from upshot.policy.rewards import of_function, of_model, open_rewards, scores
from upshot.reward import RewardModel, Score
from upshot.reward import load as load_reward
from upshot.reward.transformer import Transformer
from upshot.stats.sampling import draw

Array = NDArray[np.float64]
Judge: TypeAlias = RewardModel | Transformer


def examine(
    config: Config,
    here: Round,
    state: State,
    candidates: Sequence[str],
    judge: Judge | None,
    serving: str,
) -> Ruling:
    """Choose a candidate on some users' prompts, and rule on it by others'.

    `judge`: a reward model; None: nothing scores, and nothing is promoted.
    """
    folder = lessons.at(here.folder)
    drawn = _Drawn(config, here)
    chosen = candidates[0]
    if len(candidates) > 1:
        prompts = lessons.read_prompts(folder.choose)
        said = {policy: drawn(policy, prompts, "choose") for policy in candidates}
        chosen = choose(
            {
                policy: _answers(config, prompts, answers, _scores(judge, prompts, answers))
                for policy, answers in said.items()
            }
        )
    prompts = lessons.read_prompts(folder.test)
    new, old = drawn(chosen, prompts, "test"), drawn(serving, prompts, "test")
    candidate, present, found = _beside(config, prompts, new, old, judge)
    if prompts and config.gate.floors:
        base = drawn(state.history[0].policy, prompts, "test")
        asked = [one.prompt for one in prompts]
        for name, folder in config.gate.floors.items():
            worth = of_function(of_model(load_reward(folder)), name)
            found.append(
                guards.less(
                    f"floor: {name}",
                    worth(asked, new),
                    worth(asked, base),
                    _users(prompts),
                    config.gate,
                )
            )
    found += [
        _suite(name, path, chosen, serving, drawn, config.gate)
        for name, path in config.gate.suites.items()
    ]
    if (trained := read_trained(Path(chosen))) is not None and trained.kl is not None:
        found.append(guards.kl(trained.kl, trained.kl_error or 0.0, config.gate.kl))
    return (
        rule_by_guards(chosen, found)
        if config.serve.canary
        else rule(chosen, candidate, present, found, state.before, config.gate)
    )


def in_shadow(
    config: Config, here: Round, candidate: str, prompts: Sequence[Prompt], judge: Judge | None
) -> Ruling:
    """What the guards say of a candidate's answers to requests, beside what users got."""
    said = _Drawn(config, here)(candidate, prompts, "shadow")
    return rule_by_guards(
        candidate, _beside(config, prompts, said, [one.answer for one in prompts], judge)[2]
    )


def _beside(
    config: Config,
    prompts: Sequence[Prompt],
    new: Sequence[str],
    old: Sequence[str],
    judge: Judge | None,
) -> tuple[Answers, Answers, list[Harm]]:
    """Two policies' answers, scored, and what the guards see in them."""
    by_judge = [_scores(judge, prompts, said) for said in (new, old)]
    candidate, present = (
        _answers(config, prompts, said, judged)
        for said, judged in zip((new, old), by_judge, strict=True)
    )
    found = _guards(config, prompts, new, old) if prompts else []
    if prompts and judge is not None:
        strange = [
            np.array([float(one.in_domain is False) for one in judged]) for judged in by_judge
        ]
        found += guards.of_scores(candidate, present, strange[0], strange[1], config.gate)
    return candidate, present, found


class _Drawn:
    """Answers of policies, drawn once and kept in the round's folder."""

    def __init__(self, config: Config, here: Round) -> None:
        self.folder = here.folder / "draws"
        recipe = config.recipe("unused")
        self.drawing = Drawing(
            recipe.draw.max_tokens, recipe.draw.temperature, seed=config.seed * 1_000 + here.number
        )

    def __call__(self, policy: str, prompts: Sequence[Prompt], split: str) -> list[str]:
        path = self.folder / f"{split}-{Path(policy).parent.name}-{Path(policy).name}.json"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            said = (
                [
                    text.strip()
                    for text in open_sampler(policy)([one.prompt for one in prompts], self.drawing)
                ]
                if prompts
                else []
            )
            json_lines.replace(path, msgspec.json.encode(said))
        return msgspec.json.decode(path.read_bytes(), type=list[str])


def _scores(judge: Judge | None, prompts: Sequence[Prompt], said: Sequence[str]) -> list[Score]:
    return (
        scores(judge, [one.prompt for one in prompts], said)
        if judge is not None and prompts
        else []
    )


def _answers(
    config: Config, prompts: Sequence[Prompt], said: Sequence[str], judged: Sequence[Score]
) -> Answers:
    user, count = _users(prompts), len(prompts)
    score = np.array([one.probability for one in judged]) if judged else np.zeros(count)
    rewards = open_rewards([config.gate.audit] if config.gate.audit else [])
    audited, label = np.zeros(count, bool), np.zeros(count)
    if rewards is not None and count:
        audited = np.array(
            [draw(f"gate audit/{one.id}/{one.index}") < config.gate.audit_share for one in prompts]
        )
        rows = np.flatnonzero(audited).tolist()
        label[rows] = rewards([prompts[i].prompt for i in rows], [said[i] for i in rows])
    return Answers(score, user, audited, label)


def _guards(
    config: Config, prompts: Sequence[Prompt], new: Sequence[str], old: Sequence[str]
) -> list[Harm]:
    rules, user, asked = config.gate, _users(prompts), [one.prompt for one in prompts]
    found = guards.of_answers(
        guards.Said([[turn.content for turn in prompt] for prompt in asked], new, old, user), rules
    )
    if (facts := open_rewards(rules.tests)) is not None:
        found.append(guards.less("tests", facts(asked, new), facts(asked, old), user, rules, 1.0))
    if rules.panel and (panel := open_rewards([f"panel:{','.join(rules.panel)}"])) is not None:
        found.append(guards.less("panel", panel(asked, new), panel(asked, old), user, rules))
    return found


def _users(prompts: Sequence[Prompt]) -> NDArray[np.object_]:
    return np.array([one.user for one in prompts], dtype=object)


def _suite(name: str, path: str, chosen: str, serving: str, drawn: _Drawn, rules: Rules) -> Harm:
    rows = read([path]).prompts
    prompts = [
        Prompt(one.turns, f"{name}/{number}", name, number) for number, one in enumerate(rows)
    ]
    passed = [passes(rows, drawn(policy, prompts, f"suite-{name}")) for policy in (chosen, serving)]
    return guards.less(f"suite: {name}", passed[0], passed[1], _users(prompts), rules, 1.0)


DEMANDS = ("tests", "matches", "lacks")
"""What a row may demand of an answer: tests run in the sandbox, patterns that it must and must not
contain.
"""


def demands(facts: Mapping[str, Any]) -> bool:
    """Does a row demand anything?"""
    return any(facts.get(key) for key in DEMANDS)


def passes(rows: Sequence[Asked], answers: Sequence[str]) -> Array:
    """Which answers pass what their rows demand (`DEMANDS`).

    Raises:
        InputError: a row demands nothing, or its pattern cannot be read.
    """
    out = np.ones(len(rows))
    tested = [i for i, row in enumerate(rows) if row.facts.get("tests")]
    if tested:
        rewards = open_rewards(["verify"])
        assert rewards is not None
        out[tested] = (
            rewards(
                [rows[i].turns for i in tested],
                [answers[i] for i in tested],
                [rows[i].facts for i in tested],
            )
            > 0
        )
    for i, row in enumerate(rows):
        wanted = {key: str(row.facts[key]) for key in ("matches", "lacks") if row.facts.get(key)}
        if not demands(row.facts):
            raise InputError(f"could not use a suite: row {i + 1} has none of {', '.join(DEMANDS)}")
        for key, pattern in wanted.items():
            try:
                found = re2.search(pattern, answers[i]) is not None
            except re2.error as error:
                raise InputError(
                    f"could not use a suite: {key} of row {i + 1} is no pattern: {error}"
                ) from error
            out[i] = min(out[i], float(found == (key == "matches")))
    return out
