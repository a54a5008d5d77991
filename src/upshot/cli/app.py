"""Every verb, in groups, and what is done when one fails.

JSON lines go to standard output, progress and summaries to standard error. Exit codes: 0 something
was done and nothing failed; 1 a defect, or part failed; 2 the user's input, or nothing could be
read, asked or done; 130 interrupted, 143 and 129 by SIGTERM and SIGHUP.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import upshot
from upshot.cli import (
    INTERRUPTED,
    artifacts,
    crediting,
    judging,
    lakes,
    loops,
    policies,
    serving,
    training,
    trust,
    verifying,
    worlds,
)
from upshot.cli.output import LogFormat, log, set_up_logging
from upshot.errors import UpshotError
from upshot.extras import explain_missing
from upshot.llm.interrupts import end_on_signals

_INDENT = 14
"""Columns before a verb's help: two spaces, the longest name, two spaces more."""


class GroupedVerbs(TyperGroup):
    """Lists verbs under the headings of their groups, as plain text."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                heading = getattr(command, "rich_help_panel", None) or "Commands"
                text = command.get_short_help_str(formatter.width - _INDENT)
                sections.setdefault(heading, []).append((name, text))
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    name="upshot",
    cls=GroupedVerbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Learns from what happened next: judges an assistant's responses in hindsight.",
)
VERDICTS = "Verdicts"
LAKE = "The lake"
TRUST = "Trust"
TRAINING = "Training data and training"
WORLD = "What the world says"
LOOP = "The loop"
ARTIFACTS = "Finished work"


def _show_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"upshot {upshot.__version__}\n")
        raise typer.Exit


@app.callback()
def set_up(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv: libraries too.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only warnings and errors.")] = False,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="What standard error gets.")
    ] = "text",
) -> None:
    """Set up logging."""
    set_up_logging(-1 if quiet else verbose, log_format)


_VERBS: Sequence[tuple[str, str, Callable[..., Any]]] = (
    (VERDICTS, "run", judging.run),
    (VERDICTS, "read", judging.read),
    (VERDICTS, "ingest", judging.ingest),
    (VERDICTS, "link", judging.link),
    (VERDICTS, "judge", judging.judge),
    (VERDICTS, "report", judging.report),
    (VERDICTS, "push", serving.push),
    (VERDICTS, "erase", judging.erase),
    (TRUST, "audit", trust.audit),
    (TRUST, "label", trust.label),
    (TRUST, "calibrate", trust.calibrate),
    (TRUST, "compare", trust.compare),
    (TRUST, "evaluate", trust.evaluate),
    (TRAINING, "pairs", training.pairs),
    (TRAINING, "score", training.score),
    (WORLD, "credit", crediting.credit),
    (WORLD, "retention", verifying.retention),
    (WORLD, "verify", verifying.verify),
    (WORLD, "attempt", verifying.attempt),
    (ARTIFACTS, "reconstruct", artifacts.reconstruct),
    (ARTIFACTS, "replay", artifacts.replay),
)
for _panel, _name, _verb in _VERBS:
    app.command(_name, rich_help_panel=_panel)(_verb)
training.train.command("policy")(policies.train_policy)
app.add_typer(lakes.lake, name="lake", rich_help_panel=LAKE)
app.add_typer(trust.rubric, name="rubric", rich_help_panel=TRUST)
app.add_typer(training.train, name="train", rich_help_panel=TRAINING)
app.add_typer(artifacts.trails, name="trails", rich_help_panel=ARTIFACTS)
app.add_typer(loops.loop, name="loop", rich_help_panel=LOOP)
app.add_typer(worlds.world, name="world", rich_help_panel=LOOP)


def run_app(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code, with one line on standard error where it failed."""
    set_up_logging(0, "text")
    end_on_signals()
    try:
        code = app(list(arguments), standalone_mode=False, prog_name="upshot")
    except UpshotError as error:
        log.error("%s", error)
        log.debug("where it happened", exc_info=error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except ModuleNotFoundError as error:
        return _explain_import(error)
    except OSError as error:
        return _explain_os_error(error)
    except Exception as error:
        message = getattr(error, "format_message", None)  # Typer's own errors
        if message is None:
            raise  # a defect: its traceback is what a report of it needs
        return _explain_usage(message())
    if code == 130:
        sys.stderr.write(INTERRUPTED)
    return code if isinstance(code, int) else 0


def _explain_usage(message: str) -> int:
    if "Usage:" in message:  # no verb was named
        sys.stderr.write(message + "\n")
    else:
        log.error("%s; see `upshot --help`", message)
    return 2


def _explain_import(error: ModuleNotFoundError) -> int:
    explained = explain_missing(error)
    if explained is error:
        raise error
    log.error("%s", explained)
    return 2


_ENVIRONMENT = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENOMEM}
"""Errors of the machine, not of what the user named."""


def _explain_os_error(error: OSError) -> int:
    where = f" {error.filename}" if error.filename else ""
    log.error("could not read or write%s: %s", where, error.strerror or error)
    log.debug("where it happened", exc_info=error)
    return 1 if error.errno in _ENVIRONMENT else 2
