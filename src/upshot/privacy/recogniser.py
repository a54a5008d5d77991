"""An optional recogniser of names and other free text: Presidio, or the user's own function."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from upshot.errors import ConfigError
from upshot.privacy.redact import Recogniser, Span

_TYPES = {
    "PERSON": "NAME",
    "LOCATION": "ADDRESS",
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "NRP": "GROUP",
}


def load_recogniser(name: str) -> Recogniser:
    """`presidio` (its default engine, with whatever model is installed), or `module:function`.

    Raises:
        ConfigError: it cannot be imported.
    """
    if name == "presidio":
        return _load_presidio()
    module, _, function = name.partition(":")
    try:
        recogniser = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"could not load recogniser {name!r}: {error}; give `presidio` or `module:function`"
        ) from error
    return recogniser


def _load_presidio() -> Recogniser:
    try:
        presidio: Any = importlib.import_module("presidio_analyzer")  # an optional extra
    except ImportError as error:
        raise ConfigError(
            "the presidio recogniser needs `pip install 'upshot[recogniser]'` and a spaCy model"
        ) from error
    engine = presidio.AnalyzerEngine()

    def recognise(text: str) -> Iterable[Span]:
        results = engine.analyze(text=text, language="en", entities=["PERSON", "LOCATION", "NRP"])
        return [
            Span(
                _TYPES.get(str(result.entity_type), str(result.entity_type)),
                result.start,
                result.end,
            )
            for result in results
        ]

    return recognise
