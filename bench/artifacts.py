"""How well finished expert work is taken back to its research, and replayed.

A world with known truth (`upshot.worlds.memos`): memoranda in styles on which the rules were not
developed (`--styles development` for the others), clean ones and nine planted faults:
`citations.*`, `quotes.located`, `misquotes.*`, `passages` (share of the true places among the
passages that claims rest on; `passages.first`: always the first passage), `questions.f1`, `order`,
`faults.recall` (the worst of nine; `faults.NAME`), `faults.false_alarms` (clean trails with any
problem), `pinpoint.*`. `replay.*`: the agent of rules; `replay.prior` and `replay.closed_book` are
the floors. With `--data DIR`, 200 PEPs: `pep.reachable` (cited sources in force that are on the
trail), `pep.leaks` (runs of eight words), `pep.younger`; `pep.title` is the floor, the recall of a
search for the title alone. `per_second`: memoranda by one core, without opening the library.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

import upshot
from upshot.api.artifacts import open_desk
from upshot.artifacts.checks import run_checks
from upshot.artifacts.citations.pinpoints import passages_at
from upshot.artifacts.desk import Desk
from upshot.artifacts.records import Span, Trail
from upshot.artifacts.replay import changed_without_key, estimate
from upshot.worlds.memos import FAULTS, Memo, make_code, write_memo

CAUGHT_BY = {
    "leak": ["leak"],
    "misquote": ["quotes"],
    "wrong pinpoint": ["pinpoint"],
    "wrong section": ["support", "quotes", "pinpoint", "connection"],
    "repealed law": ["quotes", "support", "order"],
    "unsupported step": ["support"],
    "out of order": ["order"],
    "missing source": ["support", "connection"],
    "wrong conclusion": ["connection", "support"],
}
"""The checks that may catch a fault."""
IN_TRAIL = ("leak", "out of order")


class World:
    """A code on disk and the trails of memoranda written on it, by the verb."""

    def __init__(self, folder: Path, topics: int, *, held_out: bool) -> None:
        self.folder, self.held_out = folder, held_out
        self.code = make_code(11, topics)
        self.library = folder / "code.jsonl"
        rows = (json.dumps(row) + "\n" for row in self.code.records())
        self.library.write_text("".join(rows))
        self.desk, _ = open_desk(self.library)

    def reconstruct(self, memos: Sequence[Memo]) -> tuple[list[Trail], float]:
        """The trails of memoranda, in order, and the seconds that they took."""
        path = self.folder / "memos.jsonl"
        rows = ({"id": memo.id, "text": memo.text, "date": memo.date} for memo in memos)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = upshot.reconstruct(path, sources=self.library)
        if result.bad:
            raise SystemExit(f"not reconstructed: {result.bad[0]}")
        return result.trails, result.seconds

    def write(self, count: int, fault: str = "") -> list[Memo]:
        return [
            write_memo(self.code, n, seed=1, held_out=self.held_out, fault=fault)
            for n in range(count)
        ]


def measure_citations(
    memos: Sequence[Memo], trails: Sequence[Trail], desk: Desk
) -> dict[str, float]:
    """Citations, quotations and passages of clean memoranda against the truth."""
    right = cited = true = quotes = located = alarms = attributed = 0
    places = first = 0
    for memo, trail in zip(memos, trails, strict=True):
        wanted = Counter(row.source for row in memo.cited)
        got = Counter(c.source for c in trail.citations if c.status == "resolved")
        right += sum((wanted & got).values())
        cited += sum(got.values())
        true += sum(wanted.values())
        quotes += sum(bool(row.quote) for row in memo.cited)
        located += sum(quote.status == "located" for quote in trail.quotes)
        attributed += len(trail.quotes)
        alarms += sum(quote.status in ("misquote", "elsewhere") for quote in trail.quotes)
        read = {(s.source, s.passage) for s in trail.steps if s.passage and s.action != "quote"}
        for row in memo.cited:
            named = passages_at(desk.library, row.source, (row.path.strip("()"),))
            spans = {(row.source, Span(p.start, p.end)) for p in named}
            places += bool(spans & read)
            first += row.path == "(a)"
    return {
        "citations.precision": right / cited,
        "citations.recall": right / true,
        "quotes.located": located / quotes,
        "misquotes.false_alarms": alarms,
        "misquotes.clean_quotes": attributed,
        "passages": places / true,
        "passages.first": first / true,
    }


def kind_of(question: str) -> str:
    """Which of the three questions of the world a question is."""
    if re.search(r"how (?:much|large)|amount|what sum|has to bear|have to pay", question, re.I):
        return "amount"
    return "rate" if re.search(r"\brates?\b", question, re.I) else "relief"


def measure_questions(memos: Sequence[Memo], trails: Sequence[Trail]) -> dict[str, float]:
    """F1 of the questions stated: each kind that the facts raise, once."""
    right = made = true = 0
    for memo, trail in zip(memos, trails, strict=True):
        stated = [i for i in trail.issues if i.origin == "stated"]
        stated = [i for i in stated if i.id != "q0"] or stated
        kinds = Counter(kind_of(issue.question) for issue in stated)
        wanted = Counter(memo.questions)
        right += sum((kinds & wanted).values())
        made += sum(kinds.values())
        true += sum(wanted.values())
    return {"questions.f1": 2 * right / (made + true)}


def plant_in_trail(trail: Trail, fault: str, number: int) -> Trail | None:
    """A trail with words of its reasoning in a query, or with a step before what it uses."""
    steps = list(trail.steps)
    if fault == "leak":
        searches = [i for i, step in enumerate(steps) if step.action == "search"]
        claims = [step.claim for step in steps if step.action == "infer"]
        long = [claim for claim in claims if len(claim.split()) >= 9]
        if not searches or not long:
            return None
        place = searches[number % len(searches)]
        words = long[number % len(long)].split()[:10]
        steps[place] = msgspec.structs.replace(steps[place], input=" ".join(words))
    else:
        pairs = [i for i, step in enumerate(steps) if step.action != "infer" and step.uses]
        if not pairs:
            return None
        place = pairs[number % len(pairs)]
        late = steps.pop(place)
        steps.insert(min(late.uses) - 1, late)
    return msgspec.structs.replace(trail, steps=tuple(steps))


def measure_faults(world: World, trails: Sequence[Trail], count: int) -> dict[str, float]:
    """Share of each planted fault that its checks catch, and of clean trails with a problem."""
    metrics: dict[str, float] = {}
    clean = [any(check.problems for check in trail.checks.values()) for trail in trails]
    metrics["faults.false_alarms"] = sum(clean) / len(clean)
    quoted: list[bool] = []
    unquoted: list[bool] = []
    for fault in FAULTS:
        if fault in IN_TRAIL:
            planted = [plant_in_trail(t, fault, n) for n, t in enumerate(trails[:count])]
            checked = [run_checks(t, world.desk) for t in planted if t is not None]
            memos: list[Memo] = []
        else:
            memos = world.write(count, fault)
            checked = [trail.checks for trail in world.reconstruct(memos)[0]]
        caught = [any(c[name].problems for name in CAUGHT_BY[fault]) for c in checked]
        metrics[f"faults.{fault.replace(' ', '_')}"] = sum(caught) / len(caught)
        for memo, hit in zip(memos, caught, strict=False):
            if fault == "wrong pinpoint":
                (quoted if memo.is_quoted else unquoted).append(hit)
    metrics["misquotes.recall"] = metrics["faults.misquote"]
    metrics["pinpoint.quoted"] = sum(quoted) / max(1, len(quoted))
    metrics["pinpoint.unquoted"] = sum(unquoted) / max(1, len(unquoted))
    names = [f"faults.{fault.replace(' ', '_')}" for fault in FAULTS]
    metrics["faults.recall"] = min(metrics[name] for name in names)
    return metrics


def measure_replay(
    world: World, memos: Sequence[Memo], trails: Sequence[Trail]
) -> dict[str, float]:
    """The agent of rules against the memoranda's truth, with its controls."""
    report = upshot.replay(list(trails), sources=world.library)
    truth = {memo.id: memo for memo in memos}

    def agrees(control: str) -> float:
        rows = [row for row in report.replays if row.control == control]
        right = [
            row.conclusion.label == truth[row.artifact].label
            and (
                truth[row.artifact].label == "no"
                or abs((row.conclusion.number or 0.0) - truth[row.artifact].amount) < 1
            )
            for row in rows
        ]
        return sum(right) / len(right)

    labels = Counter(memo.label for memo in memos)
    return {
        "replay.source_recall": estimate(report.replays, "none", "source_recall").mean,
        "replay.opened_precision": estimate(report.replays, "none", "opened_precision").mean,
        "replay.quote_fidelity": estimate(report.replays, "none", "quote_fidelity").mean,
        "replay.conclusion": agrees("none"),
        "replay.without_key": agrees("without-key"),
        "replay.closed_book": agrees("closed-book"),
        "replay.random_sources": agrees("random-sources"),
        "replay.prior": labels["no"] / len(memos),
        "replay.changed": changed_without_key(report.replays),
    }


