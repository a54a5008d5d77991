"""Numbers that states give to their people, known by form and check digits.

A form that many other numbers share is only looked for behind a word for it (`labelled.py`).
Dates and check digits are those of python-stdnum.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import NamedTuple

from stdnum import verhoeff
from stdnum.iso7064 import mod_11_10

from upshot.privacy.scan import BEGIN


class NationalId(NamedTuple):
    """How one country's numbers are written, and which of them are valid."""

    country: str
    pattern: str
    """Of the whole number; `\\d` is an ASCII digit."""
    check: str | Callable[[str], bool] = ""
    """A module of python-stdnum, or a function of the number; empty: the form is telling enough."""


def _is_aadhaar(text: str) -> bool:
    return verhoeff.is_valid(re.sub(r"\D", "", text))


_MIN_DISTINCT_TAX = 7
"""Different digits of a German tax id: of ten, one occurs two or three times, the others once."""


def _is_tax_de(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return len(set(digits)) >= _MIN_DISTINCT_TAX and mod_11_10.is_valid(digits)


def _is_dated(text: str) -> bool:
    """Whether the six digits at the start are a date, day or year first."""
    first, month, last = int(text[:2]), int(text[2:4]), int(text[4:6])
    return 1 <= month <= 12 and (1 <= first <= 31 or 1 <= last <= 31)


def _is_nric(text: str) -> bool:
    """Singapore's check letter.

    >>> _is_nric("S1234567D"), _is_nric("S1234567A")
    (True, False)
    """
    total = sum(int(d) * w for d, w in zip(text[1:8], (2, 7, 6, 5, 4, 3, 2), strict=True))
    total += {"T": 4, "G": 4, "M": 3}.get(text[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "KLJNPQRTUWX"}
    row = letters.get(text[0], "XWUTRQPNMLK")
    return text[8] == (row[10 - total % 11] if text[0] == "M" else row[total % 11])


def _is_taiwanese(text: str) -> bool:
    """Taiwan's check digit.

    >>> _is_taiwanese("A123456789"), _is_taiwanese("A123456788")
    (True, False)
    """
    area = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(text[0]) + 10
    digits = [area // 10, area % 10, *map(int, text[1:])]
    weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)
    return sum(d * w for d, w in zip(digits, weights, strict=True)) % 10 == 0


DIGIT_IDS = (
    NationalId("US", r"(?!000|666|9)\d{3}([\- ])(?!00)\d{2}\1(?!0000)\d{4}"),
    NationalId("US, taxpayer", r"9\d{2}-[5-9]\d-\d{4}"),
    NationalId("Brazil", r"\d{3}\.\d{3}\.\d{3}[\-/]\d{2}", "br.cpf"),
    NationalId("Chile", r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]", "cl.rut"),
    NationalId("Argentina", r"2[0347]-\d{8}-\d", "ar.cuit"),
    NationalId("France", r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]) ?\d{2} ?\d{3} ?\d{3} ?\d{2}", "fr.nir"),
    NationalId("Germany, tax", r"(?<!\d )[1-9]\d \d{3} \d{3} \d{3}(?! \d)", _is_tax_de),
    NationalId("Sweden", r"(?:\d{2})?\d{6}[\-+]\d{4}", "se.personnummer"),
    NationalId("Denmark", r"\d{6}-\d{4}", "dk.cpr"),
    NationalId("Iceland", r"\d{6}-\d{4}", "is_.kennitala"),
    NationalId("Finland", r"\d{6}[\-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", "fi.hetu"),
    NationalId("Norway", r"(?<!\d )\d{6} \d{5}(?! \d)", "no.fodselsnummer"),
    NationalId("Latvia", r"\d{6}-[0-2]\d{4}", _is_dated),
    NationalId("Czechia and Slovakia", r"\d{6}/\d{3,4}", "cz.rc"),
    NationalId("Belgium", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", "be.nn"),
    NationalId("Switzerland", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}", "ch.ssn"),
    NationalId("Austria", r"(?<!\d )\d{4} \d{6}(?! \d)", "at.vnr"),
    NationalId("India", r"(?<!\d[ \-])[2-9]\d{3}([ \-])\d{4}\1\d{4}(?![ \-]\d)", _is_aadhaar),
    NationalId("China", r"[1-8]\d{16}[\dXx]", "cn.ric"),
    NationalId("Korea", r"\d{6}-[1-8]\d{6}", _is_dated),
    NationalId("Malaysia", r"\d{6}-\d{2}-\d{4}", "my.nric"),
    NationalId("Thailand", r"\d-\d{4}-\d{5}-\d{2}-\d", "th.pin"),
    NationalId("South Africa", r"\d{6} \d{4} [01]\d{2}", "za.idnr"),
    NationalId("Dominican Republic", r"\d{3}-\d{7}-\d", "do.cedula"),
    NationalId("Canada", r"\d{3}-\d{3}-\d{3}", "ca.sin"),
    NationalId("Russia, insurance", r"\d{3}-\d{3}-\d{3}[ \-]\d{2}"),
    NationalId("Pakistan", r"\d{5}-\d{7}-\d"),
)
"""Numbers that begin with a digit."""
LETTER_IDS = (
    NationalId("UK", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]"),
    NationalId("Italy", r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", "it.codicefiscale"),
    NationalId("Spain", r"\d{8}[\- ]?[A-Z]", "es.dni"),
    NationalId("Spain, foreigners", r"[XYZ][\- ]?\d{7}[\- ]?[A-Z]", "es.nie"),
    NationalId("India, tax", r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]"),
    NationalId("Mexico", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d", "mx.curp"),
    NationalId("Singapore", r"[STFGM]\d{7}[A-Z]", _is_nric),
    NationalId("Taiwan", r"[A-Z][12]\d{8}", _is_taiwanese),
    NationalId("Hong Kong", r"[A-Z]{1,2}\d{6}\([0-9A]\)"),
    NationalId("Ireland", r"\d{7}[A-W][AHW]?", "ie.pps"),
    NationalId("Portugal", r"\d{8} ?\d ?[A-Z]{2}\d", "pt.cc"),
)
"""Numbers with letters among the digits; capital letters only."""
LETTER_ID = (
    BEGIN
    + "(?:"
    + "|".join(
        one.pattern.replace(r"\d", "[0-9]") + (r"\b" if one.pattern[-1] != ")" else "")
        for one in LETTER_IDS
    )
    + ")"
)
"""Candidates of `LETTER_IDS`, in RE2's syntax."""
_COMPILED = [(re.compile(one.pattern, re.ASCII), one.check) for one in LETTER_IDS]


@cache
def load_check(name: str) -> Callable[[str], bool]:
    """`is_valid` of a module of python-stdnum, such as `br.cpf`."""
    return import_module(f"stdnum.{name}").is_valid


def is_checked(text: str, check: str | Callable[[str], bool]) -> bool:
    """Whether a number passes a check of `NationalId`."""
    if not check:
        return True
    return (load_check(check) if isinstance(check, str) else check)(text)


def is_letter_id(text: str) -> bool:
    """Ids with letters, by form and check digit.

    >>> is_letter_id("12345678Z"), is_letter_id("12345678A")
    (True, False)
    """
    return any(pattern.fullmatch(text) and is_checked(text, check) for pattern, check in _COMPILED)
