"""What a trail must hold to before anyone learns from it: each check a share and a list.

*leak*: nothing of the reasoning stands in questions or queries. *support*: passages support each
claim. *pinpoint*: the place cited is the place that supports. *order*: nothing is used before it
was reached, and nothing that was not in force. *connection*: the conclusion comes of claims.
*need*: no step is idle. *quotes*: every quotation is what its source says.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from upshot.artifacts.citations.pinpoints import agrees, has_paths, passages_at
from upshot.artifacts.citations.us_tax import section_number
from upshot.artifacts.claims import passage_around
from upshot.artifacts.desk import Desk
from upshot.artifacts.questions import QUESTION_WORDS
from upshot.artifacts.records import Check, Passage, Span, Step, Trail
from upshot.artifacts.rules import Provision, apply_rules
from upshot.artifacts.support import (
    Context,
    best_passages,
    check_support,
    find_strange_numbers,
    is_bare_rule,
    measure_coverage,
)
from upshot.artifacts.trail import defined_terms
from upshot.artifacts.words import content_words, features, numbers, shingles

LEAK_WORDS = 8
"""Length of a run of words that no question or query may share with the reasoning."""
_PINPOINT_LEAD = 1.35
"""How much better another passage must be than the one cited for the pinpoint to be doubted."""
_ROUNDING = 0.005
"""Relative difference between amounts that rounding on the way explains."""
_EXTRA = 0.15
"""Share of a claim's words that another source must have beyond those that the cited one has."""
_ENOUGH = 0.6
"""Share of a claim's words that a cited source must have for the citation not to be doubted."""
_RULE_COVERAGE = 0.75
"""Share of the words of a rule without a source that what was read must have."""
_SECTION_LEAD = 1.3
"""How much better another source must be than the one cited for the citation to be doubted."""


def run_checks(trail: Trail, desk: Desk) -> dict[str, Check]:
    """All checks of a trail."""
    checks: dict[str, Callable[[Trail, Desk], Check]] = {
        "leak": check_leak,
        "support": check_claims,
        "pinpoint": check_pinpoints,
        "order": check_order,
        "connection": check_connection,
        "need": check_need,
        "quotes": check_quotes,
    }
    return {name: check(trail, desk) for name, check in checks.items()}


def _share(problems: Sequence[str], total: int) -> Check:
    return Check(1.0 if not total else max(0.0, 1 - len(problems) / total), tuple(problems))


def check_leak(trail: Trail, desk: Desk) -> Check:
    """No run of eight words, no number and no rare word of the reasoning in a question or query
    that is not in the facts, the stated question, or a passage read before.
    """
    reasoning = "\n".join(trail.text[span.start : span.end] for span in trail.reasoning)
    runs = shingles(reasoning, LEAK_WORDS)
    secret = set(content_words(reasoning))
    stated = [issue.question for issue in trail.issues if issue.origin == "stated"]
    headings = [issue.question for issue in trail.issues if issue.origin == "heading"]
    known_texts = [trail.title, trail.fact_text, QUESTION_WORDS, *stated]
    known_runs = {run for text in known_texts for run in shingles(text, LEAK_WORDS)}
    known_words = {word for text in (*known_texts, *headings) for word in content_words(text)}
    known_numbers = {number for text in known_texts for number in numbers(text)}
    problems: list[str] = []
    total = 0
    prompts = [(issue.id, issue.question) for issue in trail.issues if issue.origin != "stated"]
    for label, text in [*prompts, *_inputs(trail)]:
        if label == "read":
            known_runs |= shingles(text, LEAK_WORDS)
            known_words.update(content_words(text))
            known_numbers |= numbers(text)
            continue
        total += 1
        copied = (shingles(text, LEAK_WORDS) & runs) - known_runs
        rare = {
            word
            for word in content_words(text)
            if word in secret and word not in known_words and desk.rarity.is_rare(word)
        }
        unsourced = (numbers(text) & numbers(reasoning)) - known_numbers
        if copied:
            problems.append(f"{label}: “{' '.join(sorted(copied)[0])}” is of the reasoning")
        elif unsourced:
            problems.append(f"{label}: the number {sorted(unsourced)[0]:g} is of the reasoning")
        elif rare:
            problems.append(f"{label}: “{sorted(rare)[0]}” is of the reasoning")
    return _share(problems, total)


def _inputs(trail: Trail) -> Iterator[tuple[str, str]]:
    for step in trail.steps:
        if step.action in ("search", "find"):
            yield f"step {step.n}", step.input
        if step.action in ("open", "find", "quote"):
            yield "read", step.text


