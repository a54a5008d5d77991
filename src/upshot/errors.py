"""Every error that Upshot raises on purpose.

    UpshotError
    ├── InputError (ValueError)          the user's input cannot be used; exit code 2
    │   ├── FormatError                  a file is not in any format that Upshot reads
    │   ├── ConfigError                  a setting is unknown or out of bounds
    │   │   └── MissingExtraError        an optional library is not installed
    │   └── NotFoundError (LookupError)  a file, lake, table or user that was named is not there
    ├── RecordError (ValueError)         one record cannot be read; becomes a row of quarantine
    ├── EndpointError (ConnectionError)  a language model's server answered nothing; exit code 2
    │   └── UnansweredError              one request got no usable answer; others may
    ├── BudgetError (RuntimeError)       a language model's budget is spent; what was done stays
    ├── LakeError (RuntimeError)         the lake could not be read or written
    ├── SandboxError (RuntimeError)      untrusted code cannot be run safely here, so it is not run
    └── ErasureError (RuntimeError)      erased data was still found when the files were scanned

A message says what was attempted, what was found (file, line, row), what is allowed, and the next
step.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


class UpshotError(Exception):
    """Base of the tree; `exit_code` is what the command line returns for it."""

    exit_code = 1


class InputError(UpshotError, ValueError):
    """The user's input cannot be used."""

    exit_code = 2


class NothingToLearnError(InputError):
    """The rows are sound, and none of them teaches."""


class FormatError(InputError):
    """A file is not in any format that Upshot reads."""


class ConfigError(InputError):
    """A setting is unknown or out of bounds."""


class MissingExtraError(ConfigError):
    """An optional library is not installed; the message names the extra to install."""


class NotFoundError(InputError, LookupError):
    """Something that was named is not there."""


class RecordError(UpshotError, ValueError):
    """One record cannot be read. It becomes a row of the quarantine table."""


class EndpointError(UpshotError, ConnectionError):
    """A language model's server refused or did not answer, so nothing was judged."""

    exit_code = 2


class UnansweredError(EndpointError):
    """One request to a language model got no usable answer; the run goes on without it."""


class BudgetError(UpshotError, RuntimeError):
    """The budget for a language model is spent; what was done is kept."""


class LakeError(UpshotError, RuntimeError):
    """The lake could not be read or written."""


class LakeChangedError(LakeError):
    """Another process wrote to what was about to be rewritten; reading it anew helps."""


class SandboxError(UpshotError, RuntimeError):
    """Untrusted code cannot be run safely here, so it is not run."""

    exit_code = 2


class ErasureError(UpshotError, RuntimeError):
    """Erased data was still found when the files of the lake were scanned."""


@contextmanager
def boundary(
    attempt: str, foreign: tuple[type[Exception], ...], ours: type[UpshotError]
) -> Generator[None]:
    """Turn a library's exceptions into ours, saying what was attempted.

    >>> with boundary("read the port", (ValueError,), InputError):
    ...     int("x")
    Traceback (most recent call last):
    ...
    upshot.errors.InputError: could not read the port: invalid literal for int() with base 10: 'x'
    """
    try:
        yield
    except UpshotError:
        raise
    except foreign as error:
        raise ours(f"could not {attempt}: {error}") from error
