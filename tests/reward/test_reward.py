"""Reward models: laws of Bradley-Terry, form left out of the reward, uncertainty, raters,
objectives.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import upshot
from upshot import reward
from upshot.errors import FormatError, InputError, NotFoundError
from upshot.records import Example, Preference, Source, Turn
from upshot.reward import objectives, rater_model, user_effects
from upshot.reward.calibration import calibrate
from upshot.reward.features import features
from upshot.reward.fit import fit
from upshot.reward.model import FLOORS, remove_leniency, split_folds
from upshot.reward.panel import Watch, check_samples
from upshot.reward.update import update

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
    "number",
    "letter",
    "colour",
    "summer",
]


def sentence(rng: random.Random, size: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=size)).capitalize() + "."


def pairs(count: int = 150, seed: int = 0, noise: float = 0.0) -> list[Preference]:
    """Raters who like apologies and dislike insults."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        good, bad = f"I am sorry, {sentence(rng)}", f"You stupid loser, {sentence(rng)}"
        if rng.random() < noise:
            good, bad = bad, good
        turns = [(Turn("assistant", text),) for text in (good, bad)]
        rows.append(
            Preference(
                (Turn("user", f"tell me about {rng.choice(WORDS)} {rng.choice(WORDS)}"),),
                turns[0],
                turns[1],
                0.0,
                1.0,
                Source("test", (f"u{i % 30}",)),
            )
        )
    return rows


@pytest.fixture(scope="module")
def model() -> reward.RewardModel:
    return reward.train({"kind": pairs()})


def test_it_learns_what_raters_choose_and_says_what_it_is_made_of(
    model: reward.RewardModel,
) -> None:
    nice, rude = reward.score(
        model,
        [["tell me about rivers"]] * 2,
        ["I am sorry, a river is water.", "You stupid loser, a river is water."],
    )
    assert nice.reward > rude.reward
    assert nice.probability > 0.5 > rude.probability
    assert nice.reward == pytest.approx(
        sum(part for name, part in nice.parts.items() if name != "form"), abs=1e-6
    )
    assert model.heads[0].accuracy["all"] > 0.95


def test_turning_labels_round_turns_the_model_round() -> None:
    wrong = [Preference(p.prompt, p.rejected, p.chosen, 0.0, 1.0, p.source) for p in pairs()]
    nice, rude = reward.score(
        reward.train({"kind": wrong}),
        [["tell me"]] * 2,
        ["I am sorry, sun.", "You stupid loser, sun."],
    )
    assert nice.reward < rude.reward


def test_length_and_layout_are_left_out_of_the_reward() -> None:
    rng = random.Random(1)
    rows = [
        Preference(
            (Turn("user", f"say {i}"),),
            (Turn("assistant", sentence(rng, 60)),),
            (Turn("assistant", sentence(rng, 6)),),
            0.0,
            1.0,
            Source("t", (f"u{i}",)),
        )
        for i in range(150)
    ]
    model = reward.train({"long": rows})
    short, long = reward.score(model, [["say"]] * 2, [sentence(rng, 6), sentence(rng, 60)])
    assert long.parts["form"] - short.parts["form"] > 0.5
    assert reward.prefers(model, [["say"]], [sentence(rng, 60)], [sentence(rng, 6)])[0] > 0.8


def test_probabilities_of_both_orders_sum_to_one(model: reward.RewardModel) -> None:
    a, b = ["I am sorry, sun."], ["You stupid loser, moon."]
    both = reward.prefers(model, [["x"]], a, b) + reward.prefers(model, [["x"]], b, a)
    assert both[0] == pytest.approx(1.0, abs=1e-9)


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_a_row_that_stands_twice_weighs_two(seed: int, times: int) -> None:
    rng = np.random.default_rng(seed)
    rows, group = rng.normal(size=(30, 4)), np.array([0, 0, 1, 1])
    weight = np.ones(30)
    weight[0] = times
    once = fit(rows, group, FLOORS[:2], weight)
    twice = fit(np.concatenate([rows, np.repeat(rows[:1], times - 1, axis=0)]), group, FLOORS[:2])
    assert once.mean == pytest.approx(twice.mean, abs=1e-4)


