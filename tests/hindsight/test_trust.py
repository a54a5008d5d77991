"""Calibration, abstention, agreement and comparison: laws, and simulations with known truth."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upshot
from upshot.errors import InputError
from upshot.hindsight.trust.compare import compare
from upshot.hindsight.trust.units import Units
from upshot.stats import agreement, calibration
from upshot.stats.intervals import ratio_interval

scores = st.lists(st.floats(0, 1), min_size=40, max_size=120)


def draw_sample(seed: int, size: int, slope: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident scores and the outcomes."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.5, 2.5, size)
    return 1 / (1 + np.exp(-logit)), (rng.random(size) < 1 / (1 + np.exp(-slope * logit))).astype(
        float
    )


@given(scores, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_calibrator_is_monotone_and_a_probability(results: list[float], seed: int) -> None:
    x = np.array(results)
    y = (np.random.default_rng(seed).random(len(x)) < 0.5).astype(float)
    if np.ptp(y) == 0:
        return
    for curve in (
        calibration.fit_platt(x, y, np.ones(len(x))),
        calibration.fit_isotonic(x, y, np.ones(len(x))),
    ):
        p = curve(np.linspace(0, 1, 50))
        assert (np.diff(p) >= -1e-9).all()
        assert ((p > 0) & (p < 1)).all()


def test_isotonic_keeps_the_mean() -> None:
    x, y = draw_sample(0, 3000)
    curve = calibration.fit_calibrator(x, y)
    assert curve.kind == "isotonic"
    assert float(curve(x).mean()) == pytest.approx(y.mean(), abs=0.01)


@pytest.mark.parametrize("size", [60, 200, 2000])
def test_calibration_lowers_the_error_on_unseen_responses(size: int) -> None:
    x, y = draw_sample(1, size)
    new_x, new_y = draw_sample(2, 4000)
    assert calibration.ece(calibration.fit_calibrator(x, y)(new_x), new_y) < 0.6 * calibration.ece(
        new_x, new_y
    )


def test_no_label_vouches_for_itself() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(200), np.repeat([0.0, 1.0], 100)
    by_user = calibration.cross_fit_probabilities(
        x, y, [f"{label}{i % 3}" for i, label in enumerate(y)], folds=6
    )
    assert by_user[y == 1].mean() < by_user[y == 0].mean()


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(InputError, match="at least 10"):
        calibration.fit_calibrator([0.5] * 4, [0, 1, 0, 1])
    with pytest.raises(InputError, match="of one kind"):
        calibration.fit_calibrator([0.5] * 40, [1] * 40)


@pytest.mark.parametrize("error", [0.05, 0.1, 0.3])
def test_abstention_keeps_its_promise_for_each_class(error: float) -> None:
    covered: list[list[float]] = [[], []]
    for seed in range(60):
        p, y = draw_sample(seed, 300)
        chosen = calibration.fit_abstention(p[:150], y[:150], error)
        helped, harmed = chosen.sets(p[150:])
        for kind, possible in ((1, helped), (0, harmed)):
            covered[kind].append(float(possible[y[150:] == kind].mean()))
    assert all(np.mean(results) >= 1 - error - 0.02 for results in covered)


def test_ties_of_labels_and_scores_do_not_break_the_interval() -> None:
    assert ratio_interval(np.array([1.0, 1.0]), np.array([1.0, 1.0]))[1:] == (1.0, 1.0)


def test_alpha_and_kappa_know_chance_from_agreement() -> None:
    rng = np.random.default_rng(0)
    a, noise = rng.integers(0, 2, 400).astype(float), rng.integers(0, 2, 400).astype(float)
    assert agreement.krippendorff_alpha(np.vstack([a, a])).value == pytest.approx(1)
    chance = agreement.krippendorff_alpha(np.vstack([a, noise]))
    assert chance.low < 0 < chance.high
    kappa = agreement.cohen_kappa(a.tolist(), noise.tolist())
    assert kappa.low < 0 < kappa.high
    gaps = np.array([[1.0, np.nan, 0.0, 1.0], [1.0, 0.0, 0.0, np.nan]])
    assert agreement.krippendorff_alpha(gaps).value == pytest.approx(1)


def alpha_by_all_pairs(ratings: np.ndarray) -> float:
    """Krippendorff's definition: every ordered pair of values, within units and overall."""
    units = [unit for column in ratings.T if len(unit := column[~np.isnan(column)]) >= 2]
    values = np.concatenate([np.zeros(0), *units])
    within = sum(((u[:, None] - u) ** 2).sum() / (len(u) - 1) for u in units)
    overall = ((values[:, None] - values) ** 2).sum() / max(1, len(values) - 1)
    return float(1 - within / overall) if overall > 0 else float("nan")


