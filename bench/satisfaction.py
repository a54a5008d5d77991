"""Do verdicts agree with people? Spearman's rho and AUC of the score of each response with human ratings.

The judge never saw the measured corpus's labels: weights are trained on the other corpora found in `--data`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parent))
import corpora
import train_judge
from upshot.hindsight import model as judge_model
from upshot.hindsight.judge import judge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    started = time.perf_counter()
    sets = train_judge.load_all(folder)
    ratings = {corpus.name: np.array([label.rating for label in corpus.labels]) for corpus in corpora.satisfaction(folder)}
    metrics: dict[str, float] = {}
    for examples in sets:
        if examples.name not in ratings:
            continue
        family = "dbdc" if examples.name.startswith("dbdc") else examples.name
        others = [other for other in sets if not other.name.startswith(family)]
        model = judge_model.from_weights(train_judge.fit(others))
        judged = judge(examples.line, examples.events, model)
        score, foresight = judged.score, judged.foresight
        rating = ratings[examples.name]
        worst = rating < 3 if family != "dbdc" else rating <= np.quantile(rating, 0.2)
        name = examples.name
        metrics[f"{name}.rho"] = round(float(spearmanr(score[examples.rows], rating)[0]), 4)
        metrics[f"{name}.auc"] = round(float(roc_auc_score(worst, -score[examples.rows])), 4)
        metrics[f"{name}.foresight_rho"] = round(float(spearmanr(foresight[examples.rows], rating)[0]), 4)
        print(name, "trained on", [other.name for other in others], metrics, file=sys.stderr)
    print(json.dumps({"bench": "satisfaction", "metrics": metrics, "data": str(folder), "seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
