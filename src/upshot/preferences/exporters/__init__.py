"""Training data in the shapes that trainers read as they are.

A new format is one new file with an `Exporter`, and one line here; other packages add theirs
through the entry-point group `upshot.exporters` (docs/extending.md).
"""

from __future__ import annotations

from upshot.registry import Registry

EXPORTERS = Registry(
    "upshot.exporters",
    "trainer",
    {
        "jsonl": "upshot.preferences.exporters.interchange:JSONL",
        "parquet": "upshot.preferences.exporters.interchange:PARQUET",
        "trl": "upshot.preferences.exporters.trl:TRL",
        "openrlhf": "upshot.preferences.exporters.openrlhf:OPENRLHF",
        "llamafactory": "upshot.preferences.exporters.llamafactory:LLAMAFACTORY",
        "kto": "upshot.preferences.exporters.trl:KTO",
        "verl": "upshot.preferences.exporters.verl:VERL",
        "examples": "upshot.preferences.exporters.interchange:EXAMPLES",
        "sft": "upshot.preferences.exporters.trl:SFT",
    },
)