@given(
    st.lists(
        st.lists(st.none() | st.integers(0, 10), min_size=3, max_size=3), min_size=2, max_size=12
    )
)
@settings(max_examples=60, deadline=None)
def test_alpha_in_closed_form_equals_the_sum_over_all_pairs(
    ratings: list[list[int | None]],
) -> None:
    by_item = np.array(ratings, float)  # None becomes NaN
    value = agreement.krippendorff_alpha(by_item.T / 10).value
    assert value == pytest.approx(alpha_by_all_pairs(by_item.T / 10), nan_ok=True, abs=1e-9)


def test_alpha_of_many_labels_takes_linear_time() -> None:
    ratings = np.random.default_rng(0).random((2, 150_000))
    started = time.perf_counter()
    assert abs(agreement.krippendorff_alpha(ratings).value) < 0.02
    assert time.perf_counter() - started < 1


def test_lenient_users_are_found_and_quiet_ones_hardly_moved() -> None:
    rng = np.random.default_rng(0)
    users = [f"u{i % 50}" for i in range(1000)] + ["rare"]
    effect = {f"u{i}": float(e) for i, e in enumerate(rng.normal(0, 0.3, 50))} | {"rare": 0.0}
    residuals = np.array([effect[u] for u in users]) + rng.normal(0, 0.3, len(users))
    residuals[-1] = 1.0
    results, spread = calibration.estimate_leniency(residuals, users)
    assert spread == pytest.approx(0.3, abs=0.08)
    assert np.corrcoef([results[u] for u in effect], list(effect.values()))[0, 1] > 0.9
    assert abs(results["rare"]) < 0.7
    assert calibration.estimate_leniency(rng.normal(0, 1, 1000), users[:1000])[1] < 0.25


def make_arms(
    seed: int, flattery: float, audited: float, effect: float = 0.0, rows: int = 4000
) -> tuple[Units, float]:
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1, rows)
    arm = (rng.random(rows) < 1 / (1 + np.exp(-hard))).astype(int)
    helps = 1 / (1 + np.exp(-(0.5 - hard + effect * arm)))
    helped = (rng.random(rows) < helps).astype(float)
    verdict = np.clip(0.2 + 0.6 * helped + flattery * arm + rng.normal(0, 0.1, rows), 0, 1)
    drawn = rng.random(rows) < audited
    user = rng.integers(0, 500, rows).astype(str).astype(object)
    truth = float(
        (1 / (1 + np.exp(-(0.5 - hard + effect))) - 1 / (1 + np.exp(-(0.5 - hard)))).mean()
    )
    return Units(
        arm, verdict, hard[:, None], user, drawn, helped, np.full(rows, max(audited, 1e-6))
    ), truth


def test_routing_of_hard_tasks_is_undone_by_the_prompt() -> None:
    units, truth = make_arms(0, 0.0, 0.1, effect=0.8)
    results = compare(units)
    assert results.audited is not None
    assert abs(results.naive.difference - truth) > 0.1
    assert results.audited.low <= truth <= results.audited.high


