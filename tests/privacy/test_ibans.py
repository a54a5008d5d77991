"""IBANs of all countries in all spellings, generated with their check digits."""

from __future__ import annotations

import random
import re

import pytest

from upshot.privacy import find_personal_data
from upshot.privacy.ibans import COUNTRIES, find_bban, find_iban_end

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MEMBERS = {"[0-9]": "0123456789", "[A-Z]": LETTERS, "[A-Z0-9]": "0123456789" + LETTERS}


def draw_iban(country: str, rng: random.Random) -> str:
    """A valid IBAN of a country."""
    length, form = find_bban(country)
    parts = re.findall(r"(\[[^\]]+\])\{([0-9]+)\}", form.pattern) or [("[0-9]", str(length - 4))]
    body = "".join("".join(rng.choices(MEMBERS[kind], k=int(size))) for kind, size in parts)
    digits = "".join(str(int(c, 36)) for c in f"{body}{country}00")
    return f"{country}{98 - int(digits) % 97:02d}{body}"


def group(iban: str, mark: str, size: int = 4) -> str:
    return mark.join(iban[i : i + size] for i in range(0, len(iban), size))


SPELLINGS = {
    "plain": str,
    "lower case": str.lower,
    "spaces": lambda iban: group(iban, " "),
    "lower case with spaces": lambda iban: group(iban, " ").lower(),
    "dashes": lambda iban: group(iban, "-"),
    "dots": lambda iban: group(iban, "."),
    "two spaces": lambda iban: group(iban, "  "),
    "pairs": lambda iban: group(iban, " ", 2),
    "non-breaking spaces": lambda iban: group(iban, "\u00a0"),
    "narrow spaces": lambda iban: group(iban, "\u202f"),
    "non-breaking hyphens": lambda iban: group(iban, "\u2011"),
    "tabs": lambda iban: group(iban, "\t"),
    "cut in two lines": lambda iban: f"{group(iban, ' ')[:14]}\n{group(iban, ' ')[14:]}",
    "cut without spaces": lambda iban: f"{iban[:12]}\r\n{iban[12:]}",
    "glued to a word": lambda iban: f"IBAN{iban}",
    "behind a colon": lambda iban: f"iban:{iban.lower()}",
    "full width": lambda iban: "".join(chr(ord(c) + 0xFEE0) for c in iban),
    "zero width": lambda iban: f"{iban[:7]}\u200b{iban[7:]}",
    "encoded": lambda iban: group(iban, "%20"),
    "single characters": " ".join,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_ibans_of_all_countries_are_redacted_in_any_spelling(spelling: str) -> None:
    rng = random.Random(spelling)
    texts = [
        f"please pay to {SPELLINGS[spelling](draw_iban(country, rng))}, thanks"
        for country in COUNTRIES.split("|")
    ]
    left: list[str] = []
    for text, spans in zip(texts, find_personal_data(texts), strict=True):
        rest = "".join(
            c for i, c in enumerate(text) if not any(span.start <= i < span.end for span in spans)
        )
        left += [text] if re.search(r"\d", rest) else []
    assert left == []


def test_one_wrong_digit_makes_it_none() -> None:
    rng = random.Random(1)
    for country in COUNTRIES.split("|"):
        iban = draw_iban(country, rng)
        wrong = f"{iban[:2]}{(int(iban[2:4]) + 1) % 97 + 1:02d}{iban[4:]}"
        assert find_iban_end(iban) == len(iban)
        assert wrong == iban or not find_iban_end(wrong)
