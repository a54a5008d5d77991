"""A log of two users with a secret each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def two_users(tmp_path: Path) -> tuple[Path, Path]:
    log = tmp_path / "log.jsonl"
    rows = []
    for user, secret in (
        ("ana", "the purple giraffe sleeps in Lisbon"),
        ("ben", "seven lamps burn in the harbour"),
    ):
        turns = [
            {"role": "user", "content": secret},
            {"role": "assistant", "content": f"noted: {secret}"},
            {"role": "user", "content": f"thanks, {secret} worked"},
        ]
        rows.append(
            json.dumps(
                {
                    "id": f"chat-{user}-1",
                    "user": user,
                    "messages": turns,
                    "metadata": {"note": secret + " in metadata"},
                }
            )
        )
    log.write_text("\n".join(rows))
    return log, tmp_path / "lake"
