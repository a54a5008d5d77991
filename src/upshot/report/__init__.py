"""What a lake says, for a person: one self-contained HTML file and a short terminal summary."""

from upshot.report.html import to_html
from upshot.report.summary import Summary, summarise

__all__ = ["Summary", "summarise", "to_html"]
