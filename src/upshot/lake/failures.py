"""What went wrong with the files of a lake, and what to do."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError

from upshot.errors import LakeError, UpshotError

_CAUSES = (
    (
        ("No space left on device", "os error 28", "Disk quota exceeded", "File too large"),
        "the disk is full, or the file as large as it may be; make room and run it again, what was"
        " committed is whole",
    ),
    (
        ("Too many open files",),
        "too many files are open; raise the limit (`ulimit -n 1024`) and run it again",
    ),
    (
        ("Read-only file system", "Permission denied"),
        "this user may not write there; change that, or name another lake",
    ),
)
"""What errors of the machine contain, of whatever library, and what to do."""
_DAMAGE = "`upshot lake check` says what of it is whole, and with --repair restores that"


@contextmanager
def lake_boundary(attempt: str, *, is_read: bool = False) -> Generator[None]:
    """Turn what the libraries of the lake raise into ours, with advice.

    `is_read`: what was to be read was there before, so a failure may be damage.
    """
    try:
        yield
    except UpshotError:
        raise
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise LakeError(f"could not {attempt}: {explain(error, is_read=is_read)}") from error


def explain(error: BaseException, *, is_read: bool) -> str:
    """The first line of an error, and what to do.

    >>> explain(OSError(28, "No space left on device"), is_read=False)[:16]
    'the disk is full'
    """
    text = str(error)
    for signs, advice in _CAUSES:
        if any(sign in text for sign in signs):
            return advice
    first = (text.strip() or type(error).__name__).splitlines()[0]
    is_damage = is_read and not isinstance(error, CommitFailedError)
    return f"{first}; {_DAMAGE}" if is_damage else first
