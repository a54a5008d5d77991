"""Whether verdicts agree with people: Spearman's rho and AUC of the responses' scores with human
ratings.

The judge never saw the measured corpus's labels: weights are trained on the other corpora in
`--data`. Cheap baselines on the user's next message: `words`, positive minus negative words of two
short lists that nothing was trained on; `tfidf`, ridge regression on TF-IDF of words, trained on
the other dialogues of people with a task, as the judge's own words are.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parent))
import train_judge
from measure import spearman

_POSITIVE = re.compile(
    r"\b(?:thanks|thank|great|good|perfect|nice|works|awesome|wonderful|excellent|sounds|yes|love"
    r"|helpful|cool)\b"
)
_NEGATIVE = re.compile(
    r"\b(?:no|not|don't|didn't|wrong|instead|never|can't|sorry|bad|nothing|what|why|again)\b"
)
"""Everyday words of content and discontent, written down before any was counted."""
_MIN_DOCUMENTS = 2
"""Of a word in the TF-IDF model: one that occurs once teaches nothing."""


def next_texts(examples: train_judge.Examples) -> list[str]:
    """The user's message after each rated response; empty where none follows."""
    following = examples.line.later(1, 1, 20)[examples.rows, 0]
    return [examples.line.text[place] if place >= 0 else "" for place in following]


def count_words(texts: Sequence[str]) -> NDArray[np.float64]:
    """Positive minus negative words of each text."""
    return np.array([float(_count_word_signs(text.lower().replace("’", "'"))) for text in texts])


def _count_word_signs(text: str) -> int:
    return len(_POSITIVE.findall(text)) - len(_NEGATIVE.findall(text))


def predict_by_words(
    others: Sequence[train_judge.Examples], texts: Sequence[str]
) -> NDArray[np.float64]:
    """Ridge regression on TF-IDF of words, trained on other corpora, each centred."""
    others = [examples for examples in others if examples.teaches_words]
    vectorizer = TfidfVectorizer(min_df=_MIN_DOCUMENTS, sublinear_tf=True)
    matrix = vectorizer.fit_transform([text for e in others for text in next_texts(e)])
    target = np.concatenate([e.target - e.target.mean() for e in others])
    return Ridge(alpha=1.0).fit(matrix, target).predict(vectorizer.transform(texts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    started = time.perf_counter()
    metrics: dict[str, float] = {}
    sets = {examples.name: examples for examples in train_judge.load_all(folder)}
    for found in train_judge.held_out(folder):
        rows, name = found.examples.rows, found.name
        texts = next_texts(found.examples)
        scores = {
            "": found.judged.score[rows],
            "words.": count_words(texts),
            "tfidf.": predict_by_words([sets[other] for other in found.others], texts),
        }
        for prefix, score in scores.items():
            metrics[f"{name}.{prefix}rho"] = round(spearman(score, found.rating), 4)
            metrics[f"{name}.{prefix}auc"] = round(float(roc_auc_score(found.worst, -score)), 4)
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
