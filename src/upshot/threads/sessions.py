"""A user's sessions, and the terms by which they are compared."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import re2

from upshot.io.arrow import pc
from upshot.records import CleanTable, ToolCall
from upshot.stats import word_hashes
from upshot.threads.embeddings import embed_texts

_MAX_CHARACTERS = 3_000
"""Characters of a session's user messages that are compared."""
_MAX_HEAD = 20_000
"""Characters of a message in which its first `_MAX_CHARACTERS` by a person are looked for."""
_TRUNKS = frozenset(["main", "master", "HEAD", "develop", "dev", "trunk", "staging", "production"])
"""Branches where everybody's work ends: being on one says nothing."""
_MAX_ARGUMENTS = 4_000
"""Characters of a tool call in which a path is looked for: it stands at the start, or in the first
lines of a patch.
"""
_WRITES = r"(?i)edit|write|patch|replace|create|insert"
_WRITING = re.compile(_WRITES)
"""Names of tools that write files."""
_PATH = re.compile(
    r'"(?:file_?path|path|notebook_path|target_?file|absolute_path|filename)"\s*:\s*'
    r'"([^"\n]{1,300})"'
    r"|\*\*\* (?:Update|Add|Delete) File: ([^\\\n]{1,300})",
    re.I,
)
_SEPARATOR = b"\x1e"
_IDENTIFIER = re2.compile(
    rb"(?:[\w\-]+/)+[\w.\-]+|\b[\w\-]+\.(?:py|js|ts|tsx|jsx|rs|go|java|c|cc|cpp|h|hpp|rb|php|md|txt|csv|json|ya?ml|toml|sql|sh|html|css|ipynb|docx?|xlsx?|pdf|tex|conf|ini|lock|xml)\b"
    rb"|\b[a-z]+(?:_[a-z0-9]+)+\b|\b[a-z]+[A-Z]\w+\b|\b[A-Z][a-z]+(?:[A-Z][a-z0-9]+)+\b|\b[A-Z]{2,}-\d+\b|#\d{2,}\b|<[A-Z_]+_\d+>"
)
_ERROR = re2.compile(
    rb"\b[A-Z]\w*(?:Error|Exception|Warning)\b|\b(?:error|E)[ :]?\d{2,5}\b|\b[45]\d\d"
    rb" (?:error|status)\b"
)
_BACK = (
    r"(?i)\b(?:as (?:we )?(?:discussed|said|before|mentioned)|(?:earlier|yesterday|last"
    r" (?:time|week|night|session)|previous(?:ly)?|before|the other day|this morning)"
    r"|again|still|back (?:with|to|again)|follow(?:ing)?[- ]?up|continu(?:e|ing)|(?:you|your|we)"
    r" (?:gave|suggested|told|wrote|said|helped|fixed|made|did|recommended)"
    r"|(?:the|your|that)"
    r" (?:fix|script|code|answer|solution|plan|recipe|letter|draft|advice|suggestion|version)\b|update:|tried"  # noqa: E501
    r" (?:it|that|your|the)|it worked|didn't work|remember)"
)
_REPORT = (
    r"(?i)(?:\bwhat you(?:'ve| have)? (?:gave|given|sent|wrote|written|told|made|suggested|did)\b"
    r"|\byour (?:last|previous|earlier|other|most recent)"
    r" (?:answer|reply|response|suggestion|solution|script|function|code|version|one|snippet|fix|attempt|advice|message)\b"  # noqa: E501
    r"|\byour (?:answer|reply|suggestion|solution|script|function|code|version|snippet|fix|advice)"
    r" (?:from|of) (?:before|earlier|yesterday|last|the other|\w+day)"
    r"|\b(?:one|thing|answer|code|script|function|snippet|solution|fix|stuff|query|formula|plan|draft|file|message)"
    r" (?:that )?(?:you (?:gave|sent|wrote|made|suggested)|from (?:the other day|last"
    r" (?:time|week|night|month)|before|yesterday|earlier|(?:mon|tues|wednes|thurs|fri|satur|sun)day))"  # noqa: E501
    r"|\b(?:update|follow-?up|news|feedback|report(?:ing)?(?: back)?) (?:on|about|from|regarding)"
    r" (?:last|the (?:last|previous|other)|what you|your|yesterday)"
    r"|\b(?:about|regarding|concerning|as for) (?:last time|the (?:other day|last time)|your"
    r" (?:last|previous|earlier))"
    r"|\b(?:came|come|coming|get(?:ting)?|got|report(?:ing)?) back to (?:say|tell|report|let you)"
    r"|\b(?:you|your) [^.?!\n]{1,60}\b(?:the other day|last time|last week|yesterday)\b|\blast time"
    r" you\b)"
)
"""A report on the last answer, which need not name the topic."""
_NEW = (
    r"(?i)\b(?:new (?:question|topic|project|task|problem)|different"
    r" (?:question|topic|thing)|unrelated|something else)\b"
)


