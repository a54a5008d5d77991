"""Which of a user's sessions belong together."""

from upshot.threads.link import Link, Session, link, link_bucket, stage

__all__ = ["Link", "Session", "link", "link_bucket", "stage"]
