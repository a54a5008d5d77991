"""Sessions with known threads, for `bench/threads.py` and `bench/train_links.py`: annotated chat,
and synthetic users.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from upshot.threads import Session

_LINE = re.compile(r"\[(\d\d):(\d\d)\] <([^>]+)> ?(.*)")
_NAME = re.compile(r"[\w\-\[\]\\`^{}|]+")


class Stream(NamedTuple):
    """Sessions in order and, for each annotated one, the sessions that it continues (itself:
    none).
    """

    sessions: list[Session]
    gold: dict[int, set[int]]


def chat(folder: Path) -> Iterator[Stream]:
    """Each annotated hour of #ubuntu as one stream whose messages are short sessions."""
    for path in sorted((folder / "threads").glob("*.ascii.txt")):
        lines = path.read_text(errors="replace").split("\n")
        matches = [_LINE.match(line) for line in lines]
        names = {match.group(3).lower(): match.group(3) for match in matches if match}
        sessions: list[Session] = []
        place: dict[int, int] = {}
        day = latest = 0
        for number, match in enumerate(matches):
            if not match:
                continue
            time = int(match.group(1)) * 3600 + int(match.group(2)) * 60 + day
            if time < latest - 3600:
                day += 86_400
                time += 86_400
            latest = time
            said = match.group(4)
            addressed = {
                names[w.lower()]
                for w in _NAME.findall(said)[:60]
                if w.lower() in names and len(w) > 2
            }
            place[number] = len(sessions)
            speaker = frozenset([match.group(3)])
            sessions.append(
                Session(str(number), float(time), said, speaker, frozenset(addressed) - speaker)
            )
        gold: dict[int, set[int]] = {}
        for row in (
            path.with_name(path.name.replace(".ascii.", ".annotation.")).read_text().splitlines()
        ):
            a, b = sorted(map(int, row.split()[:2]))
            if b in place and (a in place or a == b):
                gold.setdefault(place[b], set()).add(place.get(a, place[b]))
        yield Stream(sessions, gold)


_NOUNS = [
    "invoice",
    "budget",
    "garden",
    "kitchen",
    "novel",
    "chapter",
    "holiday",
    "flight",
    "lease",
    "heating",
    "contract",
    "essay",
    "thesis",
    "lecture",
    "recipe",
    "dinner",
    "wedding",
    "speech",
    "resume",
    "interview",
    "logo",
    "website",
    "newsletter",
    "survey",
    "dataset",
    "cluster",
    "parser",
    "scheduler",
    "importer",
    "exporter",
    "dashboard",
    "migration",
    "backup",
    "router",
    "printer",
    "laptop",
    "camera",
    "marathon",
    "training",
    "diet",
    "insurance",
    "tax",
    "receipt",
    "visa",
    "passport",
    "landlord",
    "neighbour",
    "school",
    "teacher",
    "exam",
    "grant",
    "proposal",
    "report",
    "audit",
    "inventory",
    "shipment",
    "warehouse",
    "payroll",
    "onboarding",
    "podcast",
    "playlist",
    "guitar",
    "piano",
    "chess",
    "tournament",
    "museum",
    "sculpture",
    "photograph",
    "telescope",
    "aquarium",
    "bicycle",
    "engine",
    "brake",
    "battery",
    "solar",
    "roof",
    "window",
    "carpet",
    "curtain",
    "fence",
    "compost",
    "orchard",
    "beehive",
    "sourdough",
    "pasta",
    "curry",
    "salad",
    "smoothie",
    "espresso",
    "translation",
    "glossary",
    "subtitle",
    "poem",
    "sonnet",
    "screenplay",
    "villain",
    "dialogue",
    "mystery",
    "dragon",
    "castle",
    "spaceship",
    "robot",
    "sensor",
    "antenna",
    "firmware",
    "bootloader",
    "kernel",
    "driver",
    "compiler",
    "linker",
    "tokenizer",
    "embedding",
    "classifier",
    "regression",
    "sampler",
    "optimizer",
    "queue",
    "cache",
    "shard",
    "replica",
    "index",
    "query",
    "trigger",
    "view",
    "cursor",
    "transaction",
    "lock",
    "deadlock",
    "retry",
    "timeout",
    "webhook",
    "token",
    "session",
    "cookie",
    "header",
    "payload",
    "schema",
    "validator",
    "serializer",
    "endpoint",
    "proxy",
    "gateway",
    "balancer",
    "container",
    "volume",
    "ingress",
    "secret",
]
_ASKS = (
    "Can you help me with {a} for {b}?",
    "I need to fix the {a} in {b}, it {x}.",
    "How do I make {a} work with {b}?",
    "Write a plan for {a} and {b}.",
    "{a}: what should I do about {b}?",
    "My {a} {x} when I touch {b}.",
)
_RETURNS = (
    "I tried it: the {a} {r}. Now {b}?",
    "Back to {a} again, {b} still {x}.",
    "The {a} you suggested {r}, what about {b}?",
    "About {a}: {b} {r}.",
    "{a} {r}. Next I want to change {b}.",
    "So {a} came back, with {b} this time.",
    "Could we continue with {a}? {b} is missing.",
)
_NOISE = (
    "what's a good word for happy",
    "translate this to Spanish: good morning",
    "tell me a joke",
    "what time is it in Tokyo",
    "thanks for everything",
    "summarise this article please",
    "fix the grammar of this sentence",
    "how are you today",
)
_BROKE = ("fails", "crashes", "looks wrong", "is too slow", "stops halfway", "gives an error")
_RESULT = ("worked", "did not work", "was better", "broke the rest", "went fine", "was rejected")


