"""What several tests need: a lake folder, conversations written by hand, the folder of real data where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from upshot.records import RawConversation, RawMessage, Role

_ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


@pytest.fixture
def chat() -> Callable[..., RawConversation]:
    """`chat("u: hello", "a: hi")` makes a conversation."""

    def make(*lines: str, id: str = "c1", user: str = "ana", day: float = 0.0) -> RawConversation:
        messages = tuple(RawMessage(_ROLES[line[0]], line[3:]) for line in lines)
        return RawConversation(messages, id, user, 1_780_000_000 + day * 86_400, source="test")

    return make


@pytest.fixture
def data() -> Path:
    """The folder of public corpora, which a user's machine does not have."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public corpora are not beside this checkout")
    return folder


@pytest.fixture
def examples() -> Path:
    return Path(__file__).parents[1] / "examples"
