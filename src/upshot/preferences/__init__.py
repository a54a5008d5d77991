"""Verdicts to pairs, unpaired labels and masked conversations; export to trainers' formats."""

from upshot.preferences.balance import Balance, distinct, even_length, even_position, report, split
from upshot.preferences.examples import masked, unpaired
from upshot.preferences.export import FORMATS, MASKED, PAIRED, UNPAIRED, write
from upshot.preferences.importers import read_preferences
from upshot.preferences.lake import buckets, pairs
from upshot.preferences.pairs import KINDS

__all__ = [
    "FORMATS",
    "KINDS",
    "MASKED",
    "PAIRED",
    "UNPAIRED",
    "Balance",
    "buckets",
    "distinct",
    "even_length",
    "even_position",
    "masked",
    "pairs",
    "read_preferences",
    "report",
    "split",
    "unpaired",
    "write",
]
