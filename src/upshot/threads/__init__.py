"""Linking the sessions of a user that belong together."""

from upshot.threads.link import (
    Background,
    Link,
    Session,
    link_bucket,
    link_sessions,
    make_link_stage,
)

__all__ = ["Background", "Link", "Session", "link_bucket", "link_sessions", "make_link_stage"]
