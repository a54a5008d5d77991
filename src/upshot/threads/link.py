"""Link a user's sessions where a later one continues an earlier one, with a score and reasons.

Every session is compared with the last `window` sessions, and with older ones that share a rare
term, so that the work is linear in the number of sessions and no likely candidate is missed. A
session continues its best candidate if P(continues) reaches the threshold; threads are the
connected components.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from upshot.engine import Models, Options, Step, Tables
from upshot.records import SCHEMAS, CleanTable
from upshot.stats import word_hashes
from upshot.threads.background import NAME as BACKGROUND
from upshot.threads.background import Background, background_of
from upshot.threads.sessions import Session, Terms, extract_terms, read_sessions

VERSION = "6"
_MAX_HOLDERS = 200
"""A term in more of a user's sessions than this belongs to no thread."""
MAX_EXCLUSIVE = 4.0
"""Largest value of the feature `exclusive`; four words of a thread alone are proof enough."""
_UNSEEN = 300.0
"""Words that a user has not used yet and may: what a first session's words are measured against."""
_MAX_RARE = 6
"""A term in at most this many of a user's sessions reaches back beyond the window."""
WEIGHTS: Mapping[str, float] = {
    "bias": -1.4,
    "likeness": 0.5,
    "rare": 0.3,
    "exclusive": 2.6,
    "identifiers": 0.8,
    "errors": 0.6,
    "refers_back": 1.9,
    "reports": 5.0,
    "opens_new": -0.8,
    "log_hours": -0.55,
    "steps": -0.04,
    "same_speaker": 0.0,
    "addressed": 0.0,
    "answers": 0.0,
    "names_of_thread": 0.0,
    "files": 0.0,
    "same_branch": 0.0,
    "other_branch": 0.0,
    "embedding": 3.0,
}
"""Logits per unit, for one person's sessions, as fitted by `bench/train_links.py`, except that no
sign of a link counts against it, which a small synthetic corpus cannot rule out (docs/lab.md).
"""

WORK_WEIGHTS: Mapping[str, float] = {
    "bias": -2.2,
    "likeness": 0.24,
    "rare": 1.29,
    "exclusive": 0.0,
    "names_of_thread": 1.43,
    "identifiers": 0.12,
    "errors": 0.3,
    "refers_back": 0.11,
    "reports": 2.0,
    "opens_new": -0.5,
    "log_hours": -0.41,
    "steps": -1.19,
    "files": 1.09,
    "same_branch": 6.0,
    "other_branch": -2.5,
    "same_speaker": 0.0,
    "addressed": 0.0,
    "answers": 0.0,
    "embedding": 3.0,
}
"""For sessions of coding agents, in which everything is about one project: fitted by
`bench/train_links.py` to branches of a repository, with the branches hidden in half of the rows;
the bias is lower than fitted, so that a thread gathers no strangers, and a branch decides.
"""

CHAT_WEIGHTS: Mapping[str, float] = {
    "bias": -0.61,
    "likeness": 3.83,
    "rare": 0.31,
    "exclusive": 1.83,
    "identifiers": 0.0,
    "errors": 0.0,
    "refers_back": 0.87,
    "reports": 0.0,
    "opens_new": -0.45,
    "log_hours": -1.14,
    "steps": -1.48,
    "same_speaker": 2.29,
    "addressed": 3.94,
    "answers": 3.24,
    "names_of_thread": 0.0,
    "files": 0.0,
    "same_branch": 0.0,
    "other_branch": 0.0,
    "embedding": 3.0,
}
"""For streams that several people share, in which every message is a session."""

