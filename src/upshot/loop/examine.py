"""The gate at work: candidates and the policy in service answer frozen prompts; a ruling on it."""

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
from upshot.io.writing import replace_file
from upshot.loop import guards, lessons
from upshot.loop.config import Config
from upshot.loop.gate import Answers, Harm, Rules, Ruling, choose, rule, rule_by_guards
from upshot.loop.lessons import Prompt
from upshot.loop.state import Round, State
from upshot.policy.data import Prompt as SuitePrompt
from upshot.policy.data import read_data
from upshot.policy.job import read_trained
from upshot.policy.rewards import open_rewards, score_answers, wrap_function, wrap_model
from upshot.reward import RewardModel, Score
from upshot.reward import load as load_reward
from upshot.reward.transformer import Transformer
from upshot.stats.sampling import draw

Array = NDArray[np.float64]
Judge: TypeAlias = RewardModel | Transformer


def examine(
    config: Config,
    round: Round,
    state: State,
    candidates: Sequence[str],
    judge: Judge | None,
    *,
    serving: str,
) -> Ruling:
    """Choose a candidate on some users' prompts, and rule on it by others'.

    `judge`: a reward model; None: nothing scores, and nothing is promoted.
    """
    files = lessons.files_in(round.folder)
    sampled = _SampledAnswers(config, round)
    chosen = candidates[0]
    if len(candidates) > 1:
        prompts = lessons.read_prompts(files.choose)
        texts = {policy: sampled(policy, prompts, "choose") for policy in candidates}
        chosen = choose(
            {
                policy: _score_answers(config, prompts, answers, _judge(judge, prompts, answers))
                for policy, answers in texts.items()
            }
        )
    prompts = lessons.read_prompts(files.test)
    new, old = sampled(chosen, prompts, "test"), sampled(serving, prompts, "test")
    candidate, present, harms = _compare_answers(config, prompts, new, old, judge=judge)
    if prompts and config.gate.floors:
        base = sampled(state.history[0].policy, prompts, "test")
        harms += _check_floors(config, prompts, new, base)
    harms += [
        _run_suite(name, path, (chosen, serving), sampled, config.gate)
        for name, path in config.gate.suites.items()
    ]
    if (trained := read_trained(Path(chosen))) is not None and trained.kl is not None:
        harms.append(guards.bound_kl(trained.kl, trained.kl_error or 0.0, config.gate.kl))
    return (
        rule_by_guards(chosen, harms)
        if config.serve.canary
        else rule(chosen, candidate, present, harms, state.before, rules=config.gate)
    )


def _check_floors(
    config: Config, prompts: Sequence[Prompt], new: Sequence[str], base: Sequence[str]
) -> list[Harm]:
    """How much less reward the candidate's answers earn than the base's, for each floor."""
    messages = [prompt.prompt for prompt in prompts]
    harms: list[Harm] = []
    for name, folder in config.gate.floors.items():
        reward = wrap_function(wrap_model(load_reward(folder)), name)
        harms.append(
            guards.measure_loss(
                f"floor: {name}",
                reward(messages, new),
                reward(messages, base),
                _users(prompts),
                config.gate,
            )
        )
    return harms


def examine_in_shadow(
    config: Config, round: Round, candidate: str, prompts: Sequence[Prompt], judge: Judge | None
) -> Ruling:
    """Rule by the guards on a candidate's answers to requests, beside the answers users got."""
    new = _SampledAnswers(config, round)(candidate, prompts, "shadow")
    old = [prompt.answer for prompt in prompts]
    return rule_by_guards(candidate, _compare_answers(config, prompts, new, old, judge=judge)[2])


def _compare_answers(
    config: Config,
    prompts: Sequence[Prompt],
    new: Sequence[str],
    old: Sequence[str],
    *,
    judge: Judge | None,
) -> tuple[Answers, Answers, list[Harm]]:
    """Two policies' answers, scored, and the harm that the guards measure in them."""
    judgements = [_judge(judge, prompts, answers) for answers in (new, old)]
    candidate, present = (
        _score_answers(config, prompts, answers, judged)
        for answers, judged in zip((new, old), judgements, strict=True)
    )
    harms = _run_guards(config, prompts, new, old) if prompts else []
    if prompts and judge is not None:
        out_of_domain = [
            np.array([float(score.in_domain is False) for score in judged]) for judged in judgements
        ]
        harms += guards.guard_scores(
            candidate, present, out_of_domain[0], out_of_domain[1], config.gate
        )
    return candidate, present, harms


