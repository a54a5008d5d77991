"""Personal data is replaced before anything is written, whatever text surrounds it."""

from __future__ import annotations

import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot.privacy import Pseudonyms, Redactor, find_personal_data
from upshot.privacy.normalised import normalise

REDACTOR = Redactor(Pseudonyms("a key for tests, long enough"))


def redact(text: str, user: str = "u") -> str:
    return REDACTOR.redact([text], [user])[0][0]


KINDS = {
    "EMAIL": "jane.doe@example.org",
    "PHONE": "+44 20 7946 0958",
    "CARD": "4111 1111 1111 1111",
    "IBAN": "DE89 3704 0044 0532 0130 00",
    "NATIONAL_ID": "123-45-6789",
    "IP": "203.0.113.9",
    "KEY": "ghp_" + "a1B2" * 9,
    "CREDENTIALS": "bob:hunter2",
    "PRIVATE_KEY": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----",
    "ADDRESS": "12 Main Street",
    "NAME": "Jane Doe",
    "SECRET": "hunter22x",
}
FRAMES = {"CREDENTIALS": "https://{}@host/x", "NAME": "my name is {}", "SECRET": "password = {}"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_type_is_replaced_by_its_own_placeholder(kind: str) -> None:
    clean = redact("please note: " + FRAMES.get(kind, "{}").format(KINDS[kind]))
    assert KINDS[kind] not in clean
    assert re.search(rf"<{kind}_\d+>", clean)


@given(
    st.sampled_from(["EMAIL", "PHONE", "CARD", "IBAN", "KEY", "IP"]),
    st.text(max_size=60),
    st.text(max_size=60),
)
def test_a_value_is_found_whatever_text_stands_around_it(
    kind: str, before: str, after: str
) -> None:
    assert KINDS[kind] not in redact(f"{before}\n\n{KINDS[kind]}\n\n{after}")


@given(st.lists(st.text(max_size=200), max_size=5))
def test_spans_lie_in_the_text_in_order_and_apart(texts: list[str]) -> None:
    for text, spans in zip(texts, find_personal_data(texts), strict=True):
        ends = [0]
        for span in spans:
            assert ends[-1] <= span.start < span.end <= len(text)
            ends.append(span.end)


@given(st.text(max_size=300))
def test_the_normalised_view_maps_back_to_the_text(text: str) -> None:
    view = normalise(text)
    assert len(view.text) == len(view.starts) == len(view.ends)
    assert all(0 <= a < b <= len(text) for a, b in zip(view.starts, view.ends, strict=True))
    assert list(view.starts) == sorted(view.starts)


@pytest.mark.parametrize(
    "text",
    [
        "４１１１１１１１１１１１１１１１",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "4111-1111-1111-1111",
        "4111 1111 11\n11 1111",
        "ja\u200bne@exam\u200bple.org",
        "jane at example dot org",
        "jane [at] example [dot] org",
        "jane%40example.org",
        '{"mail": "jane\\u0040example.org"}',
        "jane@exam\nple.org",
        "j a n e @ e x a m p l e . o r g",
    ],
)
def test_rewritten_values_are_found(text: str) -> None:
    assert re.fullmatch(
        r"[^0-9a-z]*(?:<[A-Z]+_\d+>)[^0-9a-z]*|\{\"mail\": \"<EMAIL_\d+>\"\}", redact(text)
    ), redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",
        "2026-05-06 12:30:45",
        "version 1.2.3.4 on 127.0.0.1 and 0.0.0.0",
        "x = 1234567890123",
        "0.7855521095270193",
        "@app.route",
        "import a\n@decorator.name\ndef f(): ...",
        "1 2 3 4 5 6 7 8 9",
        "std::vector<int> a::b",
        "token = tokenizer.decode(ids)",
        "12345678A",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redact(text) == text


def test_a_value_has_one_placeholder_in_all_of_a_users_sessions_and_another_for_others() -> None:
    first = redact("jane@example.org")
    assert redact("write to JANE@example.org!") == f"write to {first}!"
    assert redact("jane at example dot org") == first
    assert redact("jane@example.org", "v") != first


def test_code_blocks_still_parse() -> None:
    code = 'card = 4111111111111111\nhost = "203.0.113.9"\n# jane@example.org\n'
    clean = redact(f"```python\n{code}```")
    assert "4111" not in clean
    ast.parse(clean.split("```")[1].removeprefix("python"))


def test_half_a_private_key_is_a_key() -> None:
    assert (
        redact("-----BEGIN RSA PRIVATE KEY-----\nMIIEow and so on")
        == redact("-----BEGIN RSA PRIVATE KEY-----\nMIIEow and so on").split("\n")[0]
    )


def test_counts_are_by_type() -> None:
    _, counts = REDACTOR.redact(["jane@example.org and 203.0.113.9", "nothing"], ["u", "u"])
    assert dict(counts[0]) == {"EMAIL": 1, "IP": 1}
    assert not counts[1]