def _compile_openings() -> Any:
    patterns = re2.Set.SearchSet()
    for pattern in (_BACK, _NEW, _REPORT):
        patterns.Add(pattern)
    patterns.Compile()
    return patterns


_OPENINGS = _compile_openings()
"""Whether the start of a session refers back (0), opens a new topic (1), or reports (2)."""


def is_report(text: str) -> bool:
    """Whether the start of a session reports on the last answer.

    >>> is_report("what you gave me the other day does not work"), is_report("sort a list")
    (True, False)
    """
    return 2 in (_OPENINGS.Match(text[:400]) or ())


class Session(NamedTuple):
    """One session, as input of linking."""

    id: str
    time: float | None
    """Seconds since the epoch."""
    text: str
    """The user's messages, from the start."""
    speakers: frozenset[str] = frozenset()
    addressed: frozenset[str] = frozenset()
    """Speakers that the message addresses by name."""
    embedding: np.ndarray | None = None
    """Unit vector, where the extra is installed."""
    branches: frozenset[str] = frozenset()
    """Branches of a repository that it was on, but for those where everybody's work ends."""
    files: frozenset[str] = frozenset()
    """Files that the assistant wrote, by the last two parts of their paths."""
    is_work: bool = False
    """Whether it ran in a folder, as coding agents do."""


class Terms(NamedTuple):
    """The terms by which sessions are compared."""

    words: Mapping[int, int]
    """Count of each content word, by its hash."""
    names: frozenset[str]
    """Files, identifiers, tickets, placeholders."""
    errors: frozenset[str]
    refers_back: bool
    opens_new: bool
    reports: bool


def extract_terms(texts: Sequence[str]) -> list[Terms]:
    """The terms of many texts; their words are hashed at once."""
    texts = [text[:_MAX_CHARACTERS] for text in texts]
    content = word_hashes.drop_stop_words(word_hashes.hash_words(texts))
    starts = content.starts().tolist()
    hashes = content.hashes.tolist()
    encoded = [text.encode("utf-8", "replace") for text in texts]
    names, errors = _find_matches(_IDENTIFIER, encoded), _find_matches(_ERROR, encoded)
    terms: list[Terms] = []
    for i, text in enumerate(texts):
        opening = _OPENINGS.Match(text[:400]) or ()
        words = Counter[int](hashes[starts[i] : starts[i + 1]])
        terms.append(
            Terms(
                words,
                names.get(i, _NONE),
                errors.get(i, _NONE),
                0 in opening,
                1 in opening,
                2 in opening,
            )
        )
    return terms


_NONE: frozenset[str] = frozenset()


def _find_matches(pattern: Any, texts: Sequence[bytes]) -> dict[int, frozenset[str]]:
    """The matches of a pattern by text; all texts are scanned in one pass."""
    ends = list(accumulate(len(text) + 1 for text in texts))
    matches: dict[int, set[str]] = defaultdict(set)
    for match in pattern.finditer(_SEPARATOR.join(texts)):
        matches[bisect_right(ends, match.start())].add(match.group().decode())
    return {i: frozenset(values) for i, values in matches.items()}


