"""Training methods: one module each, with a `METHOD` in it, and one line in `METHODS`."""

from __future__ import annotations

from upshot.errors import ConfigError
from upshot.policy.methods.method import Method
from upshot.registry import Registry

METHODS: dict[str, str] = {
    "sft": "upshot.policy.methods.sft",
    "dpo": "upshot.policy.methods.dpo",
    "kto": "upshot.policy.methods.kto",
    "rrhf": "upshot.policy.methods.rrhf",
    "raft": "upshot.policy.methods.raft",
    "ppo": "upshot.policy.methods.ppo",
    "rloo": "upshot.policy.methods.rloo",
    "grpo": "upshot.policy.methods.grpo",
    "sdpo": "upshot.policy.methods.sdpo",
    "conditioned": "upshot.policy.methods.conditioned",
    "star": "upshot.policy.methods.star",
}
"""Methods that ship, by their names on the command line, and the modules that hold them."""
_REGISTRY = Registry("upshot.methods", "training method", METHODS)


def method_names() -> tuple[str, ...]:
    """Every method's name: those that ship, then those of other packages; imports none of them.

    >>> method_names()[:2]
    ('sft', 'dpo')
    """
    return _REGISTRY.names


def load_method(name: str) -> Method:
    """A method by its name.

    Raises:
        InputError: there is none of that name.
        ConfigError: another package's entry point holds no method.

    >>> load_method("dpo").keeps_reference
    True
    """
    part = _REGISTRY.load(name)
    method = getattr(part, "METHOD", part)
    if not isinstance(method, Method):
        raise ConfigError(
            f"could not use the training method {name!r}: its entry point leads to no METHOD of"
            " type upshot.policy.methods.method.Method"
        )
    return method


def methods() -> dict[str, Method]:
    """Every method by its name, loaded."""
    return {name: load_method(name) for name in method_names()}
