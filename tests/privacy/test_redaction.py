"""Personal data is replaced before anything is written, whatever text surrounds it."""

from __future__ import annotations

import ast
import json
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
    spans = [view.original(place, place + 1) for place in range(len(view.text))]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    if text.isascii() and not set(text) & set("%\\&[({<"):
        assert view.text == text


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


def test_bare_values_in_json_become_strings_so_that_it_still_parses() -> None:
    document = (
        '{"phone": 4155550132, "cards": [4111111111111111, 7], "note": "call +1 415 555 0132"}'
    )
    redacted = json.loads(redact(document))
    assert redacted["phone"].startswith("<PHONE_")
    assert redacted["cards"][0].startswith("<CARD_")
    assert redacted["cards"][1] == 7
    assert redacted["note"].startswith("call <PHONE_")


def test_an_escape_before_a_value_stays_whole() -> None:
    document = json.dumps({"text": "mail:\njane@example.org\tor\r4111111111111111"})
    assert json.loads(redact(document))["text"].startswith("mail:\n<EMAIL_")


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nbm9uZQAAAAE=\n"
        "-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0\\nBAQEFAASCBKcwggSjAgEAAo\\n-----END"
        " PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQPGBGXkq0wBCAC7f3Kq9ZtW1mXb\n=aB3d\n-----END PGP"
        " PRIVATE KEY BLOCK-----",
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAAAgIAAAAmZGwtbW9kcA\n---- END SSH2"
        " ENCRYPTED PRIVATE KEY ----",
    ],
)
def test_private_keys_are_replaced_to_their_last_line(text: str) -> None:
    assert re.fullmatch(r"so: <PRIVATE_KEY_\d+> ok\?", redact(f"so: {text} ok?"))


def test_a_sentence_about_private_keys_keeps_its_end() -> None:
    text = "it starts with -----BEGIN RSA PRIVATE KEY----- and must have mode 600\nbye"
    assert redact(text).endswith("> and must have mode 600\nbye")


def test_counts_are_by_type() -> None:
    _, counts = REDACTOR.redact(["jane@example.org and 203.0.113.9", "nothing"], ["u", "u"])
    assert dict(counts[0]) == {"EMAIL": 1, "IP": 1}
    assert not counts[1]
