"""Models learn what was rated, not who rated: rater effects are taken out where raters overlap."""

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
from scipy.stats import spearmanr

import upshot
from upshot import reward
from upshot.errors import InputError
from upshot.records import Example, Preference, Source, Turn
from upshot.reward.private import Privacy
from upshot.reward.ratings import correct_ratings, take_out_rater_effects

ASK = (Turn("user", "tell me"),)
GOOD, BAD = ("garden", "river", "summer", "music"), ("number", "stone", "paper", "glass")
FILLER = ("table", "window", "cloud", "road", "tree", "bird")


def answer(rng: random.Random) -> tuple[tuple[Turn, ...], float]:
    """A response of six words that matter and some that do not, and its merit."""
    good = rng.randint(0, 6)
    words = rng.choices(GOOD, k=good) + rng.choices(BAD, k=6 - good)
    words += rng.choices(FILLER, k=rng.randint(0, 30))
    rng.shuffle(words)
    return (Turn("assistant", f"The {' '.join(words)} is here."),), (good - 3) / 2


def rated(seed: int, raters: int = 60, plan: int = 6) -> list[Example]:
    """As in `bench/annotators.py`: leniency, scale, taste for length, noise, and a crowd."""
    rng, texts = np.random.default_rng(seed), random.Random(seed)
    answers = [answer(texts) for _ in range(150)]
    length = np.array([np.log1p(len(turns[0].content.split())) for turns, _ in answers])
    length = (length - length.mean()) / length.std()
    rows: list[Example] = []
    for number in range(raters):
        leniency, scale = rng.normal(0, 0.8), np.exp(rng.normal(0, 0.4))
        taste = rng.normal(0.5, 0.5)
        for item in rng.choice(len(answers), 20, replace=False).tolist():
            turns, merit = answers[item]
            rating = 3 + leniency + 0.7 * scale * (merit + taste * length[item])
            rating += rng.normal(0, 0.5)
            if number < plan:  # they push some responses up and the rest down
                rating = 5.0 if item % 5 == 0 else 1.0
            score = (float(np.clip(np.round(rating), 1, 5)) - 1) / 4
            rows.append(Example(ASK, turns, score, 1.0, Source("rating", (f"r{number}",))))
    return rows


def rank(model: reward.RewardModel, seed: int = 99) -> float:
    """Rank correlation with the true merit of new responses."""
    texts = random.Random(seed)
    answers = [answer(texts) for _ in range(200)]
    scores = model.score([ASK] * len(answers), [turns for turns, _ in answers])
    correlation: Any = spearmanr([s.reward for s in scores], [merit for _, merit in answers])
    return float(correlation[0])


def test_without_rater_effects_a_model_ranks_better() -> None:
    gains = []
    for seed in range(2, 6):
        rows = rated(seed)
        model = reward.train({"rated": rows}, rater_effects=True)
        gains.append(rank(model) - rank(reward.train({"rated": rows})))
    assert np.mean(gains) > 0.03
    assert min(gains) > -0.03


def test_ratings_are_corrected_one_by_one_and_the_raters_stay_named() -> None:
    rows = rated(0)
    corrected = correct_ratings("rated", rows)
    assert [(row.completion, row.source) for row in corrected] == [
        (row.completion, row.source) for row in rows
    ]
    assert all(0 <= row.score <= 1 for row in corrected)
    model = reward.train({"rated": rows}, rater_effects=True)
    assert model.users == tuple(sorted({f"r{n}" for n in range(60)}))


def test_what_a_lenient_rater_gives_is_lowered() -> None:
    rng, texts = np.random.default_rng(0), random.Random(0)
    rows: list[Example] = []
    for _ in range(60):
        turns, merit = answer(texts)
        for name, leniency in (("strict", -0.2), ("usual", 0.0), ("lenient", 0.2)):
            score = float(np.clip(0.5 + 0.1 * merit + leniency + rng.normal(0, 0.02), 0, 1))
            rows.append(Example(ASK, turns, score, 1.0, Source("rating", (name,))))
    corrected = correct_ratings("rated", rows)

    def mean(rows: list[Example], name: str) -> float:
        return float(np.mean([row.score for row in rows if row.source.users == (name,)]))

    assert mean(rows, "lenient") - mean(rows, "strict") > 0.35
    assert abs(mean(corrected, "lenient") - mean(corrected, "strict")) < 0.05


def test_pairs_stay_as_they_are_beside_ratings() -> None:
    pairs = [
        Preference(ASK, (Turn("assistant", "a"),), (Turn("assistant", "b"),), 0.0, 1.0, Source("x"))
    ]
    assert take_out_rater_effects({"pairs": pairs, "rated": rated(0)})["pairs"] is pairs
    with pytest.raises(InputError, match="all rows are pairs"):
        take_out_rater_effects({"pairs": pairs})


def test_rows_without_raters_are_refused() -> None:
    rows = rated(0)
    nobody = [msgspec.structs.replace(row, source=Source("rating")) for row in rows]
    with pytest.raises(InputError, match="no row names a single rater"):
        reward.train({"rated": nobody}, rater_effects=True)
    apart = list({row.completion: row for row in rows}.values())
    with pytest.raises(InputError, match="ratings of two"):
        reward.train({"rated": apart}, rater_effects=True)


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """A file of ratings by several people."""
    path = tmp_path / "ratings.jsonl"
    lines = [
        json.dumps(
            {
                "prompt": "tell me",
                "completion": row.completion[0].content,
                "score": row.score,
                "rater": row.source.users[0],
            }
        )
        for row in rated(0)
    ]
    path.write_text("\n".join(lines))
    return path


def test_a_file_of_ratings_is_trained_without_rater_effects(ratings: Path, tmp_path: Path) -> None:
    model = upshot.train_reward({"rated": ratings}, tmp_path / "m", raters=True)
    assert model.raters
    loaded = reward.load(tmp_path / "m")
    assert (loaded.raters, loaded.users) == (True, model.users)
    assert "taken out first" in (tmp_path / "m" / "card.md").read_text().replace("\n", " ")
    with pytest.raises(InputError, match="private"):
        upshot.train_reward({"rated": ratings}, tmp_path / "p", raters=True, privacy=Privacy(1.0))


def test_the_command_line_takes_rater_effects_out_too(ratings: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "upshot", "train", "reward", str(ratings), "--raters", "-o"]
    subprocess.run([*command, str(tmp_path / "m")], check=True, capture_output=True)
    assert "taken out first" in (tmp_path / "m" / "card.md").read_text().replace("\n", " ")
    update = [*command, str(tmp_path / "n"), "--update", str(tmp_path / "m")]
    refused = subprocess.run(update, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--raters" in refused.stderr


def test_pairs_of_equal_responses_are_left_out_and_counted(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows: list[Preference] = []
    for n in range(60):
        chosen, rejected = (Turn("assistant", f"garden {n}"),), (Turn("assistant", f"stone {n}"),)
        rows.append(Preference(ASK, chosen, rejected, 0.0, 1.0, Source("x", (f"u{n}",))))
    same = [msgspec.structs.replace(row, rejected=row.chosen) for row in rows[:3]]
    everything = [*rows, *same]
    rng.shuffle(everything)
    assert reward.train({"helpful": everything}).left_out == 3
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in [*same, *rows]))
    model = upshot.train_reward({"helpful": path}, tmp_path / "m")
    assert (model.left_out, model.heads[0].rows) == (3, 60)
    loaded = reward.load(tmp_path / "m")
    assert loaded.left_out == 3
    assert "3 pairs were left out" in (tmp_path / "m" / "card.md").read_text()
