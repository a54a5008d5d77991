"""Differential privacy by user: the promises of the mechanism, and what planted canaries reveal
without it.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opacus import GradSampleModule

import upshot
from upshot import reward
from upshot.errors import InputError
from upshot.records import Example, Preference, Source, Turn
from upshot.reward import dp_sgd, leaks, private
from upshot.reward.private import (
    LENGTH,
    Privacy,
    bound_weights,
    limit_rows,
    minimize_privately,
    noise_scale,
)

WORDS = [
    "sun",
    "moon",
    "tree",
    "river",
    "stone",
    "glass",
    "paper",
    "cloud",
    "bird",
    "road",
    "table",
    "music",
    "garden",
    "window",
]


def sentence(rng: random.Random, size: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=size)).capitalize() + "."


def pairs(users: int = 400, each: int = 1) -> list[Preference]:
    """Raters who like apologies and dislike insults."""
    rng = random.Random(0)
    rows = []
    for i in range(users * each):
        good, bad = f"I am sorry, {sentence(rng)}", f"You stupid loser, {sentence(rng)}"
        turns = [(Turn("assistant", text),) for text in (good, bad)]
        rows.append(
            Preference(
                (Turn("user", "tell me"),),
                turns[0],
                turns[1],
                0.0,
                1.0,
                Source("test", (f"u{i % users}",)),
            )
        )
    return rows


@given(st.floats(0.05, 50), st.floats(1e-9, 1e-3), st.integers(1, 64))
def test_the_noise_is_what_the_proof_asks_for(epsilon: float, delta: float, rows: int) -> None:
    sigma, raised = noise_scale(Privacy(epsilon, delta, rows))
    t = np.sqrt(2 * np.log(2 * rows / delta))
    assert LENGTH * t / sigma + LENGTH**2 / (2 * sigma**2) + LENGTH**2 / 4 / (
        1 + raised
    ) <= epsilon * (1 + 1e-9)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=1, max_size=30))
def test_a_user_has_one_vote_at_most(rows: list[tuple[str, float]]) -> None:
    owners = [name for name, _ in rows]
    weight = bound_weights([w for _, w in rows], owners)
    for name in set(owners):
        assert sum(w for w, who in zip(weight, owners, strict=True) if who == name) <= 1 + 1e-9


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_with_and_without_a_user_the_weights_are_distributed_alike(epsilon: float) -> None:
    """One more user changes how often the weights lie beyond any threshold by a factor of at most
    e^ε.
    """
    privacy, rng = Privacy(epsilon, 1e-3, 2), np.random.default_rng(0)
    rows = rng.normal(size=(30, 2))
    more = np.concatenate(
        [rows, [[LENGTH, 0.0], [LENGTH, 0.0]]]
    )  # the most that a user can change: two rows in one direction, of weight one half each
    draws = [
        np.array(
            [
                minimize_privately(data, weight, np.zeros(len(data)), np.ones(2), privacy, rng=rng)[
                    0
                ][0]
                for _ in range(3000)
            ]
        )
        for data, weight in ((rows, np.ones(30)), (more, np.r_[np.ones(30), 0.5, 0.5]))
    ]
    for threshold in np.quantile(np.concatenate(draws), [0.05, 0.2, 0.5, 0.8, 0.95]):
        for one, other in (draws, draws[::-1]):
            p, q = float((one > threshold).mean()), float((other > threshold).mean())
            assert p <= np.exp(epsilon) * q + 1e-3 + 4 * np.sqrt(0.25 / 3000)


def test_the_minimum_is_one() -> None:
    rng = np.random.default_rng(1)
    rows, privacy = rng.normal(size=(200, 5)), Privacy(1e6)  # hardly any noise
    rows *= np.minimum(1.0, LENGTH / np.linalg.norm(rows, axis=1, keepdims=True))
    mean, _ = minimize_privately(
        rows, np.ones(200), np.full(200, -0.3), np.ones(5), privacy, rng=rng
    )
    slope = rows.T @ (1 - 1 / (1 + np.exp(-(rows @ mean - 0.3)))) - mean
    assert np.abs(slope).max() < 0.05


def test_a_private_model_learns_keeps_no_domain_and_says_what_it_cost(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, pairs())))
    upshot.train_reward({"helpful": tmp_path / "p.jsonl"}, tmp_path / "m", privacy=Privacy(8.0))
    model = reward.load(tmp_path / "m")
    asked = [(Turn("user", "tell me"),)] * 2
    nice, rude = model.score(
        asked,
        [
            (Turn("assistant", "I am sorry, sun and moon."),),
            (Turn("assistant", "You stupid loser, sun and moon."),),
        ],
    )
    assert nice.reward > rude.reward
    assert nice.in_domain is None
    assert nice.unfamiliarity is None
    assert model.epsilon == 8.0
    assert "ε = 8" in (tmp_path / "m" / "card.md").read_text()
    assert (
        "u17" not in (tmp_path / "m" / "model.json").read_text()
    )  # their names are in users.json alone
    assert len(json.loads((tmp_path / "m" / "users.json").read_text())) == 400


def test_scores_can_be_learned_privately() -> None:
    rows = [
        Example(
            p.prompt, side, 0.9 if side is p.chosen else 0.1, 1.0, Source("test", (f"v{i}-{k}",))
        )
        for i, p in enumerate(pairs())
        for k, side in enumerate((p.chosen, p.rejected))
    ]
    model = private.train({"graded": rows}, Privacy(8.0))
    nice, rude = model.score(
        [()] * 2,
        [(Turn("assistant", "I am sorry, sun."),), (Turn("assistant", "You stupid loser, sun."),)],
    )
    assert nice.reward > rude.reward


def test_rows_of_several_users_and_too_many_of_one_are_left_out() -> None:
    rows = pairs(3, each=10)
    shared = msgspec.structs.replace(rows[0], source=Source("across", ("a", "b")))
    kept = limit_rows([*rows, shared], 4)
    assert len(kept) == 12
    assert all(len(row.source.users) == 1 for row in kept)
    with pytest.raises(InputError, match="at least 20"):
        private.train({"helpful": rows}, Privacy(1.0))
    with pytest.raises(InputError, match="epsilon"):
        Privacy(0.0)


def test_canaries_are_found_without_privacy_and_not_with_it() -> None:
    rows = pairs(300)
    plain = leaks.audit(rows, lambda part: reward.train({"a": part}), count=400, runs=1)
    safe = leaks.audit(
        rows, lambda part: private.train({"a": part}, Privacy(1.0)), count=400, runs=1, delta=1e-6
    )
    assert plain.auc > 0.65
    assert plain.epsilon > 0.3
    assert safe.auc < 0.6
    assert safe.epsilon <= 1.0


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_an_audit_does_not_find_what_is_not_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = leaks.measure(rng.normal(size=1000), rng.normal(size=1000))
    assert found.epsilon < 0.6
    assert found.found < 0.02


def test_a_pairs_two_gradients_are_one() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 1, bias=False)
    x = torch.randn(5, 3)  # rows 0, 1, 2; the second sequences of 0 and 2 are 3 and 4
    second = torch.tensor([3, -1, 4])

    def losses(found: torch.Tensor) -> torch.Tensor:
        other = torch.where(second >= 0, found[second.clamp(min=0), 0], torch.zeros(3))
        return -torch.nn.functional.logsigmoid(found[:3, 0] - other)

    wanted = [torch.autograd.grad(losses(layer(x))[i], layer.weight)[0] for i in range(3)]
    wrapped = GradSampleModule(layer, loss_reduction="sum")
    losses(wrapped(x.requires_grad_())).sum().backward()
    weight: Any = layer.weight
    dp_sgd.join_pairs([weight], second)
    for got, want in zip(weight.grad_sample, wanted, strict=True):
        assert torch.allclose(got, want, atol=1e-6)


def test_the_command_line_trains_privately_and_audits(tmp_path: Path) -> None:
    data = tmp_path / "p.jsonl"
    data.write_bytes(b"\n".join(map(msgspec.json.encode, pairs(100))))

    def upshot(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "upshot", *words], check=True, capture_output=True, text=True
        )

    found = json.loads(
        upshot(
            "train", "audit", str(data), "--epsilon", "3", "--canaries", "100", "--runs", "1"
        ).stdout
    )
    assert found["canaries"] == 100
    assert (
        "Private by user: epsilon 3"
        in upshot("train", "reward", str(data), "-o", str(tmp_path / "m"), "--epsilon", "3").stderr
    )
