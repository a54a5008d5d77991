"""Named features of a prompt and a response, in groups, without a GPU.

*form* (length, layout, marks) is what raters have a taste for; *relation* is how the response
answers its prompt; *words* are families of words (`lexicon.toml`); *grams* are hashed words and
pairs of words; *embedding* needs the `minilm` extra.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import re2
from numpy.typing import NDArray

from upshot.reward import minilm
from upshot.stats import word_hashes

Array = NDArray[np.float32]
GROUPS = ("form", "relation", "words", "grams", "embedding")
GRAMS = 512
"""Places in which hashed words and pairs are added up, with signs."""
_MAX_CHARACTERS = 20_000
"""Of a text that are read."""
_OPENING = 80
"""Characters that count as a response's opening."""
_CONTEXT = 1_000
"""Characters at a prompt's end that an embedding reads."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_SENTENCE = re.compile(r"[.!?…。！？]+(?:\s|$)")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} |\*\*[^*\n]+\*\*", re.MULTILINE)
_MARKUP = re.compile(r"<[a-z/][^>\n]{0,80}>", re.IGNORECASE)
_ECHO = re.compile(r"###|\b(?:Instruction|Input|Output|Response|Question|Answer|Human|Assistant):")
_STOP = frozenset(
    [
        "the",
        "a",
        "an",
        "of",
        "to",
        "and",
        "in",
        "is",
        "it",
        "for",
        "on",
        "that",
        "this",
        "with",
        "as",
        "be",
        "are",
        "you",
        "i",
        "do",
        "what",
        "how",
        "can",
        "your",
        "my",
        "me",
        "we",
        "so",
        "or",
        "not",
        "no",
        "if",
        "but",
        "at",
        "by",
        "from",
    ]
)

FORM = (
    "log_words",
    "log_words_squared",
    "short",
    "empty",
    "log_sentences",
    "log_words_a_sentence",
    "letters_a_word",
    "list_items",
    "headings",
    "lines",
    "code",
    "digits",
    "capitals",
    "quotes",
    "brackets",
    "commas",
    "colons",
    "exclamations",
    "markup",
    "links",
    "other_scripts",
    "starts_with_a_capital",
)
RELATION = (
    "shared_words",
    "covered_words",
    "shared_pairs",
    "repeats_the_prompt",
    "is_in_the_prompt",
    "different_words",
    "repeated_triples",
    "repeated_triples_log",
    "questions",
    "ends_with_a_question",
    "ends_a_sentence",
    "echoes_a_template",
    "about_oneself",
    "about_the_user",
)


class Features(NamedTuple):
    """Features of a batch of responses."""

    values: Array
    """Shape (responses, features)."""
    names: tuple[str, ...]
    group: NDArray[np.int64]
    """Index into `GROUPS` for each feature."""

    def in_group(self, name: str) -> NDArray[np.bool_]:
        """Which features belong to a group."""
        return self.group == GROUPS.index(name)


class Family(NamedTuple):
    """A family of words."""

    name: str
    pattern: Any
    opening: bool


@cache
def families() -> tuple[Family, ...]:
    """The shipped lexicon."""
    tables = tomllib.loads(
        resources.files("upshot.reward").joinpath("lexicon.toml").read_text("utf-8")
    )
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    return tuple(
        Family(
            name,
            re2.compile(rf"\b(?:{'|'.join(table['patterns'])})\b", options),
            bool(table.get("opening")),
        )
        for name, table in tables.items()
    )


def features(
    prompts: Sequence[Sequence[str]], responses: Sequence[str], embed: bool = False
) -> Features:
    """Features of responses.

    `prompts`: for each its messages' texts, the last being its user's; `embed` needs `minilm`.

    >>> table = features([["how do I sort a list?"]], ["Use sorted(). Here is how."])
    >>> table.values.shape == (1, len(table.names))
    True
    """
    requests = [_plain(texts[-1]) if texts else "" for texts in prompts]
    answers = [_plain(text) for text in responses]
    form, relation = _form_and_relation(requests, answers)
    blocks = [form, relation, _families(answers), _grams(answers)]
    names = [*FORM, *RELATION, *_family_names(), *(f"gram_{i}" for i in range(GRAMS))]
    group = np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])
    if embed:
        context = ["\n".join(texts)[-_CONTEXT:] for texts in prompts]
        inner, cosines = minilm.embed(answers, requests, context)
        blocks += [cosines, inner]
        names += [
            "cosine_to_request",
            "cosine_to_context",
            *(f"embedding_{i}" for i in range(inner.shape[1])),
        ]
        group = np.concatenate(
            [
                group,
                np.full(2, GROUPS.index("relation")),
                np.full(inner.shape[1], GROUPS.index("embedding")),
            ]
        )
    return Features(np.concatenate(blocks, axis=1), tuple(names), group)


def surface_features(table: Features) -> Array:
    """The features of form, relation and words, which need no embedding and no hashing."""
    return table.values[:, : len(FORM) + len(RELATION) + len(_family_names())]


def request_form(requests: Sequence[str]) -> Array:
    """The form of requests, shape (requests, form and relation to nothing)."""
    texts = [_plain(text) for text in requests]
    return np.concatenate(_form_and_relation([""] * len(texts), texts), axis=1)


def _plain(text: str) -> str:
    return (
        text[:_MAX_CHARACTERS]
        .encode("utf-8", "replace")
        .decode("utf-8")
        .replace("’", "'")
        .replace("“", '"')
        .replace("”", '"')
    )


def _form_and_relation(prompts: Sequence[str], responses: Sequence[str]) -> tuple[Array, Array]:
    request_words: Mapping[str, list[str]] = {
        prompt: _WORD.findall(prompt.lower()) for prompt in set(prompts)
    }
    form = np.zeros((len(responses), len(FORM)), np.float32)
    relation = np.zeros((len(responses), len(RELATION)), np.float32)
    for row, (prompt, text) in enumerate(zip(prompts, responses, strict=True)):
        words = _WORD.findall(text.lower())
        form[row] = _form(text, words)
        relation[row] = _relation(prompt, request_words[prompt], text, words)
    return form, relation


def _form(text: str, words: Sequence[str]) -> tuple[float, ...]:
    count, size = len(words), max(1, len(text))
    sentences = max(1, len(_SENTENCE.findall(text)))
    long = np.log1p(count)
    return (
        long,
        long * long / 5,
        count < 6,
        count == 0,
        np.log1p(sentences),
        np.log1p(count / sentences),
        sum(map(len, words)) / max(1, count),
        len(_ITEM.findall(text)) ** 0.5,
        len(_HEADING.findall(text)) ** 0.5,
        text.count("\n") ** 0.5,
        "```" in text,
        sum(map(str.isdigit, text)) ** 0.5,
        sum(map(str.isupper, text)) / size,
        text.count('"') ** 0.5,
        text.count("(") ** 0.5,
        text.count(",") / max(1, count),
        text.count(":") ** 0.5,
        min(3, text.count("!")),
        bool(_MARKUP.search(text)),
        "http" in text,
        (size - len(text.encode("ascii", "ignore"))) / size,
        text.lstrip()[:1].isupper(),
    )


def _relation(
    prompt: str, request_words: Sequence[str], text: str, words: Sequence[str]
) -> tuple[float, ...]:
    count = len(words)
    wanted, used = set(request_words) - _STOP, set(words) - _STOP
    shared = len(wanted & used)
    pairs = list(itertools.pairwise(words))
    request_pairs = set(itertools.pairwise(request_words))
    triples = list(zip(words, words[1:], words[2:], strict=False))
    repeated = len(triples) - len(set(triples))
    stripped, lowered = text.strip(), prompt.lower()
    return (
        shared / max(3, len(used)),
        shared / max(1, len(wanted)),
        sum(pair in request_pairs for pair in pairs) / max(3, len(pairs)),
        stripped.lower() == lowered.strip().rsplit("\n", 1)[-1],
        count > 2 and stripped.lower() in lowered,
        len(set(words)) / max(5, count),
        repeated / max(1, len(triples)),
        np.log1p(repeated),
        min(5, text.count("?")),
        stripped.endswith(("?", "？")),
        stripped.endswith((".", "!", "?", ")", '"', "'", "`", "。", "！", "？")),
        bool(_ECHO.search(text)),
        sum(word in ("i", "i'm", "i'd", "i'll", "me", "my") for word in words) / max(5, count),
        sum(word in ("you", "your", "you're") for word in words) / max(5, count),
    )


def _family_names() -> list[str]:
    names: list[str] = []
    for family in families():
        names += [f"{family.name}_rate", f"{family.name}_any"] + (
            [f"{family.name}_first"] if family.opening else []
        )
    return names


def _families(responses: Sequence[str]) -> Array:
    out = np.zeros((len(responses), len(_family_names())), np.float32)
    sizes = np.sqrt([max(4, text.count(" ") + 1) for text in responses])
    column = 0
    for family in families():
        matches = family.pattern.finditer
        counts = np.array([sum(1 for _ in matches(text)) for text in responses], np.float32)
        out[:, column] = counts / sizes
        out[:, column + 1] = counts > 0
        column += 2
        if family.opening:
            out[:, column] = [
                family.pattern.search(text[:_OPENING]) is not None for text in responses
            ]
            column += 1
    return out


def _grams(responses: Sequence[str]) -> Array:
    """Each text's different words and pairs, added up with signs in `GRAMS` places; of length 1."""
    words = word_hashes.hash_words(responses)
    out = np.zeros((len(responses), GRAMS), np.float32)
    for hashed in (words, word_hashes.hash_pairs(words)):
        sign = np.where(hashed.hashes >> np.uint64(63), 1.0, -1.0)
        place = ((hashed.hashes >> np.uint64(20)) % np.uint64(GRAMS)).astype(np.int64)
        np.add.at(out, (hashed.text, place), sign)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)
