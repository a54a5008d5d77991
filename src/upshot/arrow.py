"""Arrow's compute functions, which PyArrow makes at import time so that type checkers cannot see them."""

from __future__ import annotations

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
