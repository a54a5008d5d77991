"""The questions that an artifact answers: those it states, those its headings ask, those its claims
answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from upshot.artifacts.records import Artifact, Citation, Issue, Span
from upshot.artifacts.structure import Outline, Sentence, load_cues, strip_numbering
from upshot.artifacts.support import measure_coverage
from upshot.artifacts.words import Rarity, content_words, numbers

ROOT = "q0"
"""Id of the question that the whole artifact answers."""
_WHETHER = re.compile(
    r"\b(?P<ask>(?:whether|if|how much|how many|what|which)\b[^.?!;]{8,300})", re.I
)
_SPLIT = re.compile(r";\s+(?:and\s+)?(?:\(?\w{1,3}\)\s+)?(?=(?:whether|if|how|what)\b)", re.I)
_AND_IF = re.compile(r",?\s+and,?\s+(?=(?:if so|whether|how much|to what extent)\b)", re.I)
_GENERIC = re.compile(
    r"(?:introduction|overview|discussion|analysis|details?|notes?|other|misc\w*|examples?|general"
    r"|appendix\b.*|annex\b.*|summary|law|reasoning|rationale|specification|proposal|application)",
    re.IGNORECASE,
)
_MAX_ISSUES = 40
QUESTION_WORDS = "What is settled about? How is this settled? What follows on?"
"""What made questions say of themselves, which is no word of an artifact."""
_MAX_CLAIM_WORDS = 9
"""Words of a claim that its question keeps, in an order of their own."""


class IssueTree(msgspec.Struct, frozen=True):
    """Issues, and which of them each sentence of the reasoning belongs to."""

    issues: tuple[Issue, ...]
    by_sentence: dict[int, str]
    """Issue id by index of a sentence; sentences without belong to the root."""


def find_issues(
    artifact: Artifact,
    outline: Outline,
    citations: Sequence[Citation],
    facts: Sequence[Span],
    rarity: Rarity,
) -> IssueTree:
    """The issue tree of an artifact, and where each issue is dealt with."""
    stated = _stated_questions(artifact, outline)
    root = _root_question(artifact, stated)
    issues = [Issue(ROOT, root, origin="stated" if stated else "heading")]
    if len(stated) > 1 or (stated and stated[0] != root):
        issues += [
            Issue(f"q{number}", question, ROOT, origin="stated")
            for number, question in enumerate(stated[:_MAX_ISSUES], 1)
        ]
    if not stated:
        issues += _heading_questions(outline, len(issues))
    tree = _assign(artifact, outline, issues, rarity)
    allowed = _question_words(artifact, facts, tree.issues)
    return _add_claim_questions(artifact, outline, citations, tree, allowed=allowed, rarity=rarity)


def _stated_questions(artifact: Artifact, outline: Outline) -> list[str]:
    text = artifact.document.text
    questions: list[str] = []
    for sentence in outline.sentences:
        if sentence.role == "issue":
            questions += _read_questions(text[sentence.start : sentence.end])
    return list(dict.fromkeys(q for q in questions if len(content_words(q)) >= 2))


def _read_questions(sentence: str) -> list[str]:
    """The questions of one sentence: after "whether", or what ends with a question mark."""
    plain = " ".join(re.sub(r"[*_`]", "", sentence).split())
    if plain.endswith("?") or "?" in plain:
        direct = [part.strip() for part in re.findall(r"[^?]*\?", plain) if part.strip()]
        if direct:
            return [_cap(strip_numbering(part)) for part in direct]
    parts: list[str] = []
    for piece in _SPLIT.split(plain):
        match = _WHETHER.search(piece)
        if match is not None:
            parts.append(_cap(match["ask"].strip(" ,")) + "?")
    return parts


def _bare_title(title: str) -> str:
    """A heading as a question may use it: without numbers, which may be results."""
    plain = re.sub(r"[*_`]", "", strip_numbering(title))
    return " ".join(re.sub(r"[$£€]?\b\d[\d,.]*%?", "", plain).split())


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def _root_question(artifact: Artifact, stated: Sequence[str]) -> str:
    if len(stated) == 1:
        return stated[0]
    subject = artifact.title or artifact.document.fields.get("re", "")
    subject = subject or artifact.document.fields.get("subject", "")
    if subject:
        bare = subject.strip().rstrip(".?")
        return f"{bare}?" if subject.strip().endswith("?") else f"What follows on: {bare}?"
    return stated[0] if stated else "What follows from these facts?"


def _heading_questions(outline: Outline, first: int) -> list[Issue]:
    issues: list[Issue] = []
    parents: dict[int, str] = {}
    for index, section in enumerate(outline.sections):
        title = _bare_title(section.title)
        if section.role != "analysis" or not title or _GENERIC.fullmatch(title):
            continue
        if not content_words(title) or len(issues) >= _MAX_ISSUES:
            continue
        question = _ask_heading(title)
        issue = Issue(
            f"q{first + len(issues)}", question, parents.get(section.parent, ROOT), origin="heading"
        )
        parents[index] = issue.id
        issues.append(issue)
    return issues


_LONG_TITLE = 6
"""Words from which a heading is a statement, whose topic alone may be asked about."""


def _ask_heading(title: str) -> str:
    if title.endswith("?"):
        return title
    words = title.split()
    if len(words) < _LONG_TITLE:
        return f"How is this settled: {title}?"
    topic = {stem: word.strip(",.;:()") for word in words for stem in content_words(word)[:1]}
    chosen = sorted(topic)[:_MAX_CLAIM_WORDS]
    return "What is settled about " + ", ".join(topic[stem].lower() for stem in chosen) + "?"


def _assign(
    artifact: Artifact, outline: Outline, issues: Sequence[Issue], rarity: Rarity
) -> IssueTree:
    """Each sentence of the reasoning to an issue: by its section's heading, else by words shared
    with the paragraphs before it.
    """
    text = artifact.document.text
    by_title = {issue.question: issue.id for issue in issues if issue.origin == "heading"}
    stated = [issue for issue in issues if issue.origin == "stated"]
    words = {issue.id: content_words(issue.question) for issue in stated}
    assigned: dict[int, str] = {}
    answers: dict[str, Span] = {}
    current = stated[1].id if len(stated) > 1 else ROOT
    section = -1
    for index, sentence in enumerate(outline.sentences):
        if sentence.role not in ("analysis", "conclusion"):
            continue
        if sentence.section != section:
            section = sentence.section
            current = _issue_of_heading(outline, section, by_title, stated, current)
        if len(stated) > 2:
            current = _nearest_issue(text, sentence, words, rarity, current)
        assigned[index] = current
        if _concludes(text, sentence):
            answers[current] = Span(sentence.start, sentence.end)
    answered = tuple(msgspec.structs.replace(i, answer=answers.get(i.id)) for i in issues)
    return IssueTree(answered, assigned)


def _issue_of_heading(
    outline: Outline,
    section: int,
    by_title: dict[str, str],
    stated: Sequence[Issue],
    current: str,
) -> str:
    at = section
    while at >= 0:
        name = _bare_title(outline.sections[at].title)
        if _ask_heading(name) in by_title:
            return by_title[_ask_heading(name)]
        at = outline.sections[at].parent
    number = re.match(
        r"\s*(?:issue|question)?\s*#?(\d{1,2})\b", outline.sections[section].title, re.I
    )
    if number is not None and 0 < int(number[1]) < len(stated):
        return stated[int(number[1])].id
    return current if stated else ROOT


_SWITCH = 0.45
"""Share of an issue's words that a sentence must have to turn to that issue."""


