"""What the command line prints: rows to standard output, everything else to standard error.

Notices go through the standard `logging` module under the name `upshot`, so that `-v`, `-q` and
`--log-format json` govern them; tables are for people and are left out where logs are JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import unicodedata
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import typer
from rich.console import Console, RenderableType

from upshot.errors import InputError
from upshot.io.json_lines import write as write_lines

log = logging.getLogger("upshot")
console = Console(stderr=True, highlight=False, soft_wrap=True)
LogFormat = Literal["text", "json"]


def escape_control(text: str) -> str:
    """Text without control characters, which could move the cursor or recolour a terminal.

    >>> escape_control("a\\x1b[2Jb\\nc")
    'a\\\\x1b[2Jb\\nc'
    """
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
        else char.encode("unicode_escape").decode()
        for char in text
    )


class _TextFormatter(logging.Formatter):
    """The bare message; warnings and errors say whose they are."""

    def format(self, record: logging.LogRecord) -> str:
        text = escape_control(record.getMessage())
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if record.levelno < logging.WARNING:
            return text
        colour = "31" if record.levelno >= logging.ERROR else "33"
        text = f"upshot: {text}"
        return f"\x1b[{colour}m{text}\x1b[0m" if _is_coloured() else text


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=True)


def _is_coloured() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def set_up_logging(verbosity: int, log_format: LogFormat) -> None:
    """Send log records to standard error. `verbosity`: -1 errors and warnings only, 0 notices too,
    1 Upshot's debugging, 2 the libraries' as well.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.WARNING)
    levels = {-1: logging.WARNING, 0: logging.INFO}
    log.setLevel(levels.get(verbosity, logging.DEBUG))
    console.quiet = verbosity < 0 or log_format == "json"


def notice(text: str) -> None:
    """Tell what was done, in one line."""
    log.info("%s", text)


def show(item: RenderableType) -> None:
    """Show a person a table or a drawing."""
    console.print(item)


def write(rows: Iterable[Any], out: str | os.PathLike[str], noun: str = "rows") -> int:
    """Write rows as JSON lines; one line of success where they went to a file. Returns how many.

    Raises:
        InputError: the file cannot be written.
    """
    count = write_lines(rows, out)
    if os.fspath(out) != "-":
        notice(f"{count:,} {noun} written to {os.fspath(out)}.")
    return count


@contextmanager
def replies_beside(out: str | os.PathLike[str], lake: object = None) -> Generator[Path | None]:
    """The file beside an output in which a language model's replies are kept until the command is
    through with all of it; None where a lake keeps them, or the output is no regular file.
    """
    target = Path(out)
    if lake is not None or os.fspath(out) == "-" or (target.exists() and not target.is_file()):
        yield None
        return
    replies = target.with_name(f"{target.name}.replies")
    try:
        yield replies
    except BaseException:
        if replies.exists():
            notice(f"Replies so far are in {replies}: the same command goes on from there.")
        raise
    replies.unlink(missing_ok=True)


def end_partly(done: int, failed: int, first_reason: str, *, what: str) -> None:
    """End the command with exit code 1 where part of its input failed, with 2 where nothing was
    done, naming the first reason; go on where nothing failed.

    Raises:
        InputError: nothing was done.
        typer.Exit: part failed.
    """
    if failed and not done:
        raise InputError(f"nothing {what}: {failed:,} of {failed:,} failed; first: {first_reason}")
    if failed:
        log.error("%s not %s; first: %s", f"{failed:,} of {done + failed:,}", what, first_reason)
        raise typer.Exit(1)
