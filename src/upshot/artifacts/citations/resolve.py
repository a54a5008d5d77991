"""Which source a citation means: exactly one that was in force, or a reason why none is named.

Short forms are followed back: "id." and "ibid." to the citation before, "supra note 4" to that
note, "Gregory, supra" to the earlier citation of that name, "that section" to the last section.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from upshot.artifacts.citations import find_mentions
from upshot.artifacts.citations.us_tax import names_code
from upshot.artifacts.library import Library
from upshot.artifacts.records import Artifact, Citation, CitationStatus, Document, Mention, Span
from upshot.artifacts.words import normalise_key

_SHORT_FORM = re.compile(
    r"""(?P<id>\b(?:[Ii]d\.|[Ii]bid\.?|[Ll]oc\.[ ]cit\.))
          (?:,?[ ]at[ ](?P<id_page>\d+(?:[-–]\d+)?)|,?[ ]?(?:§[ ]?)?(?P<id_sub>(?:\([\w]{1,4}\))+))?
      | (?:(?P<name>[A-Z][\w'’-]+)(?:,|[ ]case,?)?[ ])?\*?[Ss]upra\*?,?
          (?:[ ]n(?:ote|\.)?[ ]?(?P<note>\d+))?(?:,?[ ]at[ ](?P<supra_page>\d+))?
    """,
    re.VERBOSE,
)
_SUB = re.compile(r"\(([\w]{1,4})\)")
_MIN_NOTE_TITLE = 12


def find_citations(artifact: Artifact, library: Library) -> list[Citation]:
    """All citations of an artifact, in order, looked up as of its date."""
    document = artifact.document
    mentions = [
        *find_mentions(document.text),
        *_find_short_forms(document.text),
    ]
    mentions = _drop_definitions(mentions, document)
    citations: list[Citation] = []
    for mention in sorted(mentions, key=lambda m: (m.start, m.end)):
        if mention.kind == "short":
            citations += _follow_back(mention, document, citations, artifact, library)
        elif mention.kind == "brackets":
            citations += _resolve_note(mention, artifact, library)
        else:
            citations += _resolve(mention, artifact, library)
    return citations


def _find_short_forms(text: str) -> list[Mention]:
    mentions: list[Mention] = []
    for match in _SHORT_FORM.finditer(text):
        sub = tuple(_SUB.findall(match["id_sub"] or ""))
        page = match["id_page"] or match["supra_page"]
        pinpoint = sub or ((page,) if page else ())
        if match["id"]:
            keys = ("back:id",)
        elif match["note"]:
            keys = (f"back:note {match['note']}",)
        elif match["name"]:
            keys = (f"back:name {normalise_key(match['name'])}",)
        else:
            continue
        mentions.append(Mention(match.start(), match.end(), "short", keys, pinpoint))
    return mentions


def _drop_definitions(mentions: Sequence[Mention], document: Document) -> list[Mention]:
    """Mentions without the labels that define notes, and without what stands in code."""
    spans = sorted(document.literal)
    starts = [span.start for span in spans]
    kept_mentions: list[Mention] = []
    cited_labels = {m.keys[0].partition(":")[2] for m in mentions if m.kind == "brackets"}
    noted = [span for label, span in document.notes.items() if label in cited_labels]
    for mention in mentions:
        if any(span.start <= mention.start < span.end for span in noted):
            continue  # it counts where the note is referred to
        number = bisect_left(starts, mention.start + 1) - 1
        if number >= 0 and mention.start < spans[number].end:
            continue
        line = document.text.rfind("\n", 0, mention.start) + 1
        lead = document.text[line : mention.start].strip()
        if mention.kind == "brackets" and lead in ("", "..") and _defines(mention, document):
            continue
        kept_mentions.append(mention)
    return kept_mentions


def _defines(mention: Mention, document: Document) -> bool:
    note = document.notes.get(mention.keys[0].partition(":")[2])
    return note is not None and 0 <= note.start - mention.end <= 4


def _resolve(mention: Mention, artifact: Artifact, library: Library) -> list[Citation]:
    status, source, candidates = _look_up(mention, artifact, library)
    if status == "missing" and mention.is_weak and not library.has_kind(_kind_of(mention)):
        return []  # "section 3" of the text itself, where the library has no sections
    text = artifact.document.text[mention.start : mention.end]
    start, end = mention.start, mention.end
    return [Citation(start, end, text, mention.kind, status, source, mention.pinpoint, candidates)]


def _kind_of(mention: Mention) -> str:
    return mention.keys[0].partition(":")[0]


def _look_up(
    mention: Mention, artifact: Artifact, library: Library
) -> tuple[CitationStatus, str, tuple[str, ...]]:
    own = artifact.id
    for key in mention.keys:
        ids = list(library.look_up(key))
        if not ids:
            continue
        if mention.code and len(ids) > 1:
            ids = [i for i in ids if names_code(library[i], mention.code)] or ids
        if any(_is_same(own, artifact, library, i) for i in ids):
            return "self", "", ()
        valid = [i for i in ids if library[i].is_in_force(artifact.date)]
        if len(valid) == 1:
            return "resolved", valid[0], ()
        if valid:
            return "ambiguous", "", tuple(valid)
        younger = all(library[i].begins > artifact.date for i in ids)
        return ("younger" if younger else "expired"), "", tuple(ids)
    if any(key == f"{_kind_of(mention)}:{_own_number(artifact.id)}" for key in mention.keys):
        return "self", "", ()
    return "missing", "", ()


def _own_number(artifact_id: str) -> str:
    match = re.search(r"(\d+)$", artifact_id)
    return str(int(match[1])) if match is not None else ""


def _is_same(own: str, artifact: Artifact, library: Library, source_id: str) -> bool:
    return source_id == own or library[source_id].text.strip() == artifact.document.text.strip()


def _resolve_note(mention: Mention, artifact: Artifact, library: Library) -> list[Citation]:
    """A bracket: what the document's note of that label cites, else the source of that id."""
    document = artifact.document
    label = mention.keys[0].partition(":")[2]
    text = document.text[mention.start : mention.end]
    note = document.notes.get(label)
    start, end = mention.start, mention.end
    if note is None:
        status, source, candidates = _look_up(mention, artifact, library)
        if status == "missing":
            return []
        return [Citation(start, end, text, "brackets", status, source, (), candidates)]
    inside = _cited_in(note, artifact, library)
    return [
        msgspec.structs.replace(citation, start=start, end=end, text=text, kind="brackets")
        for citation in inside or [Citation(start, end, text, "brackets", "missing")]
    ]


def _cited_in(note: Span, artifact: Artifact, library: Library) -> list[Citation]:
    """What a note cites, each source once: by any kind of citation, else by its title. Addresses
    and numbers that lead nowhere count only where nothing else does.
    """
    words = artifact.document.text[note.start : note.end]
    alone = _in_note(artifact, words)
    candidates = [
        citation
        for mention in find_mentions(words)
        if mention.kind != "brackets"
        for citation in _resolve(mention, alone, library)
    ]
    resolved: dict[str, Citation] = {}
    for citation in candidates:
        if citation.status == "resolved":
            basis = resolved.get(citation.source)
            if basis is None or len(citation.pinpoint) > len(basis.pinpoint):
                resolved[citation.source] = citation
    others = [c for c in candidates if c.status not in ("resolved", "missing")]
    return [*resolved.values(), *others] or _find_title(words, artifact, library)


def _in_note(artifact: Artifact, words: str) -> Artifact:
    return msgspec.structs.replace(artifact, document=Document(words))


def _find_title(words: str, artifact: Artifact, library: Library) -> list[Citation]:
    plain = normalise_key(words)
    parts = [normalise_key(part) for part in re.split(r"[\"“”*_]|[.,;]\s", words)]
    for part in dict.fromkeys((plain, *parts)):
        if len(part) < _MIN_NOTE_TITLE:
            continue
        mention = Mention(0, 0, "brackets", (f"title:{part}",))
        status, source, candidates = _look_up(mention, artifact, library)
        if status != "missing":
            return [Citation(0, 0, words, "brackets", status, source, (), candidates)]
    return []


def _follow_back(
    mention: Mention,
    document: Document,
    before: Sequence[Citation],
    artifact: Artifact,
    library: Library,
) -> list[Citation]:
    text = document.text[mention.start : mention.end]
    what = mention.keys[0].partition(":")[2]
    targets: list[Citation] = []
    if what == "id":
        previous = _previous(before, document.text)
        targets = [] if previous is None else [previous]
    elif what.startswith("note "):
        note = document.notes.get(what.removeprefix("note "))
        targets = [] if note is None else _cited_in(note, artifact, library)
    else:
        name = what.removeprefix("name ")
        targets = [c for c in before if name in normalise_key(c.text).split()][-1:]
    return [
        Citation(
            mention.start,
            mention.end,
            text,
            "short",
            target.status,
            target.source,
            mention.pinpoint or (target.pinpoint if what == "id" else ()),
            target.candidates,
        )
        for target in targets or [Citation(0, 0, "", "short", "missing")]
    ]


def _previous(before: Sequence[Citation], text: str) -> Citation | None:
    """The citation before; several in one citation sentence ("See A; B.") leave it open which."""
    if not before:
        return None
    last = before[-1]
    if len(before) > 1 and before[-2].source != last.source:
        between = text[before[-2].end : last.start]
        if re.fullmatch(r"[^.]{0,3};[^.]{0,12}", between):
            both = (before[-2].source, last.source)
            return Citation(0, 0, "", "short", "ambiguous", candidates=both)
    return last