def check_claims(trail: Trail, desk: Desk) -> Check:
    """Each claim is supported by the passages it rests on, with facts and earlier claims."""
    problems: list[str] = []
    total = 0
    starts = [citation.start for citation in trail.citations]
    by_number = {step.n: step for step in trail.steps}
    facts = Context([trail.fact_text, trail.question, trail.title])
    everything = Context([trail.fact_text, trail.question, trail.title])
    facts.given = everything.given = numbers(trail.fact_text)
    for step in trail.steps:
        if step.action in ("open", "find", "quote"):
            everything.add(step.text)
        if step.action != "infer":
            continue
        total += 1
        texts = _passages_of(step, by_number)
        context = facts if texts else everything
        quoted = {by_number[n].text for n in step.uses if by_number[n].action == "quote"}
        claim = _without_citations(trail, step, starts)
        support = check_support(claim, texts, context, desk.rarity, quoted)
        reasons = list(support.problems)
        if not texts and is_bare_rule(step.claim, trail.fact_text):
            reasons += _require_source(step, everything, desk)
        reasons += _require_terms(step, by_number, desk)
        if not texts:
            reasons += _require_definitions(step, trail, desk)
        reasons += _doubt_source(step, claim, by_number, desk, trail.as_of)
        problems += [f"step {step.n}: {reason}" for reason in reasons[:1]]
        everything.add(step.claim)
        facts.words.update(content_words(step.claim))
        facts.results |= numbers(step.claim)
    return _share(problems, total)


def _without_citations(trail: Trail, step: Step, starts: Sequence[int]) -> str:
    """A claim with blanks where it cites: volumes and pages are no numbers of a claim."""
    if step.at is None or trail.text[step.at.start : step.at.end] != step.claim:
        return step.claim
    claim = list(step.claim)
    for place in range(bisect_left(starts, step.at.start), bisect_left(starts, step.at.end)):
        citation = trail.citations[place]
        left, right = citation.start - step.at.start, citation.end - step.at.start
        claim[left:right] = " " * (right - left)
    return "".join(claim)


def _require_terms(step: Step, by_number: dict[int, Step], desk: Desk) -> list[str]:
    """The defined terms of a cited claim, which its sources must speak of."""
    sources = {by_number[n].source for n in step.uses if n in by_number and by_number[n].source}
    if not sources:
        return []
    whole = " ".join(desk.library[source].text.lower() for source in sources)
    claim = " ".join(step.claim.lower().split())
    return [
        f"what it cites does not speak of “{term}”"
        for term in defined_terms(desk.library)
        if term in claim and term not in whole
    ]


def _require_definitions(step: Step, trail: Trail, desk: Desk) -> list[str]:
    """A claim that something is "a" such-and-such, where that is a defined term, needs a source on
    the trail that defines it.
    """
    claim = " ".join(step.claim.lower().split())
    opened = {other.source for other in trail.steps if other.source}
    return [
        f"no source on the trail defines “{term}”"
        for term, places in defined_terms(desk.library).items()
        if f" a {term}" in claim or f" an {term}" in claim or f" no {term}" in claim
        if not any(place.source in opened for place in places)
    ]


def _require_source(step: Step, everything: Context, desk: Desk) -> list[str]:
    """A rule stated without a source must at least stand in something that was read."""
    coverage = measure_coverage(content_words(step.claim), everything.words, desk.rarity)
    return [] if coverage >= _RULE_COVERAGE else ["it states a rule and no source has it"]


def _passages_of(step: Step, by_number: dict[int, Step]) -> list[str]:
    texts: list[str] = []
    for n in step.uses:
        used = by_number.get(n)
        if used is None or used.action == "infer":
            continue
        texts.append(used.text)
        if used.action == "quote":
            texts += [by_number[m].text for m in used.uses if m in by_number]
    return texts


def _doubt_source(
    step: Step, claim: str, by_number: dict[int, Step], desk: Desk, as_of: str
) -> list[str]:
    """Whether another source in force says what a claim says so much better that the citation is
    likely wrong.
    """
    sources = {by_number[n].source for n in step.uses if n in by_number and by_number[n].source}
    if not sources or any(by_number[n].action == "quote" for n in step.uses if n in by_number):
        return []
    words = features(claim)
    own = max((_best_score(words, desk, s) for s in sources), default=0.0)
    for hit in desk.index.search(claim, as_of, 3):
        other = hit.passage.source
        if other in sources:
            return []
        better = _best_score(words, desk, other) > _SECTION_LEAD * own
        if measure_coverage(words, _shared(words, desk, sources), desk.rarity) >= _ENOUGH:
            return []
        mine, theirs = _shared(words, desk, sources), _shared(words, desk, [other])
        total = sum(map(desk.rarity.weight, set(words)))
        extra = sum(map(desk.rarity.weight, theirs - mine))
        if better and mine <= theirs and extra >= _EXTRA * total:
            return [f"{desk.library[other].title or other} says it, and not what is cited"]
    return []