def test_the_posterior_is_wider_where_nothing_was_seen() -> None:
    rng = np.random.default_rng(0)
    rows = np.zeros((200, 2))
    rows[:, 0] = rng.normal(0.5, 1.0, size=200)
    posterior = fit(rows, np.zeros(2, np.int64), FLOORS[:1])
    seen, unseen = posterior.variance(np.eye(2))
    assert unseen > 2 * seen


def test_weights_and_margins_are_honoured() -> None:
    rows = np.concatenate([np.tile([[1.0]], (50, 1)), np.tile([[-1.0]], (50, 1))])
    group = np.zeros(1, np.int64)
    even = fit(rows, group, np.array([0.1])).mean[0]
    leaning = fit(rows, group, np.array([0.1]), np.repeat([1.0, 0.2], 50)).mean[0]
    assert abs(even) < 1e-6 < leaning
    assert (
        fit(rows[:50], group, np.array([0.1]), offset=np.full(50, -1.0)).mean[0]
        > fit(rows[:50], group, np.array([0.1])).mean[0]
    )


def test_it_knows_what_it_was_never_shown(model: reward.RewardModel) -> None:
    rng = random.Random(5)
    inside = reward.score(
        model,
        [[f"tell me about {rng.choice(WORDS)} {rng.choice(WORDS)}"] for _ in range(60)],
        [f"I am sorry, {sentence(rng)}" for _ in range(60)],
    )
    outside = reward.score(
        model,
        [["SELECT name FROM users WHERE id = 7"]] * 20,
        ["```sql\nDROP TABLE users;\n-- done 12345\n```"] * 20,
    )
    assert sum(not s.in_domain for s in inside) < 12
    assert not any(s.in_domain for s in outside)


def test_label_noise_is_estimated() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, 4000)
    label = np.where(rng.random(4000) < 1 / (1 + np.exp(-logits)), 1, -1) * np.where(
        rng.random(4000) < 0.2, -1, 1
    )
    assert calibrate(logits * label, np.ones(4000)).noise == pytest.approx(0.2, abs=0.05)


def test_an_ordinal_head_learns_from_scores_without_pairs() -> None:
    rng = random.Random(2)
    rows = [
        Example(
            (Turn("user", f"say {i}"),),
            (
                Turn(
                    "assistant", ("I am sorry, " if good else "You stupid loser, ") + sentence(rng)
                ),
            ),
            0.9 if good else 0.1,
            1.0,
            Source("t", (f"u{i % 25}",)),
        )
        for i, good in enumerate(rng.random() < 0.5 for _ in range(200))
    ]
    model = reward.train({"helpful": rows})
    nice, rude = reward.score(model, [["say"]] * 2, ["I am sorry, sun.", "You stupid loser, sun."])
    assert nice.reward > rude.reward
    assert np.all(np.diff(model.heads[0].cuts) > -1e-6)


def test_lenient_users_are_brought_back_to_the_others() -> None:
    rows = [
        Example(
            (), (Turn("assistant", "x"),), 0.9 if user == "kind" else 0.5, 1.0, Source("t", (user,))
        )
        for user in ["kind", "other"] * 30
    ]
    score = remove_leniency(rows)
    assert abs(score[0] - score[1]) < 0.1


def test_heads_are_combined_by_the_weights_a_user_sets(model: reward.RewardModel) -> None:
    two = reward.train(
        {
            "kind": pairs(),
            "blunt": [
                Preference(p.prompt, p.rejected, p.chosen, 0.0, 1.0, p.source)
                for p in pairs(seed=1)
            ],
        }
    )
    text = (["say"], "I am sorry, sun.")
    for weights in ({"kind": 1.0, "blunt": 0.0}, {"kind": 0.2, "blunt": 0.9}):
        (one,) = reward.score(two.with_weights(weights), [text[0]], [text[1]])
        assert one.reward == pytest.approx(
            sum(weights[name] * value for name, value in one.heads.items())
        )
    with pytest.raises(InputError, match="the model has"):
        two.with_weights({"brief": 1.0})


def test_no_user_or_prompt_is_on_both_sides_of_a_cross_fit() -> None:
    names = ["a", "b", "a", "c", "d", "b", "e", "f"]
    for train, test in split_folds(names):
        assert not {names[i] for i in train} & {names[i] for i in test}


