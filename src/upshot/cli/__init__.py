"""The command line: parse, call one library function, print."""

from upshot.cli.app import main

__all__ = ["main"]
