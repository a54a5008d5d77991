"""Reads provisions as rules and applies them to facts: charges, exceptions, definitions, rates.

A reader of statutory English for the forms that tax provisions take: so many percent of a base are
imposed; a section does not apply to something; a term means something with fewer or more than a
number of things; the rate, or a number, is another one in some case or year; something is left out
of a base. An exception switches a section off, and may itself be switched off. What it cannot read
it leaves out, and where a term that matters is defined nowhere it says so instead of guessing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from upshot.artifacts.structure import split_sentences
from upshot.artifacts.words import content_words

_NOUNS = r"(?P<noun>(?:[a-z][\w'’-]*[ ]?){1,4})"
_COMPARISON = re.compile(
    r"\b(?P<how>fewer than|less than|not more than|no more than|not exceeding|at most|up to|below"
    r"|under|more than|over|exceeds|exceeding|in excess of|above|at least|not less than"
    rf"|no fewer than|or more)[ ](?P<value>\d[\d,]*(?:\.\d+)?)[ ]{_NOUNS}"
)
_BELOW = frozenset(("fewer than", "less than", "below", "under"))
_AT_MOST = frozenset(("not more than", "no more than", "not exceeding", "at most", "up to"))
_AT_LEAST = frozenset(("at least", "not less than", "no fewer than", "or more"))
_SECTION = re.compile(r"(?:\b[Ss]ections?|§|\b[Ss]ec\.)[\s\u202f]*(\d+[A-Z]*)")
_RATE = re.compile(r"(\d+(?:\.\d+)?) ?(?:percent|per cent|%)")
_CHARGE = re.compile(
    r"\b(?:imposed|impose|shall pay|must pay|is charged|is levied|owes|is liable to pay"
    r"|there shall be)\b"
)
_BASE = re.compile(
    r"(?:percent|per cent|%) of (?:the |its |his |their )?(?P<base>[a-z][\w' ’-]{3,60})"
)
_PERIOD = re.compile(
    r" (?:of|for|in|during|from) (?:the |each |that |a |any )?(?:calendar |taxable |preceding )?"
    r"(?:year|quarter|month)\b.*"
)
_MEANS = re.compile(r"[“\"](?P<term>[^”\"]{3,60})[”\"] (?:means|shall mean|is)\b(?P<rest>[^.;]*)")
_OFF = re.compile(
    r"\b(?:(?:does|do|shall) not apply|not available|is (?:exempt|excepted|relieved)|are exempt"
    r"|is denied|are denied|is lost|no \w[\w ]{2,30} is imposed|is not subject|does not extend)\b"
)
_OVERRIDE = re.compile(r"\brate (?:in|of|under)\b|\breplaces? the rate\b|\brate is\b|\bsubstitut")
_YEARS = re.compile(r"\byears? (?P<when>before|after|since|from) (?P<year>\d{4})")
_NUMBER_IS = re.compile(
    r"\bnumber of (?P<noun>[a-z][\w' -]*?)(?: in [^.]*?)? is (?P<value>\d[\d,]*)"
    r"|\bthe number (?P<new>\d[\d,]*) replaces the number (?P<old>\d[\d,]*)"
)
_LEFT_OUT = re.compile(
    r"(?P<base>.+?) (?:do(?:es)? not include|excludes?|leaves? out) (?P<item>.+)"
    r"|(?P<item2>.+?) (?:are|is) (?:left out of|not included in|excluded from|no part of)"
    r" (?P<base2>.+)"
)
_AMOUNT = re.compile(r"[$£€](\d[\d,]*(?:\.\d+)?)")
_QUANTITY = re.compile(r"(?<![$£€\d,.])\b(\d[\d,]*(?:\.\d+)?) (?=[a-z])")


class Comparison(msgspec.Struct, frozen=True):
    """A number of things against a limit."""

    things: frozenset[str]
    """Stems of what is counted."""
    how: str
    value: float

    def holds(self, number: float) -> bool:
        """Whether a number satisfies it."""
        if self.how in _BELOW:
            return number < self.value
        if self.how in _AT_MOST:
            return number <= self.value
        if self.how in _AT_LEAST:
            return number >= self.value
        return number > self.value


class Rule(msgspec.Struct, frozen=True):
    """One provision as it was understood."""

    kind: str
    """charge, off, term, rate, number or left_out."""
    section: str
    """Number of the section that it stands in."""
    text: str
    place: int
    """Index of the provision that it was read from."""
    target: str = ""
    """Number of the section that it changes."""
    comparison: Comparison | None = None
    term: str = ""
    rate: float = 0.0
    words: frozenset[str] = frozenset()
    """Of a charge: its sentence; of what is left out: the item."""
    base: frozenset[str] = frozenset()
    year: int = 0
    """Of a number: the year before which, or from which if negative, it counts."""


class Provision(msgspec.Struct, frozen=True):
    """A passage and the number of its section."""

    section: str
    text: str


class Finding(msgspec.Struct, frozen=True):
    """What rules come to on some facts."""

    label: str = ""
    """yes: due; no: not due; "" where that is open."""
    amount: float | None = None
    places: tuple[int, ...] = ()
    """Indexes of the provisions that decided."""
    missing: str = ""
    """A term or section that matters and that no provision explains."""


def read_rules(provisions: Sequence[Provision]) -> list[Rule]:
    """The rules of provisions, sentence by sentence.

    >>> text = "Section 12 does not apply to a small marina."
    >>> [(rule.kind, rule.target) for rule in read_rules([Provision("14", text)])]
    [('off', '12')]
    """
    rules: list[Rule] = []
    for place, provision in enumerate(provisions):
        for start, end in split_sentences(provision.text, 0, len(provision.text)):
            sentence = re.sub(r"^\s*(?:\(\w{1,4}\)\s*)+", "", provision.text[start:end])
            rules += _read_sentence(" ".join(sentence.split()), provision.section, place)
    return rules


def _read_sentence(sentence: str, section: str, place: int) -> list[Rule]:
    comparison = _read_comparison(sentence)
    sections = _SECTION.findall(sentence)
    rate = _RATE.search(sentence)
    term = _MEANS.search(sentence)
    years = _YEARS.search(sentence)
    number = _NUMBER_IS.search(sentence)
    if years is not None and number is not None:
        return [_read_number(sentence, years, number, section=section, place=place)]
    if term is not None:
        if comparison is None:
            return []
        name = term["term"].lower()
        return [Rule("term", section, sentence, place, comparison=comparison, term=name)]
    if rate is not None and sections and _OVERRIDE.search(sentence):
        value = float(rate[1])
        return [Rule("rate", section, sentence, place, sections[-1], comparison, rate=value)]
    if rate is not None and _CHARGE.search(sentence):
        base = _BASE.search(sentence)
        name = "" if base is None else _PERIOD.sub("", base["base"])
        stems = frozenset(content_words(name))
        words = frozenset(content_words(sentence))
        value = float(rate[1])
        return [Rule("charge", section, sentence, place, rate=value, words=words, base=stems)]
    if sections and _OFF.search(sentence):
        return [Rule("off", section, sentence, place, sections[0], comparison)]
    left_out = _LEFT_OUT.fullmatch(sentence.rstrip("."))
    if left_out is not None:
        item = frozenset(content_words(left_out["item"] or left_out["item2"]))
        stems = frozenset(content_words(left_out["base"] or left_out["base2"]))
        return [Rule("left_out", section, sentence, place, words=item, base=stems)]
    return []


def _read_comparison(sentence: str) -> Comparison | None:
    match = _COMPARISON.search(sentence)
    if match is None:
        return None
    noun = re.split(r"\b(?:in|on|of|at|for|the|and|or|is|are)\b", match["noun"])[0]
    value = float(match["value"].replace(",", ""))
    return Comparison(frozenset(content_words(noun)), match["how"], value)


def _read_number(
    sentence: str, years: re.Match[str], number: re.Match[str], *, section: str, place: int
) -> Rule:
    year = int(years["year"])
    value = float((number["value"] or number["new"]).replace(",", ""))
    signed = year if years["when"] == "before" else -(year + (years["when"] == "after"))
    return Rule("number", section, sentence, place, rate=value, year=signed)


class Facts:
    """Numbers of a text by what they count.

    >>> Facts("It has 52 berths and took $200,000.").count(frozenset(["berth"]))
    52.0
    """

    def __init__(self, text: str, question: str = "") -> None:
        self.text = " ".join(text.split())
        self.words = frozenset(content_words(f"{text} {question}"))
        years = re.findall(r"\b(?:19|20)\d\d\b", question) or re.findall(r"\b(?:19|20)\d\d\b", text)
        self.year = int(years[0]) if years else 0

    def count(self, things: frozenset[str]) -> float | None:
        """How many of some things there are; None where the text does not say."""
        if not things:
            return None
        nearly: float | None = None
        for match in _QUANTITY.finditer(self.text):
            number = float(match[1].replace(",", ""))
            following = self.text[match.end() : match.end() + 60]
            stems = content_words(re.split(r"[,.;:(\d]|\band\b", following)[0])
            if things <= set(stems[: len(things)]):
                return number
            if nearly is None and things <= set(stems[: len(things) + 1]) and number != self.year:
                nearly = number
        return nearly

    def amount_near(self, words: frozenset[str], taken: Iterable[float] = ()) -> float | None:
        """The sum of money that stands nearest to some words, in their sentence if one does; None
        where there is none.
        """
        spots = _spots(self.text, words)
        excluded = set(taken)
        best: tuple[int, float] | None = None
        for match in _AMOUNT.finditer(self.text):
            value = float(match[1].replace(",", "").rstrip("."))
            if value in excluded or not spots:
                continue
            distance = min(self._distance(match.start(), match.end(), *spot) for spot in spots)
            if best is None or distance < best[0]:
                best = (distance, value)
        return None if best is None or best[0] > _NEAR else best[1]

    def _distance(self, start: int, end: int, left: int, right: int) -> int:
        between = self.text[end:left] if end <= left else self.text[right:start]
        return len(between) + (_NEAR // 2 if re.search(r"[.;] ", between) else 0)


_NEAR = 90
"""Characters within which a sum of money belongs to words: a clause or two."""


def _spots(text: str, words: frozenset[str]) -> list[tuple[int, int]]:
    """Where all of some words stand together."""
    places = [
        (match.start(), match.end(), stems[0])
        for match in re.finditer(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text)
        if (stems := content_words(match[0])) and stems[0] in words
    ]
    spots: list[tuple[int, int]] = []
    for index, (start, _, _) in enumerate(places):
        window = places[index : index + len(words)]
        if words <= {stem for _, _, stem in window} and window[-1][1] - start < _NEAR:
            spots.append((start, window[-1][1]))
    return spots


class _UndecidedError(Exception):
    """A condition whose term nothing explains, or whose number the facts do not give."""


class _Case:
    """One application of rules to facts."""

    def __init__(self, rules: Sequence[Rule], facts: Facts) -> None:
        self._rules, self._facts = rules, facts
        self.places: list[int] = []

    def use(self, rule: Rule) -> None:
        if rule.place not in self.places:
            self.places.append(rule.place)

    def is_off(self, section: str, depth: int = 0) -> bool:
        """Whether an exception, itself not switched off, switches a section off."""
        for rule in self._of_kind("off"):
            if rule.target != section or rule.section == section or depth > 4:
                continue
            if not self._concerns(rule):
                continue
            self.use(rule)
            if self._is_met(rule) and not self.is_off(rule.section, depth + 1):
                return True
        return False

    def rate_of(self, charge: Rule) -> float:
        for rule in self._of_kind("rate"):
            if rule.target == charge.section and self._concerns(rule):
                self.use(rule)
                if rule.comparison is None or self._compare(rule.comparison, rule.section):
                    return rule.rate
        return charge.rate

    def _of_kind(self, kind: str) -> list[Rule]:
        return [rule for rule in self._rules if rule.kind == kind]

    def _concerns(self, rule: Rule) -> bool:
        """Whether a rule speaks of what the facts are about, by most of its words."""
        words = [w for w in content_words(_SECTION.sub(" ", rule.text)) if w in self._vocabulary]
        return not words or sum(w in self._facts.words for w in words) >= 0.5 * len(words)

    @property
    def _vocabulary(self) -> frozenset[str]:
        return self._facts.words | frozenset(
            word for rule in self._of_kind("term") for word in content_words(rule.term)
        )

    def _is_met(self, rule: Rule) -> bool:
        if rule.comparison is not None:
            return self._compare(rule.comparison, rule.section)
        low = rule.text.lower()
        terms = [t for t in self._of_kind("term") if _mentions(low, t.term)]
        if not terms:
            raise _UndecidedError(f"what {rule.text[:80]!r} is about")
        term = max(terms, key=lambda t: len(t.term))
        self.use(term)
        if term.comparison is None:
            raise _UndecidedError(term.term)
        return self._compare(term.comparison, term.section)

    def _compare(self, comparison: Comparison, section: str) -> bool:
        number = self._facts.count(comparison.things)
        if number is None:
            raise _UndecidedError(f"the number of {' '.join(sorted(comparison.things))}")
        for rule in self._of_kind("number"):
            year = self._facts.year
            counts = year < rule.year if rule.year > 0 else year >= -rule.year
            if rule.section == section and year and counts:
                self.use(rule)
                comparison = msgspec.structs.replace(comparison, value=rule.rate)
        return comparison.holds(number)

    def amount_of(self, charge: Rule) -> float | None:
        items = [r for r in self._of_kind("left_out") if r.base & charge.base == r.base]
        removed: list[float] = []
        for rule in {rule.words: rule for rule in items}.values():  # a twin leaves out the same
            part = self._facts.amount_near(rule.words)
            if part is not None:
                self.use(rule)
                removed.append(part)
        gross = self._facts.amount_near(charge.base, [0.0, *removed])
        if gross is None:
            return None
        return round((gross - sum(removed)) * self.rate_of(charge) / 100, 2)


def _mentions(text: str, term: str) -> bool:
    return re.search(rf"\b{re.escape(term)}s?\b", text) is not None


def apply_rules(question: str, facts: str, provisions: Sequence[Provision]) -> Finding:
    """Whether what a question asks about is due on some facts, and how much, by provisions alone.

    >>> code = [
    ...     Provision("12", "There is imposed on a marina a levy of 4 percent of the receipts."),
    ...     Provision("14", "Section 12 does not apply to a small marina."),
    ...     Provision("14", "The term “small marina” means a marina with fewer than 40 berths."),
    ... ]
    >>> apply_rules("What levy is due?", "A marina, 52 berths, receipts of $5,000.", code).amount
    200.0
    """
    rules = read_rules(provisions)
    basis = Facts(facts, question)
    charges = [rule for rule in rules if rule.kind == "charge"]
    if not charges:
        return Finding()
    charges = [rule for rule in charges if _subjects_of(rule.text) <= basis.words]
    if not charges:
        return Finding()
    charge = max(charges, key=lambda r: (_share(r.words, basis.words), -r.place))
    if _share(charge.words, basis.words) < _MIN_SHARE:
        return Finding()
    if any(_excepts(provision) for provision in provisions if provision.section == charge.section):
        return Finding()
    case = _Case(rules, basis)
    case.use(charge)
    try:
        if case.is_off(charge.section):
            return Finding("no", 0.0, tuple(case.places))
        amount = case.amount_of(charge)
    except _UndecidedError as gap:
        return Finding(places=tuple(case.places), missing=str(gap))
    return Finding("yes", amount, tuple(case.places))


_EXCEPTS = re.compile(
    r"\b(?:not imposed|do(?:es)? not (?:apply|extend)|except|unless|exempt|nothing is"
    r"|no \w+ is (?:due|imposed))\b",
    re.IGNORECASE,
)


def _excepts(provision: Provision) -> bool:
    """Whether a provision holds an exception that was not read as a rule: what it comes to is then
    not for rules to say.
    """
    for start, end in split_sentences(provision.text, 0, len(provision.text)):
        sentence = provision.text[start:end]
        if _EXCEPTS.search(sentence) and not read_rules([Provision(provision.section, sentence)]):
            return True
    return False


_MIN_SHARE = 0.5
"""Share of a charge's words that question and facts must have for the charge to be in question."""


_SUBJECT = re.compile(
    r"\b(?:of|by|on|for|from) (?:an?|each|any) (?P<noun>[a-z][\w'’-]*(?: [a-z][\w'’-]*){0,4})"
)
_SUBJECT_END = re.compile(
    r" (?:an?|the|shall|must|is|are|of|that|which|who|whose|for|in|on|to|and|or|with|equal)\b.*"
)


def _subjects_of(sentence: str) -> frozenset[str]:
    """Stems of what a charge is laid on: \"every keeper of a river mill\" is about river mills."""
    nouns = [_SUBJECT_END.sub("", match["noun"]) for match in _SUBJECT.finditer(sentence)]
    stems = {stem for noun in nouns for stem in content_words(noun)}
    return frozenset(stems) - _GENERIC


_GENERIC = frozenset(
    content_words(
        "imposed every each person calendar taxable year percent equal pay amount following due"
    )
)
"""Words that charges have whatever they tax."""


def _share(words: frozenset[str], others: frozenset[str]) -> float:
    own = words - _GENERIC
    return len(own & others) / len(own) if own else 0.0
