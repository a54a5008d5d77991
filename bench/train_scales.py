"""Write `reward/scales.json`: mean and spread of every feature over public preference sets, for
private training.

A private model must not scale its features by the data it keeps private. Only these two numbers per
feature are shipped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from preference_sets import sets
from upshot.reward.batches import answer_text, prompt_texts
from upshot.reward.features import features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parents[1] / "src" / "upshot" / "reward" / "scales.json",
    )
    arguments = parser.parse_args()
    centres: list[np.ndarray] = []
    spreads: list[np.ndarray] = []
    names: tuple[str, ...] = ()
    for _, pairs in sets(arguments.data):
        found = features(
            [prompt_texts(p.prompt) for p in pairs] * 2,
            [answer_text(p.chosen) for p in pairs] + [answer_text(p.rejected) for p in pairs],
            embed=True,
        )
        names = found.names
        centres.append(found.values.mean(axis=0))
        spreads.append(found.values.std(axis=0))
    centre, spread = np.mean(centres, axis=0), np.mean(spreads, axis=0) + 1e-3
    table = {
        name: [round(float(c), 4), round(float(s), 4)]
        for name, c, s in zip(names, centre, spread, strict=True)
    }
    arguments.out.write_text(json.dumps(table, separators=(",", ":")).replace("],", "],\n") + "\n")
    print(
        json.dumps(
            {
                "bench": "train_scales",
                "metrics": {"features": len(table)},
                "data": str(arguments.data),
            }
        )
    )


if __name__ == "__main__":
    main()
