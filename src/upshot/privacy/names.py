"""Names of people: behind a title, a greeting or a word for name, and beside an e-mail address.

Capital letters alone make no name here: products, places and the famous would go too. The names
of a conversation's own people are looked for in `user_names.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib import resources

from upshot.privacy.labels import pattern_of, word_list, words_of
from upshot.privacy.scan import CAPITAL, LETTER, Region, Rule, TypedSpan


@cache
def _given_names() -> frozenset[str]:
    text = resources.files("upshot.privacy").joinpath("data/given_names.txt").read_text("utf-8")
    return frozenset(
        word for line in text.splitlines() if not line.startswith("#") for word in line.split()
    )


def is_given_name(word: str) -> bool:
    """Whether a word is a common given name, in any case.

    >>> is_given_name("Jane"), is_given_name("Kubernetes")
    (True, False)
    """
    folded = unicodedata.normalize("NFKD", word.lower())
    return word.lower() in _given_names() or folded.encode("ascii", "ignore").decode() in (
        _given_names()
    )


_PART = r"[^\W\d_a-zà-öø-ÿ][^\W\d_]*(?:['’\-][^\W\d_]+)*\.?"
"""A word with a capital letter in front, or an initial."""
_PARTICLE = (
    r"(?:van|von|der|den|de|del|della|di|da|do|dos|du|la|le|el|al|bin|ben|ibn|ter|zu|af|av|of|y"
    r"|e|san|st\.?|mc|mac|o['’])"
)
_NAME = re.compile(
    rf"(?:{_PARTICLE} ){{0,2}}{_PART}(?:[ \u00a0]+(?:{_PARTICLE} ){{0,2}}{_PART}){{0,3}}"
)
_EAST_ASIAN = re.compile(
    "[\u4e00-\u9fff\u3040-\u30ff々]{2,8}?(?=です|と申|といい|$|[\\s。，、,.!！”\"'」）)])"
    "|[\uac00-\ud7af]{2,5}?(?=입니다|이에요|예요|이고|라고|$|[\\s.,!])|[\u4e00-\u9fff]{2,4}"
)
_LOWER_NAME = re.compile(r"[^\W\d_]+(?: [^\W\d_]+)?")
_NO_PEOPLE = word_list("no_people")
"""Words with a capital letter that begin no person's name, and characters known by a title."""


def is_name(words: str) -> bool:
    """Whether capitalised words can be a person's name.

    >>> is_name("Jane Roe"), is_name("Kubernetes"), is_name("ACME")
    (True, False, False)
    """
    parts = words.split()
    first = parts[0].strip(".").lower()
    if first in _NO_PEOPLE or (
        len(parts) > 1 and parts[-1].strip(".").lower() in _NO_PEOPLE - {"no", "may", "e", "y"}
    ):
        return False
    return not (words.isupper() and len(words) <= 5 and not is_given_name(first))


# ---- Behind a word for name

_LINK = re.compile(
    r"[\\\"'`*_)\]]{0,5}(?:[ \t]*(?:=>|:=|[:=|：＝]|[,\-–—]|\bis\b|\bist\b|\best\b|\bes\b|\bè\b"
    r"|\bé\b|は|是|：)|[ \t])?[ \t]*(?:\r?\n[ \t\-—*>]{0,8}|(?:\\n)+)?"
    r"[ \t]*[\\\"'`*_(\[]{0,5}(?:(?i:mr|mrs|ms|mx|dr|prof|herr|frau|mme|mlle|sr|sra|sig|dott"
    r"|pan|pani)\.? )?"
)
_CLOSINGS = frozenset(
    word
    for word in words_of("name")
    if re.search(
        r"regards|wishes|sincerely|truly|faithfully|cheers|thanks|best|yours|gr[üu][ßs]"
        r"|groet|hilsen|hälsningar"
        r"|cordialement|bien à vous|saludo|atentamente|saluti|atenciosamente|abraços"
        r"|terveisin|pozdrawiam|poważaniem|pozdravem|üdvözlettel|stimă"
        r"|уважением|saygı|mfg",
        word,
    )
)
"""Labels behind which a name stands on the next line."""
_ASSIGNS = re.compile(r"[\s\\\"'`*_)\]]*(?:=>|:=|[:=|：＝]|は|是)")


