"""Whether verdicts agree with people: Spearman's rho and AUC of the responses' scores with human
ratings.

The judge never saw the measured corpus's labels: weights are trained on the other corpora in
`--data`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parent))
import train_judge
from measure import spearman


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    started = time.perf_counter()
    metrics: dict[str, float] = {}
    for found in train_judge.held_out(folder):
        rows, name = found.examples.rows, found.name
        metrics[f"{name}.rho"] = round(spearman(found.judged.score[rows], found.rating), 4)
        metrics[f"{name}.auc"] = round(
            float(roc_auc_score(found.worst, -found.judged.score[rows])), 4
        )
        metrics[f"{name}.foresight_rho"] = round(
            spearman(found.judged.foresight[rows], found.rating), 4
        )
        print(name, "trained on", found.others, metrics, file=sys.stderr)
    print(
        json.dumps(
            {
                "bench": "satisfaction",
                "metrics": metrics,
                "data": str(folder),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
