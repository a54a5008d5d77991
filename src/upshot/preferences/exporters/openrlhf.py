"""OpenRLHF: whole conversations under `chosen` and `rejected` (`--apply_chat_template`)."""

from __future__ import annotations

from upshot.preferences.exporters.exporter import Exporter, Row
from upshot.records import Preference
from upshot.records.training import turns_to_messages


def convert(row: Preference) -> Row:
    """A pair of conversations."""
    prompt = turns_to_messages(row.prompt)
    return {
        "chosen": prompt + turns_to_messages(row.chosen),
        "rejected": prompt + turns_to_messages(row.rejected),
        "margin": row.margin,
    }


OPENRLHF = Exporter("pairs", convert)