def read_name_after(region: Region, label: str, after: str) -> Iterator[TypedSpan]:
    """The name behind a label; in lower case only where it is a common one."""
    folded = label.lower()
    if folded in _CLOSINGS:
        yield from _read_signature(region, after)
        return
    field = " " not in folded or folded.split()[-1] in ("name", "holder", "by", "to")
    if field and folded.isascii() and not (_ASSIGNS.match(after) or folded.endswith("by")):
        return
    link = _LINK.match(after)
    place = link.end() if link else 0
    if match := _NAME.match(after, place):
        name = _cut_name(match.group())
        if name and is_name(name) and not _is_code(after, match.start() + len(name)):
            yield region.span_after("NAME", after, match.start(), match.start() + len(name))
    elif match := _EAST_ASIAN.match(after, place):
        yield region.span_after("NAME", after, *match.span())
    elif (match := _LOWER_NAME.match(after, place)) and is_given_name(match.group().split()[0]):
        end = (
            match.end()
            if not field and _is_surname(match.group())
            else match.start() + len(match.group().split()[0])
        )
        yield region.span_after("NAME", after, match.start(), end)


_HEADERS = frozenset(words_of("header"))
_QUOTES = r"[\\\"'`*_)\]]{0,5}"
_OPENS = r"[ \t]*[\\\"'`*_(]{0,5}"
_WEAK_LINK = rf"{_QUOTES}(?:[ \t]*(?::|=|\||is|named|called)|,)?{_OPENS}"
WEAKLY_LABELLED = (
    rf"(?:{pattern_of('weak_name')}{_WEAK_LINK}|{pattern_of('header')}{_QUOTES}[ \t]*[:=|]{_OPENS})"
    rf"[{CAPITAL}][{LETTER}'’\-]*(?: [{CAPITAL}][{LETTER}'’\-]*\.?){{0,3}}"
)
_WEAK_LABEL = re.compile(rf"([^\W\d_]+(?:[ _\-][a-zà-ÿ]+)?){_WEAK_LINK}")


def read_weakly_labelled(region: Region) -> Iterator[TypedSpan]:
    """The name behind a label of many things: only one that begins with a common given name."""
    region = region.trim_escape()
    text = region.text
    link = _WEAK_LABEL.match(text)
    match = _NAME.match(text, link.end()) if link else None
    if link is None or match is None or not is_given_name(re.split(r"[ \-]", match.group())[0]):
        return
    name = _cut_name(match.group())
    if link[1].lower() in _HEADERS and " " not in name:
        return
    if is_name(name) and not _is_code(text + region.after(2), match.start() + len(name)):
        yield region.span("NAME", text, match.start(), match.start() + len(name))


_NO_SURNAME = word_list("no_surnames")


def _is_surname(words: str) -> bool:
    return len(words.split()) > 1 and words.split()[1] not in _NO_SURNAME


def _is_code(after: str, end: int) -> bool:
    """Whether a name goes on as an identifier: `Name(`, `Name.field`."""
    return re.match(r"[({\[=_]|\.[A-Za-z_]|::", after[end:]) is not None


def _cut_name(words: str) -> str:
    """Words up to the first that begins a new sentence or is no part of a name."""
    words_of_name: list[str] = []
    for word in words.split(" "):
        if words_of_name and word.strip(".").lower() in _NO_PEOPLE:
            break
        words_of_name.append(word)
        if word.endswith(".") and len(word) > 3:
            break
    return " ".join(words_of_name).rstrip(".")


_SIGNATURE = re.compile(
    r"[,!.]?[ \t]*(?:\r?\n|\\n)(?:[ \t]*(?:\r?\n"
    rf"|\\n))?[ \t\-–—]*(?P<name>{_NAME.pattern})(?=[ \t]*(?:[,\r\n\"'<]|\\n|$))"
)


def _read_signature(region: Region, after: str) -> Iterator[TypedSpan]:
    match = _SIGNATURE.match(after)
    if match and is_name(match["name"]):
        yield region.span_after("NAME", after, *match.span("name"))


# ---- Behind a title, in a greeting, beside an address

