# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportMissingTypeStubs=false
# for polars, pandas and datasets, whose types are partly missing
"""Rows of results: iterate over them, or take them as Arrow, Polars, pandas or a data set.

Polars, pandas and `datasets` are imported where one of them is asked for, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec
import pyarrow as pa

from upshot.errors import ConfigError, boundary

if TYPE_CHECKING:
    import datasets
    import pandas
    import polars

Row = TypeVar("Row", covariant=True)
_CHUNK = 10_000
"""Rows turned into Arrow at once, so that memory holds few Python objects."""


class Rows(Generic[Row]):
    """Rows that can be iterated over again and again.

    They are read anew each time where they come from a lake, so a lake of any size fits in memory
    bucket by bucket; `to_list()` reads them once.

    >>> rows = Rows([{"id": "c1", "score": 0.9}])
    >>> rows.to_arrow().column_names, len(rows), rows[0]["score"]
    (['id', 'score'], 1, 0.9)
    """

    def __init__(self, rows: Sequence[Row] | Callable[[], Iterable[Row]]) -> None:
        self._read: Callable[[], Iterable[Row]] = (lambda: rows) if not callable(rows) else rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self._read())

    def __len__(self) -> int:
        rows = self._read()
        return len(rows) if isinstance(rows, Sequence) else sum(1 for _ in rows)

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __getitem__(self, index: int) -> Row:
        rows = self._read()
        if isinstance(rows, Sequence):
            return rows[index]
        if index < 0:
            return list(rows)[index]
        row = next(islice(rows, index, None), None)
        if row is None:
            raise IndexError(index)
        return row

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, Rows) else other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # rows are compared, so not hashable

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} rows>"

    def to_list(self) -> list[Row]:
        """All rows in memory."""
        return list(self)

    def to_arrow(self) -> pa.Table:
        """One Arrow table; a column for each field, structs and lists where fields have parts."""
        rows = iter(self)
        chunks: list[pa.Table] = []
        while part := list(islice(rows, _CHUNK)):
            plain: list[dict[str, Any]] = [
                row if isinstance(row, dict) else _list_fields(row) for row in part
            ]
            chunks.append(pa.Table.from_pylist(plain))
        return pa.concat_tables(chunks, promote_options="permissive") if chunks else pa.table({})

    def to_polars(self) -> polars.DataFrame:
        """A Polars data frame.

        Raises:
            ConfigError: Polars is not installed.
        """
        with boundary("make a data frame; pip install polars", (ImportError,), ConfigError):
            import polars
        frame = polars.from_arrow(self.to_arrow())
        return frame if isinstance(frame, polars.DataFrame) else frame.to_frame()

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas data frame.

        Raises:
            ConfigError: pandas is not installed.
        """
        with boundary("make a data frame; pip install pandas", (ImportError,), ConfigError):
            return self.to_arrow().to_pandas()

    def to_dataset(self) -> datasets.Dataset:
        """A Hugging Face data set.

        Raises:
            ConfigError: the `datasets` package is not installed.
        """
        with boundary("make a data set; pip install datasets", (ImportError,), ConfigError):
            import datasets
        return datasets.Dataset(cast(Any, self.to_arrow()))


def _list_fields(row: object) -> dict[str, Any]:
    """A struct's fields as Arrow takes them, defaults included so that every chunk has them all."""
    names: tuple[str, ...] = cast(Any, type(row)).__struct_fields__
    return {name: msgspec.to_builtins(getattr(row, name), enc_hook=str) for name in names}
