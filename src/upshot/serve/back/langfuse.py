"""Langfuse: `score-create` events for `POST /api/public/ingestion`, which answers for each event.

A score's id is that of response and kind, so a later value replaces an earlier one; an event's id
names the value too, by which Langfuse knows a repeat. The label is a categorical score of its own,
`upshot_label`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from upshot.errors import ConfigError
from upshot.io.json_values import is_array, is_object
from upshot.serve.back.target import Answer, Target
from upshot.serve.scores import Score

_KEYS = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")


def read_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """The project's keys as basic authentication.

    Raises:
        ConfigError: one of them is not set.
    """
    public, secret = (environment.get(name, "").strip() for name in _KEYS)
    if not public or not secret:
        raise ConfigError(
            f"could not push to langfuse: set {_KEYS[0]} and {_KEYS[1]} in the environment, as"
            " the project's settings show them"
        )
    return {"Authorization": f"Basic {base64.b64encode(f'{public}:{secret}'.encode()).decode()}"}


def locate(refs: Mapping[str, str]) -> str:
    """The trace, and the observation where there is one: Langfuse calls a span of OpenTelemetry
    that.

    >>> locate({"trace": "t1", "observation": "o1"}), locate({"observation": "o1"})
    ('t1/o1', '')
    """
    trace, observation = refs.get("trace", ""), refs.get("observation") or refs.get("span", "")
    return "/".join(part for part in (trace, observation) if part) if trace else ""


def encode(scores: Sequence[Score]) -> bytes:
    """A batch of events."""
    now = datetime.now(UTC).isoformat()
    batch = [
        {"id": name, "timestamp": now, "type": "score-create", "body": body}
        for score in scores
        for name, body in _make_events(score)
    ]
    return msgspec.json.encode({"batch": batch})


def _make_events(score: Score) -> Iterator[tuple[str, dict[str, Any]]]:
    observation = score.refs.get("observation") or score.refs.get("span", "")
    body: dict[str, Any] = {
        "id": score.id,
        "traceId": score.refs["trace"],
        **({"observationId": observation} if observation else {}),
        "name": score.name,
        "value": score.value,
        "dataType": "NUMERIC",
        "comment": f"{score.label}. {score.comment}".strip(". ") if score.comment else score.label,
        "metadata": {
            "label": score.label,
            "confidence": score.confidence,
            "judge": score.judge,
            "as_of": score.as_of.isoformat(),
            "conversation": score.conversation,
            "index": score.index,
        },
    }
    yield score.revision, body
    if score.kind == "helped" and score.label:
        label = {"name": "upshot_label", "value": score.label, "dataType": "CATEGORICAL"}
        yield f"{score.revision}-label", {**body, **label, "id": f"{score.id}-label"}


def read_answer(body: Any, scores: Sequence[Score]) -> Answer:
    """A score is accepted where each of its events is.

    Raises:
        ValueError: the body does not answer for every event.
    """
    if not is_object(body) or not is_array(body.get("successes")):
        raise ValueError("an answer without `successes`")
    done = {event.get("id") for event in body["successes"] if is_object(event)}
    errors = [e for e in body.get("errors") or () if is_object(e)]
    failed = {event.get("id"): event for event in errors}
    accepted: list[Score] = []
    refused: list[Score] = []
    reason = ""
    for score in scores:
        names = [name for name, _ in _make_events(score)]
        bad = next((failed[name] for name in names if name in failed), None)
        if bad is not None:
            refused.append(score)
            reason = reason or str(bad.get("error") or bad.get("message") or bad.get("status"))
        elif done.issuperset(names):
            accepted.append(score)
        else:
            raise ValueError("an answer that says nothing of some events")
    return Answer(accepted, refused, reason)


TARGET = Target(
    "langfuse",
    "/api/public/ingestion",
    ("LANGFUSE_BASE_URL", "LANGFUSE_HOST"),
    100,  # about 100 KB; the server takes 4.5 MB
    "a trace",
    read_headers,
    locate,
    encode,
    read_answer,
)
