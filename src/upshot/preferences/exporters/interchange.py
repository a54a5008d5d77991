"""Our own interchange format, which TRL reads too."""

from __future__ import annotations

import msgspec

from upshot.preferences.exporters.exporter import Exporter, Row
from upshot.records import Example, Preference


def convert(row: Preference | Example) -> Row:
    """A pair or an example with all that is known of it."""
    return msgspec.to_builtins(row)


JSONL = Exporter("pairs", convert)
PARQUET = Exporter("pairs", convert, parquet=True)
EXAMPLES = Exporter("examples", convert)
