"""Type guards for decoded JSON, whose values may be anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard


def is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is a JSON object.

    >>> is_object({"a": 1}), is_object([1])
    (True, False)
    """
    return isinstance(value, Mapping)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Whether a value is a JSON array."""
    return isinstance(value, list)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a number; true and false are none.

    >>> is_number(1.5), is_number(True)
    (True, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_object(value: Any) -> Mapping[str, Any]:
    """The value where it is a JSON object, else an empty one.

    >>> as_object({"a": 1}), as_object([1])
    ({'a': 1}, {})
    """
    return value if is_object(value) else {}


def as_array(value: Any) -> list[Any]:
    """The value where it is a JSON array, else an empty one."""
    return value if is_array(value) else []
