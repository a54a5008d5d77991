"""One door for privacy: every field of a conversation goes through it, each text on its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upshot
from upshot.lake import Lake
from upshot.privacy import Pseudonyms, Redactor
from upshot.privacy.clean import clean_conversations
from upshot.privacy.redact import find_personal_data
from upshot.privacy.user_names import name_pattern
from upshot.records import AuthorSpan, RawConversation, RawMessage, Signal, ToolCall

KEY = "a key for tests, long enough"
PARTS = [
    "jane@example.org",
    "bob.smith",
    "@",
    "example.org",
    "token",
    "token: ",
    "password=",
    "4111 1111 1111 1111",
    "4111",
    "1111",
    "+1 415 555 0132",
    "+1 415",
    "555 0132",
    "sk-",
    "Bearer ",
    "abcdefghijklmnop0123456789",
    "https://user:secret@host:8080",
    "host:",
    "8080/x",
    " ",
    "\n",
    "",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----END RSA PRIVATE KEY-----",
    "DE89 3704 0044 0532 0130 00",
    "my name is Jane Roe",
    "12 Main Street",
    "é",
    "\x1e",
    "jane at example dot org",
    "ssn 078-05-1120",
    "/home/jane",
    "api_key=",
    "phone: ",
    "4155550132",
    "born on ",
    "14 March 1985",
    "curl -u jane:",
    "hT7vQ2xLw9RbK4nZsY8dFe3G",
    "3c:22:fb:9a:10:7e",
    "2001:db8::8a2e:370:7334",
    "gb82 west 1234 5698 7654 32",
    "Best regards,\nJane Roe",
    "\\n",
    '"',
    "ｊane＠example.org",
    "日本",
    "\ud800",
]
texts = st.lists(st.lists(st.sampled_from(PARTS), max_size=6).map("".join), min_size=1, max_size=6)


@settings(deadline=None, max_examples=400)
@given(texts)
def test_a_batch_gives_what_one_by_one_gives(batch: list[str]) -> None:
    alone = [find_personal_data([text])[0] for text in batch]
    assert find_personal_data(batch) == alone


@settings(deadline=None, max_examples=100)
@given(texts)
def test_positions_move_with_what_was_replaced(batch: list[str]) -> None:
    text = "|".join(batch)
    (redacted,) = Redactor(Pseudonyms(KEY)).redact_all([text], ["u"])
    for place, character in enumerate(text):
        inside = any(start < place < end for start, end, _ in redacted.edits)
        begins = any(start == place for start, _, _ in redacted.edits)
        if not inside and not begins:
            assert redacted.text[redacted.move(place)] == character
    assert redacted.move(len(text)) == len(redacted.text)


def test_every_field_of_a_conversation_goes_through_the_door(tmp_path: Path) -> None:
    secret = "jane.roe@example.org"
    message = RawMessage(
        "assistant",
        f"I wrote to {secret}",
        signals=(Signal("comment", 0.0, 1, f"tell {secret}"),),
        model=f"tuned-for-{secret}",
        tool_calls=(ToolCall(f"mail_{secret}", json.dumps({"to": secret}), "call-1"),),
        refs={"request": secret},
    )
    conversation = RawConversation(
        (RawMessage("user", "hi", name="Jane Roe"), message, RawMessage("tool", "ok", name=secret)),
        f"chat-of-{secret}",
        secret,
        model=f"model-{secret}",
        metadata={
            "path": f"/home/jane.roe/{secret}",
            "customer_name": "Jane Roe",
            "branch": "jane_roe/x",
        },
        parent=f"parent-{secret}",
        refs={"trace": secret},
    )
    upshot.ingest([conversation], tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    for table in ("conversations", "messages", "events"):
        content = str(lake.read_all_versions(table, None).to_pylist()).lower()
        for spelling in ("jane.roe", "jane roe", "jane_roe", "example.org"):
            assert spelling not in content, (table, spelling)


def test_spans_and_calls_are_stored_where_they_are_after_redaction() -> None:
    text = "mail jane@example.org now\n<log>4111 1111 1111 1111</log> please"
    start, end = text.index("<log>"), text.index(" please")
    conversation = RawConversation(
        (RawMessage("user", text, spans=(AuthorSpan(start, end, "machine"),)),), "c", "u"
    )
    ((cleaned, counts),) = clean_conversations(
        [conversation], Pseudonyms(KEY), Redactor(Pseudonyms(KEY))
    )
    (span,) = cleaned.messages[0].spans
    content = cleaned.messages[0].content
    assert content[span.start : span.end].startswith("<log><CARD_")
    assert content[span.end :] == " please"
    assert counts == {"EMAIL": 1, "CARD": 1}


@pytest.mark.parametrize(
    ("names", "text", "hidden"),
    [
        (["jane.roe@example.org"], "ask Jane Roe", True),
        (["Jane Roe"], "see jane_roe.txt", True),
        (["Jane Roe"], "janeroes", False),
        (["user"], "the user said", False),
        (["u17"], "u17 is a column", False),
        (["al"], "al dente", False),
        (["Jane Roe"], "Roe, Jane", True),
        (["Jane Roe"], "signed J. Roe", True),
        (["Jane Roe"], "JANE M. ROE", True),
        (["Jane Roe"], "thanks, Jane!", True),
        (["Jane Roe"], "the jane command", False),
        (["Will Page"], "Will the page load? Page 3", False),
        (["Will Page"], "will page wrote", True),
    ],
)
def test_names_are_looked_for_in_their_spellings(names: list[str], text: str, hidden: bool) -> None:
    pattern = name_pattern(names)
    assert (pattern is not None and pattern.search(text) is not None) == hidden


def test_placeholders_of_a_user_do_not_collide() -> None:
    pseudonyms = Pseudonyms(KEY)
    numbers = {pseudonyms.number("u", "EMAIL", f"someone{n}@example.org") for n in range(20_000)}
    assert len(numbers) == 20_000


def test_quarantine_belongs_to_a_user_and_is_erased_with_them(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [
        {"id": "c1", "user": "wendy", "messages": [{"role": "user", "content": "hi"}]},
        {"id": "c2", "user": "wendy", "messages": [{"role": "", "content": "what wendy wrote"}]},
    ]
    log.write_text("\n".join(map(json.dumps, rows)))
    upshot.ingest(log, tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    (row,) = lake.read("quarantine").to_pylist()
    assert row["user"] == Lake(tmp_path / "lake").read("conversations")["user"][0].as_py()
    assert "wrote" not in str(row)
    assert upshot.erase("wendy", tmp_path / "lake").rows["quarantine"] == 1
