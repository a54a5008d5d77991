"""Configurations of base models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upshot.errors import NotFoundError


def config_of(base: str, init: Mapping[str, Any]) -> Any:
    """A base's configuration.

    Raises:
        NotFoundError: it cannot be had.
    """
    from transformers import AutoConfig

    trust = {"trust_remote_code": True} if init.get("trust_remote_code") else {}
    try:
        return AutoConfig.from_pretrained(base, **trust)
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"could not find the base model {base!r}: {str(error).splitlines()[0]}"
        ) from error