_COMMON: frozenset[int] = frozenset(
    word_hashes.hash_vocabulary(
        [
            "hello",
            "hi",
            "hey",
            "thanks",
            "thank",
            "help",
            "please",
            "write",
            "writing",
            "explain",
            "fix",
            "fixed",
            "fixing",
            "problem",
            "issue",
            "error",
            "errors",
            "change",
            "changed",
            "add",
            "create",
            "creating",
            "build",
            "run",
            "running",
            "work",
            "works",
            "working",
            "worked",
            "plan",
            "try",
            "tried",
            "trying",
            "test",
            "tests",
            "question",
            "answer",
            "example",
            "better",
            "best",
            "good",
            "great",
            "right",
            "wrong",
            "still",
            "again",
            "back",
            "first",
            "last",
            "next",
            "before",
            "after",
            "today",
            "yesterday",
            "week",
            "day",
            "days",
            "time",
            "times",
            "show",
            "tell",
            "give",
            "find",
            "look",
            "looks",
            "looking",
            "sure",
            "something",
            "someone",
            "anything",
            "nothing",
            "everything",
            "code",
            "file",
            "files",
            "line",
            "lines",
            "function",
            "text",
            "list",
            "name",
            "names",
            "number",
            "new",
            "old",
            "small",
            "large",
            "big",
            "long",
            "short",
            "different",
            "second",
            "seconds",
            "minutes",
            "hours",
            "message",
            "email",
            "letter",
            "people",
            "person",
            "word",
            "words",
            "sentence",
            "sentences",
            "table",
            "page",
            "data",
            "translate",
            "summarise",
            "summarize",
            "python",
            "javascript",
            "sql",
            "html",
            "rest",
            "same",
            "really",
            "actually",
            "maybe",
            "full",
            "more",
            "lot",
        ]
    ).tolist()
)
"""Everyday words of requests: no sign of a link, however rare in the user's sessions."""


class Link(NamedTuple):
    """The session that a session continues."""

    parent: int
    """Its place in the list; -1 where the session starts a new thread."""
    score: float
    """P(continues the best candidate), in [0, 1]."""
    reasons: tuple[str, ...]


def link_sessions(
    sessions: Sequence[Session],
    threshold: float = 0.5,
    window: int = 64,
    weights: Mapping[str, float] | None = None,
    *,
    background: Background | None = None,
    terms: Sequence[Terms] | None = None,
) -> list[Link]:
    """Link one user's sessions, given in order of time; `background` tells everybody's words from
    this user's, `terms` are the sessions' where they are known already.

    >>> a = Session("a", 0.0, "parse_config fails in settings.py with KeyError")
    >>> b = Session("b", 9e4, "parse_config in settings.py still fails, KeyError again")
    >>> [found.parent for found in link_sessions([a, b])]
    [-1, 0]
    """
    if len(sessions) == 1:
        return [Link(-1, 0.0, ())]
    if weights is None:
        weights = _choose_weights(sessions)
    index = Index(sessions, background, terms)
    links: list[Link] = []
    roots: list[int] = []
    for later in range(len(sessions)):
        best, best_logit, best_parts = -1, -math.inf, dict[str, float]()
        exclusive = index.exclusive(later) if weights["exclusive"] else {}
        names = index.names_of_thread(later) if weights["names_of_thread"] else {}
        for earlier in index.candidates(later, window):
            parts = index.compare(later, earlier)
            if roots[earlier] in exclusive:
                parts["exclusive"] = min(MAX_EXCLUSIVE, exclusive[roots[earlier]])
            if roots[earlier] in names:
                parts["names_of_thread"] = min(MAX_EXCLUSIVE, names[roots[earlier]])
            logit = weights["bias"] + sum([weights[name] * value for name, value in parts.items()])
            if logit > best_logit:
                best, best_logit, best_parts = earlier, logit, parts
        score = 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, best_logit)))) if best >= 0 else 0.0
        if best >= 0 and score >= threshold:
            links.append(Link(best, score, _explain_link(index, later, best, best_parts, weights)))
        else:
            links.append(Link(-1, score, ()))
        roots.append(later if links[-1].parent < 0 else roots[links[-1].parent])
        index.join(later, roots[-1])
    return links


def _choose_weights(sessions: Sequence[Session]) -> Mapping[str, float]:
    if any(session.speakers for session in sessions):
        return CHAT_WEIGHTS
    return WORK_WEIGHTS if any(session.is_work for session in sessions) else WEIGHTS


