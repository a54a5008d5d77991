"""A real OpenAI-compatible server on the CPU, with a tiny model: the protocol as somebody else
implements it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import upshot
from upshot import config
from upshot.hindsight.llm import cascade
from upshot.llm import Client, Endpoint, Request, make_response_format
from upshot.llm.client import make_prompt
from upshot.records import RawConversation, RawMessage

pytestmark = pytest.mark.xdist_group("real server")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, model) of `transformers serve`."""
    folder = tmp_path_factory.mktemp("served")
    subprocess.run(
        [sys.executable, str(Path(__file__).parent / "tiny_model.py"), str(folder / "tiny")],
        check=True,
        capture_output=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).parent / "transformers"),
        "serve",
        str(folder / "tiny"),
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(folder / "tiny")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("stream", [False, True])
def test_many_requests_at_once_are_answered_and_counted(
    served: tuple[str, str], stream: bool
) -> None:
    address, model = served
    end = Endpoint(address, model, concurrency=4, stream=stream)
    request = Request(
        model,
        make_prompt(("user", "that worked")),
        12,
        0.5,
        2,
        1,
        make_response_format(cascade.Plan, "plan"),
    )

    async def run() -> None:
        async with Client(end) as client:
            replies = await asyncio.gather(*(client.complete(request) for _ in range(6)))
            assert all(len(reply.texts) == 2 for reply in replies)
            assert all(0 < reply.completion_tokens <= 24 for reply in replies)
            assert client.budget.spent.calls == 12
            assert (
                client.budget.spent.prompt_tokens
                == sum(reply.prompt_tokens for reply in replies)
                > 0
            )

    asyncio.run(run())


def test_a_model_that_knows_nothing_gives_no_verdict(served: tuple[str, str]) -> None:
    address, model = served
    chat = RawConversation(
        (
            RawMessage("user", "fix it"),
            RawMessage("assistant", "done"),
            RawMessage("user", "that worked"),
        ),
        "c",
        "u",
    )
    settings = config.load(
        judge={"kind": "llm"}, llm={"base_url": address, "model": model, "votes": 1}
    )
    reports: list[cascade.Report] = []
    assert list(upshot.judge([chat], settings=settings, on_report=reports.append)) == []
    assert (reports[0].tally.unreadable, reports[0].stopped) == (1, "")
