"""Personal data that a word announces: `phone: …`, `born on …`, `Ausweisnummer …`, `住所：…`.

One scan finds the words of all kinds in all languages (`data/labels.toml`). What follows is read by
kind; a number that would be nothing by itself is personal data behind such a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from upshot.privacy.labels import fold_label, kinds_by_word, pattern_of, word_list
from upshot.privacy.names import is_given_name, read_name_after
from upshot.privacy.numbers import is_card, keep_digits
from upshot.privacy.places import read_address_after
from upshot.privacy.scan import Region, Rule, TypedSpan

_NUMBER_KINDS = ("address", "birth_date", "phone", "national_id", "card", "account", "pin")
_KINDS = ("name", *_NUMBER_KINDS, "handle")
_KINDS_OF = kinds_by_word(*_KINDS)
_REACH = 240
"""Bytes behind a label that are looked at."""
_DIGIT = re.compile(rb"[0-9]")
_UNSPACED = re.compile("[\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Thai, Korean, Japanese, Chinese: words need no space between them."""
_LINK = (
    r"\.?[\\\"'`*_)\]]{0,5}(?:[ _\-]?(?:no\.?|nr\.?|num(?:ber)?|nummer|numbers?|#|n°|nº"
    r"|№))?[\\\"'`*_)\]]{0,5}(?:[ \t]*\([^()\n]{1,24}\))?"
    r"[ \t]*(?:=>|:=|->|[:=|：＝,、#\-–—]|\b(?:is|are|was|at|on|under|unter|ist|lautet|es|est"
    r"|au|è|é|jest|är|er|:|to|é o|el|le|am|den|dia)\b"
    r"|是|为|為|は|が|은|는|이|가)?"
    r"[ \t]*(?:now|still|currently|on|at|:)?[ \t]*(?:\n[ \t>*\-]{0,8}|\\n)?[ \t]*"
    r"[\\\"'`*_(\[<]{0,5}"
)
_LINKED = re.compile(_LINK, re.IGNORECASE)
_ASSIGNED = re.compile(
    r"[\s\\\"'`*_)\]]*(?:=>|:=|[:=|：＝#]|\b(?:is|ist|es|est|no|nr|number)\b|是|は)", re.I
)


def read_labelled_number(region: Region) -> Iterator[TypedSpan]:
    """What holds digits and is announced by a label, if it follows."""
    if _DIGIT.search(region.blob, region.end, min(region.high, region.end + _REACH)):
        yield from read_labelled(region)


def read_labelled(region: Region) -> Iterator[TypedSpan]:
    """What a label announces, if it follows."""
    region = region.trim_escape()
    text = region.text
    kinds = _KINDS_OF.get(fold_label(text))
    if kinds is None or not _stands_alone(region, text):
        return
    after = region.after(_REACH)
    for kind in kinds:
        yield from _READERS[kind](region, text, after)


def _stands_alone(region: Region, text: str) -> bool:
    """Whether letters of a script that needs spaces neither precede nor follow."""
    if _UNSPACED.search(text):
        return True
    before, after = region.before(4), region.after(4)
    return not (
        (before and not text[0].isascii() and before[-1].isalpha())
        or (after and not text[-1].isascii() and after[0].isalpha())
        or (
            before.endswith((".", "$", "@", "/"))
            and not before.endswith(". ")
            and text.isascii()
            and text.islower()
        )
    )


# ---- Phones

_PHONE = re.compile(
    r"[+(]{0,2}[0-9](?:[ \t().\-/·]{0,3}[0-9]){5,14}(?![0-9])(?:,? ?(?:x|ext\.?|extension|#"
    r"|dw) ?[0-9]{1,6})?"
)
_FILLER = re.compile(r"[^0-9+(\n\x1e]{0,28}?(?=[+(]{0,2}[0-9])")
_NEXT_PHONE = re.compile(
    r"(?: ?(?:,|;|/|\bor\b|\band\b|\boder\b|\bou\b|\bo\b|\be\b|\by\b|\|) ?)(?=[+(0-9])"
)
_NO_PHONE = re.compile(
    r"(?:19|20)[0-9]{2}[\-/.][01]?[0-9][\-/.][0-3]?[0-9]"
    r"|[0-3]?[0-9][\-/.][01]?[0-9][\-/.](?:19|20)?[0-9]{2}(?![0-9])|[0-9]+\.[0-9]+$"
    r"|[0-9]{1,3}(?:\.[0-9]{1,3}){3}$"
)