_WORD = rf"[{CAPITAL}][{LETTER}'’\-]*\.?"
_WORDS = (
    rf"{_WORD}(?: (?:(?:van|von|der|den|de|del|della|di|da|du|la|le|al|bin"
    rf"|ben) ){{0,2}}{_WORD}){{0,3}}"
)
TITLED = (
    r"\b(?:Mr|Mrs|Ms|Mx|Dr|Prof|Herr|Herrn|Frau|Mme|Mlle|Monsieur|Madame|Señor|Señora|Sra?|Sig"
    rf"|Signora|Signor|Dott|Doña|Don|Pan|Pani|Rev|Sir)\.? {_WORDS}"
)
GREETED = (
    r"(?:^|[\n\x1e>\"“]|\\n)[ \t]*(?:[>#*\-] ?)?"
    r"(?:Dear|Hi|Hello|Hey|Hallo|Liebe|Lieber|Sehr geehrte"
    r"|Sehr geehrter|Guten Tag|Bonjour|Salut|Cher|Chère|Hola|Estimado"
    r"|Estimada|Querido|Querida|Ciao|Caro|Cara|Gentile|Olá|Prezado|Prezada|Beste|Hoi|Hej"
    r"|Kära|Hei|Cześć|Witaj|Drogi|Droga|Ahoj|Vážený|Здравствуйте|Привет"
    r"|Уважаемый|Уважаемая|Merhaba|Sayın)(?:,)? (?:(?:Mr|Mrs|Ms|Dr|Herr|Frau|Mme|Monsieur"
    rf"|Madame|Sr|Sra)\.? )?{_WORDS}[,!:.\n—-]"
)
INTRODUCED = (
    r"\b(?i:this is|i am|i'm|i’m|it's|it’s|je suis|ich bin|soy|yo soy|sono|eu sou|ik ben"
    rf"|jag är|jeg er|jestem|ben|it is) {_WORDS}"
    r"|\b(?:ask|contact|meet|tell|cc|call|email|e-mail|invite|ping|thank"
    rf"|remind) {_WORD}(?: {_WORD}){{1,3}}"
    rf"|{_WORD} {_WORD}(?: {_WORD})?(?: (?:lives|lived|works|worked|called|phoned|emailed"
    r"|texted|complained|moved|signed|paid|owes|ordered|booked"
    r"|is my|was my|was born|has an appointment|wrote (?:me|us|to))\b|['’]s (?:phone"
    r"|e-?mail|address|number|account|birthday|appointment|passport|salary|card|house"
    r"|diagnosis)\b)"
)
ADDRESSED = (
    rf"[\"'“]?{_WORD}(?: {_WORD}){{1,3}}[\"'”]? ?[<(](?:mailto:)?[A-Za-z0-9._%+\-]+@"
    rf"|{_WORD}, {_WORD}(?: {_WORD})? <[A-Za-z0-9._%+\-]+@"
)
_LEAD = re.compile(
    r"(?i)^[\"“]?\s*(?:\\n|>)?\s*(?:[>#*\-] ?)?(?:this is|i am|i'm|i’m|it's|it’s|it is"
    r"|je suis|ich bin|yo soy"
    r"|soy|sono|eu sou|ik ben|jag är|jeg er|jestem|ben|ask|contact|meet|tell|with"
    r"|from|cc|call|email|e-mail|invite|ping|met|thank|remind|and|by|dear|hi|hello|hey"
    r"|hallo|lieber?|sehr geehrter?|guten tag|bonjour|salut|chère|cher|hola|estimad[oa]"
    r"|querid[oa]|ciao|car[oa]|gentile|olá|prezad[oa]|beste|hoi|hej|kära|hei|cześć|witaj"
    r"|drogi|droga|ahoj|vážený|здравствуйте|привет|уважаемый|уважаемая"
    r"|merhaba|sayın),?\s+"
)
_TITLE = re.compile(
    r"^(?:Mrs|Mr|Ms|Mx|Dr|Prof|Herrn|Herr|Frau|Mme|Mlle|Monsieur|Madame|Señora|Señor|Sra|Sr"
    r"|Signora|Signor|Sig|Dott|Doña|Don|Pani|Pan|Rev|Sir)\.? "
)


def _find_name(text: str) -> tuple[int, int]:
    """Where the name in a candidate begins and ends; (0, 0): there is none."""
    lead = _LEAD.match(text)
    start = lead.end() if lead else 0
    title = _TITLE.match(text[start:])
    start += title.end() if title else 0
    match = _NAME.match(text, start)
    name = _cut_name(match.group()) if match else ""
    if not name or not is_name(name):
        return 0, 0
    return start, start + len(name)


def read_titled(region: Region) -> Iterator[TypedSpan]:
    """The name behind a title, or in a greeting."""
    text = region.text
    start, end = _find_name(text)
    if end:
        yield region.span("NAME", text, start, end)


def read_introduced(region: Region) -> Iterator[TypedSpan]:
    """The name behind `this is` or `ask`, if it begins with a common given name."""
    text = region.text
    start, end = _find_name(text)
    if end and is_given_name(re.split(r"[ \-]", text[start:end])[0]):
        yield region.span("NAME", text, start, end)


def read_addressed(region: Region) -> Iterator[TypedSpan]:
    """The name in front of an e-mail address: `Jane Roe <jane@example.org>`."""
    text = region.text
    match = re.match(r"[\"'“]?(?P<name>[^<(\"”]+?)[\"'”]? ?[<(]", text)
    if match and is_name(match["name"].replace(",", "")):
        yield region.span("NAME", text, *match.span("name"))


NAME_RULES = (
    Rule(ADDRESSED, read_addressed),
    Rule(TITLED, read_titled),
    Rule(GREETED, read_titled),
    Rule(INTRODUCED, read_introduced),
)
WEAK_NAME_RULE = Rule(WEAKLY_LABELLED, read_weakly_labelled)