def _shared(words: Sequence[str], desk: Desk, sources: Iterable[str]) -> set[str]:
    """Features of a claim that some sources have."""
    texts = [
        desk.library.text_of(passage)
        for source in sources
        for passage in desk.library.passages(source)
    ]
    return set(words) & {word for text in texts for word in features(text)}


def _best_score(words: Sequence[str], desk: Desk, source: str) -> float:
    texts = [desk.library.text_of(passage) for passage in desk.library.passages(source)]
    return best_passages(words, texts, desk.rarity)[0][0] if texts else 0.0


def check_pinpoints(trail: Trail, desk: Desk) -> Check:
    """The subsection cited is where a quotation stands; for a claim in other words, no other
    passage of the source says it clearly better.
    """
    problems: list[str] = []
    total = 0
    starts, claims = _claims_by_place(trail)
    quoted = {quote.citation: quote for quote in trail.quotes if quote.status == "located"}
    for number, citation in enumerate(trail.citations):
        if citation.status != "resolved" or not citation.pinpoint:
            continue
        if citation.source not in desk.library.sources or not has_paths(
            desk.library, citation.source
        ):
            continue
        total += 1
        where = "".join(f"({part})" for part in citation.pinpoint)
        named = passages_at(desk.library, citation.source, citation.pinpoint)
        if not named:
            problems.append(f"{citation.text}: {citation.source} has no {where}")
            continue
        quote = quoted.get(number)
        if quote is not None:
            place = passage_around(desk.library, citation.source, quote.at)
            if place is not None and not agrees(place, citation.pinpoint):
                at = "".join(f"({part})" for part in place.path)
                problems.append(f"{citation.text}: the quotation stands in {at}")
            continue
        claim = _claim_at(starts, claims, citation.start)
        named = (*named, *_named_beside(trail, number, desk))
        better = _better_place(claim, citation.source, named, desk)
        if better:
            problems.append(f"{citation.text}: {better} says it rather")
    return _share(problems, total)


def _named_beside(trail: Trail, number: int, desk: Desk) -> tuple[Passage, ...]:
    """Passages that the neighbouring citations name: one sentence may cite a rule and its
    exception, and neither place says all of it.
    """
    own = trail.citations[number]
    near = [
        other
        for other in trail.citations[max(0, number - 2) : number + 3]
        if other.source == own.source and abs(other.start - own.start) < _SAME_SENTENCE
    ]
    return tuple(
        passage
        for other in near
        if other.pinpoint != own.pinpoint
        for passage in passages_at(desk.library, other.source, other.pinpoint)
    )


_SAME_SENTENCE = 80
"""Characters between two citations of one statement."""


def _claims_by_place(trail: Trail) -> tuple[list[int], list[Step]]:
    """The claims of a trail in the artifact's order, and where each begins."""
    claims = sorted(
        (step for step in trail.steps if step.action == "infer" and step.at is not None),
        key=lambda step: step.at or Span(0, 0),
    )
    return [step.at.start for step in claims if step.at is not None], claims


def _claim_at(starts: Sequence[int], claims: Sequence[Step], position: int) -> str:
    place = bisect_right(starts, position) - 1
    at = claims[place].at if place >= 0 else None
    return claims[place].claim if at is not None and position < at.end else ""


def _better_place(claim: str, source: str, named: Sequence[object], desk: Desk) -> str:
    words = features(claim)
    if not words:
        return ""
    passages = desk.library.passages(source)
    ranked = best_passages(words, [desk.library.text_of(p) for p in passages], desk.rarity)
    inside = max((score for score, i in ranked if passages[i] in named), default=0.0)
    best, index = ranked[0]
    if passages[index] in named or best <= _PINPOINT_LEAD * inside:
        return ""
    return "".join(f"({part})" for part in passages[index].path) or "another passage"


def check_order(trail: Trail, desk: Desk) -> Check:
    """Every step uses earlier steps only, opens what a search returned or a passage cites, reads
    what is open; sources were in force; superseded law is named as such.
    """
    problems: list[str] = []
    opened: set[str] = set()
    done: set[int] = set()
    for step in trail.steps:
        late = [n for n in step.uses if n not in done]
        if late:
            problems.append(f"step {step.n} uses step {late[0]}, which comes later")
        elif step.action in ("find", "quote") and step.source not in opened:
            problems.append(f"step {step.n} reads {step.source}, which is not open")
        elif step.action == "open" and not step.uses and opened:
            problems.append(f"step {step.n} opens {step.source}, which nothing leads to")
        source = desk.library.sources.get(step.source)
        if source is not None and not source.is_in_force(trail.as_of):
            problems.append(f"step {step.n}: {source.title or source.id} was not in force")
        if step.action == "open":
            opened.add(step.source)
        done.add(step.n)
    for citation in trail.citations:
        if citation.status == "expired" and not _is_named_as_past(trail, citation.start):
            problems.append(f"{citation.text.strip()} was not in force on {trail.as_of}")
    return _share(problems, len(trail.steps) + len(trail.citations))


