"""Preference data that exists, as `Preference`s: one function a shape, recognised by the keys of a
record.

Pairs (Anthropic HH, LLMBar, PandaLM, SHP, Arena, TRL and our own), votes (StackExchange), rankings
and quality labels (OpenAssistant), scores (UltraFeedback). Ties give no pair. The margin is the
difference of votes, ranks or scores, in [0, 1].
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from upshot.errors import FormatError, RecordError
from upshot.io.files import Bad, expand, json_records, open_input
from upshot.records import BadRecord, Place, Preference, Source, Turn
from upshot.sources import fields

Record = Mapping[str, Any]
_TURN = re.compile(r"\n*\b(Human|Assistant): ?")
_MOST_PAIRS = 10
"""Pairs of one prompt: many answers would drown the rest."""
_VOTES = 10.0
"""Ratio of votes that is a margin of 1."""


def read_preferences(
    path: str | os.PathLike[str], bad: Callable[[BadRecord], None] | None = None
) -> Iterator[Preference]:
    """Read preferences from JSON lines, a JSON array or Parquet; `-` is standard input.

    `bad`: told of every record that cannot be read; without it the first one raises.

    Raises:
        FormatError: the first record is of no known shape.
    """
    for name in expand([os.fspath(path)]):
        source = open_input(name)
        try:
            yield from of_records(
                name, _parquet(name) if name.endswith(".parquet") else json_records(source), bad
            )
        finally:
            source.close()


def _parquet(name: str) -> Iterator[tuple[str, Any]]:
    import pyarrow.parquet

    number = 0
    for batch in pyarrow.parquet.ParquetFile(name).iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield f"row {number}", row


def of_records(
    name: str, records: Iterable[tuple[str, Any]], bad: Callable[[BadRecord], None] | None = None
) -> Iterator[Preference]:
    """The same of decoded records of the file `name`, each with its position."""
    shape: Callable[[Record], Iterator[Preference]] | None = None
    tree: list[Record] = []
    for position, record in records:
        try:
            if isinstance(record, Bad):
                raise RecordError(record.reason)
            if not isinstance(record, Mapping):
                raise RecordError(f"expected an object, found {type(record).__name__}")
            if "message_id" in record and "parent_id" in record:
                tree.append(record)
                continue
            if shape is None or not _fits(shape, record):
                shape = _shape(record)
            yield from shape(record)
        except (RecordError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            if shape is None and not tree:
                raise FormatError(
                    f"could not read preferences from {name}: {position} is of no known shape"
                    f" ({error}); see docs/preferences.md"
                ) from error
            if bad is None:
                raise RecordError(f"could not read {name}: {position}: {error}") from error
            bad(BadRecord(name, position, str(error)))
    yield from _flat_tree(tree)


def _fits(shape: Callable[[Record], Iterator[Preference]], record: Record) -> bool:
    return any(shape is reader and keys <= record.keys() for keys, reader in _SHAPES)


def _shape(record: Record) -> Callable[[Record], Iterator[Preference]]:
    for keys, reader in _SHAPES:
        if keys <= record.keys():
            return reader
    raise RecordError(f"it has the keys {sorted(record)[:12]}")


def _turns(value: Any, role: str = "user") -> tuple[Turn, ...]:
    """Messages, or a text as one message of `role`; HH's transcripts are taken apart."""
    if isinstance(value, str):
        return _transcript(value) if _TURN.match(value.lstrip("\n")) else (Turn(role, value),)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        value = [value]
    return tuple(
        Turn(
            fields.role(turn.get("role", turn.get("from"))),
            fields.text(turn.get("content", turn.get("value"))),
        )
        for turn in value
    )


def _transcript(text: str) -> tuple[Turn, ...]:
    parts = _TURN.split(text)
    return tuple(
        Turn("user" if who == "Human" else "assistant", said.strip())
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    )


def _pair(
    prompt: Sequence[Turn],
    better: Any,
    worse: Any,
    kind: str,
    margin: float = 0.0,
    weight: float = 1.0,
) -> Preference:
    chosen, rejected = _turns(better, "assistant"), _turns(worse, "assistant")
    if chosen == rejected:
        raise RecordError("chosen and rejected are the same")
    return Preference(tuple(prompt), chosen, rejected, margin, weight, Source(kind))