def read_sessions(
    tables: Mapping[str, CleanTable], embeddings: bool = False
) -> dict[str, list[Session]]:
    """Sessions of each user in order of time; branches are part of the conversation they left."""
    conversations = tables["conversations"]
    rows = conversations.filter(pc.equal(conversations["branch_of"], ""))
    rows = rows.select(["user", "id", "started_at", "metadata"])
    rows = rows.take(_sort_indices(rows, "user", "started_at", "id"))
    rows = rows.set_column(2, "started_at", pc.cast(rows["started_at"], pa.int64()))
    texts = _read_user_texts(tables["messages"])
    files = _read_files(tables["messages"])
    users: dict[str, list[Session]] = {}
    for row in rows.to_pylist():
        time = row["started_at"]
        is_work, branches = _read_folder(row["metadata"] or "")
        users.setdefault(row["user"], []).append(
            Session(
                row["id"],
                None if time is None else time / 1e6,
                texts.get(row["id"], ""),
                branches=branches,
                files=files.get(row["id"], frozenset()),
                is_work=is_work,
            )
        )
    if embeddings:
        linkable = [
            (user, i)
            for user, sessions in users.items()
            if len(sessions) > 1
            for i in range(len(sessions))
        ]
        vectors = embed_texts([users[user][i].text for user, i in linkable])
        for (user, i), vector in zip(linkable, vectors, strict=True):
            users[user][i] = users[user][i]._replace(embedding=vector)
    return users


def _read_folder(metadata: str) -> tuple[bool, frozenset[str]]:
    """Whether a session ran in a folder, and the branches it was on."""
    if "cwd" not in metadata and "gitBranch" not in metadata:
        return False, _NONE
    facts = msgspec.json.decode(metadata, type=dict[str, Any])
    names = facts.get("gitBranches") or [facts.get("gitBranch")]
    branches = {name for name in names if isinstance(name, str)} - _TRUNKS
    return "cwd" in facts or bool(names[0]), frozenset(branches)


def _read_files(messages: CleanTable) -> dict[str, frozenset[str]]:
    """The files that the assistant wrote in each conversation, from its tool calls."""
    rows = messages.filter(
        pc.fill_null(pc.match_substring_regex(messages["tool_calls"], _WRITES), False)
    )
    files: dict[str, set[str]] = defaultdict(set)
    for row in rows.select(["id", "tool_calls"]).to_pylist():
        for call in msgspec.json.decode(row["tool_calls"], type=list[ToolCall]):
            if _WRITING.search(call.name):
                for match in _PATH.finditer(call.arguments[:_MAX_ARGUMENTS]):
                    path = match.group(1) or match.group(2)
                    files[row["id"]].add("/".join(path.replace("\\", "/").split("/")[-2:]))
    return {name: frozenset(some) for name, some in files.items()}


def _read_user_texts(messages: CleanTable) -> dict[str, str]:
    """What the person wrote in each conversation, from its start, cut at `_MAX_CHARACTERS`.

    What a harness wrote is everybody's. What a person pasted, a traceback or a file, is what they
    speak of, and stays.
    """
    sent = pc.or_(
        pc.not_equal(messages["author"], "machine"),
        pc.greater(pc.fill_null(pc.list_value_length(messages["spans"]), 0), 0),
    )
    rows = messages.filter(pc.and_(pc.equal(messages["role"], "user"), sent))
    heads = pc.utf8_slice_codeunits(rows["text"], 0, _MAX_HEAD)
    rows = rows.select(["id", "index", "spans"]).append_column("head", heads)
    rows = rows.take(_sort_indices(rows.select(["id", "index"]), "id", "index"))
    texts: dict[str, str] = {}
    for row in rows.select(["id", "head", "spans"]).to_pylist():
        name, head = row["id"], _drop_harness(row["head"], row["spans"] or ())[:_MAX_CHARACTERS]
        before = texts.get(name)
        if before is None:
            texts[name] = head
        elif len(before) < _MAX_CHARACTERS:
            texts[name] = f"{before}\n{head}"[:_MAX_CHARACTERS]
    return texts


def _drop_harness(text: str, spans: Sequence[Mapping[str, Any]]) -> str:
    """The text without what begins as a tag of a harness."""
    for span in reversed(spans):
        if span["author"] == "machine" and text.startswith("<", span["start"]):
            text = text[: span["start"]] + text[span["end"] :]
    return text


def _sort_indices(rows: pa.Table, *columns: str) -> Any:
    """The order of rows by columns, ascending."""
    return pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in columns])
