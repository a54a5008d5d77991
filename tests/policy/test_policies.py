"""Every method moves a policy as its data says; bounds and masks hold, killed runs resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import upshot
from upshot.credit.trajectories import Step, Trajectory
from upshot.errors import ConfigError, InputError, UpshotError
from upshot.hub.loss_masks import completion_ids, prompt_ids, weigh_turns
from upshot.hub.models import open_policy, open_tokenizer
from upshot.hub.sampling import Drawing, Local
from upshot.policy.data import Data, Prompt, join_data, make_data, make_run, read_data
from upshot.policy.kl import Controller, measure
from upshot.policy.methods import method_names
from upshot.policy.methods.conditioned import Condition, add_line, load_condition, token_budget
from upshot.policy.methods.rrhf import ranking_loss
from upshot.policy.methods.sdpo import divergence, hindsight_prompt
from upshot.policy.methods.star import add_hint
from upshot.policy.recipe import Draw, Kl, Recipe, load_recipe
from upshot.policy.rewards import extract_code, open_rewards, wrap_function
from upshot.policy.step_credit import mix_advantages, tokenize_runs
from upshot.policy.train import check, train
from upshot.policy.trainer import token_logps
from upshot.policy.value_trainer import estimate_advantages
from upshot.records import Example, Preference, Source, Turn

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries deprecate each other's arguments
GOOD, BAD = "that worked", "it still crashes"
QUICK = {
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 8,
    "max_steps": 12,
    "save_strategy": "no",
}
DRAWING = {
    **QUICK,
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 16,
    "num_generations": 8,
    "max_steps": 15,
}


def ask(number: int) -> tuple[Turn, ...]:
    return (Turn("user", f"how did it go, {number}?"),)


def say(text: str) -> tuple[Turn, ...]:
    return (Turn("assistant", text),)


def examples(after: bool = False) -> list[Example]:
    followed = {GOOD: "thank you", BAD: "it still crashes"}
    return [
        Example(
            ask(n),
            say(text),
            score,
            1.0,
            Source("test", (f"u{n}",)),
            {"style": "prose"},
            after=(Turn("user", followed[text]),) if after else (),
        )
        for n in range(12)
        for text, score in ((GOOD, 0.9), (BAD, 0.1))
    ]


def pairs() -> list[Preference]:
    return [
        Preference(ask(n), say(GOOD), say(BAD), 0.5, 1.0 + n % 2, Source("test", (f"u{n}",)))
        for n in range(12)
    ]


def prompts() -> list[Prompt]:
    return [Prompt(ask(n), {"number": n}) for n in range(12)]


def shorter(asked: Sequence[Sequence[Turn]], answers: Sequence[str], facts: Sequence[Any]) -> Any:
    return -np.array([len(answer) for answer in answers], dtype=float)


def prefers(policy: str, prompt: Callable[[int], Sequence[Turn]] = ask) -> float:
    """Mean log odds of the good response over the bad one."""
    model, tokenizer = open_policy(policy), open_tokenizer(policy)
    sums = []
    for text in (GOOD, BAD):
        found = [completion_ids(tokenizer, prompt(n), say(text)) for n in range(4)]
        with torch.no_grad():
            logps, mask = token_logps(
                model, [p for p, _ in found], [a for _, a in found], tokenizer.pad_token_id
            )
        sums.append(float((logps * mask).sum(1).mean()))
    return sums[0] - sums[1]


def length(policy: str) -> float:
    sampler = Local(open_policy(policy), open_tokenizer(policy))
    return float(
        np.mean([len(text) for text in sampler([ask(n) for n in range(64)], Drawing(12, seed=7))])
    )


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "rrhf"])
def test_learning_from_what_is_known_prefers_good_answers(
    base: str, tmp_path: Path, method: str
) -> None:
    data = make_data(pairs() if method == "dpo" else examples())
    done = train(Recipe(base, method, trainer=QUICK, draw=Draw(12)), data, tmp_path / method)
    assert prefers(str(tmp_path / method)) > prefers(base) + 0.1
    assert done.kl is not None
    assert done.kl > 0
    assert done.users == 12
    assert json.loads((tmp_path / method / "users.json").read_text()) == sorted(
        f"u{n}" for n in range(12)
    )
    assert (tmp_path / method / "metrics.jsonl").read_text().count("\n") >= 2


@pytest.mark.parametrize("method", ["rloo", "grpo", "ppo", "raft", "star"])
def test_learning_by_drawing_raises_the_reward(base: str, tmp_path: Path, method: str) -> None:
    trainer = DRAWING if method in ("rloo", "grpo", "ppo") else QUICK
    options = {
        "raft": {"answers": 4, "rounds": 2},
        "star": {"answers": 4, "rounds": 2, "confirmed": -20.0},
    }.get(method, {})
    train(
        Recipe(
            base, method, trainer=trainer, draw=Draw(12), kl=Kl(coefficient=0.01), options=options
        ),
        make_data(prompts()),
        tmp_path / method,
        wrap_function(shorter),
    )
    assert length(str(tmp_path / method)) < length(base) - 1
    rows = [
        json.loads(line) for line in (tmp_path / method / "metrics.jsonl").read_text().splitlines()
    ]
    assert not list((tmp_path / method).glob("round-*"))
    if method in ("rloo", "grpo", "ppo"):
        assert all(row["kl_nats"] >= 0 for row in rows if "kl_nats" in row)
        assert any("kl_coefficient" in row for row in rows)


def test_rrhf_draws_and_ranks_where_only_prompts_are_known(base: str, tmp_path: Path) -> None:
    train(
        Recipe(base, "rrhf", trainer=QUICK, draw=Draw(12)),
        make_data(prompts()),
        tmp_path / "p",
        wrap_function(shorter),
    )
    assert length(str(tmp_path / "p")) < length(base)
    assert (tmp_path / "p" / "drawn.jsonl").is_file()


def test_conditioned_on_scores_a_policy_gives_what_it_is_asked_for(
    base: str, tmp_path: Path
) -> None:
    train(
        Recipe(
            base,
            "conditioned",
            trainer={**QUICK, "max_steps": 40},
            draw=Draw(12),
            options={"levels": 2},
        ),
        make_data(examples()),
        tmp_path / "p",
    )
    condition = load_condition(tmp_path / "p")
    assert condition.tags == {"style": ["prose"]}
    good = prefers(str(tmp_path / "p"), lambda n: condition.ask(ask(n)))
    bad = prefers(str(tmp_path / "p"), lambda n: add_line(ask(n), condition.line(1)))
    assert good > bad + 0.5
    with pytest.raises(InputError, match="verse"):
        condition.ask(ask(0), tags={"style": "verse"})


def test_the_policy_that_saw_the_follow_up_teaches_the_one_that_did_not(
    base: str, tmp_path: Path
) -> None:
    rows = examples(after=True)
    shown = hindsight_prompt(rows[0])
    assert [turn.content for turn in shown] == [
        "how did it go, 0?",
        GOOD,
        "thank you\n\nhow did it go, 0?",
    ]
    done = train(
        Recipe(base, "sdpo", trainer=QUICK, draw=Draw(12)), make_data(rows), tmp_path / "p"
    )
    losses = [
        row["loss"]
        for row in map(json.loads, (tmp_path / "p" / "metrics.jsonl").read_text().splitlines())
        if "loss" in row
    ]
    assert losses[-1] < losses[0]
    assert done.kl is not None
    with pytest.raises(InputError, match="after"):
        train(Recipe(base, "sdpo", trainer=QUICK), make_data(examples()), tmp_path / "q")


def test_nothing_moves_where_all_answers_are_worth_the_same(base: str, tmp_path: Path) -> None:
    same = wrap_function(lambda asked, answers, facts: np.ones(len(answers)))
    for method in ("rloo", "grpo"):
        train(
            Recipe(
                base,
                method,
                trainer={**DRAWING, "max_steps": 2, "weight_decay": 0.0},
                draw=Draw(8),
                kl=Kl(coefficient=0.0),
            ),
            make_data(prompts()),
            tmp_path / method,
            same,
        )
        before, after = (open_policy(path).state_dict() for path in (base, str(tmp_path / method)))
        assert all(torch.equal(before[name], after[name]) for name in before), method


def test_dpo_begins_at_log_two(base: str, tmp_path: Path) -> None:
    train(
        Recipe(
            base,
            "dpo",
            trainer={**QUICK, "max_steps": 1, "logging_steps": 1, "learning_rate": 0.0},
            draw=Draw(4),
        ),
        make_data(pairs()),
        tmp_path / "p",
    )
    first = json.loads((tmp_path / "p" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-4)


@pytest.mark.parametrize("method", ["sft", "rloo"])
def test_a_bound_on_kl_ends_training_within_it(base: str, tmp_path: Path, method: str) -> None:
    stop = 1.0
    trainer = {**(QUICK if method == "sft" else DRAWING), "max_steps": 60, "learning_rate": 1e-3}
    data, rewards = (
        (make_data(examples()), None)
        if method == "sft"
        else (make_data(prompts()), wrap_function(shorter))
    )
    done = train(
        Recipe(
            base, method, trainer=trainer, draw=Draw(12), kl=Kl(coefficient=0.0, stop=stop, every=2)
        ),
        data,
        tmp_path / "p",
        rewards,
    )
    assert "over the bound" in done.stopped
    assert done.steps < 60
    assert done.kl is not None
    assert done.kl_error is not None
    assert done.kl < stop + 3 * done.kl_error
    assert done.stopped in (tmp_path / "p" / "card.md").read_text()


def test_an_adapter_is_trained_alone_and_goes_on_as_an_adapter(base: str, tmp_path: Path) -> None:
    lora = {"r": 4, "lora_alpha": 8}
    train(
        Recipe(base, "sft", trainer={**QUICK, "learning_rate": 1e-2}, draw=Draw(8), lora=lora),
        make_data(examples()),
        tmp_path / "one",
    )
    assert (tmp_path / "one" / "adapter_model.safetensors").stat().st_size < 0.5 * (
        Path(base) / "model.safetensors"
    ).stat().st_size
    first = prefers(str(tmp_path / "one"))
    assert first > prefers(base) + 0.1
    done = train(
        Recipe(
            str(tmp_path / "one"), "dpo", trainer={**QUICK, "learning_rate": 1e-2}, draw=Draw(8)
        ),
        make_data(pairs()),
        tmp_path / "two",
    )
    assert (tmp_path / "two" / "adapter_config.json").is_file()
    assert prefers(str(tmp_path / "two")) > first
    assert done.kl is not None


def test_a_killed_training_goes_on_from_its_checkpoint(base: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(
        b"".join(msgspec.json.encode(row) + b"\n" for row in pairs() * 4)
    )
    (tmp_path / "r.toml").write_text(
        "[trainer]\nmax_steps = 30\nsave_steps = 3\nlogging_steps = 1\nper_device_train_batch_size"
        " = 4\n[draw]\nmax_tokens = 8\n"
    )
    out = tmp_path / "policy"
    command = [
        sys.executable,
        "-m",
        "upshot",
        "train",
        "policy",
        str(tmp_path / "pairs.jsonl"),
        "--method",
        "dpo",
        "--model",
        base,
        "-o",
        str(out),
        "--recipe",
        str(tmp_path / "r.toml"),
    ]
    running = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    deadline = time.monotonic() + 120
    while (
        not list(out.glob("checkpoints/checkpoint-*/trainer_state.json"))
        and time.monotonic() < deadline
    ):
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (out / "policy.json").is_file()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = [
        row["step"]
        for row in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        if "loss" in row
    ]
    assert steps == list(range(1, 31)), "every step once"
    assert not (out / "checkpoints").exists()
    assert (
        upshot.train_policy(
            [tmp_path / "pairs.jsonl"],
            out,
            upshot.policy_recipe(tmp_path / "r.toml", method="dpo", base=base),
        ).steps
        == 30
    )  # it is finished, so nothing is done
    with pytest.raises(InputError, match="trained otherwise"):
        upshot.train_policy(
            [tmp_path / "pairs.jsonl"],
            out,
            upshot.policy_recipe(tmp_path / "r.toml", method="kto", base=base),
        )


def test_ppo_keeps_its_values_through_a_checkpoint(base: str, tmp_path: Path) -> None:
    recipe = Recipe(
        base,
        "ppo",
        trainer={**DRAWING, "max_steps": 4, "save_strategy": "steps", "save_steps": 2},
        draw=Draw(8),
    )
    from upshot.policy import job

    kept: list[Path] = []
    real = shutil.rmtree
    job.shutil.rmtree = lambda path, **_: kept.append(Path(path))  # type: ignore[assignment]
    try:
        train(recipe, make_data(prompts()), tmp_path / "p", wrap_function(shorter))
    finally:
        job.shutil.rmtree = real
    assert (tmp_path / "p" / "checkpoints" / "checkpoint-4" / "value_head.safetensors").is_file()
    (tmp_path / "p" / "policy.json").unlink()
    (tmp_path / "p" / "checkpoints" / "checkpoint-4").rename(tmp_path / "gone")
    done = train(recipe, make_data(prompts()), tmp_path / "p", wrap_function(shorter))
    assert done.steps == 4
    assert "value_head" not in " ".join(open_policy(str(tmp_path / "p")).state_dict())


# --- credit ---


def runs() -> list[Trajectory]:
    return [
        Trajectory(
            f"t{n}",
            "send it",
            (
                Step("open live" if good else "open draft", "opened"),
                Step("wait", "nothing new"),
                Step("send", "sent"),
            ),
            float(good),
        )
        for n in range(16)
        for good in (n % 2 == 0,)
    ]


def credits_file(path: Path) -> Path:
    rows = [
        {"id": run.id, "outcome": run.outcome, "credits": [run.outcome - 0.5, 0.0, 0.0]}
        for run in runs()
    ]
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_logged_runs_with_credits_teach_the_step_that_earned_the_outcome(
    base: str, tmp_path: Path, method: str
) -> None:
    (tmp_path / "runs.jsonl").write_bytes(
        b"".join(msgspec.json.encode(run) + b"\n" for run in runs())
    )
    data = read_data([tmp_path / "runs.jsonl"], credits_file(tmp_path / "credits.jsonl"))
    assert data.runs[0].credits == (0.5, 0.0, 0.0)
    train(
        Recipe(
            base, method, trainer={**QUICK, "max_steps": 20}, draw=Draw(8), kl=Kl(coefficient=0.0)
        ),
        data,
        tmp_path / "p",
    )

    def likes(policy: str) -> float:
        model, tokenizer = open_policy(policy), open_tokenizer(policy)
        found = [
            completion_ids(tokenizer, (Turn("user", "send it"),), say(text))
            for text in ("open live", "open draft")
        ]
        with torch.no_grad():
            logps, mask = token_logps(
                model, [p for p, _ in found], [a for _, a in found], tokenizer.pad_token_id
            )
        each = (logps * mask).sum(1)
        return float(each[0] - each[1])

    assert likes(str(tmp_path / "p")) > likes(base) + 0.2


def test_advantages_stand_on_the_tokens_of_their_step_and_nowhere_else(base: str) -> None:
    tokenizer = open_tokenizer(base)
    found = [make_run(run)._replace(credits=(run.outcome - 0.5, 0.0, 0.0)) for run in runs()]
    rows = tokenize_runs(tokenizer, found, 0.3, causal=False, max_length=512)
    good, bad = rows[0], rows[1]
    for row in rows:
        assert len(row["ids"]) == len(row["own"]) == len(row["advantages"])
        assert all(
            advantage == 0
            for advantage, own in zip(row["advantages"], row["own"], strict=True)
            if not own
        )
    first = good["own"].index(1)
    assert good["advantages"][first] > 0 > bad["advantages"][bad["own"].index(1)]
    values = sorted(
        {round(value, 6) for value, own in zip(good["advantages"], good["own"], strict=True) if own}
    )
    assert len(values) == 2
    assert good["advantages"][first] == pytest.approx(max(values), abs=1e-5)


def test_step_rewards_make_advantages_of_tokens(base: str) -> None:
    tokenizer = open_tokenizer(base)
    ids = tokenizer("that worked, thank you", return_tensors="pt")["input_ids"]
    out = {
        "advantages": torch.tensor([1.0]),
        "completion_ids": ids,
        "completion_mask": torch.ones_like(ids),
    }
    found = mix_advantages(tokenizer, out, [[(11, 1.0), (22, -1.0)]], 0.4)
    assert found.shape == ids.shape
    assert found[0, 0] == pytest.approx(1.0)
    assert found[0, -1] == pytest.approx(0.2)


def test_ppo_and_grpo_pay_steps_where_they_end(base: str, tmp_path: Path) -> None:
    def reward_answers(asked: Any, answers: Sequence[str], facts: Any) -> Any:
        return shorter(asked, answers, facts)

    reward: Any = reward_answers
    reward.steps = lambda asked, answers, facts: [
        [(max(1, len(answer) // 2), 0.0), (max(1, len(answer)), -float(len(answer)))]
        for answer in answers
    ]
    for method in ("ppo", "grpo"):
        train(
            Recipe(base, method, trainer=DRAWING, draw=Draw(12)),
            make_data(prompts()),
            tmp_path / method,
            wrap_function(reward),
        )
        assert length(str(tmp_path / method)) < length(base)


# --- pieces ---


@given(
    arrays(np.float32, (3, 5), elements=st.floats(-2, 2, width=32)),
    arrays(np.float32, (3, 5), elements=st.floats(-2, 2, width=32)),
    st.integers(1, 5),
)
@settings(max_examples=50, deadline=None)
def test_advantages_of_lambda_one_are_what_came_less_what_was_expected(
    rewards: Any, values: Any, kept: int
) -> None:
    mask = torch.zeros(3, 5)
    mask[:, :kept] = 1
    r, v = torch.tensor(rewards) * mask, torch.tensor(values) * mask
    advantages, returns = estimate_advantages(r, v, mask, 1.0, 1.0)
    togo = torch.flip(torch.cumsum(torch.flip(r, [1]), 1), [1])
    assert torch.allclose(advantages, (togo - v) * mask, atol=1e-4)
    assert torch.allclose(returns, togo * mask, atol=1e-4)
    one_step, _ = estimate_advantages(r, v, mask, 1.0, 0.0)
    after = torch.cat([v[:, 1:], torch.zeros(3, 1)], 1)
    assert torch.allclose(one_step, (r + after - v) * mask, atol=1e-4)


@given(
    arrays(np.float32, (4, 7), elements=st.floats(-8, 8, width=32)),
    arrays(np.float32, (4, 7), elements=st.floats(-8, 8, width=32)),
    st.sampled_from(["js", "forward", "reverse"]),
    st.integers(0, 7),
)
@settings(max_examples=50, deadline=None)
def test_divergences_are_never_negative_and_nothing_from_oneself(
    a: Any, b: Any, kind: str, top: int
) -> None:
    a, b = torch.tensor(a), torch.tensor(b)
    assert (divergence(a, b, kind, top) > -1e-5).all()
    assert torch.allclose(divergence(a, a, kind, top), torch.zeros(4), atol=1e-5)


@given(st.lists(st.floats(-5, 0), min_size=2, max_size=6, unique=True))
def test_ranking_loss_is_nothing_where_probabilities_rank_as_scores_do(means: list[float]) -> None:
    ordered = torch.tensor(sorted(means), dtype=torch.float64)
    scores = torch.arange(len(means), dtype=torch.float64)
    assert float(ranking_loss(ordered, scores, 0.0)) == 0
    assert float(ranking_loss(ordered.flip(0), scores, 0.0)) > 0


def test_what_users_wrote_next_is_a_hint_to_try_again() -> None:
    data = make_data(examples(after=True))
    assert len(data.prompts) == 12
    hinted = [add_hint(one) for one in data.prompts]
    assert all(
        one is not None
        and one.turns[-1].content.split("\n\n")[1] in ("thank you", "it still crashes")
        for one in hinted
    )
    assert all(add_hint(one) is None for one in make_data(examples()).prompts)


@given(st.floats(0.001, 10), st.lists(st.floats(0, 100), max_size=30))
def test_the_penalty_follows_the_kl_within_its_step(start: float, seen: list[float]) -> None:
    controller = Controller(start, 6.0)
    for nats in seen:
        before = controller.coefficient
        after = controller.update(nats)
        assert abs(after / before - 1) <= 0.02 + 1e-9
        assert (after >= before) == (nats >= 6.0) or after == before


def test_a_policy_is_no_nats_from_itself(base: str, tmp_path: Path) -> None:
    policy, tokenizer = open_policy(base), open_tokenizer(base)
    ids = [prompt_ids(tokenizer, ask(n)) for n in range(5)]
    assert measure(policy, policy, tokenizer, ids, Drawing(8)).nats == pytest.approx(0, abs=1e-5)


def test_masked_turns_and_other_peoples_words_weigh_nothing(base: str) -> None:
    tokenizer = open_tokenizer(base)
    turns = [
        Turn("user", "it still crashes"),
        Turn("assistant", "thank you"),
        Turn("tool", "crashes"),
        Turn("assistant", "that worked"),
    ]
    found = weigh_turns(tokenizer, turns, [9.0, 0.0, 9.0, 2.0])
    learned = tokenizer.decode(
        [token for token, weight in zip(found.ids, found.weight, strict=True) if weight]
    )
    assert learned == "that worked<|end|>"
    assert set(found.weight) == {0.0, 2.0}
    cut = weigh_turns(tokenizer, turns, [0.0, 0.0, 0.0, 2.0], 4)
    assert len(cut.ids) == len(cut.weight) == 4


def test_the_same_seed_draws_the_same_answers(base: str) -> None:
    sampler = Local(open_policy(base), open_tokenizer(base))
    asked = [ask(n) for n in range(6)]
    assert sampler(asked, Drawing(10, seed=3)) == sampler(asked, Drawing(10, seed=3))
    assert sampler(asked, Drawing(10, seed=3)) != sampler(asked, Drawing(10, seed=4))


# --- a user's mistakes ---


@pytest.mark.parametrize(
    ("method", "data", "told"),
    [
        ("dpo", "examples", "it learns from pairs"),
        ("kto", "pairs", "it learns from examples"),
        ("rloo", "prompts", "--reward"),
        ("sft", "prompts", "it learns from examples"),
    ],
)
def test_what_is_missing_is_said(
    base: str, tmp_path: Path, method: str, data: str, told: str
) -> None:
    rows = {"examples": examples, "pairs": pairs, "prompts": prompts}[data]()
    with pytest.raises(InputError, match=told):
        train(Recipe(base, method, trainer=QUICK), make_data(rows), tmp_path / "p")


def test_settings_that_a_library_refuses_are_said(base: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learning_rat"):
        train(Recipe(base, "dpo", trainer={"learning_rat": 1}), make_data(pairs()), tmp_path / "p")
    with pytest.raises(ConfigError, match="leest"):
        train(Recipe(base, "sft", options={"leest": 1}), make_data(examples()), tmp_path / "q")
    with pytest.raises(ConfigError, match="generation"):
        train(
            Recipe(base, "rloo", trainer={"num_generations": 7, "per_device_train_batch_size": 8}),
            make_data(prompts()),
            tmp_path / "r",
            wrap_function(shorter),
        )
    with pytest.raises(UpshotError, match="nowhere"):
        train(Recipe(str(tmp_path / "nowhere"), "sft"), make_data(examples()), tmp_path / "s")
    with pytest.raises(ConfigError, match="there are sft"):
        Recipe(base, "magic")
    with pytest.raises(ConfigError, match="not negative"):
        Kl(stop=-1.0)
    with pytest.raises(InputError, match="finite"):
        train(
            Recipe(base, "rloo", trainer=DRAWING, draw=Draw(4)),
            make_data(prompts()),
            tmp_path / "t",
            wrap_function(lambda asked, answers, facts: np.full(len(answers), np.nan)),
        )


def test_a_recipe_is_checked_without_training(base: str, tmp_path: Path) -> None:
    whole = check(Recipe(base, "dpo"))
    small = check(Recipe(base, "dpo", lora={"r": 2}))
    assert small.trained < whole.trained == whole.parameters
    assert small.gigabytes < whole.gigabytes
    path = tmp_path / "r.toml"
    path.write_text('base = "x"\nmethod = "dpo"\n[kl]\nstop = 3.0\n')
    assert load_recipe(path, base=base) == Recipe(base, "dpo", kl=Kl(stop=3.0))
    path.write_text("methd = 1\n")
    with pytest.raises(ConfigError, match="methd"):
        load_recipe(path, base=base, method="dpo")


@pytest.mark.parametrize("method", list(method_names()))
def test_every_method_says_when_to_choose_it(method: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "upshot", "train", "policy", "--explain", method],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Choose it:" in done.stdout
    assert "It needs:" in done.stdout
    assert method in done.stdout


def test_files_of_every_kind_are_read(tmp_path: Path) -> None:
    def write(name: str, rows: Sequence[Any]) -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        return path

    talk = {
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}],
        "train": [False, True],
        "users": ["u9"],
    }
    found = read_data(
        [
            write("p.jsonl", pairs()),
            write("e.jsonl", examples(after=True)),
            write("r.jsonl", runs()),
            write("c.jsonl", [talk]),
            write("q.jsonl", [{"prompt": "only ask", "tests": "x"}]),
        ]
    )
    assert (len(found.pairs), len(found.examples), len(found.runs)) == (12, 25, 16)
    assert found.examples[0].after == (Turn("user", "thank you"),)
    assert found.examples[-1].train == (False, True)
    assert {"u0", "u9"} <= set(found.users)
    assert any(one.facts.get("tests") == "x" for one in found.prompts)
    assert len({one.turns for one in found.prompts}) == len(found.prompts)
    with pytest.raises(InputError, match="credits"):
        read_data([tmp_path / "p.jsonl"], credits_file(tmp_path / "credits.jsonl"))
    assert join_data([Data(), Data()]).rows == 0


def test_rewards_are_named(tmp_path: Path) -> None:
    found = open_rewards(["math:sqrt=0.5", "verify:tests"])
    assert found is not None
    assert [(part.name, part.weight) for part in found.parts] == [
        ("math:sqrt", 0.5),
        ("verify:tests", 1.0),
    ]
    assert open_rewards([]) is None
    with pytest.raises(InputError, match="weight"):
        open_rewards(["a=b"])
    with pytest.raises(InputError, match="import"):
        open_rewards(["nowhere_to_be_found:f"])
    with pytest.raises(InputError, match="panel"):
        open_rewards([f"panel:{tmp_path}"])
    assert extract_code("see\n```python\nx = 1\n```") == "x = 1\n"


def test_verified_rewards_run_the_answers_code() -> None:
    verified = open_rewards(["verify"])
    assert verified is not None
    facts = [{"tests": "def check(f):\n    assert f(2) == 4\n", "entry_point": "f"}] * 2
    answers = [
        "```python\ndef f(x):\n    return 2 * x\n```",
        "```python\ndef f(x):\n    return x\n```",
    ]
    assert verified([ask(0)] * 2, answers, facts).tolist() == [1.0, 0.0]


@given(st.floats(1, 1e5))
def test_budgets_are_powers_of_two_that_hold(tokens: float) -> None:
    found = token_budget(tokens)
    assert found >= tokens > found / 2 - 1
    assert Condition(3, [0.3, 0.6], {}).level(0.9) == 3