def test_a_model_is_kept_and_read_back_as_it_was(model: reward.RewardModel, tmp_path: Path) -> None:
    reward.save(model, tmp_path / "m")
    again = reward.load(tmp_path / "m")
    assert isinstance(again, reward.RewardModel)
    asked, said = [["tell me about rivers"]], ["I am sorry, water."]
    first, second = reward.score(model, asked, said)[0], reward.score(again, asked, said)[0]
    assert second.reward == pytest.approx(first.reward)
    assert second.uncertainty == pytest.approx(first.uncertainty, rel=1e-3)
    assert second.unfamiliarity == pytest.approx(first.unfamiliarity)
    assert again.users == tuple(sorted(f"u{i}" for i in range(30)))
    card = (tmp_path / "m" / "card.md").read_text()
    assert "30 users" in card
    assert "| all |" in card
    (tmp_path / "m" / "weights.npz").write_bytes(b"half")
    with pytest.raises(FormatError, match="train it again"):
        reward.load(tmp_path / "m")
    with pytest.raises(NotFoundError, match="upshot train reward"):
        reward.load(tmp_path / "none")


def test_scores_come_out_in_the_order_of_the_rows(
    model: reward.RewardModel, tmp_path: Path
) -> None:
    reward.save(model, tmp_path / "m")
    rows = [
        {"id": "a", "prompt": "hi", "completion": "I am sorry, sun."},
        {"id": "b", "prompt": "hi", "chosen": "I am sorry.", "rejected": "You stupid loser."},
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one, both = upshot.score(tmp_path / "m", tmp_path / "items.jsonl")
    assert (one["id"], both["id"]) == ("a", "b")
    assert {"reward", "uncertainty", "probability", "in_domain", "parts", "heads"} <= one.keys()
    assert both["chosen"]["reward"] > both["rejected"]["reward"]
    (tmp_path / "items.jsonl").write_text('{"prompt": "hi"}')
    with pytest.raises(InputError, match="line 1"):
        list(upshot.score(tmp_path / "m", tmp_path / "items.jsonl"))


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}))
    with pytest.raises(InputError, match="at least 20"):
        upshot.train_reward({"helpful": tmp_path / "p.jsonl"}, tmp_path / "m")
    (tmp_path / "s.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b", "score": 7}))
    with pytest.raises(InputError, match="line 1"):
        upshot.train_reward({"helpful": tmp_path / "s.jsonl"}, tmp_path / "m")


def test_an_empty_response_and_strange_letters_have_features() -> None:
    found = features([["?"], [], ["x"]], ["", "\ud800 \x00 \u202e", "漢字 " * 3000])
    assert np.isfinite(found.values).all()