def _nearest_issue(
    text: str, sentence: Sentence, words: Mapping[str, Sequence[str]], rarity: Rarity, current: str
) -> str:
    here = content_words(text[sentence.start : sentence.end])
    scores = {
        issue: measure_coverage(wanted, here, rarity)
        for issue, wanted in words.items()
        if issue != ROOT and wanted
    }
    if not scores:
        return current
    best = max(scores, key=lambda issue: scores[issue])
    return best if scores[best] >= _SWITCH and scores[best] > scores.get(current, 0.0) else current


_RESULT = re.compile(
    r"\b(?:therefore|thus|hence|accordingly|consequently|it follows|as a result"
    r"|for (?:that|this|these) reasons?|so (?:the|it|no|we|that)|(?:which|this|that) means)\b",
    re.IGNORECASE,
)


def _concludes(text: str, sentence: Sentence) -> bool:
    part = text[sentence.start : sentence.end]
    return sentence.role == "conclusion" or bool(
        _RESULT.search(part) or load_cues()["sentences"]["conclusion"].search(part)
    )


def is_result(sentence: str) -> bool:
    """Whether a sentence draws a conclusion from what stands before it.

    >>> is_result("It follows that no levy is due.")
    True
    """
    return bool(_RESULT.search(sentence))


def _add_claim_questions(
    artifact: Artifact,
    outline: Outline,
    citations: Sequence[Citation],
    tree: IssueTree,
    *,
    allowed: set[str],
    rarity: Rarity,
) -> IssueTree:
    """A question for every cited claim, below its issue: what an expert had to look up."""
    text = artifact.document.text
    issues = list(tree.issues)
    by_sentence = dict(tree.by_sentence)
    cited: dict[int, list[Citation]] = {}
    for citation in citations:
        cited.setdefault(outline.sentence_at(citation.start), []).append(citation)
    for index, inside in sorted(cited.items()):
        if len(issues) >= 4 * _MAX_ISSUES or all(c.status != "resolved" for c in inside):
            continue
        sentence = outline.sentences[index] if outline.sentences else None
        if sentence is None or sentence.role not in ("analysis", "conclusion", "facts"):
            continue
        question = ask_claim(text[sentence.start : sentence.end], sentence, inside, allowed, rarity)
        if question:
            parent = by_sentence.get(index, ROOT)
            span = Span(sentence.start, sentence.end)
            issue = Issue(f"{parent}.c{index}", question, parent, span, "claim")
            issues.append(issue)
    return IssueTree(tuple(issues), by_sentence)


