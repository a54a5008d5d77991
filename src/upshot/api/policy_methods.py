"""What is known of training methods, without the libraries that train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from upshot.errors import InputError
from upshot.policy.methods import load_method, method_names
from upshot.policy.methods.method import Method
from upshot.policy.recipe import Recipe, load_recipe


def explain_method(method: str) -> Method:
    """When to choose a method, and what it needs.

    Raises:
        InputError: there is none of that name.
    """
    if method not in method_names():
        raise InputError(f"could not explain {method!r}: there are {', '.join(method_names())}")
    return load_method(method)


def policy_recipe(path: str | os.PathLike[str] | None = None, **more: Any) -> Recipe:
    """A recipe from a file, from what is given beside it, or both."""
    return load_recipe(None if path is None else Path(path), **more)
