"""What must go goes and what must stay stays, line by line, whatever stands around the line."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from upshot.privacy import Pseudonyms, Redactor, find_personal_data

TWINS = tomllib.loads(Path(__file__).with_name("twins.toml").read_text("utf-8"))
REDACTOR = Redactor(Pseudonyms("a key for tests, long enough"))
FRAMES = {
    "prose": "Hello, I have a question.\n\n{}\n\nWhat now?",
    "list": "my notes\n- {}\n- done",
    "quote": "they wrote:\n> {}\nand left",
    "comment": "x = 1\n# {}\ny = 2",
    "log": "2026-05-06T12:30:45Z INFO {}",
    "trace": '  File "app.py", line 3\n    {}\nValueError',
}


def unmark(line: str) -> tuple[str, list[str]]:
    """A line without the marks around its values, and the values."""
    return line.replace("⟦", "").replace("⟧", ""), re.findall("⟦(.*?)⟧", line, re.DOTALL)


def read_what_is_left(text: str, value: str) -> str:
    """Letters and digits of a value that lie outside of every span."""
    start = text.index(value)
    covered = {
        place for span in find_personal_data([text])[0] for place in range(span.start, span.end)
    }
    return "".join(c for i, c in enumerate(value, start) if i not in covered and c.isalnum())


LINE_STARTS = ("Hi ", "Dear ")
"""Greetings, which begin their line."""
REDACTED = [(kind, line) for kind, lines in TWINS.items() for line in lines["redact"]]
STAYING = [(kind, line) for kind, lines in TWINS.items() for line in lines["keep"]]


@pytest.mark.parametrize(("kind", "line"), REDACTED)
def test_what_must_go_goes(kind: str, line: str) -> None:
    text, values = unmark(line)
    assert [read_what_is_left(text, value) for value in values] == [""] * len(values)


@pytest.mark.parametrize(("kind", "line"), STAYING)
def test_what_must_stay_stays(kind: str, line: str) -> None:
    assert REDACTOR.redact([line], ["u"])[0] == [line]


@pytest.mark.parametrize("frame", FRAMES)
def test_what_stands_around_a_line_changes_nothing(frame: str) -> None:
    leaks: list[str] = []
    alarms: list[str] = []
    for _, line in REDACTED:
        if frame in ("log", "trace") and line.startswith(LINE_STARTS):
            continue
        text, values = unmark(line)
        framed = FRAMES[frame].format(text) if "{" not in text else f"{text}\n{text}"
        leaks += [line for value in values if read_what_is_left(framed, value)]
    for _, line in STAYING:
        framed = FRAMES[frame].replace("{}", line)
        if REDACTOR.redact([framed], ["u"])[0] != [framed]:
            alarms.append(line)
    assert (leaks, alarms) == ([], [])


def test_in_strings_of_json_it_is_the_same_and_the_json_stays_valid() -> None:
    leaks: list[str] = []
    alarms: list[str] = []
    for kind, line in REDACTED:
        text, values = unmark(line)
        (redacted,), _ = REDACTOR.redact([json.dumps({"text": text, "n": 1})], ["u"])
        decoded = json.loads(redacted)["text"]
        leaks += [f"{kind}: {line}" for value in values if value in decoded]
    for kind, line in STAYING:
        document = json.dumps({"text": line}, ensure_ascii=False)
        if REDACTOR.redact([document], ["u"])[0] != [document]:
            alarms.append(f"{kind}: {line}")
    assert (leaks, alarms) == ([], [])