_PAST = re.compile(
    r"\b(?:former(?:ly)?|repealed|superseded|replaced|old|previous|earlier|prior|until|before|then"
    r"|was|were|had|no longer|as (?:it )?(?:stood|read)|historic\w*)\b",
    re.IGNORECASE,
)


def _is_named_as_past(trail: Trail, position: int) -> bool:
    start = max(trail.text.rfind(". ", 0, position), trail.text.rfind("\n\n", 0, position)) + 1
    end = trail.text.find(". ", position)
    return bool(_PAST.search(trail.text[start : len(trail.text) if end < 0 else end]))


def check_connection(trail: Trail, desk: Desk) -> Check:
    """The conclusion comes of claims and facts: its numbers stand there or are computed of them,
    and it goes the way that the reasoning went; every source cited was reached.
    """
    problems: list[str] = []
    conclusion = trail.conclusion
    inferred = [step for step in trail.steps if step.action == "infer"]
    texts = [step.text for step in trail.steps if step.text]
    known_texts = [trail.fact_text, *(step.claim for step in inferred), *texts]
    if conclusion.text and inferred:
        unsourced = find_strange_numbers(conclusion.text, Context(known_texts))
        if unsourced:
            problems.append(f"nothing leads to {unsourced[0]:g} in the conclusion")
        problems += _contradictions(trail, desk)
    on_trail = {step.source for step in trail.steps if step.source}
    spans = sorted(trail.reasoning)
    starts = [span.start for span in spans]
    cited = {
        citation.source
        for citation in trail.citations
        if citation.status == "resolved" and _lies_in(spans, starts, citation.start)
    }
    missing = sorted(cited - on_trail - set(trail.unreachable))
    problems += [f"{source} is cited and not on the trail" for source in missing]
    if inferred and conclusion.text and not on_trail and cited:
        problems.append("no step reads a source")
    return _share(problems, 1 + len(cited))


def _lies_in(spans: Sequence[Span], starts: Sequence[int], position: int) -> bool:
    place = bisect_right(starts, position) - 1
    return place >= 0 and position < spans[place].end


def _contradictions(trail: Trail, desk: Desk) -> Iterator[str]:
    """A conclusion against what the passages on the trail come to, applied to the facts."""
    finding = apply_rules(trail.question_text, trail.fact_text, list(_provisions(trail, desk)))
    label, number = trail.conclusion.label, trail.conclusion.number
    if finding.missing:
        yield f"nothing on the trail tells {finding.missing}"
    elif (
        finding.label
        and label in ("yes", "no")
        and finding.label != label
        and not (finding.label == "yes" and number)
    ):
        yield f"the conclusion says {label}, the sources on the trail come to {finding.label}"
    elif finding.label == "yes" and finding.amount and number is not None:
        is_close = abs(finding.amount - number) <= _ROUNDING * finding.amount + 1
        if not is_close:
            yield f"the conclusion says {number:,.2f}, the sources come to {finding.amount:,.2f}"


def _provisions(trail: Trail, desk: Desk) -> Iterator[Provision]:
    """All passages of the sources that claims rest on, with the numbers of their sections."""
    by_number = {step.n: step for step in trail.steps}
    used = [
        by_number[n].source
        for step in trail.steps
        if step.action == "infer"
        for n in step.uses
        if n in by_number
    ]
    for source in dict.fromkeys(used):
        if source in desk.library.sources:
            number = section_number(desk.library[source])
            for passage in desk.library.passages(source):
                yield Provision(number, desk.library.text_of(passage))


def check_need(trail: Trail, desk: Desk) -> Check:
    """Every step is used by a later one, down to the conclusion."""
    del desk
    used = {n for step in trail.steps for n in step.uses}
    idle = [
        step
        for step in trail.steps
        if step.n not in used and step.action not in ("conclude", "infer")
    ]
    return _share([f"step {step.n} leads nowhere" for step in idle], len(trail.steps))


def check_quotes(trail: Trail, desk: Desk) -> Check:
    """Every attributed quotation stands in its source, word for word."""
    problems: list[str] = []
    attributed = [quote for quote in trail.quotes if quote.status != "unattributed"]
    for quote in attributed:
        start = f"“{quote.text[:60]}”"
        if quote.status == "misquote":
            problems.append(f"{start}: {quote.difference or 'a word differs'}")
        elif quote.status == "elsewhere":
            title = (
                desk.library.sources[quote.source].title
                if quote.source in desk.library.sources
                else quote.source
            )
            problems.append(f"{start} stands in {title}, not in what is cited")
    return _share(problems, len(attributed))
