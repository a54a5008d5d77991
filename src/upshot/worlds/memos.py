"""Memoranda on an invented code whose truth is known: sections, facts, the solution, nine faults.

A code has topics; a topic has a charge, the meaning of its base, a relief for small ones with a
number that changed in some year, a limit on that relief, and a rate for established ones; the old
charge is a repealed twin, and every topic has a near-duplicate (coastal, inland). Facts are drawn,
a solver computes what is due and which places of the code it takes; memoranda in several styles say
so, with citations and quotations whose places are known.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from random import Random
from typing import Any

import msgspec

_CHANGE_YEARS = (2019, 2020, 2021, 2022)
_FIRST_YEAR, _LAST_YEAR = 2017, 2023
_PLACES = ["Ashwick", "Brill", "Corran", "Dunmouth", "Elmsea", "Fairhythe", "Garrow", "Hollin"]
_CLIENTS = [
    *("Adaeze Obi", "Bruno Hale", "Carla Venn", "Dov Aronson", "Edda Lind", "Farid Noor"),
    *("Greta Moss", "Hana Sato", "Ivo Petrov", "June Adair", "Kofi Mensah", "Lena Ortiz"),
]
FAULTS = (
    *("leak", "misquote", "wrong pinpoint", "wrong section", "repealed law"),
    *("unsupported step", "out of order", "missing source", "wrong conclusion"),
)
"""What is planted; the first and the seventh are planted in trails, the others in memoranda."""


class Section(msgspec.Struct, frozen=True):
    """One version of a section of the code."""

    id: str
    number: int
    title: str
    text: str
    valid_from: str = "2010-01-01"
    valid_to: str = ""


class Topic(msgspec.Struct, frozen=True):
    """What the code says of one subject."""

    fields: dict[str, Any]
    sections: dict[str, Section]
    """charge, old_charge, base, relief, bar, reduced, book."""


class Code(msgspec.Struct, frozen=True):
    """All topics."""

    topics: tuple[Topic, ...]

    def records(self) -> list[dict[str, Any]]:
        """The sections as a library reads them."""
        return [
            {
                "id": section.id,
                "title": f"§ {section.number}. {section.title}",
                "text": section.text,
                "valid_from": section.valid_from,
                "valid_to": section.valid_to,
                "licence": "invented",
            }
            for topic in self.topics
            for section in topic.sections.values()
        ]


class Cited(msgspec.Struct, frozen=True):
    """One true citation of a memorandum."""

    source: str
    path: str
    quote: str = ""
    part: str = ""
    """Which statement of the memorandum makes it."""


class Memo(msgspec.Struct, frozen=True):
    """A memorandum and its truth."""

    id: str
    text: str
    date: str
    style: str
    topic: int
    cited: tuple[Cited, ...]
    questions: tuple[str, ...]
    """Of relief, rate and amount: those that the facts raise."""
    label: str
    amount: float
    fault: str = ""
    is_quoted: bool = False
    """Whether a planted pinpoint stands beside a quotation."""


@cache
def _load(name: str) -> dict[str, Any]:
    text = resources.files("upshot.worlds").joinpath(f"memo_{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def load_styles(*, held_out: bool = False) -> dict[str, dict[str, Any]]:
    """Styles of memoranda by name; those kept aside, or those of development."""
    return _load("styles_other" if held_out else "styles")


def make_code(seed: int, topics: int = 12) -> Code:
    """A code of 7 sections a topic.

    >>> len(make_code(1, 10).records())
    70
    """
    random = Random(f"code {seed}")
    subjects = _load("subjects")
    rows = [
        (prefix, *row.split("|"))
        for row in subjects["rows"].strip().split("\n")
        for prefix in subjects["prefixes"]
    ]
    pairs = [rows[i : i + 2] for i in range(0, len(rows), 2)]
    chosen = [row for pair in random.sample(pairs, (topics + 1) // 2) for row in pair][:topics]
    numbers = random.sample(range(101, 101 + 8 * topics), 6 * topics)
    return Code(
        tuple(
            _make_topic(random, row, sorted(numbers[6 * i : 6 * i + 6]))
            for i, row in enumerate(chosen)
        )
    )


def _make_topic(random: Random, row: Sequence[str], numbers: Sequence[int]) -> Topic:
    prefix, noun, keeper, levy, base, unit, unit2, item = row
    subject = f"{prefix} {noun}"
    rate, n = random.randint(3, 9), random.randint(20, 90)
    fields: dict[str, Any] = {
        "subject": subject,
        "subjects": f"{subject}s",
        "keeper": keeper,
        "levy": f"{prefix} {levy}",
        "base": base,
        "unit": unit,
        "unit2": unit2,
        "item": item,
        "cls": f"small {subject}",
        "rate": rate,
        "rate_old": rate + random.randint(1, 3),
        "rate2": rate - random.randint(1, 2),
        "n": n,
        "n_old": n - random.randint(5, 12),
        "k": random.randint(60, 200),
        "m": random.randint(11, 29),
        "change": random.choice(_CHANGE_YEARS),
    }
    names = ("charge", "base", "relief", "bar", "reduced", "book")
    by_name = dict(zip(names, numbers, strict=True))
    fields |= {f"s_{name}": number for name, number in by_name.items()}
    shown = ("levy", "cls", "base", "item")
    fields |= {name.capitalize(): _capital(str(fields[name])) for name in shown}
    code = _load("code")
    wording = {key: random.choice(options) for key, options in code.items()}
    parts = {
        "charge": ("charge", "charge_time", "charge_refer"),
        "base": ("base", "base_less"),
        "relief": ("relief", "relief_term", "relief_year"),
        "bar": ("bar", "bar_count"),
        "reduced": ("reduced", "reduced_count"),
        "book": ("book", "book_fine"),
    }
    sections: dict[str, Section] = {}
    for name in names:
        text = _enumerate(wording[key].format(**fields) for key in parts[name])
        title = wording[f"{name}_title"].format(**fields)
        sections[name] = Section(f"code-{by_name[name]}", by_name[name], title, text)
    old = wording["charge"].format(**{**fields, "rate": fields["rate_old"]})
    sections["old_charge"] = Section(
        f"code-{by_name['charge']}-until-2016",
        by_name["charge"],
        sections["charge"].title,
        _enumerate([old, wording["charge_time"].format(**fields)]),
        "2001-01-01",
        "2016-12-31",
    )
    sections["charge"] = msgspec.structs.replace(sections["charge"], valid_from="2017-01-01")
    return Topic(fields, sections)


def _enumerate(parts: Iterable[str]) -> str:
    return "\n\n".join(f"({letter}) {part}" for letter, part in zip("abcdef", parts, strict=False))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


class _Case(msgspec.Struct, frozen=True):
    """Facts and their solution."""

    fields: dict[str, Any]
    relieved: bool
    """Small enough."""
    barred: bool
    reduced: bool
    less: bool
    """Something is left out of the base."""

    @property
    def is_due(self) -> bool:
        return not self.relieved or self.barred


def _solve(random: Random, topic: Topic) -> _Case:
    f = topic.fields
    year = random.randint(_FIRST_YEAR, _LAST_YEAR)
    limit = f["n_old"] if year < f["change"] else f["n"]
    n1 = limit + random.choice((-1, 1)) * random.randint(1, 15) + random.randint(0, 1)
    n2 = max(1, f["k"] + random.choice((-1, 1)) * random.randint(2, 50))
    age = max(2, f["m"] + random.choice((-1, 1)) * random.randint(1, 9))
    gross = random.randint(40, 900) * 1_000
    left = random.choice((0, random.randint(2, 30) * 1_000))
    relieved, barred = n1 < limit, n2 > f["k"]
    is_due = not relieved or barred
    reduced = is_due and age >= f["m"]
    final = f["rate2"] if reduced else f["rate"]
    net = gross - left
    fields = {
        **f,
        "year": year,
        "limit": limit,
        "n1": n1,
        "n2": n2,
        "age": age,
        "gross": gross,
        "left": left,
        "net": net,
        "final": final,
        "due": round(net * final / 100, 2) if is_due else 0.0,
        "client": random.choice(_CLIENTS),
        "place": random.choice(_PLACES),
        "date": f"{year + 1}-{random.randint(2, 9):02d}-{random.randint(1, 28):02d}",
    }
    return _Case(fields, relieved, relieved and barred, reduced, is_due and left > 0)


class _Writer:
    """Writes one memorandum in a style, and keeps what it cites."""

    def __init__(self, random: Random, style: dict[str, Any], topic: Topic, case: _Case) -> None:
        self.random, self._style, self._topic, self._case = random, style, topic, case
        self.cited: list[Cited] = []
        self.notes: list[str] = []
        self.fault = ""
        self.is_quoted = False
        self._form: str = random.choice(style["cite"])

    def say(self, key: str, **more: Any) -> str:
        """One sentence; what it cites must be added by `cite` before."""
        wording = self.random.choice(self._style[key])
        return _capital(wording.format(**{**self._case.fields, **more}))

    def state(self, key: str, section: str, path: str, quote: str = "") -> str:
        """A sentence that cites a place of the code, with whatever fault is to be planted there."""
        source = self._topic.sections[section]
        number, shown, quoted = source.number, path, quote
        extra: dict[str, Any] = {}
        if self._plants("misquote") and quote:
            quoted = _change_word(self.random, quote)
            self.fault = ""
        elif self._plants("wrong pinpoint") and (quote or self.random.random() < 0.5):
            labels = [p for p in ("(a)", "(b)", "(c)") if p != path and p in source.text]
            shown = self.random.choice(labels)
            self.is_quoted = bool(quote)
            self.fault = ""
        elif self._plants("wrong section") and not quote:
            others = [s for s in self._topic.sections.values() if s.number != number]
            number = self.random.choice(others).number
            self.fault = ""
        elif self._plants("repealed law") and section == "charge":
            old = self._topic.fields["rate_old"]
            quoted = quote.replace(f"{self._topic.fields['rate']} percent", f"{old} percent")
            extra = {"rate": old}
            self.fault = ""
        self.cited.append(Cited(source.id, path, quote, key))
        note = len(self.notes) + 1
        self.notes.append(f"Section {number}{shown} of the Revenue Code.")
        cite = self._form.format(n=number, p=shown, note=note)
        return self.say(key, cite=cite, quote=quoted, **extra)

    def _plants(self, fault: str) -> bool:
        return self.fault == fault


def _change_word(random: Random, quote: str) -> str:
    """A quotation with one word changed, to a number or word that it does not have."""
    words = quote.split(" ")
    numbers = [i for i, word in enumerate(words) if word.isdigit()]
    if numbers and random.random() < 0.5:
        place = random.choice(numbers)
        words[place] = str(int(words[place]) + random.randint(1, 4))
        return " ".join(words)
    pairs = "every any shall may means includes with having imposed laid fewer less pay remit"
    named = [str(word) for word in (pairs + " equal amounting a the has had").split()]
    swaps: dict[str, str] = dict(zip(named[::2], named[1::2], strict=True))
    places = [i for i, word in enumerate(words) if word in swaps]
    place = random.choice(places or [len(words) // 2])
    words[place] = swaps.get(words[place], "certain")
    return " ".join(words)


def _sentence_of(section: Section, letter: str) -> str:
    paragraphs = {p[:3]: p[4:] for p in section.text.split("\n\n")}
    return paragraphs[f"({letter})"].rstrip(".")


def write_memo(
    code: Code, number: int, *, seed: int = 0, held_out: bool = False, fault: str = ""
) -> Memo:
    """A memorandum on one topic of a code, with one fault or none.

    `number` draws topic, facts and style.
    """
    for attempt in range(50):
        random = Random(f"memo {seed} {number} {fault} {attempt}")
        styles = load_styles(held_out=held_out)
        style = random.choice(sorted(styles))
        place = random.randrange(len(code.topics))
        topic = code.topics[place]
        case = _solve(random, topic)
        writer = _Writer(random, styles[style], topic, case)
        if fault in ("misquote", "wrong pinpoint", "wrong section", "repealed law"):
            writer.fault = fault
        parts = _compose(writer, case, topic, fault)
        if parts is None or writer.fault:
            continue  # this case has no room for the fault
        text, questions = _lay_out(writer, styles[style], case, parts, fault)
        fields = case.fields
        return Memo(
            f"memo-{seed}-{number}{'-' + fault.replace(' ', '-') if fault else ''}",
            text,
            fields["date"],
            style,
            place,
            tuple(writer.cited),
            tuple(questions),
            "yes" if case.is_due else "no",
            fields["due"],
            fault,
            writer.is_quoted,
        )
    raise ValueError(f"no memorandum {number} has room for the fault {fault!r}")


def _compose(writer: _Writer, case: _Case, topic: Topic, fault: str) -> dict[str, list[str]] | None:
    """The paragraphs of the reasoning by issue; None where the fault does not fit the case."""
    random, fields = writer.random, case.fields
    say, state = writer.say, writer.state
    quote = _sentence_of(topic.sections["charge"], "a")
    charge = (
        state("charge_quote", "charge", "(a)", quote)
        if random.random() < 0.6
        else state("charge_plain", "charge", "(a)")
    )
    relief = [state("relief_rule", "relief", "(a)")]
    is_old = fields["year"] < fields["change"]
    means = f"a {fields['subject']} with fewer than"
    term = _sentence_of(topic.sections["relief"], "b")
    if not is_old and means in term and random.random() < 0.5:
        relief.append(state("relief_quote", "relief", "(b)", term[term.index(means) :]))
    elif is_old:
        relief.append(state("relief_year", "relief", "(c)"))
    else:
        relief.append(state("relief_term", "relief", "(b)"))
    relief.append(say("relief_yes" if case.relieved else "relief_no"))
    if case.relieved:
        relief.append(state("bar_rule", "bar", "(a)"))
        relief.append(say("bar_yes" if case.barred else "bar_no"))
    rate: list[str] = []
    amount: list[str] = []
    if case.is_due:
        rate = [
            state("rate_rule", "reduced", "(a)"),
            say("rate_yes" if case.reduced else "rate_no"),
        ]
        if case.less:
            amount = [state("base_rule", "base", "(b)"), say("base_apply")]
        amount.append(say("amount"))
    parts = {"relief": [charge, *filter(None, relief)], "rate": rate, "amount": amount}
    return _plant(parts, writer, case, fault)


_INVENTED = (
    "By long practice the collector also waives the {levy} for a {keeper} of good standing.",
    "A {keeper} who pays in advance is entitled to a rebate of one tenth under settled practice.",
    "It is well established that a widow who inherits a {subject} shall be exempt for two seasons.",
    "The {levy} must moreover be guaranteed by two neighbours before Michaelmas.",
)
"""Statements that no section supports."""


def _plant(
    parts: dict[str, list[str]],
    writer: _Writer,
    case: _Case,
    fault: str,
) -> dict[str, list[str]] | None:
    if fault == "unsupported step":
        sentence = writer.random.choice(_INVENTED).format(**case.fields)
        parts["relief"].insert(writer.random.randrange(1, len(parts["relief"])), sentence)
    if fault == "missing source":
        # A section that decides is used, and nowhere cited.
        lost = {"relief_rule", "relief_term", "relief_year", "relief_quote"}
        if case.barred and writer.random.random() < 0.5:
            lost = {"bar_rule"}
        elif case.reduced:
            lost = {"rate_rule"}
        elif not case.relieved:
            return None
        gone = [c for c in writer.cited if c.part in lost]
        if not gone:
            return None
        _drop_statements(parts, lost)
        writer.cited = [c for c in writer.cited if c.part not in lost]
    return parts


def _drop_statements(parts: dict[str, list[str]], lost: set[str]) -> None:
    if "bar_rule" in lost:
        parts["relief"].pop(-2)
    elif "rate_rule" in lost:
        parts["rate"].pop(0)
    else:  # the rule and its number, after the charge
        del parts["relief"][1:3]


def _lay_out(
    writer: _Writer,
    style: dict[str, Any],
    case: _Case,
    parts: dict[str, list[str]],
    fault: str,
) -> tuple[str, list[str]]:
    say, fields = writer.say, dict(case.fields)
    questions = {"relief": say("issue_relief")}
    if parts["rate"]:
        questions["rate"] = say("issue_rate")
    if parts["amount"]:
        questions["amount"] = say("issue_amount")
    due, label = fields["due"], case.is_due
    if fault == "wrong conclusion":
        if writer.random.random() < 0.5:
            label = not label
            due = due or round(fields["net"] * fields["rate"] / 100, 2)
        elif label:
            due = round(due * 1.1 + 7, 2)
        else:
            label, due = True, round(fields["net"] * fields["rate"] / 100, 2)
    end = say("end_yes" if label else "end_no", due=due)
    body = [" ".join(sentences) for sentences in parts.values() if sentences]
    facts = say("facts")
    blocks: list[str] = [style["date"].format(**fields)]
    title = f"{fields['Levy']}: {fields['client']}"
    if style["headings"]:
        prompts = [f"{i}. {q}" for i, q in enumerate(questions.values(), 1)]
        sections = [facts, "\n".join(prompts), "\n\n".join(body), end]
        blocks = [f"{style['level']} {title}" if style["level"] == "##" else title, *blocks]
        for heading, section in zip(style["headings"], sections, strict=True):
            blocks += [f"{style['level']} {heading}", section]
    else:
        blocks = [*blocks, f"Re: {title}", say("open"), facts, " ".join(questions.values())]
        blocks += [*body, end, say("close")]
    if "note" in style["cite"][0]:
        shown = " ".join(blocks)
        blocks += [
            f"[^{i}]: {note}" for i, note in enumerate(writer.notes, 1) if f"[^{i}]" in shown
        ]
    return "\n\n".join(block for block in blocks if block) + "\n", list(questions)
