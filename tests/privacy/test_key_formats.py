"""Every format of `key_formats.toml` is redacted: keys are drawn from the shapes themselves."""

from __future__ import annotations

import random
import re
import string

import pytest

from upshot.privacy import find_personal_data
from upshot.privacy.key_formats import KeyFormat, read_key_formats, read_shape

FORMATS = tuple(read_key_formats())
PRINTABLE = string.ascii_letters + string.digits + "_-.=~+/"


def draw_key(form: KeyFormat, rng: random.Random) -> str:
    """A key of a format; where a length is open, a little more than the least."""
    drawn: list[str] = []
    for part in form.parts:
        if isinstance(part, str):
            drawn.append(part)
            continue
        members = [c for c in PRINTABLE if re.match(f"[{part.members}]", c)]
        size = part.least if part.most is not None else part.least + rng.randint(0, 8)
        drawn += rng.choices(members, k=size)
    return "".join(drawn)


def covers(text: str, value: str) -> bool:
    """Whether a value is hidden but for marks that a sentence might end with."""
    start, end = text.index(value), text.index(value) + len(value)
    body = value.rstrip("/-_=+.~")
    spans = find_personal_data([text])[0]
    covered = {i for span in spans for i in range(span.start, span.end)}
    return all(i in covered for i in range(start, end - (len(value) - len(body))))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_keys_of_a_format_are_redacted_in_prose_and_settings(form: KeyFormat) -> None:
    rng = random.Random(form.name)
    keys = [draw_key(form, rng) for _ in range(8)]
    hidden = [
        covers(frame.format(key), key)
        for key in keys
        for frame in ("I pasted {} into the form.", 'token = "{}"', '{{"k": "a\\n{}"}}')
    ]
    assert sum(hidden) >= len(hidden) - 3  # one key in a hundred has the look of a word


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_placeholders_of_a_format_stay(form: KeyFormat) -> None:
    parts = [p if isinstance(p, str) else "x" * max(p.least, 8) for p in form.parts]
    assert not find_personal_data([f"set it to {''.join(parts)} please"])[0]


def test_a_shape_tells_literal_text_from_random_characters() -> None:
    form = read_shape("test", "ab_{hex:8}.{alnum:20+}")
    assert [p if isinstance(p, str) else (p.least, p.most) for p in form.parts] == [
        "ab_",
        (8, 8),
        ".",
        (20, None),
    ]
    assert re.fullmatch(form.pattern.replace(r"(?:\b|\\[nrt])", ""), "ab_0f3a9c1b." + "x" * 21)


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(KeyError):
        read_shape("test", "ab_{nothing:8}")
