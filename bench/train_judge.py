"""Train the embedded judge's weights on corpora with known outcomes; `--out` writes `weights.json`.

`bench/satisfaction.py` and `bench/outcomes.py` use it too, and leave the measured corpus out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

sys.path.insert(0, str(Path(__file__).parent))
import corpora
from upshot.api.judging import read_logs as read
from upshot.hindsight.embedded import cues
from upshot.hindsight.embedded import model as judge_model
from upshot.hindsight.embedded.features import compute_features
from upshot.hindsight.embedded.judge import Judged, collect_events, judge, learn_corpus
from upshot.hindsight.embedded.timeline import Timeline, build_timeline
from upshot.privacy import Pseudonyms, clean
from upshot.records import RawConversation
from upshot.records.signals import SIGNALS

_WORD = re.compile(r"[a-z0-9_'\x80-\U0010ffff]+")
_LEAST_DIALOGUES = 4
_RIDGE = 8.0
_HOLD = 100.0


class Examples(NamedTuple):
    """One corpus ready for training."""

    name: str
    line: Timeline
    events: list
    rows: np.ndarray
    """Rows (of the responses) that have a label."""
    target: np.ndarray
    """P(helped) in [0, 1]."""
    group: np.ndarray
    """Dialogue of each row, for folds."""
    teaches_words: bool


def table(conversations: Sequence[RawConversation]) -> tuple[Timeline, list]:
    """A corpus as the judge sees it."""
    batch = clean(conversations, Pseudonyms("a fixed key for benchmarks"), None, 1)
    line = build_timeline(batch.messages, batch.conversations)
    return line, collect_events(batch.events, line)


def helped(rating: float) -> float:
    """Mean rating 1 to 5 → P(helped): 3 is "as it should be"; below it users struggle."""
    return float(np.interp(rating, [1, 2, 3, 4, 5], [0.02, 0.15, 0.65, 0.92, 0.98]))


def rated(corpus: corpora.Corpus) -> Examples:
    """A satisfaction corpus."""
    line, events = table(corpus.conversations)
    rows = rows_of(line, [(label.conversation, label.index) for label in corpus.labels])
    target = np.array([helped(label.rating) for label in corpus.labels])
    return Examples(
        corpus.name,
        line,
        events,
        rows,
        target,
        line.session[line.responses[rows]],
        not corpus.name.startswith("dbdc"),
    )


def rows_by_message(line: Timeline) -> dict[tuple[str, int], int]:
    """(conversation, index) → row of the response that the message is part of."""
    names = zip(line.conversation.tolist(), line.index.tolist(), line.row_of.tolist(), strict=True)
    return {(name, index): row for name, index, row in names if row >= 0}


def rows_of(line: Timeline, keys: Sequence[tuple[str, int]]) -> np.ndarray:
    row = rows_by_message(line)
    return np.array([row[key] for key in keys])


def commit_rows(line: Timeline, conversations: Sequence[RawConversation]) -> dict[str, int]:
    """Commit hash → row of the response behind it."""
    row = rows_by_message(line)
    found: dict[str, int] = {}
    for conversation in conversations:
        for index, message in enumerate(conversation.messages):
            for signal in message.signals:
                if signal.kind in ("commit", "own_commit") and (conversation.id, index) in row:
                    found[signal.detail] = row[(conversation.id, index)]
    return found


def code(folder: Path) -> Examples:
    """The coding log: whether each commit stayed, and how much of it."""
    conversations = [
        c
        for c in read(folder / "coding-chats" / "aider-chat-history.md")
        if isinstance(c, RawConversation)
    ]
    line, events = table(conversations)
    commits = commit_rows(line, conversations)
    fate: dict[int, list[float]] = {}
    for commit in corpora.commits(folder):
        if commit.hash in commits:
            value = 0.03 if not commit.in_history else 0.75 if commit.half_alive is False else 0.95
            fate.setdefault(commits[commit.hash], []).append(value)
    rows = np.array(sorted(fate))
    target = np.array([np.mean(fate[row]) for row in rows])
    return Examples("coding", line, events, rows, target, line.session[line.responses[rows]], False)


def copies(folder: Path) -> Examples:
    """RealHumanEval: a response from which the programmer copied is likelier to have helped."""
    conversations, copied = corpora.real_human_eval(folder)
    line, events = table(conversations)
    rows = rows_of(line, list(copied))
    target = np.array([0.85 if flag else 0.45 for flag in copied.values()])
    return Examples(
        "realhumaneval", line, events, rows, target, line.session[line.responses[rows]], False
    )


def learn_lexicon(
    sets: Sequence[Examples], folds: np.ndarray | None = None, skip: int = -1
) -> dict[str, float]:
    """Ridge regression of the centred target on the words and pairs of the user's next message."""
    texts: list[str] = []
    target: list[float] = []
    at = 0
    for examples in sets:
        size = len(examples.rows)
        keep = np.ones(size, bool) if folds is None else folds[at : at + size] != skip
        at += size
        if not examples.teaches_words:
            continue
        following = examples.line.later(1, 1, 20)[examples.rows, 0]
        mean = examples.target.mean()
        for row in np.flatnonzero(keep & (following >= 0)):
            texts.append(examples.line.text[following[row]])
            target.append(examples.target[row] - mean)
    documents = [_terms(text) for text in texts]
    counts = Counter(term for document in documents for term in document)
    vocabulary = {
        term: i
        for i, term in enumerate(
            sorted(t for t, count in counts.items() if count >= _LEAST_DIALOGUES)
        )
    }
    rows, columns, values = [], [], []
    for i, document in enumerate(documents):
        size = np.sqrt(len(_WORD.findall(texts[i].lower()[:600])) + 2.0)
        for term in document:
            if term in vocabulary:
                rows.append(i)
                columns.append(vocabulary[term])
                values.append(1.0 / size)
    matrix = csr_matrix((values, (rows, columns)), shape=(len(documents), len(vocabulary)))
    weights = Ridge(alpha=_RIDGE, fit_intercept=True).fit(matrix, np.array(target)).coef_
    return {
        term: round(float(weights[i]), 4)
        for term, i in vocabulary.items()
        if abs(weights[i]) > 0.005
    }