def synthetic(seed: int, users: int = 150) -> Iterator[Stream]:
    """Users with several pieces of work at once, some code and some not, interleaved over weeks.

    A piece of work has a subject of two nouns, five nouns of its own, one that it shares with
    another piece of the same user, and sometimes a file and an error. The first session names the
    subject, later ones name it or half of it; they continue with any of the nouns, and are one to
    four sentences long. One in sixteen returns says nothing that could be recognised, and unrelated
    requests lie between.
    """
    rng = random.Random(seed)
    for _ in range(users):
        pool = rng.sample(_NOUNS, 50)
        common = rng.sample(_NOUNS, 3)
        drafts: list[tuple[float, int, str]] = []
        for work in range(rng.randint(2, 6)):
            nouns = [pool.pop() for _ in range(7)] + [rng.choice(common)]
            file = (
                f"{nouns[0]}_{rng.choice(('utils', 'main', 'job', 'api'))}.py"
                if rng.random() < 0.45
                else ""
            )
            error = (
                rng.choice(("KeyError", "TimeoutError", "TypeError"))
                if file and rng.random() < 0.5
                else ""
            )
            time = rng.uniform(0, 30 * 86_400)
            for session in range(rng.choice((1, 1, 2, 2, 3, 4))):
                drafts.append((time, work, _say(rng, nouns, file, error, session > 0)))
                time += rng.expovariate(1 / (2.0 * 86_400))
        for _ in range(rng.randint(0, 3)):
            drafts.append((rng.uniform(0, 40 * 86_400), -rng.randint(1, 10**9), rng.choice(_NOISE)))
        drafts.sort()
        gold: dict[int, set[int]] = {}
        before: dict[int, set[int]] = {}
        for number, (_, work, _) in enumerate(drafts):
            gold[number] = set(before.get(work, ())) or {number}
            before.setdefault(work, set()).add(number)
        yield Stream(
            [Session(str(i), time, text) for i, (time, _, text) in enumerate(drafts)], gold
        )


def _say(rng: random.Random, nouns: list[str], file: str, error: str, returns: bool) -> str:
    if returns and rng.random() < 1 / 16:
        return rng.choice(("hi again", "one more thing: it " + rng.choice(_RESULT), "ok, next"))
    sentences: list[str] = []
    for number in range(rng.randint(1, 4)):
        pattern = rng.choice(_RETURNS if returns and number == 0 else _ASKS)
        a, b = rng.sample(nouns, 2)
        if number == 0:
            a = (
                f"{nouns[0]} {nouns[1]}"
                if not returns or rng.random() < 0.5
                else rng.choice(nouns[:2])
            )
        sentences.append(pattern.format(a=a, b=b, x=rng.choice(_BROKE), r=rng.choice(_RESULT)))
    if file and rng.random() < 0.7:
        sentences.append(f"It is in {file}.")
    if error and rng.random() < 0.7:
        sentences.append(f"It says {error}.")
    return " ".join(sentences)