class Index:
    """The terms of one user's sessions, and the sessions that contain each."""

    def __init__(
        self,
        sessions: Sequence[Session],
        background: Background | None = None,
        terms: Sequence[Terms] | None = None,
    ) -> None:
        self.sessions = sessions
        self.terms = (
            terms if terms is not None else extract_terms([session.text for session in sessions])
        )
        self.holders: dict[Any, list[int]] = defaultdict(list)
        for number, terms_of_session in enumerate(self.terms):
            for term in (*terms_of_session.words, *terms_of_session.names):
                self.holders[term].append(number)
        for number, session in enumerate(sessions):
            for file in session.files:
                self.holders[("file", file)].append(number)
        self.rare = {
            term for term, numbers in self.holders.items() if 1 < len(numbers) <= _MAX_RARE
        }
        self.thread: dict[Any, int] = {}
        """The only thread so far that uses a term; -1: several do."""
        self.owned: dict[int, float] = defaultdict(float)
        """Weight of the terms that only a thread uses, by its root."""
        self.used = 0.0
        """Weight of all terms so far."""
        self.share: dict[Any, float] = dict.fromkeys(self.holders, 1.0)
        if background is not None:
            share = background.share
            self.share.update(
                {term: share.get(term, 1.0) for term in self.holders if isinstance(term, int)}
            )
        for term in self.holders.keys() & _COMMON:
            self.share[term] = 0.05
        log = math.log
        total = log(1 + len(sessions)) + 0.3
        self.idf = {
            term: (total - log(len(numbers))) * self.share[term]
            for term, numbers in self.holders.items()
        }
        idf = self.idf
        self.weight = [
            {
                w: idf[w] if n == 1 else idf[w] * (1 + log(n))
                for w, n in terms_of_session.words.items()
            }
            for terms_of_session in self.terms
        ]
        self.norm = [
            math.sqrt(sum([value * value for value in weight.values()])) or 1.0
            for weight in self.weight
        ]
        self.last_by_speaker: list[dict[str, int]] = []
        if any(session.speakers for session in sessions):
            last: dict[str, int] = {}
            for number, session in enumerate(sessions):
                self.last_by_speaker.append(
                    dict(last) if session.addressed or session.speakers else {}
                )
                for speaker in session.speakers:
                    last[speaker] = number

    def candidates(self, later: int, window: int) -> list[int]:
        """Earlier sessions to compare a session with."""
        near = set(range(max(0, later - window), later))
        if later > window:
            for term in self.rare.intersection(
                (*self.terms[later].words, *self.terms[later].names)
            ):
                near.update([h for h in self.holders[term] if h < later])
        return sorted(near)

    def join(self, session: int, root: int) -> None:
        """Record that a session belongs to a thread."""
        thread = self.thread
        files = [("file", file) for file in self.sessions[session].files]
        for term in (*self.terms[session].words, *self.terms[session].names, *files):
            owner = thread.get(term)
            if owner is None:
                thread[term] = root
                self.owned[root] += self.share[term]
                self.used += self.share[term]
            elif owner not in (root, -1):
                thread[term] = -1
                self.owned[owner] -= self.share[term]

    def names_of_thread(self, later: int) -> dict[int, float]:
        """For each thread so far, how many names of this session only that thread uses."""
        counts: dict[int, float] = defaultdict(float)
        terms = [*self.terms[later].names, *(("file", file) for file in self.sessions[later].files)]
        for term in terms:
            root = self.thread.get(term, -1)
            if root >= 0:
                counts[root] += 1.0
        return counts

    def exclusive(self, later: int) -> dict[int, float]:
        """For each thread so far, the weight of this session's terms that only that thread uses,
        beyond what any session has in common with a thread of its size.
        """
        weights: dict[int, float] = defaultdict(float)
        thread = self.thread
        total = 0.0
        for term in (*self.terms[later].words, *self.terms[later].names):
            root = thread.get(term, -1)
            total += self.share[term]
            if root >= 0 and len(self.holders[term]) <= _MAX_HOLDERS:
                weights[root] += self.share[term]
        by_chance = total / (self.used + _UNSEEN)
        return {
            root: excess
            for root, weight in weights.items()
            if (excess := weight - self.owned[root] * by_chance) > 0
        }

    def compare(self, later: int, earlier: int) -> dict[str, float]:
        """The features that are not 0, except `exclusive`."""
        a, b = self.sessions[later], self.sessions[earlier]
        mine, theirs = self.weight[later], self.weight[earlier]
        common = mine.keys() & theirs.keys()
        parts: dict[str, float] = {"steps": math.log(later - earlier)}
        if common:
            dot = math.fsum([mine[word] * theirs[word] for word in common])
            parts["likeness"] = dot / (self.norm[later] * self.norm[earlier])
            rare = math.fsum([self.share[word] for word in common & self.rare])
            if rare > 0.2:
                parts["rare"] = min(5.0, rare) / (1.0 + 0.02 * len(theirs))
            if self.terms[later].refers_back:
                parts["refers_back"] = 1.0
        if self.terms[later].reports and later - earlier == 1:
            parts["reports"] = 1.0
        names = self.terms[later].names & self.terms[earlier].names
        if names:
            parts["identifiers"] = min(3.0, math.fsum([self.idf[name] for name in names]) / 2.0)
        files = a.files & b.files
        if files:
            shared = math.fsum([self.idf[("file", file)] for file in files])
            parts["files"] = shared / math.sqrt(
                math.fsum([self.idf[("file", file)] for file in a.files])
                * math.fsum([self.idf[("file", file)] for file in b.files])
            )
        if a.branches and b.branches:
            parts["same_branch" if a.branches & b.branches else "other_branch"] = 1.0
        if self.terms[later].errors & self.terms[earlier].errors:
            parts["errors"] = 1.0
        if self.terms[later].opens_new:
            parts["opens_new"] = 1.0
        if a.time is not None and b.time is not None:
            parts["log_hours"] = math.log1p(max(0.0, a.time - b.time) / 3600.0)
        self._speakers(parts, later, earlier)
        if a.embedding is not None and b.embedding is not None:
            parts["embedding"] = max(0.0, float(a.embedding @ b.embedding) - 0.3)
        return parts

    def _speakers(self, parts: dict[str, float], later: int, earlier: int) -> None:
        """Features of who speaks to whom, in a stream that several people share."""
        a, b = self.sessions[later], self.sessions[earlier]
        if not a.speakers or not b.speakers:
            return
        last = self.last_by_speaker[later]
        if a.addressed & b.speakers:
            parts["addressed"] = 1.0 if any(last.get(s) == earlier for s in a.addressed) else 0.4
        if a.speakers & b.addressed:
            parts["answers"] = 1.0
        if a.speakers & b.speakers:
            parts["same_speaker"] = 1.0


