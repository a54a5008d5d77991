"""Whether scores are probabilities, before and after a few labels; and the coverage of conformal
abstention.

Each corpus of `satisfaction/` in DIR is judged by weights trained on the others. A response helped
where its mean rating is 3 or more (in the breakdown corpora: where it is not among the worst
fifth). Responses to label are drawn at random, as `upshot audit` draws them; everything is measured
on the others. ECE: 10 bins of equal size, mean over corpora and draws. Abstention: half of 200
labels calibrate, the other half set the thresholds. `abstention_coverage` is the share of unseen
cases whose prediction set holds the truth (chosen: 0.9), `abstention_decided` the share whose set
has one element.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import train_judge
from upshot.stats import calibration

_SIZES = (50, 200, 1000)


def draw(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Rows at random, as an audit draws them."""
    return np.isin(np.arange(size), rng.permutation(size)[:count])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--draws", type=int, default=40)
    arguments = parser.parse_args()
    started = time.perf_counter()
    found: dict[str, list[float]] = {}
    for corpus in train_judge.held_out(arguments.data):
        score = corpus.judged.score[corpus.examples.rows].astype(float)
        label = (~corpus.worst).astype(float)
        mine: dict[str, list[float]] = {"ece.before": [calibration.ece(score, label)]}
        for turn in range(arguments.draws):
            rng = np.random.default_rng(turn)
            for size in _SIZES:
                taught = draw(rng, len(label), size)
                if (~taught).sum() < 200:
                    continue
                curve = calibration.fit_calibrator(score[taught], label[taught])
                mine.setdefault(f"ece.{size}", []).append(
                    calibration.ece(curve(score[~taught]), label[~taught])
                )
            first = draw(rng, len(label), 100)
            second = draw(rng, len(label), 200) & ~first
            if min(label[first].sum(), (1 - label[first]).sum(), (1 - label[second]).sum()) < 5:
                continue
            curve = calibration.fit_calibrator(score[first], label[first])
            chosen = calibration.fit_abstention(curve(score[second]), label[second], 0.1)
            rest = ~(first | second)
            helped, harmed = chosen.sets(curve(score[rest]))
            mine.setdefault("abstention_coverage", []).append(
                float(np.where(label[rest] > 0.5, helped, harmed).mean())
            )
            mine.setdefault("abstention_decided", []).append(float((helped != harmed).mean()))
        print(
            corpus.name,
            f"base {label.mean():.3f}",
            {k: round(float(np.mean(v)), 4) for k, v in mine.items()},
            file=sys.stderr,
        )
        for name, values in mine.items():
            found.setdefault(name, []).append(float(np.mean(values)))
    metrics = {name: round(float(np.mean(values)), 4) for name, values in found.items()}
    print(
        json.dumps(
            {
                "bench": "calibration",
                "metrics": metrics,
                "data": str(arguments.data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
