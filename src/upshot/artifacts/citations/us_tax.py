"""Sections of codes and acts, regulations and rulings, as American tax practice cites them.

`I.R.C. § 25D(d)(1)`, `26 U.S.C. § 61`, `sections 12 and 14(b) of the Harbour Act`, `Treas. Reg.
§ 1.61-1(a)`, `Rev. Rul. 99-7`, `Rev. Proc. 2020-3`, `Notice 2014-21`, `T.D. 9876`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from upshot.artifacts.citations.kind import CitationKind
from upshot.artifacts.records import Mention, Source
from upshot.artifacts.words import normalise_key

_NUMBER = r"\d+[A-Z]{0,3}(?:-\d+[A-Z]?)?(?![\w.]*\d)"
_SUBPART = r"\((?:[a-z]{1,4}|[A-Z]{1,4}|\d{1,3})\)"
_SUBPARTS = rf"(?:[ ]?{_SUBPART})*"
_CODE = (
    r"(?:(?:[A-Z][\w'’]*\.?[ ]){0,4}(?:Code|Act|Ordinance|Statute|Law|Regulations?)"
    r"|I\.?R\.?C\.?|(?:26[ ])?U\.?S\.?C\.?)"
)
_SECTION = re.compile(
    rf"""
    (?P<code>(?:{_CODE}),?[ ])?
    (?P<mark>§§?|\b[Ss]ections?\b|\b[Ss]ecs?\.|\bSections?\b|(?<![\w.])[Ss]s?\.(?=\s?\d))[\s\u202f\u00a0]*
    (?P<first>{_NUMBER})(?P<first_sub>{_SUBPARTS})
    (?P<more>(?:
        (?:,[ ]?(?:and|or|&)?|[ ]?(?:and|or|&|through|to|–|-))[ ]?(?:§[ ]?)?
        (?:{_NUMBER}{_SUBPARTS}|{_SUBPART}{_SUBPARTS})
    )*)
    (?:[ ]of[ ](?:the|this|that)[ ]
        (?P<after>(?:[A-Z][\w'’]*[ ]){{0,4}}(?:Code|Act|Ordinance|Statute|Law)))?
    """,
    re.VERBOSE,
)
_ONE = re.compile(rf"({_NUMBER})({_SUBPARTS})|({_SUBPART}{_SUBPARTS})")
_REGULATION = re.compile(
    r"(?:(?:Prop\.[ ]|Temp\.[ ])?Treas(?:\.|ury)[ ]Reg(?:\.|ulations?)|\bRegs?\."
    r"|\b26[ ]C\.?F\.?R\.?)[ ]*(?:§§?|[Ss]ec(?:tion|\.))?[\s\u202f]*"
    rf"(?P<number>\d+\.[\d\w]+(?:-\d+[A-Z]?)?T?)(?P<sub>{_SUBPARTS})"
)
_RULING = re.compile(
    r"\b(?P<name>Rev(?:\.|enue)[ ]Rul(?:\.|ing)|Rev(?:\.|enue)[ ]Proc(?:\.|edure)|Notice"
    r"|Announcement|Ann\.|T\.D\.|P\.?L\.?R\.?|Ruling|Circular)[ ](?:No\.[ ])?"
    r"(?P<number>\d{2,9}(?:[-/]\d+)*)"
    r"(?:,?[ ](?:§|[Ss]ection)[ ]?(?P<section>[\d.]+))?"
)
_RULING_NAMES = {
    "revrul": "rev rul", "revenueruling": "rev rul", "revproc": "rev proc", "pl": "plr",
    "revenueprocedure": "rev proc", "announcement": "announcement", "ann": "announcement",
    "td": "td", "plr": "plr",
}  # fmt: skip
_TITLE = re.compile(
    rf"^(?:.*?\b)?(?:§[\s\u202f]*|[Ss]ec(?:tion|\.)[ ]|[Ss]\.[ ]?)({_NUMBER})(?:[.:,—– -]|\s|$)"
)
_SUB = re.compile(r"\(([^)]+)\)")


def find(text: str) -> Iterator[Mention]:
    """Mentions of sections, regulations and rulings."""
    for match in _REGULATION.finditer(text):
        key = f"reg:{match['number'].lower()}"
        yield Mention(match.start(), match.end(), "us_tax", (key,), _subparts(match["sub"]))
    for match in _RULING.finditer(text):
        pinpoint = (match["section"],) if match["section"] else ()
        key = _ruling_key(match["name"], match["number"])
        yield Mention(match.start(), match.end(), "us_tax", (key,), pinpoint)
    for match in _SECTION.finditer(text):
        if "." in match["first"]:
            continue
        yield from _sections(text, match)


def _sections(text: str, match: re.Match[str]) -> Iterator[Mention]:
    code = (match["code"] or match["after"] or "").strip(" ,")
    is_weak = not code and match["mark"][0] != "§"
    number, path = match["first"].lower(), _subparts(match["first_sub"])
    spans = [(match.start(), match.end("first_sub"), number, path)]
    offset = match.start("more")
    for other in _ONE.finditer(match["more"]):
        if other[1]:
            number, path = other[1].lower(), _subparts(other[2])
        else:  # "§ 14(a)(1), (2)": another part of the same section
            parts = _subparts(other[3])
            path = (*path[: max(0, len(path) - len(parts))], *parts)
        spans.append((offset + other.start(), offset + other.end(), number, path))
    for start, end, section, pinpoint in spans:
        trimmed = start + len(text[start:end].rstrip())
        yield Mention(start, trimmed, "us_tax", (f"section:{section}",), pinpoint, code, is_weak)


def _subparts(text: str) -> tuple[str, ...]:
    return tuple(_SUB.findall(text or ""))


def _ruling_key(name: str, number: str) -> str:
    plain = re.sub(r"[^a-z]", "", name.lower())
    return f"ruling:{_RULING_NAMES.get(plain, plain)} {number.replace('/', '-')}"


def names(source: Source) -> Iterator[str]:
    """Keys of a section by its title; of a regulation or ruling by its title or id."""
    match = _TITLE.match(source.title)
    if match is not None:
        yield f"section:{match[1].lower()}"
    for mention in find(f"{source.title} ; {source.id}"):
        if mention.keys[0].startswith(("reg:", "ruling:")):
            yield mention.keys[0]


def section_number(source: Source) -> str:
    """The number of the section that a source is, by its title; "" where it is none.

    >>> section_number(Source("s", "§ 25D. Credit", ""))
    '25D'
    """
    match = _TITLE.match(source.title)
    return match[1] if match is not None else ""


def names_code(source: Source, code: str) -> bool:
    """Whether a source belongs to the code that a mention names."""
    wanted = set(normalise_key(code).split()) - {"code", "act", "the", "law"}
    if wanted & {"irc", "usc", "i", "u", "26", "internal"}:
        return "internal revenue" in source.text[:400].lower() or "26" in source.id
    return wanted <= set(normalise_key(f"{source.title} {source.id} {source.text[:200]}").split())


KIND = CitationKind("us_tax", find, names)
