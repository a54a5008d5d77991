"""verl: a prompt with its reference answer, in Parquet."""

from __future__ import annotations

from upshot.preferences.exporters.exporter import Exporter, Row
from upshot.records import Example
from upshot.records.training import turns_to_messages


def convert(row: Example) -> Row:
    """A row of verl's data set."""
    return {
        "data_source": f"upshot/{row.source.kind}",
        "prompt": turns_to_messages(row.prompt),
        "ability": "chat",
        "reward_model": {
            "style": "model",
            "ground_truth": "\n".join(turn.content for turn in row.completion),
        },
        "extra_info": {"score": row.score, "weight": row.weight, "split": row.source.split},
    }


VERL = Exporter("examples", convert, parquet=True)
