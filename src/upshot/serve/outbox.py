"""What other systems have taken, in the lake: a score is sent again only when it says something
else.

A row is written after the system has said that it took the score, so a killed push at worst sends
some again, under the ids that they had.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa

from upshot.io.arrow import pc
from upshot.lake import Lake
from upshot.records import SCHEMAS, CleanTable
from upshot.serve.back.target import Target
from upshot.serve.scores import Score

MIN_MOVE = 0.05
"""Of a score, from which it is sent again: the width of the bins in which dashboards show scores,
and above the noise of judging again with a little more of the log.
"""
_ROUNDING = 1e-6
"""Of scores, which are stored in 32 bits."""


class _Sent(NamedTuple):
    ref: str
    value: float
    label: str


class Outbox:
    """What one system has taken of one bucket's scores."""

    def __init__(
        self,
        lake: Lake,
        bucket: int,
        target: Target,
        endpoint: str,
        *,
        users: Sequence[str] | None = None,
    ) -> None:
        self._lake, self._bucket, self._target, self._endpoint = lake, bucket, target, endpoint
        rows = lake.read("outbox", bucket, users=users)
        is_ours = pc.and_(
            pc.equal(rows["target"], target.name), pc.equal(rows["endpoint"], endpoint)
        )
        self._sent = {
            (row["id"], row["index"], row["kind"]): _Sent(row["ref"], row["score"], row["label"])
            for row in rows.filter(is_ours).to_pylist()
        }

    def has(self, conversation: str, index: int) -> bool:
        """Whether the system has a score of a response."""
        return (conversation, index, "helped") in self._sent

    def is_due(self, score: Score) -> bool:
        """Whether the system lacks a score, or has it with another label, place or value."""
        sent = self._sent.get((score.conversation, score.index, score.kind))
        return (
            sent is None
            or sent.label != score.label
            or sent.ref != self._target.locate(score.refs)
            or abs(sent.value - score.value) >= MIN_MOVE - _ROUNDING
        )

    def record(self, scores: Sequence[Score]) -> None:
        """Write down what the system has taken."""
        if not scores:
            return
        at = datetime.now(UTC)
        rows = [
            {
                "bucket": self._bucket,
                "user": score.user,
                "target": self._target.name,
                "endpoint": self._endpoint,
                "id": score.conversation,
                "index": score.index,
                "kind": score.kind,
                "ref": self._target.locate(score.refs),
                "score": score.value,
                "label": score.label,
                "as_of": at,
            }
            for score in scores
        ]
        self._lake.append(
            "outbox",
            CleanTable(pa.Table.from_pylist(rows, schema=SCHEMAS["outbox"])),
            (f"outbox/{self._bucket}/{secrets.token_hex(8)}", 1),
            {"stage": "push", "bucket": self._bucket},
        )
