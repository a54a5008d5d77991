"""A push sends what is due, once, and loses nothing whatever the other side does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from judged_chats import (  # pyright: ignore[reportMissingImports]
    Server,
    make_chat,
    span_of,
    trace_of,
    write_chats,
)

import upshot
from upshot.errors import ConfigError, InputError, NotFoundError

SYSTEMS = ("langfuse", "otlp", "phoenix")
SCORES = 16
"""Of the lake: nine responses with ids, one of them unsure; each helped and worked."""
SECRETS = ("sk-lf-secret", "px-secret", "otel-secret", "cGstbGYtMTpzay1sZi1zZWNyZXQ=")
every_system = pytest.mark.parametrize("to", SYSTEMS)


def helped(server: Server, to: str) -> dict[str, tuple[float, str, str]]:
    """By trace or span: score, label and comment of what was taken."""
    taken: dict[str, tuple[float, str, str]] = {}
    for one in server.taken.values():
        if to == "langfuse" and one["name"] == "upshot_helped":
            taken[one["traceId"]] = one["value"], one["metadata"]["label"], one["comment"]
        elif to == "phoenix" and one["name"] == "upshot_helped":
            result = one["result"]
            taken[one["span_id"]] = result["score"], result["label"], result["explanation"]
        elif to == "otlp" and one["gen_ai.evaluation.name"] == "upshot_helped":
            names = ("score.value", "score.label", "explanation")
            values = [one[f"gen_ai.evaluation.{name}"] for name in names]
            taken[one["traceId"]] = values[0], values[1], values[2]
    return taken


def cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "upshot", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "UPSHOT_PUSH__BACKOFF_S": "0.01", **environment},
    )


@every_system
def test_every_sure_verdict_arrives_once_with_its_evidence(
    to: str, lake: Path, server: Server, settings: upshot.Settings
) -> None:
    report = upshot.push(lake, to=to, base_url=server.url, settings=settings)
    assert (report.responses, report.without_refs, report.unsure) == (18, 9, 1)
    assert (report.sent, report.pending, report.refused, report.stopped) == (SCORES, 0, 0, "")
    verdicts = [v for v in upshot.verdicts(lake) if v.refs and v.confidence >= 0.3]
    taken = helped(server, to)
    assert len(taken) == len(verdicts) == SCORES / 2
    for verdict in verdicts:
        place = verdict.refs["span" if to == "phoenix" else "trace"]
        score, label, comment = taken[place]
        assert (score, label) == (verdict.score, verdict.label)
        assert any(one.quote in comment for one in verdict.evidence)
    again = upshot.push(lake, to=to, base_url=server.url, settings=settings)
    assert (again.sent, again.responses, again.skipped) == (0, 0, 3)
    # all of the lake is looked at again under another limit, and still nothing is sent twice
    lower = upshot.push(lake, to=to, base_url=server.url, min_confidence=0.2, settings=settings)
    assert (lower.sent, lower.unchanged) == (2, SCORES)


def test_the_facts_beside_the_score_are_scores_of_their_own(
    lake: Path, server: Server, settings: upshot.Settings
) -> None:
    upshot.push(lake, to="phoenix", base_url=server.url, settings=settings)
    worked = {
        one["span_id"]: one["result"]
        for one in server.taken.values()
        if one["name"] == "upshot_worked"
    }
    verdict = next(v for v in upshot.verdicts(lake) if v.id == "c6" and v.index == 1)
    assert worked[span_of(6)]["score"] == verdict.worked
    assert worked[span_of(6)]["label"] == "worked"
    assert worked[span_of(7)]["label"] == "failed"


@every_system
def test_only_what_has_changed_is_sent_again_in_its_old_place(
    to: str, lake: Path, server: Server, settings: upshot.Settings, tmp_path: Path
) -> None:
    upshot.push(lake, to=to, base_url=server.url, settings=settings)
    before, count = helped(server, to), len(server.taken)
    events = tmp_path / "events.jsonl"
    events.write_text('{"id": "c6", "index": 1, "kind": "reverted"}\n')
    upshot.ingest_events(events, lake)
    upshot.judge(lake=lake)
    report = upshot.push(lake, to=to, base_url=server.url, settings=settings)
    after = helped(server, to)
    place = span_of(6) if to == "phoenix" else trace_of(6)
    moved = {p for p in before if after[p][:2] != before[p][:2]}
    assert place in moved
    assert after[place][0] < before[place][0] - 0.05
    assert 0 < report.sent < SCORES
    if to != "otlp":  # a log is appended to, the others replace
        assert len(server.taken) == count
    assert upshot.push(lake, to=to, base_url=server.url, settings=settings).sent == 0


FAULTS: dict[str, list[Any]] = {
    "too many requests": [{"status": 429, "headers": {"Retry-After": "1"}}],
    "server errors": [{"status": 500}, {"status": 503, "text": "<html>busy</html>"}],
    "half answers": ["half", "half"],
    "closed connections": ["drop"],
    "one refused as too large": [{"status": 413}],
}


@every_system
@pytest.mark.parametrize("fault", FAULTS)
def test_passing_faults_lose_nothing_and_double_nothing(
    to: str, fault: str, lake: Path, server: Server, settings: upshot.Settings
) -> None:
    server.script(faults=FAULTS[fault])
    started = time.monotonic()
    report = upshot.push(lake, to=to, base_url=server.url, settings=settings)
    assert (report.sent, report.pending, report.refused, report.stopped) == (SCORES, 0, 0, "")
    assert len(server.taken) == SCORES + (SCORES // 2 if to == "langfuse" else 0)
    assert len(server.requests) > 3  # there are three buckets with users
    if fault == "too many requests":
        assert time.monotonic() - started >= 1
    assert upshot.push(lake, to=to, base_url=server.url, settings=settings).sent == 0


@every_system
def test_a_server_that_keeps_failing_ends_the_push_and_the_next_one_sends_the_rest(
    to: str, lake: Path, server: Server, settings: upshot.Settings
) -> None:
    server.script(faults=["", *[{"status": 500}] * 99])
    report = upshot.push(lake, to=to, base_url=server.url, settings=settings)
    assert 0 < report.sent < SCORES
    assert report.pending > 0
    assert "status 500" in report.stopped
    assert "recorded" in report.stopped
    assert len(server.requests) == 1 + 6  # one bucket, and six attempts at the second
    server.script()
    rest = upshot.push(lake, to=to, base_url=server.url, settings=settings)
    assert report.sent + rest.sent == SCORES
    assert rest.unchanged == 0


@every_system
def test_refused_keys_end_it_with_exit_code_1_and_no_secret_is_shown(
    to: str, lake: Path, server: Server, settings: upshot.Settings
) -> None:
    text = json.dumps({"message": f"no key {' '.join(SECRETS)}"})
    server.script(faults=[{"status": 401, "text": text}] * 9)
    done = cli("-vv", "push", "--lake", str(lake), "--to", to, "--base-url", server.url)
    assert done.returncode == 1, done.stderr
    assert "status 401" in done.stderr
    assert "check the keys in the environment" in done.stderr
    mine = SECRETS[{"langfuse": 3, "phoenix": 1, "otlp": 2}[to]]
    assert mine not in done.stdout + done.stderr
    assert len(server.requests) == 1
    server.script()
    done = cli("push", "--lake", str(lake), "--to", to, "--base-url", server.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sent"] == SCORES


@every_system
def test_with_the_endpoint_down_the_exit_code_is_1_and_nothing_is_lost(
    to: str, lake: Path, server: Server, settings: upshot.Settings
) -> None:
    done = cli(
        *("push", "--lake", str(lake), "--to", to, "--base-url", "http://127.0.0.1:9"),
        UPSHOT_PUSH__ATTEMPTS="2",
    )
    assert done.returncode == 1
    assert "could not push" in done.stderr
    assert "2 attempts" in done.stderr
    assert upshot.push(lake, to=to, base_url=server.url, settings=settings).sent == SCORES


def test_spans_that_phoenix_does_not_have_stop_no_other(
    lake: Path, server: Server, settings: upshot.Settings
) -> None:
    server.script(missing=[span_of(1), span_of(6)])
    report = upshot.push(lake, to="phoenix", base_url=server.url, settings=settings)
    assert (report.sent, report.refused, report.stopped) == (SCORES - 4, 4, "")
    assert "do not exist" in report.reason
    assert len(server.requests) <= 5  # the refusal names them, so nothing is tried one by one
    server.script()
    later = upshot.push(lake, to="phoenix", base_url=server.url, settings=settings)
    assert (later.sent, later.refused) == (4, 0)


def test_scores_that_langfuse_rejects_are_counted_and_the_others_recorded(
    lake: Path, server: Server, settings: upshot.Settings
) -> None:
    server.script(rejected=["upshot_worked"])
    report = upshot.push(lake, to="langfuse", base_url=server.url, settings=settings)
    assert (report.sent, report.refused) == (SCORES / 2, SCORES / 2)
    assert report.reason == "no score upshot_worked here"
    done = cli("push", "--lake", str(lake), "--to", "langfuse", "--base-url", server.url)
    assert done.returncode == 1
    assert "8 scores were refused" in done.stderr


def test_log_records_that_a_receiver_rejects_count_as_not_taken(
    lake: Path, server: Server, settings: upshot.Settings
) -> None:
    server.script(rejected=["upshot_worked"])
    report = upshot.push(lake, to="otlp", base_url=server.url, settings=settings)
    assert (report.sent, report.refused) == (0, SCORES)
    assert "log records were rejected: as scripted" in report.reason
    server.script()
    later = upshot.push(lake, to="otlp", base_url=server.url, settings=settings)
    assert (later.sent, later.refused) == (SCORES, 0)
    assert len(server.taken) == SCORES  # what was taken before came again under its id


def test_an_address_where_nothing_is_ends_it_after_a_few_requests(
    lake: Path, server: Server, settings: upshot.Settings
) -> None:
    report = upshot.push(lake, to="phoenix", base_url=f"{server.url}/no", settings=settings)
    assert report.sent == 0
    assert "check the address" in report.stopped or report.refused == SCORES


def test_a_server_that_asks_for_a_long_wait_is_not_waited_for(
    lake: Path, server: Server, settings: upshot.Settings
) -> None:
    server.script(faults=[{"status": 429, "headers": {"Retry-After": "3600"}}])
    report = upshot.push(lake, to="otlp", base_url=server.url, settings=settings)
    assert "asks to wait 3600 s" in report.stopped
    assert len(server.requests) == 1


def test_redirects_are_not_followed(lake: Path, server: Server, settings: upshot.Settings) -> None:
    server.script(faults=[{"status": 307, "headers": {"Location": "http://127.0.0.1:9/"}}])
    report = upshot.push(lake, to="langfuse", base_url=server.url, settings=settings)
    assert "redirects" in report.stopped
    assert report.sent == 0


@every_system
def test_a_killed_push_is_finished_by_the_next_and_nothing_is_doubled(
    to: str, lake: Path, server: Server, settings: upshot.Settings
) -> None:
    server.script(faults=["", "slow"])
    where = ["--lake", str(lake), "--to", to, "--base-url", server.url]
    process = subprocess.Popen(
        [sys.executable, "-m", "upshot", "push", *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(server.requests) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.script()
    report = upshot.push(lake, to=to, base_url=server.url, settings=settings)
    assert report.unchanged + report.sent == SCORES
    assert report.unchanged > 0
    assert len(server.taken) == SCORES + (SCORES // 2 if to == "langfuse" else 0)


def test_a_dry_run_sends_nothing_and_needs_no_key(
    lake: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    report = upshot.push(lake, to="langfuse", base_url=server.url, dry_run=True)
    assert (report.pending, report.sent) == (SCORES, 0)
    assert not server.requests
    with pytest.raises(ConfigError, match="LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"):
        upshot.push(lake, to="langfuse", base_url=server.url)
    monkeypatch.setenv("LANGFUSE_BASE_URL", server.url)
    assert upshot.push(lake, to="langfuse", dry_run=True).endpoint == server.url


def test_local_processes_send_the_same(
    lake: Path, server: Server, settings: upshot.Settings
) -> None:
    engine = settings.engine.model_copy(update={"workers": 2})
    settings = settings.model_copy(update={"engine": engine})
    report = upshot.push(lake, to="otlp", base_url=server.url, settings=settings)
    assert report.sent == len(server.taken) == SCORES


def test_an_erased_user_leaves_the_outbox_and_the_address_is_named(
    lake: Path, server: Server, settings: upshot.Settings
) -> None:
    upshot.push(lake, to="phoenix", base_url=server.url, settings=settings)
    proof = upshot.erase("u1", lake)
    assert proof.rows["outbox"] == 4  # c1 and c5: helped and worked
    assert server.url in proof.exports
    assert upshot.push(lake, to="phoenix", base_url=server.url, settings=settings).sent == 0


def test_no_personal_data_leaves_a_lake_that_was_made_without_redaction(
    tmp_path: Path, server: Server, settings: upshot.Settings
) -> None:
    reply = "that worked for ana.perez@example.com, thank you"
    path = write_chats(tmp_path / "chats.jsonl", [make_chat(0, reply), make_chat(1, reply)])
    open_settings = upshot.load(privacy={"redact": False})
    upshot.run(str(path), tmp_path / "lake", open_settings)
    upshot.push(
        tmp_path / "lake", to="phoenix", base_url=server.url, min_confidence=0, settings=settings
    )
    sent = json.dumps([request["body"] for request in server.requests])
    assert "that worked" in sent
    assert "ana.perez" not in sent


MISTAKES = {
    "no address": ({"to": "otlp"}, ConfigError, "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "no URL": ({"to": "otlp", "base_url": "localhost:4318"}, ConfigError, "whole URL"),
    "keys in it": ({"to": "otlp", "base_url": "http://a:b@c"}, ConfigError, "environment alone"),
    "no such system": ({"to": "elsewhere"}, InputError, "langfuse, otlp, phoenix"),
    "no share": ({"to": "otlp", "min_confidence": 2.0}, InputError, r"not in \[0, 1\]"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    options, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        upshot.push(lake, **options)  # pyright: ignore[reportArgumentType]


def test_a_lake_without_ids_or_verdicts_is_an_input_error(
    tmp_path: Path, server: Server, settings: upshot.Settings
) -> None:
    chats = write_chats(tmp_path / "chats.jsonl", [make_chat(0, refs={})])
    upshot.ingest(str(chats), tmp_path / "lake")
    where = {"base_url": server.url, "settings": settings}
    with pytest.raises(NotFoundError, match="judged"):
        upshot.push(tmp_path / "lake", to="langfuse", **where)
    upshot.judge(lake=tmp_path / "lake")
    for _ in range(2):  # also where nothing is new
        with pytest.raises(InputError, match="none of the 2 responses has a trace"):
            upshot.push(tmp_path / "lake", to="langfuse", **where)
    with pytest.raises(NotFoundError, match="there is no lake"):
        upshot.push(tmp_path / "no-lake", to="langfuse", **where)