def _explain_link(
    index: Index, later: int, earlier: int, parts: Mapping[str, float], weights: Mapping[str, float]
) -> tuple[str, ...]:
    """The reasons for a link in words, the strongest first."""
    texts = {
        "identifiers": (
            "same names: "
            + ", ".join(sorted(index.terms[later].names & index.terms[earlier].names)[:3])
        ),
        "errors": (
            "same error: "
            + ", ".join(sorted(index.terms[later].errors & index.terms[earlier].errors)[:2])
        ),
        "same_branch": "same branch: "
        + ", ".join(sorted(index.sessions[later].branches & index.sessions[earlier].branches)[:2]),
        "files": "same files: "
        + ", ".join(sorted(index.sessions[later].files & index.sessions[earlier].files)[:3]),
        "names_of_thread": "names of this thread alone",
        "likeness": "alike words",
        "rare": "rare words shared",
        "exclusive": "words of this thread alone",
        "refers_back": "refers back",
        "reports": "reports on the last answer",
        "embedding": "alike meaning",
        "addressed": "speaks to its author",
        "answers": "was spoken to",
        "same_speaker": "same speaker",
    }
    strong = sorted(
        ((weights[n] * v, n) for n, v in parts.items() if weights[n] * v > 0.3), reverse=True
    )
    return tuple(texts[name] for _, name in strong if name in texts)


def make_link_step(threshold: float = 0.5, window: int = 64, embeddings: bool = False) -> Step:
    """Linking as a step: rows of conversations whose thread or link changed."""
    return Step(
        "link",
        VERSION,
        ("messages", "conversations"),
        "threads",
        link_tables,
        ("user", "id"),
        ("thread", "parent", "score", "reasons"),
        {"threshold": threshold, "window": window, "embeddings": embeddings},
        (BACKGROUND,),
    )


def link_tables(tables: Tables, options: Options, models: Models) -> CleanTable:
    """Threads of the users of some tables.

    `options`: `threshold`, `window`, `embeddings`, `bucket`.
    """
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMAS["threads"].names}
    users = read_sessions(tables, bool(options.get("embeddings")))
    terms = iter(extract_terms([session.text for some in users.values() for session in some]))
    common = background_of(models)
    threshold, window = float(options.get("threshold", 0.5)), int(options.get("window", 64))
    now = datetime.now(UTC)
    for user, sessions in users.items():
        links = link_sessions(
            sessions, threshold, window, background=common, terms=list(islice(terms, len(sessions)))
        )
        root: list[int] = []
        for number, link in enumerate(links):
            root.append(number if link.parent < 0 else root[link.parent])
            parent = sessions[link.parent].id if link.parent >= 0 else ""
            row = (
                int(options.get("bucket", 0)),
                user,
                sessions[number].id,
                sessions[root[number]].id,
                parent,
                float(np.float32(link.score)),
                list(link.reasons),
                now,
            )
            for column, value in zip(rows.values(), row, strict=True):
                column.append(value)
    return CleanTable(pa.table(rows, schema=SCHEMAS["threads"]))
