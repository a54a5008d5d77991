# pyright: reportMissingImports=false
# for datatrove, which is optional
"""MB/s on one core and peak memory, of each part of the main job and of the whole, on a generated
log.

The log is OpenAI-chat JSON lines written by this script (seeded): users with several sessions, code
and prose, follow-ups, one value of personal data per forty messages or so. `floor_ratio` is ours
over `orjson.loads` alone; where datatrove is installed its reader, PII formatter and writer run on
the same file.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from upshot.hindsight import pipeline
from upshot.lake import Lake
from upshot.privacy import Pseudonyms, Redactor, clean
from upshot.records import RawConversation
from upshot.sources.ingest import Cleaning, ingest
from upshot.sources.reading import read

_KEY = "a fixed key for benchmarks"
_WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
    "or",
    "had",
    "an",
    "they",
    "which",
    "one",
    "you",
    "were",
    "all",
    "her",
    "she",
    "there",
    "would",
    "their",
    "we",
    "him",
    "been",
    "has",
    "when",
    "who",
    "will",
    "no",
    "more",
    "if",
    "out",
    "so",
    "up",
    "said",
    "what",
    "its",
    "about",
    "than",
    "into",
    "them",
    "can",
    "only",
    "other",
    "time",
    "new",
    "some",
    "could",
    "these",
    "two",
    "may",
    "first",
    "then",
    "do",
    "any",
    "like",
    "my",
    "now",
    "over",
    "such",
    "our",
    "man",
    "me",
    "even",
    "most",
    "made",
    "after",
    "also",
    "did",
    "many",
    "off",
    "before",
    "must",
    "well",
    "back",
    "through",
    "years",
    "where",
    "much",
    "your",
    "way",
    "down",
    "should",
    "because",
    "long",
    "each",
    "just",
    "state",
    "those",
    "people",
    "too",
    "little",
    "world",
    "still",
    "great",
    "system",
    "value",
    "number",
    "place",
    "house",
    "point",
    "case",
    "group",
    "company",
    "program",
    "question",
    "work",
    "night",
    "water",
    "part",
    "young",
    "father",
    "right",
    "keep",
    "eye",
    "never",
    "last",
    "let",
    "thought",
    "city",
    "tree",
    "cross",
    "farm",
    "hard",
    "start",
    "might",
    "story",
    "saw",
    "far",
    "sea",
    "draw",
    "left",
    "late",
    "run",
    "while",
    "press",
    "close",
    "real",
    "life",
    "few",
    "north",
    "open",
    "seem",
    "together",
    "next",
    "white",
    "children",
    "begin",
    "got",
    "walk",
    "example",
    "ease",
    "paper",
    "always",
    "music",
    "both",
    "mark",
    "often",
    "letter",
    "until",
    "mile",
    "river",
    "car",
    "feet",
    "care",
    "second",
    "book",
    "carry",
    "took",
    "science",
    "eat",
    "room",
    "friend",
    "began",
    "idea",
    "fish",
    "mountain",
    "stop",
    "once",
    "base",
    "hear",
    "horse",
    "cut",
    "sure",
    "watch",
    "color",
    "face",
    "wood",
    "main",
]
_CODE = """def {a}_{b}(items, limit={n}):
    result = []
    for item in items:
        if item.{a} > limit and item.{b} is not None:
            result.append(transform(item, key="{a}"))
    return sorted(result, key=lambda row: row.{b})[:{n}]
