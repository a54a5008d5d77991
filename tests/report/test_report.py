"""The report is one file, works offline, and is safe against strangers' text."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import upshot


def test_it_is_one_file_without_network_or_script(tmp_path: Path, examples: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_text(
        '{"id": "chat-broken", "user": "ben", "messages": [{"role": "user", "content": "cut'
    )
    logs = [examples / "chats.jsonl", examples / "chatgpt-export", cut]
    done = upshot.run(logs, tmp_path / "lake", format=None)
    assert done.report is not None
    page = done.report.read_text()
    assert not re.search(r"<script|\s(?:src|href|action)=|<link|@import|url\((?!#)", page)
    assert page.count("<svg") >= 6
    assert done.summary.quarantined == 1
    assert done.summary.joined >= 5
    assert {"EMAIL", "PHONE", "CARD", "KEY"} <= {kind for kind, _ in done.summary.redactions}
    assert any(quote.other_session for case in done.summary.successes for quote in case.quotes)


def test_what_strangers_wrote_is_escaped(tmp_path: Path) -> None:
    evil = '<script>alert(1)</script> "><img src=x onerror=alert(1)>'
    turns = [
        {"role": "user", "content": evil},
        {"role": "assistant", "content": evil},
        {"role": "user", "content": "that worked, thank you! " + evil},
    ]
    log = tmp_path / "a.jsonl"
    log.write_text(json.dumps({"id": "c-1", "user": "u", "model": evil, "messages": turns}))
    done = upshot.run(log, tmp_path / "lake")
    assert done.report is not None
    page = done.report.read_text()
    assert "<script" not in page
    assert "<img" not in page


def test_an_empty_lake_has_a_report(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    log.write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}))
    done = upshot.run(log, tmp_path / "lake")
    assert done.summary.all.total == 0
    assert done.report is not None
    assert done.report.exists()


@pytest.mark.parametrize("width", [390, 1100])
def test_it_fits_a_phone_and_a_desk(tmp_path: Path, examples: Path, width: int) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    done = upshot.run(examples / "chats.jsonl", tmp_path / "lake")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": width, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"file://{done.report}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("mark").count() > 3
        assert not errors
        browser.close()