def _terms(text: str) -> set[str]:
    words = _WORD.findall(text.lower()[:600])
    return {*words, *(f"{a} {b}" for a, b in zip(words, words[1:], strict=False))}


_PRIOR = {
    "next_lexicon": 9.0,
    "request_lexicon": 2.0,
    "polite_but_failed": -1.2,
    "next_same_request": -1.0,
    "next_repeats": -0.2,
    "later_repeats": -0.3,
    "next_capitals": -0.5,
    "next_exclaim": 0.2,
    "next_question": -0.25,
    "next_starts_no": -0.4,
    "request_thanks": 0.1,
    "request_complains": -0.2,
    "request_rejects": -0.2,
    "request_failed": -0.2,
    "response_unsure": -0.5,
    "response_repeats": -0.3,
    "refusal": -0.4,
    "right_refusal": 1.0,
    "response_apology": -0.2,
    "edit_size": 0.25,
}
_LATER = {
    "worked": 0.5,
    "failed": 0.4,
    "pasted_error": 0.5,
    "complaint": 0.3,
    "undo": 1.0,
    "switch": 0.4,
    "adopted": 0.5,
    "praise": 0.3,
    "correction": 0.3,
}
"""Share of its weight that a cue keeps in a later message; other kinds concern the nearest response
alone.
"""


def prior_of(names: Sequence[str]) -> np.ndarray:
    """The weight of each feature before learning."""
    kinds = {kind.name: kind.prior for kind in cues.load_cues().kinds}
    prior = _PRIOR | {f"event_{name}": kind.prior for name, kind in SIGNALS.items() if kind.prior}
    prior.update({f"next_{name}": value for name, value in kinds.items()})
    prior.update({f"later_{name}": kinds[name] * share for name, share in _LATER.items()})
    return np.array([prior.get(name, 0.0) for name in names])


def fit(sets: Sequence[Examples], hold: float = _HOLD) -> judge_model.Weights:
    """The whole model from several corpora with equal weight.

    Logistic regression held to the prior (a Gaussian around it) and to its signs: corpora of one
    kind must not teach that news is good which is bad everywhere else.
    """
    folds = np.concatenate([_folds(examples) for examples in sets])
    words = learn_lexicon(sets)
    cross = [judge_model.make_lexicon(learn_lexicon(sets, folds, fold)) for fold in range(5)]
    blocks, at = [], 0
    names: tuple[str, ...] = ()
    for examples in sets:
        mine = folds[at : at + len(examples.rows)]
        at += len(examples.rows)
        values = None
        for fold in range(5):
            part = compute_features(examples.line, examples.events, cross[fold])
            names = part.names
            values = part.values[examples.rows].copy() if values is None else values
            values[mine == fold] = part.values[examples.rows][mine == fold]
        blocks.append(values)
    prior = prior_of(names)
    matrix = np.vstack(blocks).astype(np.float64)
    target = np.concatenate([examples.target for examples in sets])
    share = np.concatenate([np.full(len(e.rows), 1000.0 / len(e.rows)) for e in sets])
    corpus = np.concatenate([np.full(len(e.rows), i) for i, e in enumerate(sets)])
    free = (prior != 0.0) & (matrix.std(axis=0) > 0)
    weights, biases = _bounded(matrix, target, share, corpus, prior, free, hold)
    learned = {name: round(float(w), 4) for name, w in zip(names, weights, strict=True) if w != 0.0}
    return judge_model.Weights(
        round(float(biases.mean()), 4), learned, words, [e.name for e in sets]
    )


