"""Existing preference data as `Preference`s: one function per shape, chosen by a record's keys.

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
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from upshot.errors import FormatError, RecordError
from upshot.io.files import Bad, expand_paths, open_input, read_json
from upshot.records import BadRecord, Place, Preference, Role, Source, Turn
from upshot.records.training import turns_to_messages
from upshot.sources import fields

Record = Mapping[str, Any]
Reader = Callable[[Record], Iterator[Preference]]
"""From a record of one shape to its pairs."""
SAME_ANSWERS = "chosen and rejected are the same"
"""Why a pair teaches nothing: the reason of its `BadRecord`."""
_TURN = re.compile(r"\n*\b(Human|Assistant): ?")
_MAX_PAIRS = 10
"""Pairs per prompt, so that prompts with many answers do not dominate."""
_FULL_MARGIN_RATIO = 10.0
"""Ratio of votes from which the margin is 1."""


def read_preferences(
    path: str | os.PathLike[str], bad: Callable[[BadRecord], None] | None = None
) -> Iterator[Preference]:
    """Read preferences from JSON lines, a JSON array or Parquet; `-` is standard input.

    `bad`: called with every record that cannot be read; without it the first one raises.

    Raises:
        FormatError: the first record has no known shape.
    """
    for name in expand_paths([os.fspath(path)]):
        source = open_input(name)
        try:
            yield from parse_preferences(
                name, _read_parquet(name) if name.endswith(".parquet") else read_json(source), bad
            )
        finally:
            source.close()


def _read_parquet(name: str) -> Iterator[tuple[str, Any]]:
    batches = cast(Iterable[pa.RecordBatch], pq.ParquetFile(name).iter_batches())  # pyright: ignore[reportUnknownMemberType]  # half-typed stubs
    rows = (row for batch in batches for row in batch.to_pylist())
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def parse_preferences(
    name: str, records: Iterable[tuple[str, Any]], bad: Callable[[BadRecord], None] | None = None
) -> Iterator[Preference]:
    """Parse decoded records of the file `name`, each with its position, as `read_preferences`."""
    reader: Reader | None = None
    tree: list[Record] = []
    for position, value in records:
        try:
            record = _check_record(value)
            if "message_id" in record and "parent_id" in record:
                tree.append(record)
                continue
            if reader is None or not _reads(reader, record):
                reader = _find_reader(record)
            yield from reader(record)
        except (RecordError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            if reader is None and not tree:
                raise FormatError(
                    f"could not read preferences from {name}: {position} has no known shape"
                    f" ({error}); see docs/preferences.md"
                ) from error
            if bad is None:
                raise RecordError(f"could not read {name}: {position}: {error}") from error
            bad(BadRecord(name, position, str(error)))
    yield from _parse_flat_tree(tree)


def _check_record(value: object) -> Record:
    if isinstance(value, Bad):
        raise RecordError(value.reason)
    if not isinstance(value, Mapping):
        raise RecordError(f"expected an object, found {type(value).__name__}")
    return cast(Record, value)


def _reads(reader: Reader, record: Record) -> bool:
    return any(reader is other and keys <= record.keys() for keys, other in _READERS)


def _find_reader(record: Record) -> Reader:
    for keys, reader in _READERS:
        if keys <= record.keys():
            return reader
    raise RecordError(f"it has the keys {sorted(record)[:12]}")


def _parse_turns(value: Any, role: Role = "user") -> tuple[Turn, ...]:
    """Messages, or a text as one message of `role`; transcripts as of HH are split."""
    if isinstance(value, str):
        is_transcript = _TURN.match(value.lstrip("\n"))
        return _split_transcript(value) if is_transcript else (Turn(role, value),)
    turns = cast(Iterable[Record], [value] if isinstance(value, Mapping) else value)
    return tuple(
        Turn(
            fields.role(turn.get("role", turn.get("from"))),
            fields.text(turn.get("content", turn.get("value"))),
        )
        for turn in turns
    )


def _split_transcript(text: str) -> tuple[Turn, ...]:
    parts = _TURN.split(text)
    return tuple(
        Turn("user" if speaker == "Human" else "assistant", content.strip())
        for speaker, content in zip(parts[1::2], parts[2::2], strict=True)
    )


def _make_pair(
    prompt: Sequence[Turn],
    better: Any,
    worse: Any,
    kind: str,
    *,
    margin: float = 0.0,
    weight: float = 1.0,
) -> Preference:
    chosen, rejected = _parse_turns(better, "assistant"), _parse_turns(worse, "assistant")
    if chosen == rejected:
        raise RecordError(SAME_ANSWERS)
    return Preference(tuple(prompt), chosen, rejected, margin, weight, Source(kind))


def _parse_interchange(record: Record) -> Iterator[Preference]:
    """Our own format, and TRL's with an explicit prompt."""
    origin = record.get("source")
    source = Source("pairs")
    if isinstance(origin, Mapping) and "kind" in origin:
        source = Source(**_parse_source(cast(Record, origin)))
    pair = _make_pair(
        _parse_turns(record["prompt"]),
        record["chosen"],
        record["rejected"],
        source.kind,
        margin=float(record.get("margin") or 0.0),
        weight=float(record.get("weight", 1.0)),
    )
    yield Preference(pair.prompt, pair.chosen, pair.rejected, pair.margin, pair.weight, source)


