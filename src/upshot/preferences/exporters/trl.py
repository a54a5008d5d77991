"""TRL: pairs (RewardTrainer, DPOTrainer), answers (KTOTrainer), conversations (SFTTrainer)."""

from __future__ import annotations

from upshot.preferences.exporters.exporter import Exporter, Row
from upshot.records import Example, Preference
from upshot.records.training import turns_to_messages
from upshot.records.verdicts import EVEN


def convert_pair(row: Preference) -> Row:
    """A preference with an explicit prompt; margin and weight beside it."""
    return {
        "prompt": turns_to_messages(row.prompt),
        "chosen": turns_to_messages(row.chosen),
        "rejected": turns_to_messages(row.rejected),
        "margin": row.margin,
        "weight": row.weight,
    }


def convert_example(row: Example) -> Row:
    """An unpaired answer: good where the score is at least one half, KTO's own threshold."""
    return {
        "prompt": turns_to_messages(row.prompt),
        "completion": turns_to_messages(row.completion),
        "label": row.score >= EVEN,
        "weight": row.weight,
    }


def convert_conversation(row: Example) -> Row:
    """A whole conversation; `train` says which messages are imitated, for trainers that mask."""
    turns = [*row.prompt, *row.completion]
    train = row.train or (False,) * len(row.prompt) + (True,) * len(row.completion)
    return {
        "messages": turns_to_messages(turns),
        "train": list(train),
        "weight": row.weight,
        "score": row.score,
        "users": list(row.source.users),
    }


TRL = Exporter("pairs", convert_pair)
KTO = Exporter("examples", convert_example)
SFT = Exporter("masked", convert_conversation)
