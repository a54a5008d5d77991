"""The list of log formats.

A new format is one new file with `matches(head)` and `read(input)`, and one line here; other
packages add theirs through the entry-point group `upshot.sources` (docs/extending.md).
"""

from __future__ import annotations

from upshot.registry import Registry

FORMATS = Registry(
    "upshot.sources",
    "format",
    {
        "parquet": "upshot.sources.parquet",
        "aider": "upshot.sources.aider",
        "chatgpt-export": "upshot.sources.chatgpt_export",
        "claude-export": "upshot.sources.claude_export",
        "swe-agent": "upshot.sources.swe_agent",
        "otel": "upshot.sources.otel",
        "claude-code": "upshot.sources.claude_code",
        "codex": "upshot.sources.codex",
        "sharegpt": "upshot.sources.sharegpt",
        "openai-chat": "upshot.sources.openai_chat",
        "langfuse": "upshot.sources.langfuse",
    },
)
"""In the order in which they are tried: the surest marks first, other packages' last."""