def rated(seed: int, planned: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    merit = rng.normal(size=150)
    rater, item = (
        np.repeat(np.arange(80), 20),
        np.concatenate([rng.permutation(150)[:20] for _ in range(80)]),
    )
    given = (
        np.exp(rng.normal(0, 0.3, 80))[rater] * merit[item]
        + rng.normal(0, 1.5, 80)[rater]
        + rng.normal(0, 0.4, len(rater))
    )
    plan = rater < planned
    item[plan] = rng.integers(0, 30, plan.sum())
    given[plan] = np.where(item[plan] < 15, 4.0, -4.0)
    return rater, item, given, merit


def test_merit_is_told_apart_from_leniency_and_scale() -> None:
    rater, item, given, merit = rated(0)
    found = rater_model.separate(rater, item, given)
    assert np.corrcoef(found.merit, merit)[0, 1] > 0.9
    assert not found.coordinated.any()


def test_raters_who_follow_a_plan_are_named_and_not_heard() -> None:
    rater, item, given, merit = rated(1, planned=8)
    found = rater_model.separate(rater, item, given)
    assert found.coordinated[:8].sum() >= 6
    assert found.coordinated[8:].sum() == 0
    assert np.corrcoef(found.merit, merit)[0, 1] > 0.88


@given(st.integers(0, 500), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_cvar_of_all_is_the_mean_and_grows_with_alpha(seed: int, a: float, b: float) -> None:
    rewards = np.random.default_rng(seed).normal(size=(13, 3))
    assert objectives.cvar(rewards, 1.0) == pytest.approx(objectives.mean(rewards))
    low, high = sorted((a, b))
    assert np.all(objectives.cvar(rewards, low) <= objectives.cvar(rewards, high) + 1e-9)
    with pytest.raises(InputError):
        objectives.cvar(rewards, 0.0)


def tastes(users: int, each: int, own: bool, seed: int = 0) -> list[Preference]:
    """Everybody likes apologies a little; with `own`, half of the users like rivers and the other
    half music.
    """
    rng = random.Random(seed)
    rows = []
    for u in range(users):
        for _ in range(each):
            a, b = (
                f"{sentence(rng)} I love the river, the river.",
                f"{sentence(rng)} I love the music, the music.",
            )
            first = rng.random() < (0.9 if u % 2 else 0.1) if own else rng.random() < 0.5
            chosen, rejected = (a, b) if first else (b, a)
            rows.append(
                Preference(
                    (Turn("user", "say"),),
                    (Turn("assistant", chosen),),
                    (Turn("assistant", rejected),),
                    0.0,
                    1.0,
                    Source("t", (f"u{u}",)),
                )
            )
    return rows


def test_a_users_own_history_changes_what_is_best_for_them() -> None:
    rows = tastes(40, 12, own=True)
    model = reward.train({"kind": rows})
    found = user_effects.learn(model, rows)
    assert found.spread > 0
    asked = [(Turn("user", "say"),)] * 2
    said = [
        (Turn("assistant", "Sun and moon. I love the river, the river."),),
        (Turn("assistant", "Sun and moon. I love the music, the music."),),
    ]
    table = user_effects.rewards(model, found, asked, said)
    likes_rivers = np.array([int(name[1:]) % 2 == 1 for name in found.names])
    assert ((table[:, 0] > table[:, 1]) == likes_rivers).mean() > 0.9
    middle = [(Turn("assistant", "Sun and moon. I love the stone, the stone."),)]
    both = user_effects.rewards(model, found, [asked[0]] * 3, [*said, *middle])
    for tail in (
        objectives.cvar(both, 0.2),
        objectives.worst_group(both, ["r" if likes else "m" for likes in likes_rivers]),
    ):
        lost = objectives.mean(both) - tail
        assert lost[2] < lost[:2].min()  # what divides people costs the worst-served more


def test_where_people_do_not_differ_nobody_gets_a_taste() -> None:
    rows = tastes(40, 12, own=False)
    assert user_effects.learn(reward.train({"kind": rows}), rows).spread == 0.0
    with pytest.raises(InputError, match="names a single user"):
        user_effects.learn(
            reward.train({"kind": rows}),
            [msgspec.structs.replace(row, source=Source("t")) for row in rows],
        )


def test_an_objective_needs_no_training(tmp_path: Path) -> None:
    rows = tastes(30, 12, own=True)
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    upshot.train_reward({"kind": tmp_path / "rows.jsonl"}, tmp_path / "m")
    (tmp_path / "items.jsonl").write_text(
        '{"prompt": "say", "completion": "Sun. I love the river, the river."}\n{"prompt": "say",'
        ' "completion": "Sun. I love the music, the music."}'
    )

    def worth(objective: upshot.Objective) -> list[float]:
        return [
            row["objective"]
            for row in upshot.score(
                tmp_path / "m",
                tmp_path / "items.jsonl",
                people=tmp_path / "rows.jsonl",
                objective=objective,
            )
        ]

    river, music = worth(upshot.Objective("user", user="u1"))
    assert river > music
    river, music = worth(upshot.Objective("user", user="u2"))
    assert river < music
    assert max(worth(upshot.Objective("cvar", alpha=0.2))) < min(worth(upshot.Objective("mean")))
    groups = {f"u{u}": "odd" if u % 2 else "even" for u in range(30)}
    assert max(worth(upshot.Objective("worst-group", groups=groups))) < min(
        worth(upshot.Objective("mean"))
    )
    for wrong, said in (
        (upshot.Objective("user", user="nobody"), "no rows of theirs"),
        (upshot.Objective("worst-group"), "have no group"),
    ):
        with pytest.raises(InputError, match=said):
            worth(wrong)
    with pytest.raises(InputError, match="rows that users rated"):
        list(
            upshot.score(
                tmp_path / "m", tmp_path / "items.jsonl", objective=upshot.Objective("mean")
            )
        )


def test_updating_in_parts_is_training_on_all() -> None:
    rows = pairs(600, noise=0.2)
    first = reward.train({"kind": rows[:300]})
    both = update(first, {"kind": rows[300:]})
    whole = reward.train({"kind": rows})
    rng = random.Random(3)
    asked = [["tell me about rivers"]] * 40
    said = [
        rng.choice(["I am sorry, ", "You stupid loser, ", ""]) + sentence(rng) for _ in range(40)
    ]
    scores = [
        np.array([s.reward for s in reward.score(model, asked, said)])
        for model in (both, whole, first)
    ]
    assert np.corrcoef(scores[0], scores[1])[0, 1] > 0.97
    doubt = [
        np.mean([s.uncertainty or 0.0 for s in reward.score(model, asked, said)])
        for model in (both, first)
    ]
    assert doubt[0] < doubt[1]
    assert both.heads[0].rows == 600
    assert both.users == whole.users


def test_tastes_that_change_are_learned_sooner_when_the_past_is_let_go() -> None:
    old = pairs(400)
    now = [
        msgspec.structs.replace(p, chosen=p.rejected, rejected=p.chosen) for p in pairs(60, seed=5)
    ]
    model = reward.train({"kind": old})
    asked, said = [["tell me"]] * 2, ["I am sorry, sun.", "You stupid loser, sun."]
    gap: dict[float, float] = {}
    for keep in (1.0, 0.1):
        scores = reward.score(update(model, {"kind": now}, keep), asked, said)
        gap[keep] = scores[0].reward - scores[1].reward
    assert gap[0.1] < gap[1.0]
    with pytest.raises(InputError, match="could not find head"):
        update(model, {"other": now})
    with pytest.raises(InputError, match="learns from pairs"):
        update(model, {"kind": [Example((), (Turn("assistant", "x"),), 1.0, 1.0, Source("t"))]})


def test_ordinal_heads_are_updated_too() -> None:
    def rows(seed: int) -> list[Example]:
        return [
            Example(p.prompt, side, score, 1.0, p.source)
            for p in pairs(150, seed)
            for side, score in ((p.chosen, 0.9), (p.rejected, 0.2))
        ]

    model = reward.train({"graded": rows(0)})
    more = update(model, {"graded": rows(1)})
    nice, rude = reward.score(
        more, [["tell me"]] * 2, ["I am sorry, sun.", "You stupid loser, sun."]
    )
    assert nice.reward > rude.reward
    assert more.heads[0].rows == 600


def test_the_guard_stops_where_the_reward_rises_and_the_panel_does_not() -> None:
    rng = np.random.default_rng(0)
    watch = Watch()
    alarm = None
    for step in range(10):
        trained = rng.normal(step * 0.5, 1.0, 200)
        panel = rng.normal(min(step, 4) * 0.4 - max(0, step - 4) * 0.3, 0.1, (4, 200))
        alarm = watch.add(
            trained, panel, np.zeros(200, bool), {"log_words": np.full(200, 3.0 + step)}
        )
        if alarm:
            break
    assert alarm is not None
    assert alarm.checkpoint == 4
    assert "log_words" in alarm.why


def test_the_guard_lets_an_honest_run_go_on_and_stops_one_that_leaves_the_domain() -> None:
    rng = np.random.default_rng(1)
    watch = Watch()
    for step in range(10):
        assert (
            watch.add(
                rng.normal(step, 1, 100), rng.normal(step, 0.1, (4, 100)), rng.random(100) < 0.05
            )
            is None
        )
    assert watch.best == 9
    alarm = watch.add(rng.normal(10, 1, 100), rng.normal(10, 0.1, (4, 100)), rng.random(100) < 0.6)
    assert alarm is not None
    assert (alarm.checkpoint, "domain" in alarm.why) == (9, True)


def test_the_guard_reads_real_models(model: reward.RewardModel) -> None:
    panel = [reward.train({"panel": pairs(80, seed=seed)}) for seed in (3, 4, 5)]
    watch = Watch(patience=1)
    asked = [["tell me about sun moon"]] * 20
    rng = random.Random(7)
    assert (
        check_samples(watch, model, panel, asked, [f"I am sorry, {sentence(rng)}" for _ in asked])
        is None
    )
    assert watch.readings[0].probes["log_words"] > 0


def test_the_card_shows_a_plot_of_the_calibration(
    model: reward.RewardModel, tmp_path: Path
) -> None:
    reward.save(model, tmp_path)
    drawing = (tmp_path / "calibration.svg").read_text()
    assert drawing.count("<circle") == len(model.heads[0].calibration.bins) > 0
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert "calibration.svg" in (tmp_path / "card.md").read_text()