"""
_FOLLOW = (
    "that worked, thank you!",
    "Thanks, but it still gives me the same error.",
    "no, I meant the other one",
    "great",
    "can you also add a test for it?",
    "what do you mean by that?",
    "perfect, exactly what I needed",
    "it fails with KeyError: '{a}'",
    "ok",
    "now do the same for {b}",
    "never mind",
    "I tried it and it works now",
    "you forgot the {a}",
    "hmm",
)
_PRIVATE = (
    " Mail me at {a}.{b}@example.org.",
    " My number is +1 415 555 0{n}.",
    " The key is ghp_{k}.",
    " I live at {n} Main Street.",
    " Card 4111 1111 1111 1111.",
)


def generate(path: Path, megabytes: float, seed: int = 7) -> None:
    """Write the log."""
    rng = random.Random(seed)
    size, number = 0, 0
    prose = [
        " ".join(rng.choices(_WORDS, k=rng.randint(40, 160))).capitalize() + "."
        for _ in range(4000)
    ]
    with open(path, "wb") as handle:
        while size < megabytes * 1e6:
            user = f"user-{rng.randint(0, max(10, int(megabytes * 20)))}"
            messages: list[dict[str, str]] = []
            for turn in range(rng.randint(1, 6)):
                a, b, n = rng.choice(_WORDS), rng.choice(_WORDS), rng.randint(100, 199)
                said = (
                    rng.choice(_FOLLOW).format(a=a, b=b)
                    if turn
                    else rng.choice(prose)[: rng.randint(40, 500)] + "?"
                )
                if rng.random() < 0.05:
                    said += rng.choice(_PRIVATE).format(
                        a=a,
                        b=b,
                        n=n,
                        k="".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=36)),
                    )
                if rng.random() < 0.1:
                    said += (
                        '\nTraceback (most recent call last):\n  File "main.py", line 3, in'
                        " <module>\nKeyError: 'x'"
                    )
                answer = rng.choice(prose)
                if rng.random() < 0.5:
                    answer += (
                        "\n\n```python\n"
                        + _CODE.format(a=a, b=b, n=n) * rng.randint(1, 3)
                        + "```\n"
                        + rng.choice(prose)
                    )
                messages += [
                    {"role": "user", "content": said},
                    {"role": "assistant", "content": answer + " " + rng.choice(prose)},
                ]
            day = rng.randint(1, 28)
            line = orjson.dumps(
                {
                    "id": f"conv-{number}",
                    "user": user,
                    "started_at": f"2026-0{rng.randint(1, 6)}-{day:02d}T10:00:00Z",
                    "model": "m",
                    "messages": messages,
                }
            )
            handle.write(line + b"\n")
            size += len(line) + 1
            number += 1


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def parts(path: Path, folder: Path, sample_mb: float) -> dict[str, float]:
    """Each part alone, on the first megabytes of the file."""
    taken, conversations, texts = 0, [], []
    for item in read(path):
        if isinstance(item, RawConversation):
            conversations.append(item)
            texts += [message.content for message in item.messages]
            taken += sum(len(message.content) for message in item.messages)
            if taken > sample_mb * 1e6:
                break
    size = taken / 1e6
    pseudonyms = Pseudonyms(_KEY)
    redactor = Redactor(pseudonyms)
    owners = [""] * len(texts)
    redactor.redact(texts[:500], owners[:500])
    metrics = {"redact": size / timed(lambda: redactor.redact(texts, owners))}
    batch = clean(conversations, pseudonyms, None, 1)
    linked, models = pipeline.link_in_memory(batch.tables)
    metrics["link"] = size / timed(lambda: pipeline.link_in_memory(batch.tables))
    metrics["judge"] = size / timed(lambda: pipeline.judge_in_memory(linked, models))
    lake = Lake(folder / "write", 16)
    lake.create()
    metrics["write"] = size / timed(
        lambda: [lake.append(name, table, ("bench", 1)) for name, table in batch.tables.items()]
    )
    return {f"{name}.mb_per_s": round(value, 1) for name, value in metrics.items()}


def together(path: Path, folder: Path) -> tuple[float, dict[str, float]]:
    """The main job without its report, one process."""
    lake = Lake(folder / "lake", 16)
    first = timed(lambda: ingest(read(path), lake, Cleaning(_KEY, True, True, "")))
    work = pipeline.Work(lake)
    second = timed(lambda: pipeline.link(work))
    third = timed(lambda: pipeline.judge(work))
    return first + second + third, {
        "ingest_s": round(first, 1),
        "link_s": round(second, 1),
        "judge_s": round(third, 1),
    }


def datatrove_speed(path: Path, folder: Path) -> float | None:
    try:
        from datatrove.executor import LocalPipelineExecutor
        from datatrove.pipeline.formatters import PIIFormatter
        from datatrove.pipeline.readers import JsonlReader
        from datatrove.pipeline.writers import JsonlWriter
    except ImportError:
        print(
            "datatrove is not installed: no datatrove_ratio (pip install 'datatrove[io]')",
            file=sys.stderr,
        )
        return None
    flat = folder / "flat"
    flat.mkdir()
    size = 0
    with open(flat / "part.jsonl", "wb") as handle:
        for line in open(path, "rb"):
            record = orjson.loads(line)
            for message in record["messages"]:
                handle.write(orjson.dumps({"id": record["id"], "text": message["content"]}) + b"\n")
            size += len(line)
            if size > 50e6:
                break
    bytes_in = (flat / "part.jsonl").stat().st_size
    pipeline = [JsonlReader(str(flat)), PIIFormatter(), JsonlWriter(str(folder / "out"))]
    executor = LocalPipelineExecutor(
        pipeline=pipeline, tasks=1, workers=1, logging_dir=str(folder / "logs")
    )
    return bytes_in / 1e6 / timed(executor.run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="not used: the log is generated")
    parser.add_argument("--mb", type=float, default=500.0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="upshot-bench-"))
    try:
        path = folder / "log.jsonl"
        generate(path, arguments.mb)
        size = path.stat().st_size / 1e6
        seconds, split = together(path, folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        metrics: dict[str, float] = {
            "mb_per_s_per_core": round(size / seconds, 2),
            "peak_gb": round(peak, 3),
            **split,
        }
        parse = timed(lambda: sum(1 for _ in read(path)))

        def floor() -> None:
            with open(path, "rb") as handle:
                for line in handle:
                    orjson.loads(line)

        alone = timed(floor)
        metrics["parse.mb_per_s"] = round(size / parse, 1)
        metrics["orjson.mb_per_s"] = round(size / alone, 1)
        metrics["floor_ratio"] = round(alone / seconds, 4)
        metrics.update(parts(path, folder, min(50.0, arguments.mb / 2)))
        theirs = datatrove_speed(path, folder)
        if theirs:
            metrics["datatrove.mb_per_s"] = round(theirs, 2)
            metrics["datatrove_ratio"] = round(size / seconds / theirs, 2)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        json.dumps(
            {
                "bench": "throughput",
                "metrics": metrics,
                "data": f"generated, {arguments.mb:g} MB",
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