def measure_peps(data: Path) -> dict[str, float]:
    """PEPs: cited sources on the trail, leaks, younger sources; the floor by title."""
    library = data / "artifacts" / "peps.jsonl.gz"
    names = set((data / "artifacts" / "peps-artifacts.txt").read_text().split())
    with gzip.open(library, "rt") as handle:
        rows = [json.loads(line) for line in handle]
    dates = {row["id"]: row["date"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "peps.jsonl"
        chosen.write_text("".join(json.dumps(r) + "\n" for r in rows if r["id"] in names))
        result = upshot.reconstruct(chosen, sources=library)
    desk, _ = open_desk(library)
    cited = reached = younger = leaks = by_title = 0
    for trail in result.trails:
        sources = {c.source for c in trail.citations if c.status == "resolved"}
        on_trail = {step.source for step in trail.steps if step.source}
        hits = desk.index.search(trail.title, trail.as_of, 20, [trail.artifact])
        cited += len(sources)
        reached += len(sources & on_trail)
        by_title += len(sources & {hit.passage.source for hit in hits})
        younger += sum(dates[source] > trail.as_of for source in on_trail)
        leaks += sum("is of the reasoning" in p and len(p.split()) > 12
                     for p in trail.checks["leak"].problems)  # fmt: skip
    return {
        "pep.artifacts": len(result.trails),
        "pep.reachable": reached / cited,
        "pep.title": by_title / cited,
        "pep.leaks": leaks,
        "pep.younger": younger,
        "pep.per_second": len(result.trails) / result.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--memos", type=int, default=400)
    parser.add_argument("--topics", type=int, default=20)
    parser.add_argument("--styles", choices=("held-out", "development"), default="held-out")
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), arguments.topics, held_out=arguments.styles == "held-out")
        memos = world.write(arguments.memos)
        trails, seconds = world.reconstruct(memos)
        metrics = measure_citations(memos, trails, world.desk)
        metrics |= measure_questions(memos, trails)
        metrics["order"] = sum(not t.checks["order"].problems for t in trails) / len(trails)
        metrics |= measure_faults(world, trails, arguments.memos // 2)
        metrics |= measure_replay(world, memos[:100], trails[:100])
        metrics["per_second"] = len(trails) / seconds
    if arguments.data is not None:
        metrics |= measure_peps(arguments.data)
    print(
        json.dumps(
            {
                "bench": "artifacts",
                "metrics": {name: round(value, 4) for name, value in metrics.items()},
                "data": f"{arguments.styles} styles, {arguments.data or 'no PEPs'}",
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
