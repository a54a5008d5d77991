"""A policy of ours, or any model in a folder, as the agent; it runs on this machine."""

from __future__ import annotations

from typing import Any

import msgspec

from upshot.artifacts.agents import (
    ModelReply,
    check_reply,
    reply_to_action,
    show_transcript,
)
from upshot.artifacts.environment import Action, Environment
from upshot.hub.sampling import Drawing, Sampler, open_sampler
from upshot.llm import load_prompt
from upshot.llm.model_json import parse_reply
from upshot.records import Turn

_MAX_TOKENS = 512
"""Of one action."""


def open_chat(folder: str) -> Sampler:
    """A sampler of the model in a folder.

    Raises:
        MissingExtraError: the extra `train` is not installed.
    """
    return open_sampler(folder)


class PolicyAgent:
    """Writes each action as JSON; what is no action counts as a search for nothing."""

    name = "policy"

    def __init__(self, chat: Sampler) -> None:
        self._chat = chat

    def act(self, given: dict[str, Any], env: Environment) -> Action:
        """The action that the policy writes."""
        shown = msgspec.json.encode(show_transcript(given, env)).decode()
        prompt = (Turn("system", load_prompt("upshot.artifacts", "replay.md")), Turn("user", shown))
        (text,) = self._chat([prompt], Drawing(max_tokens=_MAX_TOKENS, temperature=0.0))
        reply, problem = parse_reply(text, ModelReply, check_reply)
        return Action("search") if reply is None or problem else reply_to_action(reply)
