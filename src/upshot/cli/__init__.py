"""The command line: parse, call one library function, print."""

from __future__ import annotations

import sys

INTERRUPTED = (
    "upshot: interrupted; what was committed is whole, run the same command again to go on\n"
)


def main() -> None:
    """Run the command line and exit with its code (see `cli.app.run_app`)."""
    try:
        from upshot.cli.app import run_app  # late, so that Ctrl-C while it loads is handled too

        code = run_app(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write(INTERRUPTED)
        code = 130
    except SystemExit as end:  # by another signal
        if isinstance(end.code, int) and end.code > 128:
            sys.stderr.write(INTERRUPTED)
        raise
    sys.exit(code)
