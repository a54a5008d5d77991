"""Which of a user's sessions belong together."""

from upshot.threads.link import Background, Link, Session, link, link_bucket, stage

__all__ = ["Background", "Link", "Session", "link", "link_bucket", "stage"]
