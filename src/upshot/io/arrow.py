"""Arrow's compute functions, which PyArrow makes at import time so that type checkers cannot see
them, and the choice of its allocator for long work.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute


@contextmanager
def system_memory() -> Generator[None]:
    """Arrow's allocations by the C library inside the block: Arrow's own allocator gives freed
    pages back at once, and touching fresh ones again took a tenth of the main job's time.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