def _ours(record: Record) -> Iterator[Preference]:
    """Our own, and TRL's with an explicit prompt."""
    from_us = record.get("source")
    source = (
        Source(**_known(from_us))
        if isinstance(from_us, Mapping) and "kind" in from_us
        else Source("pairs")
    )
    pair = _pair(
        _turns(record["prompt"]),
        record["chosen"],
        record["rejected"],
        source.kind,
        float(record.get("margin") or 0.0),
        float(record.get("weight", 1.0)),
    )
    yield Preference(pair.prompt, pair.chosen, pair.rejected, pair.margin, pair.weight, source)


def _known(source: Record) -> dict[str, Any]:
    out = {key: source[key] for key in ("kind", "thread", "split", "note") if key in source}
    out |= {
        key: Place(str(source[key]["id"]), int(source[key]["index"]))
        for key in ("chosen", "rejected")
        if source.get(key)
    }
    return out | {"users": tuple(source.get("users", ()))}


def _implicit(record: Record) -> Iterator[Preference]:
    """Whole conversations that share a prefix: Anthropic HH, TRL with an implicit prompt."""
    chosen, rejected = (
        _turns(record["chosen"], "assistant"),
        _turns(record["rejected"], "assistant"),
    )
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if chosen[shared:] == rejected[shared:]:
        raise RecordError("chosen and rejected are the same")
    yield Preference(chosen[:shared], chosen[shared:], rejected[shared:], 0.0, 1.0, Source("pairs"))


def _two_outputs(record: Record) -> Iterator[Preference]:
    """LLMBar: `label` 1 or 2."""
    outputs = (record["output_1"], record["output_2"])
    first = int(record["label"]) == 1
    yield _pair(
        _turns(str(record["input"])),
        outputs[not first],
        outputs[first],
        str(record.get("subset", "pairs")),
    )


def _panel(record: Record) -> Iterator[Preference]:
    """PandaLM: several people, 0 tie, 1, 2; the majority counts, its share is the weight."""
    votes = Counter(int(value) for key, value in record.items() if key.startswith("annotator"))
    first, second, total = votes[1], votes[2], sum(votes.values())
    if first == second or votes[0] > max(first, second):
        return
    asked = "\n".join(str(record[key]) for key in ("instruction", "input") if record.get(key))
    responses = (str(record["response1"]), str(record["response2"]))
    if responses[0] != responses[1]:
        yield _pair(
            _turns(asked),
            responses[first < second],
            responses[first > second],
            "people",
            abs(first - second) / total,
            max(first, second) / total,
        )


def _votes(record: Record) -> Iterator[Preference]:
    """StackExchange: answers with votes; the margin is the ratio of votes on a log scale."""
    asked = _turns(fields.text(record["question"]))
    answers = [
        (
            fields.text(a.get("text", a.get("body", a.get("answer")))),
            float(a.get("pm_score", a.get("score", a.get("votes", 0)))),
        )
        for a in record["answers"]
    ]
    yield from _ranked(
        asked,
        answers,
        "votes",
        lambda high, low: min(
            1.0, math.log((max(high, 0) + 1) / (max(low, 0) + 1)) / math.log(_VOTES)
        ),
    )


def _ranked(
    prompt: Sequence[Turn],
    answers: Sequence[tuple[str, float]],
    kind: str,
    margin: Callable[[float, float], float],
) -> Iterator[Preference]:
    ordered = sorted(answers, key=lambda answer: -answer[1])
    pairs = [(a, b) for a, b in combinations(ordered, 2) if a[1] > b[1] and a[0] != b[0]]
    for better, worse in sorted(pairs, key=lambda pair: pair[1][1] - pair[0][1])[:_MOST_PAIRS]:
        yield _pair(prompt, better[0], worse[0], kind, max(0.0, margin(better[1], worse[1])))


def _shp(record: Record) -> Iterator[Preference]:
    """SHP: two comments with votes, `labels` 1 where A is preferred."""
    first = int(record["labels"]) == 1
    high, low = (
        float(record[key]) for key in (("score_A", "score_B") if first else ("score_B", "score_A"))
    )
    refs = (record["human_ref_A"], record["human_ref_B"])
    yield _pair(
        _turns(str(record["history"])),
        refs[not first],
        refs[first],
        "votes",
        min(1.0, max(0.0, math.log((high + 1) / (max(low, 0) + 1)) / math.log(_VOTES))),
    )


def _arena(record: Record) -> Iterator[Preference]:
    """Two whole conversations and a winner (Arena, MT-Bench)."""
    winner = str(record["winner"])
    if winner not in ("model_a", "model_b"):
        return
    first = winner == "model_a"
    a, b = _turns(record["conversation_a"]), _turns(record["conversation_b"])
    yield from _implicit(
        {"chosen": _plain(a if first else b), "rejected": _plain(b if first else a)}
    )


