"""The list of log formats.

A new format is one new file with `fit(sample)` and `read(source)`, and one line here; other
packages add theirs through the entry-point group `upshot.sources` (docs/extending.md).
"""

from __future__ import annotations

from upshot.registry import Registry

FORMATS = Registry(
    "upshot.sources",
    "format",
    {
        "aider": "upshot.sources.aider",
        "chatgpt-export": "upshot.sources.chatgpt_export",
        "claude-export": "upshot.sources.claude_export",
        "swe-agent": "upshot.sources.swe_agent",
        "jaeger": "upshot.sources.jaeger",
        "gemini-cli": "upshot.sources.gemini_cli",
        "qwen-code": "upshot.sources.qwen_code",
        "mini-swe-agent": "upshot.sources.mini_swe_agent",
        "openhands": "upshot.sources.openhands",
        "opencode": "upshot.sources.opencode",
        "cline": "upshot.sources.cline",
        "amp": "upshot.sources.amp",
        "continue": "upshot.sources.continue_dev",
        "droid": "upshot.sources.droid",
        "kimi": "upshot.sources.kimi",
        "pi": "upshot.sources.pi",
        "windsurf": "upshot.sources.windsurf",
        "goose": "upshot.sources.goose",
        "otel": "upshot.sources.otel",
        "inspect-ai": "upshot.sources.inspect_ai",
        "langfuse": "upshot.sources.langfuse",
        "langsmith": "upshot.sources.langsmith",
        "batch-files": "upshot.sources.batch_files",
        "tau-bench": "upshot.sources.tau_bench",
        "openai-api": "upshot.sources.openai_api",
        "gateways": "upshot.sources.gateways",
        "gemini-api": "upshot.sources.gemini_api",
        "claude-code": "upshot.sources.claude_code",
        "codex": "upshot.sources.codex",
        "codex-exec": "upshot.sources.codex_exec",
        "specstory": "upshot.sources.specstory",
        "copilot-chat": "upshot.sources.copilot",
        "copilot-cli": "upshot.sources.copilot_cli",
        "cursor": "upshot.sources.cursor",
        "cursor-database": "upshot.sources.cursor_database",
        "open-webui": "upshot.sources.open_webui",
        "librechat": "upshot.sources.librechat",
        "slack": "upshot.sources.slack",
        "discord": "upshot.sources.discord",
        "intercom": "upshot.sources.intercom",
        "rasa": "upshot.sources.rasa",
        "oasst": "upshot.sources.oasst",
        "sharegpt": "upshot.sources.sharegpt",
        "openai-chat": "upshot.sources.openai_chat",
        "prompt-rows": "upshot.sources.prompt_rows",
        "message-rows": "upshot.sources.message_rows",
    },
)
"""In the order in which they are tried: the surest marks first, other packages' last."""

PERSONAL = frozenset(
    {
        "aider",
        "amp",
        "claude-code",
        "cline",
        "codex",
        "codex-exec",
        "continue",
        "copilot-chat",
        "copilot-cli",
        "cursor",
        "cursor-database",
        "droid",
        "gemini-cli",
        "goose",
        "kimi",
        "opencode",
        "pi",
        "qwen-code",
        "specstory",
        "windsurf",
    }
)
"""Formats that a tool keeps for the person at a machine; without a name they are theirs."""
