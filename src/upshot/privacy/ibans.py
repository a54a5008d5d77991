"""IBANs of all countries, in any spelling (ISO 13616)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from stdnum import numdb
from stdnum.iso7064 import mod_97_10

from upshot.privacy.scan import Region, TypedSpan

_EXPERIMENTAL = {
    country: length
    for length, countries in (
        (25, "AO CV GW MZ"),
        (26, "DZ IR"),
        (27, "CF CG CM DJ GA GQ KM MG TD"),
        (28, "BF BJ CI HN MA ML NE NI SN TG"),
    )
    for country in countries.split()
}
"""Lengths in countries that use IBANs without being in SWIFT's registry."""
COUNTRIES = (
    "AD|AE|AL|AO|AT|AZ|BA|BE|BF|BG|BH|BI|BJ|BR|BY|CF|CG|CH|CI|CM|CR|CV|CY|CZ|DE|DJ|DK|DO|DZ|"
    "EE|EG|ES|FI|FK|FO|FR|GA|GB|GE|GI|GL|GQ|GR|GT|GW|HN|HR|HU|IE|IL|IQ|IR|IS|IT|JO|KM|KW|KZ|"
    "LB|LC|LI|LT|LU|LV|LY|MA|MC|MD|ME|MG|MK|ML|MN|MR|MT|MU|MZ|NE|NI|NL|NO|OM|PK|PL|PS|PT|QA|"
    "RO|RS|RU|SA|SC|SD|SE|SI|SK|SM|SN|SO|ST|SV|TD|TG|TL|TN|TR|UA|VA|VG|XK|YE"
)
IBAN = (
    rf"(?:(?i:{COUNTRIES})|(?:{COUNTRIES})[ \-])[0-9]{{2}}"
    r"(?:(?:[ \t\-./_:]{0,2}[A-Z0-9]){11,32}|(?:[ \t\-./_:]{0,2}[a-z0-9]){11,32})"
)
_STRUCTURE = re.compile(r"([0-9]+)!([nac])")


@cache
def find_bban(country: str) -> tuple[int, re.Pattern[str]]:
    """The length of a country's IBAN, and the form of what follows the check digits."""
    info = numdb.get("iban").info(country + "00")[0][1]
    structure = info.get("bban", "") if info else ""
    parts = [(int(size), kind) for size, kind in _STRUCTURE.findall(structure)]
    if not parts:
        return _EXPERIMENTAL.get(country, 0), re.compile("[A-Z0-9]+")
    classes = {"n": "[0-9]", "a": "[A-Z]", "c": "[A-Z0-9]"}
    form = "".join(f"{classes[kind]}{{{size}}}" for size, kind in parts)
    return 4 + sum(size for size, _ in parts), re.compile(form)


_JOINTS = str.maketrans("", "", " \t-./_:")


def find_iban_end(text: str) -> int:
    """Where the IBAN at the start of a text ends (ISO 13616, mod 97), 0 where there is none.

    >>> find_iban_end("DE89 3704 0044 0532 0130 00, thanks")
    27
    >>> find_iban_end("DE88 3704 0044 0532 0130 00")
    0
    """
    length, form = find_bban(text[:2].upper())
    number = text.translate(_JOINTS)[:length].upper()
    if len(number) < length or not form.fullmatch(number[4:]):
        return 0
    if not mod_97_10.is_valid(number[4:] + number[:4]):
        return 0
    count = 0
    for end, character in enumerate(text, 1):
        count += character.isalnum()
        if count == length:
            return end
    return 0


def read_iban(region: Region) -> Iterator[TypedSpan]:
    """An IBAN in any spelling, glued to a word or not; not in the middle of a longer number."""
    text = region.text
    end = find_iban_end(text)
    if not end and any(map(str.isalpha, region.after(3))):  # its first letter stands late
        text += region.after(_MAX_IBAN)
        end = find_iban_end(text)
        letters = [c for c in text[2:end] if c.isalpha()]
        if any(map(str.isupper, letters)) and any(map(str.islower, letters)):
            return
    if end and not text[end : end + 1].isdigit() and not region.before(1).isdigit():
        yield "IBAN", region.start, region.start + end


_MAX_IBAN = 100
"""Bytes of 34 characters with two separators between all of them."""
