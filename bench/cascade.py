"""What share of an expert's gain the cascade reaches with how many calls, and whether the audit's
interval holds the truth.

Corpora with human ratings in DIR; the embedded judge is trained on the others. The expert is
simulated: P(helped) by the raters' mean, plus normal noise of standard deviation `--noise`, for the
threads that it is asked about. Error is the mean squared difference from the raters' P(helped) over
all rated responses. Threads that the expert judged have its verdicts; all others have those of the
embedded judge, distilled from the expert's. Gain at a share: (error of the embedded judge alone -
error) over (error of the embedded judge alone - error of the expert on everything).

`audit_coverage`: over 1,000 seeds, how often the 95 % interval of a 5 % random audit holds the mean
absolute difference between the embedded judge and the expert over all threads.
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
from upshot.hindsight.embedded import distil
from upshot.hindsight.embedded.judge import Judged, learn_corpus, read_timeline
from upshot.hindsight.embedded.timeline import Timeline
from upshot.hindsight.llm import cascade, transcript
from upshot.stats.sampling import draw

_SHARES = (0.05, 0.1, 0.2, 0.4)


def expert(rng: np.random.Generator, truth: np.ndarray, noise: float) -> np.ndarray:
    return np.clip(truth + rng.normal(0, noise, len(truth)), 0, 1)


def choose(line: Timeline, judged: Judged, share: float) -> tuple[cascade.Choice, ...]:
    """The threads that a share of the cascade takes, and the audited ones."""
    weighed = cascade.weigh_threads(line, judged, 0.05)
    return cascade.choose_threads(weighed, cascade.find_cut([weighed], share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument("--seeds", type=int, default=1000)
    arguments = parser.parse_args()
    started = time.perf_counter()
    gains: dict[str, list[float]] = {}
    covered: list[bool] = []
    for corpus in train_judge.held_out(arguments.data):
        line, judged, rows = corpus.examples.line, corpus.judged, corpus.examples.rows
        truth = np.array([train_judge.helped(r) for r in corpus.rating])
        base = judged.score[rows].astype(float)
        learned = learn_corpus(line, corpus.examples.events, corpus.model)
        seen = read_timeline(line, corpus.examples.events, corpus.model, corpus=learned)
        threads = np.zeros(len(line.responses), np.int64)
        spans = list(transcript.thread_spans(line))
        for number, (a, b) in enumerate(spans):
            threads[slice(*np.searchsorted(line.responses, (a, b)))] = number
        thread = threads[rows]
        rng = np.random.default_rng(0)
        said = expert(rng, truth, arguments.noise)
        alone, best = float(((base - truth) ** 2).mean()), float(((said - truth) ** 2).mean())
        for share in _SHARES:
            picked = {
                "cascade": [
                    threads[np.searchsorted(line.responses, c.first)]
                    for c in choose(line, judged, share)
                ],
                "random": rng.permutation(len(spans))[: round(share * len(spans))],
            }
            drawn = [
                threads[np.searchsorted(line.responses, c.first)] for c in choose(line, judged, 0.0)
            ]
            for way, chosen in picked.items():
                asked = np.isin(thread, chosen)
                weight = (
                    np.where(np.isin(thread, drawn), cascade.MAX_WEIGHT, 1.0)
                    if way == "cascade"
                    else np.ones(len(thread))
                )
                learned, lesson = distil.distil(
                    [
                        distil.make_teaching_rows(
                            seen.features,
                            seen.logits,
                            rows[asked],
                            said[asked],
                            thread[asked].astype(object),
                            weight=weight[asked],
                        )
                    ]
                )
                rest = (
                    base
                    if learned is None
                    else learned.scores(seen.features, seen.logits)[rows].astype(float)
                )
                for kind, others in (("", rest), (".undistilled", base)):
                    error = float(((np.where(asked, said, others) - truth) ** 2).mean())
                    gains.setdefault(f"{way}{kind}.{share}", []).append(
                        (alone - error) / (alone - best)
                    )
                if way == "cascade":
                    print(
                        corpus.name,
                        share,
                        lesson,
                        f"alone {alone:.4f} best {best:.4f}",
                        file=sys.stderr,
                    )
        difference = base - said
        total = np.bincount(thread, np.abs(difference), minlength=len(spans))
        sizes = np.bincount(thread, minlength=len(spans)).astype(float)
        whole = total.sum() / sizes.sum()
        for seed in range(arguments.seeds):
            drawn = [
                i
                for i, (a, _) in enumerate(spans)
                if draw(f"{seed}/{line.conversation[a]}") < 0.05 and sizes[i]
            ]
            audit = cascade.summarise_audit([difference[thread == i].tolist() for i in drawn])
            covered.append(audit is not None and audit.low <= whole <= audit.high)
    mean = {name: round(float(np.mean(values)), 4) for name, values in gains.items()}
    metrics = {
        "gain_at_fifth": mean["cascade.0.2"],
        "audit_coverage": round(float(np.mean(covered)), 4),
        **{f"gain.{k}": v for k, v in mean.items()},
    }
    print({k: np.round(v, 3) for k, v in gains.items()}, file=sys.stderr)
    print(
        json.dumps(
            {
                "bench": "cascade",
                "metrics": metrics,
                "data": str(arguments.data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