def _parse_source(source: Record) -> dict[str, Any]:
    out = {key: source[key] for key in ("kind", "thread", "split", "note") if key in source}
    out |= {
        key: Place(str(source[key]["id"]), int(source[key]["index"]))
        for key in ("chosen", "rejected")
        if source.get(key)
    }
    return out | {"users": tuple(source.get("users", ()))}


def _parse_implicit_prompt(record: Record) -> Iterator[Preference]:
    """Whole conversations that share a prefix: Anthropic HH, TRL with an implicit prompt."""
    chosen, rejected = (
        _parse_turns(record["chosen"], "assistant"),
        _parse_turns(record["rejected"], "assistant"),
    )
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if chosen[shared:] == rejected[shared:]:
        raise RecordError(SAME_ANSWERS)
    yield Preference(chosen[:shared], chosen[shared:], rejected[shared:], 0.0, 1.0, Source("pairs"))


def _parse_llmbar(record: Record) -> Iterator[Preference]:
    """LLMBar: `label` 1 or 2."""
    outputs = (record["output_1"], record["output_2"])
    first = int(record["label"]) == 1
    yield _make_pair(
        _parse_turns(str(record["input"])),
        outputs[not first],
        outputs[first],
        str(record.get("subset", "pairs")),
    )


def _parse_pandalm(record: Record) -> Iterator[Preference]:
    """PandaLM: votes of several people (0 is a tie); the majority wins, its share is the weight."""
    votes = Counter(int(value) for key, value in record.items() if key.startswith("annotator"))
    first, second, total = votes[1], votes[2], sum(votes.values())
    if first == second or votes[0] > max(first, second):
        return
    prompt = "\n".join(str(record[key]) for key in ("instruction", "input") if record.get(key))
    responses = (str(record["response1"]), str(record["response2"]))
    if responses[0] != responses[1]:
        yield _make_pair(
            _parse_turns(prompt),
            responses[first < second],
            responses[first > second],
            "people",
            margin=abs(first - second) / total,
            weight=max(first, second) / total,
        )


def _parse_votes(record: Record) -> Iterator[Preference]:
    """StackExchange: answers with votes; the margin is the ratio of votes on a log scale."""
    prompt = _parse_turns(fields.text(record["question"]))
    answers = [
        (
            fields.text(a.get("text", a.get("body", a.get("answer")))),
            float(a.get("pm_score", a.get("score", a.get("votes", 0)))),
        )
        for a in record["answers"]
    ]
    yield from _pair_ranked(
        prompt,
        answers,
        "votes",
        lambda high, low: _vote_margin(max(high, 0), low),
    )


def _vote_margin(high: float, low: float) -> float:
    """The ratio of votes on a log scale, at most 1."""
    return min(1.0, math.log((high + 1) / (max(low, 0) + 1)) / math.log(_FULL_MARGIN_RATIO))


def _pair_ranked(
    prompt: Sequence[Turn],
    answers: Sequence[tuple[str, float]],
    kind: str,
    margin: Callable[[float, float], float],
) -> Iterator[Preference]:
    ordered = sorted(answers, key=lambda answer: -answer[1])
    pairs = [(a, b) for a, b in combinations(ordered, 2) if a[1] > b[1] and a[0] != b[0]]
    for better, worse in sorted(pairs, key=lambda pair: pair[1][1] - pair[0][1])[:_MAX_PAIRS]:
        difference = max(0.0, margin(better[1], worse[1]))
        yield _make_pair(prompt, better[0], worse[0], kind, margin=difference)


def _parse_shp(record: Record) -> Iterator[Preference]:
    """SHP: two comments with votes, `labels` 1 where A is preferred."""
    first = int(record["labels"]) == 1
    high, low = (
        float(record[key]) for key in (("score_A", "score_B") if first else ("score_B", "score_A"))
    )
    refs = (record["human_ref_A"], record["human_ref_B"])
    yield _make_pair(
        _parse_turns(str(record["history"])),
        refs[not first],
        refs[first],
        "votes",
        margin=max(0.0, _vote_margin(high, low)),
    )


