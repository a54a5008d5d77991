"""Train the weights for whether code is taken over (`adoption.json`): a logistic regression on the
code that a response shows and on how much was asked, fitted to RealHumanEval's copy events.

The figures are out of fold, by programmer; `--out` writes the file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

sys.path.insert(0, str(Path(__file__).parent))
import corpora
import train_judge
from upshot.hindsight.embedded.features import CODE, compute_features
from upshot.hindsight.embedded.model import Adoption, load_shipped_model

_STRENGTH = 0.3
"""Inverse of the ridge; three weights on a thousand rows hardly need one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    conversations, copied = corpora.real_human_eval(arguments.data)
    line, events = train_judge.table(conversations)
    rows = train_judge.rows_of(line, list(copied))
    features = compute_features(line, events, load_shipped_model().lexicon)
    values = features.values[rows][:, [features.names.index(name) for name in CODE]]
    has_code = values[:, 0] > 0
    taken = np.array(list(copied.values()))
    programmers = np.unique([name.rsplit("-", 1)[0] for name, _ in copied], return_inverse=True)[1]
    fit = LogisticRegression(C=_STRENGTH, max_iter=2000)
    guesses = np.asarray(
        cross_val_predict(
            fit,
            values[has_code],
            taken[has_code],
            groups=programmers[has_code],
            cv=GroupKFold(10),
            method="decision_function",
        )
    )
    whole = np.full(len(taken), guesses.min())
    whole[has_code] = guesses
    fit.fit(values[has_code], taken[has_code])
    weights: dict[str, float] = {
        name: round(float(w), 4) for name, w in zip(CODE, np.asarray(fit.coef_)[0], strict=True)
    }
    if arguments.out:
        mean = round(float(fit.decision_function(values[has_code]).mean()), 4)
        bias, source = round(float(np.asarray(fit.intercept_)[0]), 4), "RealHumanEval (CC0)"
        adoption = Adoption(bias, weights, [source], mean)
        arguments.out.write_bytes(msgspec.json.encode(adoption) + b"\n")
    metrics = {
        "responses": len(taken),
        "with_code.auc": round(float(roc_auc_score(taken[has_code], guesses)), 4),
        "auc": round(float(roc_auc_score(taken, whole)), 4),
        "has_code.auc": round(float(roc_auc_score(taken, has_code)), 4),
    }
    print(
        json.dumps(
            {
                "bench": "train_adoption",
                "metrics": metrics | weights,
                "data": str(arguments.data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