def _plain(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _scored(record: Record) -> Iterator[Preference]:
    """UltraFeedback: completions with an overall score, or ratings by aspect."""
    answers: list[tuple[str, float]] = []
    for answer in record["completions"]:
        value = answer.get("overall_score", answer.get("score"))
        if value is None:
            ratings = [
                float(part["Rating"])
                for part in answer["annotations"].values()
                if str(part.get("Rating", "N/A")) != "N/A"
            ]
            value = sum(ratings) / len(ratings)
        answers.append((fields.text(answer.get("response", answer.get("text"))), float(value)))
    top = 10.0 if any(value > 5 for _, value in answers) else 5.0
    yield from _ranked(
        _turns(fields.text(record["instruction"])),
        answers,
        "scores",
        lambda high, low: (high - low) / top,
    )


def _tree(record: Record) -> Iterator[Preference]:
    """OpenAssistant: a tree of messages, replies ranked (0 is best)."""

    def below(node: Record, path: tuple[Turn, ...]) -> Iterator[Preference]:
        here = (
            *path,
            Turn(
                "user" if node["role"] in ("prompter", "user") else "assistant",
                fields.text(node["text"]),
            ),
        )
        replies = [child for child in node.get("replies", ()) if not child.get("deleted")]
        yield from _siblings(here, replies)
        for child in replies:
            yield from below(child, here)

    yield from below(record.get("prompt", record), ())


def _siblings(prompt: tuple[Turn, ...], replies: Sequence[Record]) -> Iterator[Preference]:
    """By rank where people ranked them, else by their quality labels."""
    assistants = [reply for reply in replies if reply.get("role") == "assistant"]
    ranked = [
        (fields.text(reply["text"]), -float(reply["rank"]))
        for reply in assistants
        if reply.get("rank") is not None
    ]
    if len(ranked) > 1:
        yield from _ranked(
            prompt, ranked, "ranks", lambda high, low: (high - low) / (len(ranked) - 1)
        )
        return
    rated = [
        (fields.text(reply["text"]), quality)
        for reply in assistants
        if (quality := _quality(reply.get("labels"))) is not None
    ]
    yield from _ranked(prompt, rated, "quality", lambda high, low: high - low)


def _quality(labels: Any) -> float | None:
    if isinstance(labels, str):
        labels = json.loads(labels)
    if not isinstance(labels, Mapping):
        return None
    if isinstance(labels.get("quality"), Mapping):
        return float(labels["quality"]["value"])
    names, values = labels.get("name"), labels.get("value")
    return (
        float(values[list(names).index("quality")])
        if names is not None and values is not None and "quality" in list(names)
        else None
    )


def _flat_tree(records: Sequence[Record]) -> Iterator[Preference]:
    """OpenAssistant's flat export: a message a record."""
    known = {str(record["message_id"]): record for record in records}
    children: dict[str, list[Record]] = {}
    for record in records:
        if record.get("parent_id") and not record.get("deleted"):
            children.setdefault(str(record["parent_id"]), []).append(record)
    for parent, replies in children.items():
        path: list[Turn] = []
        node: Record | None = known.get(parent)
        while node is not None:
            path.append(
                Turn(
                    "user" if node["role"] in ("prompter", "user") else "assistant",
                    fields.text(node["text"]),
                )
            )
            node = known.get(str(node.get("parent_id") or ""))
        if path:
            yield from _siblings(tuple(reversed(path)), replies)


_SHAPES: tuple[tuple[frozenset[str], Callable[[Record], Iterator[Preference]]], ...] = (
    (frozenset({"prompt", "chosen", "rejected"}), _ours),
    (frozenset({"chosen", "rejected"}), _implicit),
    (frozenset({"input", "output_1", "output_2", "label"}), _two_outputs),
    (frozenset({"instruction", "response1", "response2"}), _panel),
    (frozenset({"history", "human_ref_A", "human_ref_B", "labels"}), _shp),
    (frozenset({"conversation_a", "conversation_b", "winner"}), _arena),
    (frozenset({"question", "answers"}), _votes),
    (frozenset({"instruction", "completions"}), _scored),
    (frozenset({"prompt", "message_tree_id"}), _tree),
    (frozenset({"replies", "text", "role"}), _tree),
)