def _parse_arena(record: Record) -> Iterator[Preference]:
    """Two whole conversations and a winner (Arena, MT-Bench)."""
    winner = str(record["winner"])
    if winner not in ("model_a", "model_b"):
        return
    better, worse = ("a", "b") if winner == "model_a" else ("b", "a")
    chosen, rejected = (
        turns_to_messages(_parse_turns(record[f"conversation_{side}"])) for side in (better, worse)
    )
    yield from _parse_implicit_prompt({"chosen": chosen, "rejected": rejected})


def _parse_scores(record: Record) -> Iterator[Preference]:
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
    highest = 10.0 if any(value > 5 for _, value in answers) else 5.0
    yield from _pair_ranked(
        _parse_turns(fields.text(record["instruction"])),
        answers,
        "scores",
        lambda high, low: (high - low) / highest,
    )


def _parse_tree(record: Record) -> Iterator[Preference]:
    """OpenAssistant: a tree of messages, replies ranked (0 is best)."""

    def walk(node: Record, path: tuple[Turn, ...]) -> Iterator[Preference]:
        prompt = (*path, _parse_node(node))
        replies = [child for child in node.get("replies", ()) if not child.get("deleted")]
        yield from _pair_replies(prompt, replies)
        for child in replies:
            yield from walk(child, prompt)

    yield from walk(record.get("prompt", record), ())


def _parse_node(node: Record) -> Turn:
    speaker = "user" if node["role"] in ("prompter", "user") else "assistant"
    return Turn(speaker, fields.text(node["text"]))


def _pair_replies(prompt: tuple[Turn, ...], replies: Sequence[Record]) -> Iterator[Preference]:
    """Pair replies by rank where people ranked them, else by their quality labels."""
    assistants = [reply for reply in replies if reply.get("role") == "assistant"]
    ranked = [
        (fields.text(reply["text"]), -float(reply["rank"]))
        for reply in assistants
        if reply.get("rank") is not None
    ]
    if len(ranked) > 1:
        yield from _pair_ranked(
            prompt, ranked, "ranks", lambda high, low: (high - low) / (len(ranked) - 1)
        )
        return
    rated = [
        (fields.text(reply["text"]), quality)
        for reply in assistants
        if (quality := _parse_quality(reply.get("labels"))) is not None
    ]
    yield from _pair_ranked(prompt, rated, "quality", lambda high, low: high - low)


def _parse_quality(labels: Any) -> float | None:
    value: object = json.loads(labels) if isinstance(labels, str) else labels
    if not isinstance(value, Mapping):
        return None
    record = cast(Record, value)
    if isinstance(record.get("quality"), Mapping):
        return float(record["quality"]["value"])
    if record.get("name") is None or record.get("value") is None:
        return None
    names: list[str] = list(record["name"])
    return float(record["value"][names.index("quality")]) if "quality" in names else None


def _parse_flat_tree(records: Sequence[Record]) -> Iterator[Preference]:
    """OpenAssistant's flat export: one message per record."""
    by_id = {str(record["message_id"]): record for record in records}
    children: dict[str, list[Record]] = {}
    for record in records:
        if record.get("parent_id") and not record.get("deleted"):
            children.setdefault(str(record["parent_id"]), []).append(record)
    for parent, replies in children.items():
        path: list[Turn] = []
        node: Record | None = by_id.get(parent)
        while node is not None:
            path.append(_parse_node(node))
            node = by_id.get(str(node.get("parent_id") or ""))
        if path:
            yield from _pair_replies(tuple(reversed(path)), replies)


_READERS: tuple[tuple[frozenset[str], Reader], ...] = (
    (frozenset({"prompt", "chosen", "rejected"}), _parse_interchange),
    (frozenset({"chosen", "rejected"}), _parse_implicit_prompt),
    (frozenset({"input", "output_1", "output_2", "label"}), _parse_llmbar),
    (frozenset({"instruction", "response1", "response2"}), _parse_pandalm),
    (frozenset({"history", "human_ref_A", "human_ref_B", "labels"}), _parse_shp),
    (frozenset({"conversation_a", "conversation_b", "winner"}), _parse_arena),
    (frozenset({"question", "answers"}), _parse_votes),
    (frozenset({"instruction", "completions"}), _parse_scores),
    (frozenset({"prompt", "message_tree_id"}), _parse_tree),
    (frozenset({"replies", "text", "role"}), _parse_tree),
)
