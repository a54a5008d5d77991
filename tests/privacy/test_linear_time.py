"""No text takes time out of proportion to its length, whatever it repeats."""

from __future__ import annotations

import time

import pytest

from upshot.privacy import Pseudonyms, Redactor

REDACTOR = Redactor(Pseudonyms("a key for tests, long enough"))
SIZE = 10_000
MAX_RATIO = 7.0
"""Of the times of a text and of one four times as long; a square would be 16."""
MIN_SECONDS = 0.02
"""Below, the clock decides."""
UNITS = [
    *("a@", "@a.", "a@b.co ", "aa-", "11-", "1-11-11-", "1:", "::", "+1 ", "(0", "é@é.", "a\n@"),
    *("4111 1111\n", "0412 345 678\n", "password ", "key=", "token='a", "sk-", "sk-xATxDOTx"),
    *("NF-" + "a1" * 16 + "-", "eyJaaaaaaaa-ghp_" + "a1B2" * 9 + "-", "eyJaaaaaaaaa.", "aB3/"),
    *("http://a:", "http://a:b@", "-----BEGIN RSA PRIVATE KEY-----\n", "/home/a", "C:\\Users\\"),
    *("DE89 ", "de12 aATbDOTc ", "mail x(at)y ", "jane at ", "j a n e ", "\\u0040", "%40", "１－"),
    *("\u200b", "1－1", "０", "東京都", "Dear A ", "A B <a@b.co> ", "12 A St, B ", "my name is A"),
    *("born on 1", "address: A 1 ", "curl -u ", "hT7vQ2xLw9RbK4nZsY8d", "\x1ea@b.co", "one two "),
    *("```\n4111111111111111\n", '{"a": 4155550132, "', "  ", "\\\\", "ab12 ", "x=1;"),
]


def measure_seconds(text: str) -> float:
    start = time.process_time()
    REDACTOR.redact([text], ["u"])
    return time.process_time() - start


@pytest.mark.parametrize("unit", UNITS)
def test_four_times_the_text_takes_about_four_times_as_long(unit: str) -> None:
    short, long = ((unit * (size // len(unit) + 1))[:size] for size in (SIZE, 4 * SIZE))
    measure_seconds(short)
    ratios = [
        max(measure_seconds(long), MIN_SECONDS) / max(measure_seconds(short), MIN_SECONDS)
        for _ in range(3)
    ]
    assert min(ratios) <= MAX_RATIO