class _SampledAnswers:
    """Answers of policies, sampled once and stored in the round's folder."""

    def __init__(self, config: Config, round: Round) -> None:
        self.folder = round.folder / "draws"
        recipe = config.recipe("unused")
        self.drawing = Drawing(
            recipe.draw.max_tokens, recipe.draw.temperature, seed=config.seed * 1_000 + round.number
        )

    def __call__(self, policy: str, prompts: Sequence[Prompt], split: str) -> list[str]:
        path = self.folder / f"{split}-{Path(policy).parent.name}-{Path(policy).name}.json"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            messages = [prompt.prompt for prompt in prompts]
            texts = open_sampler(policy)(messages, self.drawing) if prompts else []
            replace_file(path, msgspec.json.encode([text.strip() for text in texts]))
        return msgspec.json.decode(path.read_bytes(), type=list[str])


def _judge(judge: Judge | None, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[Score]:
    if judge is None or not prompts:
        return []
    return score_answers(judge, [prompt.prompt for prompt in prompts], answers)


def _score_answers(
    config: Config, prompts: Sequence[Prompt], answers: Sequence[str], judged: Sequence[Score]
) -> Answers:
    user, count = _users(prompts), len(prompts)
    score = np.array([s.probability for s in judged]) if judged else np.zeros(count)
    rewards = open_rewards([config.gate.audit] if config.gate.audit else [])
    audited, label = np.zeros(count, bool), np.zeros(count)
    if rewards is not None and count:
        audited = np.array(
            [draw(f"gate audit/{p.id}/{p.index}") < config.gate.audit_share for p in prompts]
        )
        rows = np.flatnonzero(audited).tolist()
        label[rows] = rewards([prompts[i].prompt for i in rows], [answers[i] for i in rows])
    return Answers(score, user, audited, label)


def _run_guards(
    config: Config, prompts: Sequence[Prompt], new: Sequence[str], old: Sequence[str]
) -> list[Harm]:
    rules, user = config.gate, _users(prompts)
    messages = [prompt.prompt for prompt in prompts]
    texts = [[turn.content for turn in prompt] for prompt in messages]
    harms = guards.guard_answers(guards.AnswerPairs(texts, new, old, user), rules)
    if (facts := open_rewards(rules.tests)) is not None:
        passed = facts(messages, new), facts(messages, old)
        harms.append(guards.measure_loss("tests", *passed, user, rules, scale=1.0))
    if rules.panel and (panel := open_rewards([f"panel:{','.join(rules.panel)}"])) is not None:
        rewards = panel(messages, new), panel(messages, old)
        harms.append(guards.measure_loss("panel", *rewards, user, rules))
    return harms


def _users(prompts: Sequence[Prompt]) -> NDArray[np.object_]:
    return np.array([prompt.user for prompt in prompts], dtype=object)


def _run_suite(
    name: str, path: str, policies: tuple[str, str], sampled: _SampledAnswers, rules: Rules
) -> Harm:
    """How many fewer of a suite's prompts the first policy passes than the second."""
    rows = read_data([path]).prompts
    prompts = [
        Prompt(row.turns, f"{name}/{number}", name, number) for number, row in enumerate(rows)
    ]
    new, old = (
        find_passing(rows, sampled(policy, prompts, f"suite-{name}")) for policy in policies
    )
    return guards.measure_loss(f"suite: {name}", new, old, _users(prompts), rules, scale=1.0)


DEMANDS = ("tests", "matches", "lacks")
"""What a row may demand of an answer: tests run in the sandbox, patterns that it must and must not
contain.
"""


def has_demands(facts: Mapping[str, Any]) -> bool:
    """Whether a row demands anything."""
    return any(facts.get(key) for key in DEMANDS)


def find_passing(rows: Sequence[SuitePrompt], answers: Sequence[str]) -> Array:
    """Which answers pass what their rows demand (`DEMANDS`).

    Raises:
        InputError: a row demands nothing, or its pattern cannot be read.
    """
    out = np.ones(len(rows))
    tested = [i for i, row in enumerate(rows) if row.facts.get("tests")]
    verify = open_rewards(["verify"]) if tested else None
    if verify is not None:
        out[tested] = (
            verify(
                [rows[i].turns for i in tested],
                [answers[i] for i in tested],
                [rows[i].facts for i in tested],
            )
            > 0
        )
    for i, row in enumerate(rows):
        wanted = {key: str(row.facts[key]) for key in ("matches", "lacks") if row.facts.get(key)}
        if not has_demands(row.facts):
            raise InputError(f"could not use a suite: row {i + 1} has none of {', '.join(DEMANDS)}")
        for key, pattern in wanted.items():
            try:
                is_match = re2.search(pattern, answers[i]) is not None
            except re2.error as error:
                raise InputError(
                    f"could not use a suite: {key} of row {i + 1} is no pattern: {error}"
                ) from error
            out[i] = min(out[i], float(is_match == (key == "matches")))
    return out
