"""Linking the sessions of a user that belong together."""

from upshot.threads.background import Background, make_background_fit
from upshot.threads.link import Link, link_sessions, link_tables, make_link_step
from upshot.threads.sessions import Session

__all__ = [
    "Background",
    "Link",
    "Session",
    "link_sessions",
    "link_tables",
    "make_background_fit",
    "make_link_step",
]