def _read_phone(region: Region, label: str, after: str) -> Iterator[TypedSpan]:
    """The phone numbers behind a word for phone, in any form."""
    link = _LINKED.match(after)
    place = link.end() if link else 0
    filler = _FILLER.match(after, place)
    if filler is None or (filler.group() and re.search(r"[.!?] |[={}\[\]]", filler.group())):
        return
    place = filler.end()
    while match := _PHONE.match(after, place):
        digits = keep_digits(match.group())
        if not 6 <= len(digits) <= 15 or _NO_PHONE.match(match.group()) or len(set(digits)) < 2:
            return
        yield region.span_after("PHONE", after, *match.span())
        more = _NEXT_PHONE.match(after, match.end())
        if more is None:
            return
        place = more.end()


# ---- Numbers of documents, accounts, cards, and PINs

_ID = re.compile(
    r"[A-Z0-9](?:[ .\-/]?[A-Z0-9*]){3,23}(?![A-Za-z0-9])"
    r"|[A-Za-z0-9][A-Za-z0-9.\-/]{3,23}(?![A-Za-z0-9])"
)
_MIN_ID_DIGITS = 4
_AMBIGUOUS = word_list("ambiguous_ids")
"""Names of ids that are words in small letters."""


def _read_id(region: Region, label: str, after: str) -> Iterator[TypedSpan]:
    """The number of a document behind its name: at least four digits, no date."""
    short = len(label) <= 4 and label.isascii()
    if label.lower() in _AMBIGUOUS and not label.isupper():
        return
    if short and not (_ASSIGNED.match(after) or label.isupper()):
        return
    link = _LINKED.match(after)
    match = _ID.match(after, link.end() if link else 0)
    if match is None:
        return
    text = re.sub(r"(?:[ .\-/][A-Z]+)+$", "", match.group())
    digits = keep_digits(text)
    if (
        len(digits) < _MIN_ID_DIGITS
        or (short and len(text) < 7)
        or (_NO_PHONE.match(text) and len(digits) == 8)
    ):
        return
    yield region.span_after("NATIONAL_ID", after, match.start(), match.start() + len(text))


_ACCOUNT = re.compile(r"[0-9](?:[ .\-/]?[0-9]){4,25}(?![A-Za-z0-9])|[A-Z]{4}0[A-Z0-9]{6}\b")


def _read_account(region: Region, label: str, after: str) -> Iterator[TypedSpan]:
    """The number of a bank account, of a bank, or of a branch."""
    link = _LINKED.match(after)
    match = _ACCOUNT.match(after, link.end() if link else 0)
    if match and not _NO_PHONE.match(match.group()):
        yield region.span_after("ACCOUNT", after, *match.span())


_CARD = re.compile(r"[^0-9\n\x1e]{0,40}?(?P<card>[0-9](?:[ .\-/_*]{0,2}[0-9]){11,18})(?![0-9])")


def _read_card(region: Region, label: str, after: str) -> Iterator[TypedSpan]:
    """A card of any issuer: only Luhn's check counts behind a word for card."""
    match = _CARD.match(after)
    if match is None:
        return
    digits = keep_digits(match["card"])
    direct = re.fullmatch(
        r"(?i)[\s:=#\"']*(?:number|no\.?|nr\.?|is|:|=|#|[\s\"'])*", after[: match.start("card")]
    )
    if is_card(digits) or (direct and len(digits) == 16 and digits[0] in "3456"):
        yield region.span_after("CARD", after, *match.span("card"))


_PIN = re.compile(
    r"(?:[A-Z]-)?[0-9]{3,8}(?![0-9A-Za-z.%]|[\-/:][0-9])|[0-9]{3}[ \-][0-9]{3}(?![0-9])"
)


def _read_pin(region: Region, label: str, after: str) -> Iterator[TypedSpan]:
    """Three to eight digits behind a word for PIN, security code or one-time code."""
    if len(label) == 3 and label.lower() != "cvv" and not _ASSIGNED.match(after):
        return
    link = _LINKED.match(after)
    match = _PIN.match(after, link.end() if link else 0)
    if match and not re.fullmatch("(?:19|20)[0-9]{2}", match.group()):
        yield region.span_after("SECRET", after, *match.span())


# ---- Dates of birth