def test_flattery_is_seen_through_with_an_audit_and_admitted_without() -> None:
    units, _ = make_arms(1, 0.2, 0.1)
    results = compare(units)
    assert results.audited is not None
    assert results.logs.low > 0.1
    assert results.audited.low < 0 < results.audited.high
    assert results.flattered is not None
    assert results.flattered > 0.1
    assert "cannot be trusted" in results.answer
    alone = compare(units._replace(audited=np.zeros(len(units.arm), bool)))
    assert alone.audited is None
    assert "cannot tell" in alone.answer
    assert 1.0 < alone.gamma < 10


def test_swapping_the_arms_turns_the_sign() -> None:
    units, _ = make_arms(2, 0.1, 0.1, 0.5)
    there, back = compare(units), compare(units._replace(arm=1 - units.arm))
    assert there.audited is not None
    assert back.audited is not None
    assert there.audited.difference == pytest.approx(-back.audited.difference, abs=1e-9)


def test_an_empty_arm_is_refused() -> None:
    units, _ = make_arms(3, 0.0, 0.1, rows=200)
    with pytest.raises(InputError, match="at least 20 of each"):
        compare(units._replace(arm=np.zeros(200, np.int64)))


def make_knob_log(path: Path, propensities: bool = True) -> None:
    """A variant drawn more often for hard requests, which fail more; "b" is better for all."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for n in range(600):
        hard = bool(rng.random() < 0.5)
        shares = np.array([0.2, 0.6, 0.2] if hard else [0.6, 0.2, 0.2])
        variant = int(rng.choice(3, p=shares))
        works = rng.random() < (0.2 if hard else 0.6) + (0.3 if variant == 1 else 0.0)
        reply = "thanks, that worked perfectly" if works else "no, that is wrong, it still fails"
        metadata: dict[str, Any] = {"variant": "abc"[variant]}
        if propensities:
            metadata["propensity"] = float(shares[variant])
        texts = [f"how do I sort list {n}?", "Use sorted.", reply]
        roles = ["user", "assistant", "user"]
        rows.append(
            {
                "id": f"c{n}",
                "user": f"u{n % 200}",
                "messages": [
                    {"role": role, "content": text} for role, text in zip(roles, texts, strict=True)
                ],
                "metadata": metadata,
            }
        )
    path.write_text("\n".join(json.dumps(row) for row in rows))


def test_a_knob_that_was_drawn_for_hard_requests_is_valued_as_if_drawn_for_all(
    tmp_path: Path,
) -> None:
    log, lake = tmp_path / "log.jsonl", tmp_path / "lake"
    make_knob_log(log)
    upshot.run(log, lake)
    scores = {(v.id, v.index): v.score for v in upshot.verdicts(lake)}
    naive: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    for row in map(json.loads, log.read_text().splitlines()):
        naive[row["metadata"]["variant"]].append(scores[row["id"], 1])
    gaps: dict[str, float] = {}
    for estimator in ("ips", "snips", "dm", "dr"):
        values = {v.arm: v for v in upshot.evaluate(lake, "variant", estimator=estimator)}
        assert next(iter(values)) == "b", "the best comes first"
        gaps[estimator] = values["b"].value - values["a"].value
    # "b" was given to the hard requests, so its plain mean shows less than half of its lead.
    assert np.mean(naive["b"]) - np.mean(naive["a"]) < gaps["snips"] / 2
    assert values["b"].low > values["a"].high
    assert 100 < values["b"].effective < values["b"].responses


def test_a_knob_without_its_propensities_is_refused(tmp_path: Path) -> None:
    log, lake = tmp_path / "log.jsonl", tmp_path / "lake"
    make_knob_log(log, propensities=False)
    upshot.run(log, lake)
    with pytest.raises(InputError, match=r"no\s+metadata.propensity"):
        upshot.evaluate(lake, "variant")
    with pytest.raises(InputError, match="name a value"):
        upshot.evaluate(lake, "temperature")
