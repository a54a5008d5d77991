"""How many processors this process may use, and numeric libraries kept to that many threads.

Numeric libraries start a thread for every processor of the host, also where a container may use two
of them; then their threads wait for each other and a fit takes ten times the CPU time.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def count_processors(quota_file: Path = _QUOTA) -> int:
    """Processors that this process may use: those of its affinity, or fewer where its control group
    (version 2) has a quota.

    >>> 1 <= count_processors() <= (os.cpu_count() or 1)
    True
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        share = math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no control groups, or no quota ("max")
        return max(1, allowed)
    return max(1, min(allowed, share))


def cap_threads() -> None:
    """Keep BLAS and OpenMP to the processors there are; what the environment says stays.

    Libraries read the environment when they load, so this comes before them where it can; those
    that are loaded already are told directly.
    """
    number = count_processors()
    if any(name in os.environ for name in _VARIABLES):
        return
    for name in _VARIABLES:
        os.environ[name] = str(number)
    if "numpy" in sys.modules:
        import threadpoolctl  # pyright: ignore[reportMissingTypeStubs]  # late: only where a library has been loaded before us

        threadpoolctl.threadpool_limits(number)
