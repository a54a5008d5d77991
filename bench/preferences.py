"""Precision of each kind of pair on simulated logs whose truth is known; pairs per thousand
conversations; throughput.

Users make one of 300 requests in words of their own, an assistant responds rightly or not, users
try the response and write what users write (or nothing, or thanks for what has failed), ask again,
regenerate, edit, come back in a later session. A pair is right where its chosen response is truly
better than its rejected one. The judge is the embedded one; it never sees the truth.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

import upshot
from upshot import config
from upshot.records import Preference

_VERBS = (
    "sort",
    "parse",
    "merge",
    "resize",
    "encrypt",
    "download",
    "validate",
    "cache",
    "split",
    "rename",
    "compress",
    "translate",
    "plot",
    "count",
    "filter",
)
_THINGS = (
    "CSV files",
    "log lines",
    "JPEG images",
    "user records",
    "audio clips",
    "PDF pages",
    "JSON events",
    "postal addresses",
    "git branches",
    "SQL tables",
    "e-mail threads",
    "calendar entries",
    "sensor readings",
    "XML feeds",
    "test results",
    "stock prices",
    "chat messages",
    "zip archives",
    "web pages",
    "invoices",
)
_ASK = (
    "How do I {v} {t} in Python?",
    "please show me how to {v} {t} in python",
    "I need to {v} {t} with Python",
    "python: {v} {t}, how?",
)
_RIGHT = (
    (
        "Use `{v}_{k}({t_})` from the standard tools: open the {t}, call it once for each, and"
        " write the outcome to a new file."
    ),
    (
        "For {t}, the shortest way is a loop that calls `{v}_{k}` and collects what it returns. It"
        " handles empty input too."
    ),
    "You can {v} {t} like this:\n```python\nfor item in {t_}:\n    out.append({v}_{k}(item))\n```",
)
_WRONG = (
    "Call `{t_}.{v}_all{k}()`, which does everything in one go for {t}.",
    "Just import `{v}lib{k}` and it will {v} {t} by itself.",
    "You can {v} {t} like this:\n```python\n{t_}.{v}(mode={k})\n```",
)
_GOOD = (
    "That worked, thank you!",
    "great, it runs now",
    "perfect, solved",
    "I tried it and it works",
    "yes! exactly what I needed",
    "worked first time, cheers",
    "nice one, all {t} are done",
    "ok that did it",
    "Tested it on my data, all good",
)
_BAD = (
    "it fails with AttributeError: no attribute '{v}_all'",
    "doesn't work",
    "Still broken, same error",
    "that does not exist",
    "no, this crashes on the first one",
    "ModuleNotFoundError: No module named '{v}lib'",
    "wrong, nothing happens to the {t}",
    "I get an empty file",
    "that's not right, try again",
)
_FLAT = (
    "ok",
    "thanks",
    "Now explain what a decorator is.",
    "hmm",
    "and how do I deploy a web app?",
)


class World:
    """Chats and, for each response's text, whether it is right."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.truth: dict[str, bool] = {}
        self.rows: list[dict] = []

    def answer(self, verb: str, thing: str, right: bool) -> str:
        text = self.rng.choice(_RIGHT if right else _WRONG).format(
            v=verb, t=thing, t_=thing.split()[0].lower(), k=self.rng.randint(100, 99_999)
        )
        self.truth[text] = right
        return text

    def says(self, right: bool, verb: str, thing: str) -> str | None:
        """What the user writes next: a tenth are polite about failure, a tenth write nothing
        useful, a third nothing at all.
        """
        drawn = self.rng.random()
        if drawn < 0.33:
            return None
        if drawn < 0.43:
            return self.rng.choice(_FLAT)
        if drawn < 0.48 and not right:
            return self.rng.choice(
                (
                    "thanks, but it fails",
                    "Thank you! Sadly it does nothing",
                    "thanks. I still get the error",
                )
            )
        return self.rng.choice(_GOOD if right else _BAD).format(v=verb, t=thing)

    def chat(self, number: int, user: str, day: int) -> None:
        verb, thing = self.rng.choice(_VERBS), self.rng.choice(_THINGS)
        right = self.rng.random() < 0.55
        messages: list[dict] = [
            {"role": "user", "content": self.rng.choice(_ASK).format(v=verb, t=thing)}
        ]
        first = self.answer(verb, thing, right)
        messages.append({"role": "assistant", "content": first})
        kind = self.rng.random()
        if kind < 0.04 and not right:
            messages[-1]["feedback"] = {"edit": self.answer(verb, thing, True)}
        elif kind < 0.14:
            self._branch(number, user, day, messages, verb, thing, right)
            return
        if (said := self.says(right, verb, thing)) is not None:
            messages.append({"role": "user", "content": said})
            again = self.rng.random() < (0.35 if right else 0.6)
            second = self.answer(verb, thing, again)
            messages.append({"role": "assistant", "content": second})
            if (last := self.says(again, verb, thing)) is not None:
                messages.append({"role": "user", "content": last})
        self.keep(f"c{number}", user, day, messages)

    def _branch(
        self,
        number: int,
        user: str,
        day: int,
        messages: list[dict],
        verb: str,
        thing: str,
        right: bool,
    ) -> None:
        other = self.rng.random() < 0.5
        for name, text, good in (
            (f"c{number}", messages[-1]["content"], right),
            (f"c{number}b", self.answer(verb, thing, other), other),
        ):
            rows = [messages[0], {"role": "assistant", "content": text}]
            if (said := self.says(good, verb, thing)) is not None:
                rows.append({"role": "user", "content": said})
            branch = {"branch_of": f"c{number}", "branch_at": 1} if name.endswith("b") else {}
            self.keep(name, user, day, rows, **branch)

    def keep(self, name: str, user: str, day: int, messages: list[dict], **more: object) -> None:
        self.rows.append(
            {
                "id": name,
                "user": user,
                "started_at": f"2026-03-{1 + day % 28:02}T10:00:00Z",
                "messages": messages,
                **more,
            }
        )


def right(pair: Preference, truth: dict[str, bool]) -> bool:
    """Whether the chosen response is truly better."""
    return truth[pair.chosen[0].content] and not truth[pair.rejected[0].content]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--conversations", type=int, default=20_000)
    arguments = parser.parse_args()
    started = time.perf_counter()
    folder = Path(tempfile.mkdtemp())
    world = World(3)
    for number in range(arguments.conversations):
        world.chat(number, f"u{world.rng.randint(0, arguments.conversations // 4)}", number % 28)
    (folder / "chats.jsonl").write_text("\n".join(json.dumps(row) for row in world.rows))
    settings = config.load(privacy={"names": False})
    upshot.run(folder / "chats.jsonl", folder / "lake", settings)
    begun = time.perf_counter()
    found = list(upshot.pairs(folder / "lake", settings=settings))
    seconds = time.perf_counter() - begun
    metrics: dict[str, float] = {
        "pairs_per_1000": 1000 * len(found) / len(world.rows),
        "conversations_per_s": len(world.rows) / seconds,
    }
    for kind in ("sibling", "thread", "edit", "across"):
        of = [right(pair, world.truth) for pair in found if pair.source.kind == kind]
        metrics |= {
            f"precision.{kind}": sum(of) / max(1, len(of)),
            f"pairs_per_1000.{kind}": 1000 * len(of) / len(world.rows),
        }
    metrics = {name: round(value, 4) for name, value in metrics.items()}
    print(
        json.dumps(
            {
                "bench": "preferences",
                "metrics": metrics,
                "data": "simulated",
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