def _bounded(
    matrix: np.ndarray,
    target: np.ndarray,
    share: np.ndarray,
    corpus: np.ndarray,
    prior: np.ndarray,
    free: np.ndarray,
    hold: float,
) -> tuple[np.ndarray, np.ndarray]:
    scale = np.maximum(np.abs(prior), 0.2)
    count = int(corpus.max()) + 1

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = parameters[:-count], parameters[-count:]
        p = 1.0 / (1.0 + np.exp(-np.clip(matrix @ weights + bias[corpus], -30, 30)))
        error = share * (p - target)
        away = (weights - prior) / scale
        value = (
            -(share * (target * np.log(p + 1e-9) + (1 - target) * np.log(1 - p + 1e-9))).sum()
            + hold * (away**2).sum()
        )
        return value, np.concatenate(
            [
                matrix.T @ error + 2 * hold * away / scale,
                np.bincount(corpus, error, minlength=count),
            ]
        )

    bounds = [
        (0.0, 2.5 * p) if p > 0 and f else (2.5 * p, 0.0) if p < 0 and f else (p, p)
        for p, f in zip(prior, free, strict=True)
    ]
    start = np.concatenate([prior, np.zeros(count)])
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[*bounds, *[(None, None)] * count],
        options={"maxiter": 500},
    )
    return found.x[:-count], found.x[-count:]


def _folds(examples: Examples) -> np.ndarray:
    fold = np.zeros(len(examples.rows), int)
    for number, (_, test) in enumerate(GroupKFold(5).split(examples.rows, groups=examples.group)):
        fold[test] = number
    return fold


def load_all(folder: Path) -> list[Examples]:
    """Every corpus of human ratings below the data folder; outcomes of code are left out."""
    return [rated(corpus) for corpus in corpora.satisfaction(folder)]


class HeldOut(NamedTuple):
    """A corpus judged with weights that saw neither it nor its kin."""

    name: str
    examples: Examples
    judged: Judged
    """Of every response of the corpus's timeline; `examples.rows` are those with a rating."""
    rating: np.ndarray
    """1 to 5, one per rated response."""
    worst: np.ndarray
    """Rated below 3; of the breakdown corpora the worst fifth."""
    others: list[str]
    model: judge_model.Model


def held_out(folder: Path) -> Iterator[HeldOut]:
    """Each corpus of `satisfaction/`, judged by weights trained on the others."""
    sets = load_all(folder)
    ratings = {
        corpus.name: np.array([label.rating for label in corpus.labels])
        for corpus in corpora.satisfaction(folder)
    }
    for examples in sets:
        if examples.name not in ratings:
            continue
        family = "dbdc" if examples.name.startswith("dbdc") else examples.name
        others = [other for other in sets if not other.name.startswith(family)]
        model = judge_model.make_model(fit(others))
        corpus = learn_corpus(examples.line, examples.events, model)
        judged = judge(examples.line, examples.events, model, corpus=corpus)
        rating = ratings[examples.name]
        worst = rating < 3 if family != "dbdc" else rating <= np.quantile(rating, 0.2)
        yield HeldOut(
            examples.name, examples, judged, rating, worst, [other.name for other in others], model
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("src/upshot/hindsight/weights.json"))
    arguments = parser.parse_args()
    weights = fit(load_all(arguments.data))
    content = {
        "bias": round(weights.bias, 4),
        "trained_on": weights.trained_on,
        "features": dict(sorted(weights.features.items())),
        "lexicon": dict(sorted(weights.lexicon.items())),
    }
    arguments.out.write_text(json.dumps(content, indent=0, ensure_ascii=False) + "\n")
    print(
        json.dumps(
            {
                "bench": "train_judge",
                "metrics": {"features": len(weights.features), "lexicon": len(weights.lexicon)},
            }
        )
    )


if __name__ == "__main__":
    main()
