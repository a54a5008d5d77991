"""Decisions of courts: `Gregory v. Helvering, 293 U.S. 465, 469 (1935)`, and short forms."""

from __future__ import annotations

import re
from collections.abc import Iterator

from upshot.artifacts.citations.kind import CitationKind
from upshot.artifacts.records import Mention, Source
from upshot.artifacts.words import normalise_key

_PARTY = r"[A-Z][\w.&'’-]*(?:[ ](?:of|the|and|&|de|la|ex|rel\.|[A-Z][\w.&'’-]*)){0,5}"
_REPORTER = (
    r"(?:U\.?[ ]?S\.?|S\.?[ ]?Ct\.?|L\.?[ ]?Ed\.?(?:[ ]?2d)?|F\.?(?:[ ]?(?:2d|3d|4th))?"
    r"|F\.?[ ]?Supp\.?(?:[ ]?(?:2d|3d))?|T\.?C\.?(?:[ ]?M\.?)?|B\.?T\.?A\.?|Fed\.?[ ]Cl\.?"
    r"|H\.?R\.?)"
)
_ANY_REPORTER = r"(?:[A-Z][A-Za-z]{0,7}\.?[ ]?){1,3}(?:2d|3d|4th)?"
"""Beside the names of a case any abbreviation is a reporter's; alone only a known one."""
_FULL = re.compile(
    rf"(?P<one>{_PARTY})[ ]v(?:s)?\.?[ ](?P<two>{_PARTY})"
    rf"(?:,[ ](?P<volume>\d+)[ ](?P<reporter>{_ANY_REPORTER})[ ](?P<page>\d+)"
    r"(?:,[ ](?P<pin>\d+(?:[-–]\d+)?))?)?"
    r"(?:[ ]\((?:[^()]{0,30}[ ])?(?P<year>\d{4})\))?"
)
_SHORT = re.compile(
    rf"(?:(?P<name>[A-Z][\w'’-]+),[ ])?(?P<volume>\d+)[ ](?P<reporter>{_REPORTER})[ ]"
    r"(?:at[ ](?P<pin>\d+(?:[-–]\d+)?)|(?P<page>\d+)(?:,[ ](?P<page_pin>\d+))?)"
)
_SIGNALS = frozenset(("see", "but", "cf", "in", "accord", "compare", "and", "also", "under", "as"))


def find(text: str) -> Iterator[Mention]:
    """Mentions of cases, in full or by reporter."""
    ends: list[tuple[int, int]] = []
    for match in _FULL.finditer(text):
        one = _strip_signals(match["one"])
        start = match.start() + len(match["one"]) - len(one)
        keys = ["case:" + normalise_key(f"{one} v {match['two']}")]
        if match["volume"]:
            keys.insert(0, _reporter_key(match["volume"], match["reporter"], match["page"]))
        ends.append((start, match.end()))
        pinpoint = (match["pin"],) if match["pin"] else ()
        yield Mention(start, match.end(), "cases", tuple(keys), pinpoint)
    for match in _SHORT.finditer(text):
        if any(start <= match.start() < end for start, end in ends):
            continue
        pin = match["pin"] or match["page_pin"]
        keys = list[str]()
        if match["page"]:
            keys.append(_reporter_key(match["volume"], match["reporter"], match["page"]))
        if match["name"]:
            keys.append(f"party:{normalise_key(match['name'])}")
        keys.append(f"volume:{normalise_key(match['volume'] + ' ' + match['reporter'])}")
        yield Mention(match.start(), match.end(), "cases", tuple(keys), (pin,) if pin else ())


def _strip_signals(party: str) -> str:
    words = party.split(" ")
    while len(words) > 1 and words[0].lower().strip(".,") in _SIGNALS:
        words.pop(0)
    return " ".join(words)


def _reporter_key(volume: str, reporter: str, page: str) -> str:
    return f"case:{volume} {re.sub(r'[^a-z0-9]', '', reporter.lower())} {page}"


def names(source: Source) -> Iterator[str]:
    """Keys of a decision by its title, and by the reporter that its first lines name."""
    match = _FULL.match(source.title)
    if match is None:
        return
    one, two = match["one"], match["two"]
    yield f"case:{normalise_key(f'{one} v {two}')}"
    yield f"party:{normalise_key(one)}"
    yield f"party:{normalise_key(one.split(' ')[0])}"
    yield f"party:{normalise_key(two.split(' ')[0])}"
    for mention in find(f"{source.title}\n{source.text[:300]}"):
        reporter = [key for key in mention.keys if re.match(r"case:\d", key)]
        if reporter:
            yield reporter[0]
            volume, name, _ = reporter[0].partition(":")[2].split(" ")
            yield f"volume:{volume} {name}"
            return


KIND = CitationKind("cases", find, names)
