"""An optional recogniser for names and other free-text data: Presidio with the user's own model, or
a function.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

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
        function_object = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"could not load recogniser {name!r}: {error}; give `presidio` or `module:function`"
        ) from error
    return function_object


def _load_presidio() -> Recogniser:
    try:
        from presidio_analyzer import (
            AnalyzerEngine,
        )  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
    except ImportError as error:
        raise ConfigError(
            "the presidio recogniser needs `pip install 'upshot-ai[recogniser]'` and a spaCy model"
        ) from error
    engine = AnalyzerEngine()  # pyright: ignore[reportUnknownVariableType]

    def recognise(text: str) -> Iterable[Span]:
        results = engine.analyze(text=text, language="en", entities=["PERSON", "LOCATION", "NRP"])  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        return [
            Span(_TYPES.get(str(r.entity_type), str(r.entity_type)), r.start, r.end)
            for r in results
        ]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]

    return recognise
