"""Phoenix: annotations of spans for `POST /v1/span_annotations?sync=true`.

Synchronously, so that the answer means that they are stored. An annotation is named by span, name
and identifier, so a later value replaces an earlier one. A request with a span that Phoenix does
not have is refused as a whole; it names the span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from upshot.io.json_values import is_array, is_object
from upshot.serve.back.target import Answer, Target, read_otel_id
from upshot.serve.scores import Score

_ANNOTATORS = {"llm": "LLM", "person": "HUMAN"}
"""By how a judge's name begins; others are code."""


def read_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """The key as a bearer token, where there is one: a server may ask for none."""
    key = environment.get("PHOENIX_API_KEY", "").strip()
    return {"Authorization": f"Bearer {key}"} if key else {}


def locate(refs: Mapping[str, str]) -> str:
    """The span.

    >>> locate({"span": "00f067aa0ba902b7"}), locate({"trace": "t1"})
    ('00f067aa0ba902b7', '')
    """
    return read_otel_id(refs.get("span") or refs.get("observation", ""), 8)


def encode(scores: Sequence[Score]) -> bytes:
    """Annotations."""
    return msgspec.json.encode({"data": [_make_annotation(score) for score in scores]})


def _make_annotation(score: Score) -> dict[str, Any]:
    return {
        "span_id": locate(score.refs),
        "name": score.name,
        "annotator_kind": _ANNOTATORS.get(score.judge.partition("/")[0], "CODE"),
        "result": {"score": score.value, "label": score.label, "explanation": score.comment},
        "metadata": {
            "confidence": score.confidence,
            "judge": score.judge,
            "as_of": score.as_of.isoformat(),
            "conversation": score.conversation,
            "index": score.index,
        },
        "identifier": score.id,
    }


def read_answer(body: Any, scores: Sequence[Score]) -> Answer:
    """All are accepted where the answer has an id for each.

    Raises:
        ValueError: it has not.
    """
    data = body.get("data") if is_object(body) else None
    if not is_array(data) or len(data) != len(scores):
        raise ValueError("an answer without an id for each annotation")
    return Answer(scores)


TARGET = Target(
    "phoenix",
    "/v1/span_annotations?sync=true",
    ("PHOENIX_COLLECTOR_ENDPOINT",),
    100,  # one transaction of its database each
    "a span of OpenTelemetry",
    read_headers,
    locate,
    encode,
    read_answer,
)
