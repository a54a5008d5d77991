"""Keyed pseudonyms: without the key nobody can test a guess of a user's name.

The key is never in the lake.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import unicodedata
from pathlib import Path

from upshot.errors import ConfigError

_MIN_KEY = 16
"""Characters: 64 bits even if each carries only four."""


class Pseudonyms:
    """Stable names for users and numbers for redacted values, under one key.

    >>> p = Pseudonyms("a key of at least sixteen characters")
    >>> p.user("alice") == p.user("alice") != p.user("bob")
    True
    """

    def __init__(self, key: str) -> None:
        if len(key) < _MIN_KEY:
            raise ConfigError(
                f"the pseudonym key has {len(key)} characters; it needs {_MIN_KEY} or more"
            )
        self._key = hashlib.blake2b(key.encode(), digest_size=32).digest()

    def user(self, name: str) -> str:
        """`u_` and 20 hexadecimal digits, the same for all spellings of a name (`fold_name`)."""
        return "u_" + self._digest("user", fold_name(name))

    def conversation(self, name: str) -> str:
        """`c_` and 20 hexadecimal digits, for ids that are not safe to keep."""
        return "c_" + self._digest("conversation", name)

    def number(self, owner: str, kind: str, value: str) -> int:
        """The number in a placeholder, the same for a value of one owner everywhere.

        Of twelve digits: two of an owner's thousand values share one in two million cases.
        """
        return 1 + int(self._digest(f"value/{owner}/{kind}", value), 16) % 999_999_999_999

    def mark(self, purpose: str, *parts: str) -> str:
        """Sixteen hexadecimal digits for what must be recognised again but reveal nothing."""
        return self._digest(purpose, "\0".join(parts))[:16]

    def _digest(self, purpose: str, text: str) -> str:
        return hashlib.blake2b(
            f"{purpose}\0{text}".encode("utf-8", "replace"), key=self._key, digest_size=10
        ).hexdigest()


def fold_name(name: str) -> str:
    """One form for all spellings of a name: Unicode, case and white space.

    >>> fold_name(" Jane\u00a0 ROE") == fold_name("jane roe")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def load_key(setting: str, lake: str, is_local: bool) -> str:
    """The key from the environment, or from `DIR.key` beside a local lake (made with mode 600).

    Raises:
        ConfigError: the lake is remote and no key is set.
    """
    if setting:
        return setting
    if not is_local:
        raise ConfigError(
            f"no pseudonym key for {lake}: set UPSHOT_KEY to a secret of {_MIN_KEY} or more"
            " characters"
        )
    path = Path(lake.rstrip("/") + ".key")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    if not path.exists():
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            handle.write(secrets.token_hex(32))
        try:
            os.link(draft, path)  # fails where another process was first: then its key is used
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
