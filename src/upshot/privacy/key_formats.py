"""Vendors' keys and tokens, known by their form: `data/key_formats.toml` lists them, one a line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

from upshot.privacy.scan import BEGIN

CLASSES = {
    "alnum": "A-Za-z0-9",
    "alpha": "A-Za-z",
    "lower": "a-z0-9",
    "upper": "A-Z0-9",
    "hex": "0-9a-fA-F",
    "digit": "0-9",
    "base58": "1-9A-HJ-NP-Za-km-z",
    "base64": "A-Za-z0-9+/",
    "url": r"A-Za-z0-9_\-",
    "token": r"A-Za-z0-9_\-.=~+/",
    "path": r"A-Za-z0-9_\-/",
    "slack": "abeoprs",
    "discord": "MNO",
}
"""Members of a character class by the name that shapes use."""

_PLACE = re.compile(r"\{([a-z0-9]+):([0-9]+)(\+|-[0-9]+)?\}")
_MIN_TELLING = 4
"""Characters of literal text that make a format telling: `ghp_`, `AKIA`, `hvs.`; not `sk-`."""


class Place(NamedTuple):
    """Random characters of a shape."""

    members: str
    """Of a character class, without brackets."""
    least: int
    most: int | None
    """None: no limit."""

    @property
    def pattern(self) -> str:
        """In the syntax that RE2 and Python share."""
        if self.most == self.least:
            return f"[{self.members}]{{{self.least}}}"
        return f"[{self.members}]{{{self.least},{'' if self.most is None else self.most}}}"


class KeyFormat(NamedTuple):
    """The form of one vendor's keys."""

    name: str
    parts: tuple[str | Place, ...]
    """Literal text and random characters, in their order."""

    @property
    def is_telling(self) -> bool:
        """Whether the literal text in front shows that it is a key."""
        first = self.parts[0]
        return isinstance(first, str) and (
            max(len(p) for p in self.parts if isinstance(p, str)) >= _MIN_TELLING
        )

    @property
    def pattern(self) -> str:
        """In the syntax that RE2 and Python share; short prefixes must begin a word.

        >>> read_shape("x", "telling_{hex:8}").pattern
        'telling_[0-9a-fA-F]{8}'
        """
        spelled = [re.escape(p) if isinstance(p, str) else p.pattern for p in self.parts]
        first, last = self.parts[0], self.parts[-1]
        begins = isinstance(first, Place) or len(first) <= _MIN_TELLING or first[-1].isalnum()
        before = BEGIN if begins and (isinstance(first, Place) or first[0].isalnum()) else ""
        is_word = isinstance(last, Place) and last.most is not None and "-" not in last.members[-2:]
        return before + "".join(spelled) + (r"\b" if is_word else "")


def read_shape(name: str, shape: str) -> KeyFormat:
    """Read a shape such as `glsa_{alnum:32}_{hex:8}`.

    Raises:
        KeyError: a class that is not in `CLASSES`.
    """
    parts: list[str | Place] = []
    last = 0
    for match in _PLACE.finditer(shape):
        if match.start() > last:
            parts.append(shape[last : match.start()])
        least, more = int(match[2]), match[3] or ""
        most = None if more == "+" else int(more[1:]) if more else least
        parts.append(Place(CLASSES[match[1]], least, most))
        last = match.end()
    if last < len(shape):
        parts.append(shape[last:])
    return KeyFormat(name, tuple(parts))


def read_key_formats() -> Iterator[KeyFormat]:
    """All formats of `data/key_formats.toml`."""
    text = resources.files("upshot.privacy").joinpath("data/key_formats.toml").read_text("utf-8")
    for section in tomllib.loads(text).values():
        for name, shape in section.items():
            yield read_shape(name, shape)