_MONTH = (
    r"(?:jan|feb|mar|m[äa]r|apr|avr|abr|may|mai|mayo|mag|maj|maa|jun|juin|giu|jul|juil|lug"
    r"|aug|ao[uû]t|ago|sep|set|o[ck]t|ott|out|nov|de[czs]"
    r"|dic|gen|ene|f[ée]v|fev|kw?i|lip|sie|wrz|pa[źz]|lis|gru|sty|lut|янв|фев|мар|апр"
    r"|ма[йя]|июн|июл|авг|сен|окт|ноя|дек|oca|şub|nis|haz|tem"
    r"|ağu|eyl|eki|kas|ara)[a-zà-ÿа-яżźćłçşığüö]{0,8}\.?"
)
_DAY = r"(?:0?[1-9]|[12][0-9]|3[01])(?:st|nd|rd|th|er|º|ª|\.)?"
_YEAR = r"(?:(?:18|19|20)[0-9]{2}|['’]?[0-9]{2})"
_DATE = re.compile(
    rf"(?i)(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?(?:the )?(?P<date>"
    rf"(?:18|19|20)[0-9]{{2}} ?[\-/.年] ?[01]?[0-9] ?[\-/.月] ?[0-3]?[0-9]日?"
    rf"|[0-3]?[0-9] ?[\-/.] ?[01]?[0-9] ?[\-/.] ?{_YEAR}"
    rf"|[01]?[0-9] ?[\-/.] ?[0-3]?[0-9] ?[\-/.] ?{_YEAR}"
    rf"|{_DAY}(?: of| de| di)? ?[\-/]?{_MONTH}[,\-/]?(?: de| del)? ?{_YEAR}"
    rf"|{_MONTH} {_DAY},? {_YEAR}|{_DAY} (?:de |of )?{_MONTH}(?![a-z])"
    rf"|{_MONTH} {_DAY}(?![0-9])|(?:18|19|20)[0-9]{{2}}년 ?[01]?[0-9]월 ?[0-3]?[0-9]일|(?:18"
    rf"|19|20)[0-9]{{2}}[01][0-9][0-3][0-9]"
    rf"|[0-3][0-9][01][0-9](?:19|20)[0-9]{{2}})(?![0-9])"
)
_BORN_FILLER = re.compile(rf"[^0-9\n\x1e]{{0,32}}?(?=(?:the )?[0-9]|(?i:{_MONTH}) [0-9])")


def _read_birth_date(region: Region, label: str, after: str) -> Iterator[TypedSpan]:
    """The date behind a word for birth, in figures or with the month in words."""
    link = _LINKED.match(after)
    place = link.end() if link else 0
    match = _DATE.match(after, place)
    if match is None and (filler := _BORN_FILLER.match(after, place)):
        match = None if re.search(r"[.!?;]", filler.group()) else _DATE.match(after, filler.end())
    if match:
        yield region.span_after("BIRTH_DATE", after, *match.span("date"))


# ---- Handles

_HANDLE = re.compile(r"@?(?:live:)?[A-Za-z0-9][A-Za-z0-9_.\-]{1,38}[A-Za-z0-9_](?:#[0-9]{4})?")
_HANDLE_LINK = re.compile(
    r"(?i)[\\\"'`*_)]{0,2}(?:[ _](?:handle|account|user ?name|name|id|profile|user|tag"
    r"|acct))?[\\\"'`*_)]{0,2}[ \t]*"
    r"(?:(?P<sign>=>|:=|[:=|：])|\b(?P<verb>is|as|ist|es|est|è|é)\b|(?P<space>))"
    r"[ \t]*[\\\"'`*_(]{0,2}"
)
_NO_HANDLE = re.compile(
    r"(?i)(?:admin|root|user|username|postgres|guest|test|name|null|none|true|false|string"
    r"|str|https?.*|the|my|a|not|is|and|api.*)$"
)


def _read_handle(region: Region, label: str, after: str) -> Iterator[TypedSpan]:
    """A name on a network, behind the network's name: with an @, or a name of a handle's form."""
    link = _HANDLE_LINK.match(after)
    if link is None:
        return
    match = _HANDLE.match(after, link.end())
    if (
        match is None
        or _NO_HANDLE.fullmatch(match.group())
        or after[match.end() : match.end() + 1] in tuple("(/=")
    ):
        return
    text = match.group()
    marked = text.startswith("@") or "#" in text
    formed = re.search(r"[0-9_.]", text) is not None and re.search("[A-Za-z]", text) is not None
    own = re.search(
        r"(?i)\b(?:my|his|her|mein|mon|mi|meu|is|add me|follow me|find me)\b[^.\n]{0,24}$",
        region.before(32),
    )
    if (
        marked
        or (formed and (own or link["verb"]))
        or (own and (link["sign"] or link["verb"]) and len(text) >= 5 and not is_given_name(text))
    ):
        yield region.span_after("HANDLE", after, *match.span())


_READERS: dict[str, Callable[[Region, str, str], Iterator[TypedSpan]]] = {
    "name": read_name_after,
    "address": read_address_after,
    "birth_date": _read_birth_date,
    "phone": _read_phone,
    "national_id": _read_id,
    "card": _read_card,
    "account": _read_account,
    "pin": _read_pin,
    "handle": _read_handle,
}
LABELLED_NUMBER_RULE = Rule(pattern_of(*_NUMBER_KINDS), read_labelled_number)
"""What holds digits: all but names and handles."""
LABELLED_NAME_RULE = Rule(pattern_of("name", "handle"), read_labelled)
LABELLED_HANDLE_RULE = Rule(pattern_of("handle"), read_labelled)