def _question_words(artifact: Artifact, facts: Sequence[Span], issues: Sequence[Issue]) -> set[str]:
    """Stems that a question may use though they are rare: those of the facts and the issues."""
    text = artifact.document.text
    fact_text = " ".join(text[span.start : span.end] for span in facts)
    prompts = " ".join(issue.question for issue in issues if issue.origin == "stated")
    return set(content_words(f"{fact_text} {prompts} {artifact.title}"))


_WORD = re.compile(r"[^\W\d_]{3,}")


def ask_claim(
    claim: str,
    sentence: Sentence,
    citations: Sequence[Citation],
    allowed: set[str],
    rarity: Rarity,
) -> str:
    """The question that a claim answers, made of its topic alone: no number, no name and no rare
    word that the facts do not have, and not in the claim's order, so that it cannot give away the
    answer. "" where nothing is left to ask about.
    """
    bare = list(claim)
    for citation in citations:
        left, right = citation.start - sentence.start, citation.end - sentence.start
        bare[left:right] = " " * (right - left)
    words: dict[str, str] = {}
    plain = "".join(bare)
    for number, match in enumerate(_WORD.finditer(plain)):
        stems = content_words(match[0])
        is_name = number > 0 and match[0][0].isupper()
        if not stems or numbers(match[0]) or (is_name and stems[0] not in allowed):
            continue
        if stems[0] in allowed or not rarity.is_rare(stems[0]):
            words.setdefault(stems[0], match[0].lower())
    chosen = sorted(words, key=lambda stem: (-rarity.weight(stem), stem))[:_MAX_CLAIM_WORDS]
    if len(chosen) < 2:
        return ""
    return "What is settled about " + ", ".join(words[stem] for stem in sorted(chosen)) + "?"
