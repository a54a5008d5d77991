"""Whether verdicts on AI-written code agree with what became of it.

The verdict is that on the response behind each commit or edit, by the shipped judge, whose training
never saw these outcomes; only what follows in the log is read.

aider's log, AUC against two outcomes of a commit: it is in the repository's history; at least half
of its lines are alive at the next release. Some commits have no response behind them: before it
applies a response, the tool commits what the user had changed by hand. These get one constant,
`_OWN`, since they are likely to stay; `ai_only.*` measures the others alone. The cheap baselines
follow `/undo` as a stack (`undo`), and also drop what the tool's "HEAD is" leaves behind
(`undo_head`).

Claude Code's logs, AUC against one outcome of an edit: at least half of its new lines are in the
main branch seven days later (.5 is chance). The cheap baselines: the share of its lines that no
later edit in the logs removes (`unremoved`), and its number of lines (`size`).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parent))
import corpora
import train_judge
from upshot.api.judging import read_logs as read
from upshot.hindsight.embedded.judge import Judged, collect_events, judge, learn_corpus
from upshot.hindsight.embedded.model import load_shipped_model
from upshot.hindsight.embedded.timeline import Timeline, build_timeline
from upshot.hindsight.pipeline import link_in_memory
from upshot.privacy import Pseudonyms, clean
from upshot.records import RawConversation

_OWN = 0.85
_ABBREVIATED = 7
"""Digits of a commit's hash in aider's log."""


class Edit(NamedTuple):
    """One edit by a coding agent's tool call."""

    time: float
    path: str
    removed: frozenset[str]
    """Lines of the old text that the new one lacks, stripped."""
    added: frozenset[str]


def judge_logs(conversations: Sequence[RawConversation]) -> tuple[Timeline, Judged]:
    """Verdicts of the shipped judge, with sessions linked."""
    batch = clean(conversations, Pseudonyms("a fixed key for benchmarks"), None, 1)
    linked, _ = link_in_memory(batch.tables)
    line = build_timeline(batch.messages, batch.conversations, linked["threads"])
    events, model = collect_events(batch.events, line), load_shipped_model()
    return line, judge(line, events, model, corpus=learn_corpus(line, events, model))


def auc(outcomes: Sequence[bool | None], scores: Sequence[float]) -> float:
    """AUC of scores where the outcome is known."""
    known = [(o, s) for o, s in zip(outcomes, scores, strict=True) if o is not None]
    return round(float(roc_auc_score([o for o, _ in known], [s for _, s in known])), 4)


def follow_undo(conversations: Sequence[RawConversation], with_head: bool) -> set[str]:
    """Commits that are gone if each `/undo` takes the last commit left.

    `with_head`: where the tool says what HEAD is then, every commit after it is gone too.
    """
    stack, gone = list[str](), set[str]()
    for conversation in sorted(conversations, key=lambda c: c.started_at or 0.0):
        for kind, commit in _undo_log(conversation):
            if kind in ("commit", "own_commit"):
                stack.append(commit)
            elif kind == "undo" and stack:
                gone.add(stack.pop())
            elif kind == "head" and with_head and commit in stack:
                place = stack.index(commit) + 1
                gone.update(stack[place:])
                del stack[place:]
    return gone


def _undo_log(conversation: RawConversation) -> list[tuple[str, str]]:
    """(commit, own_commit, undo or head; the commit) in the order of the log."""
    rows = [
        (index, "undo", "")
        for index, message in enumerate(conversation.messages)
        if message.role == "user" and message.content.strip().startswith("/undo")
    ]
    for message in conversation.messages:
        rows += [
            (signal.at, signal.kind, signal.detail)
            for signal in message.signals
            if signal.kind in ("commit", "own_commit", "head")
        ]
    return [(kind, commit) for _, kind, commit in sorted(rows, key=lambda row: row[0])]


def measure_commits(folder: Path) -> dict[str, float]:
    """aider's log: verdicts and `/undo` against what became of its commits."""
    items = read(folder / "coding-chats" / "aider-chat-history.md")
    conversations = [item for item in items if isinstance(item, RawConversation)]
    line, judged = judge_logs(conversations)
    row_of = train_judge.commit_rows(line, conversations)
    rows = corpora.commits(folder)
    score = {c.hash: float(judged.score[row_of[c.hash]]) for c in rows if c.hash in row_of}
    metrics: dict[str, float] = {"commits": len(rows), "with_response": len(score)}
    for name, part in (("", rows), ("ai_only.", [c for c in rows if c.hash in row_of])):
        scores = [score.get(c.hash, _OWN) for c in part]
        metrics[f"{name}in_history.auc"] = auc([c.in_history for c in part], scores)
        metrics[f"{name}half_alive.auc"] = auc([c.half_alive for c in part], scores)
    for name, with_head in (("undo", False), ("undo_head", True)):
        gone = {commit[:_ABBREVIATED] for commit in follow_undo(conversations, with_head)}
        scores = [float(c.hash[:_ABBREVIATED] not in gone) for c in rows]
        metrics[f"in_history.{name}"] = auc([c.in_history for c in rows], scores)
        metrics[f"half_alive.{name}"] = auc([c.half_alive for c in rows], scores)
    return metrics


def edits_of(conversations: Sequence[RawConversation]) -> Iterator[tuple[str, str, int, Edit]]:
    """(tool call, conversation, index of its message, edit) of every edit of a file."""
    for conversation in conversations:
        for index, message in enumerate(conversation.messages):
            for call in message.tool_calls or ():
                if call.name in ("Edit", "MultiEdit", "Write"):
                    changes = read_changes(json.loads(call.arguments))
                    edit = Edit(message.time or 0.0, *changes)
                    yield call.id, conversation.id, index, edit


def read_changes(call: Mapping[str, Any]) -> tuple[str, frozenset[str], frozenset[str]]:
    """Path, lines removed and lines added by one call."""
    parts: Sequence[Mapping[str, Any]] = call.get("edits") or [call]
    old = {part.strip() for e in parts for part in str(e.get("old_string", "")).split("\n")}
    new = {
        part.strip()
        for e in parts
        for part in str(e.get("new_string", e.get("content", ""))).split("\n")
    }
    return str(call.get("file_path", "")), frozenset(old - new), frozenset(new - old - {""})


def measure_edits(folder: Path) -> dict[str, float]:
    """Claude Code's logs: verdicts and later edits against the main branch a week later."""
    logs = folder / "coding-agents" / "claude-code"
    if not logs.is_dir():
        return {}
    items = read(sorted(logs.glob("*.jsonl.gz")))
    conversations = [item for item in items if isinstance(item, RawConversation)]
    line, judged = judge_logs(conversations)
    starts: dict[str, list[tuple[int, float]]] = {}
    for row, place in enumerate(line.responses):
        key = str(line.conversation[place])
        starts.setdefault(key, []).append((int(line.index[place]), float(judged.score[row])))
    with open(logs / "edits.csv", newline="") as handle:
        alive = {
            row["tool_use_id"]: float(row["share_in_main_after_7_days"]) >= 0.5
            for row in csv.DictReader(handle)
        }
    later: dict[str, list[Edit]] = {}
    found = {call: (key, at, edit) for call, key, at, edit in edits_of(conversations)}
    for _, _, edit in found.values():
        later.setdefault(edit.path, []).append(edit)
    outcomes, scores, unremoved, sizes = list[bool](), list[float](), list[float](), list[float]()
    for call, (key, at, edit) in found.items():
        before = [(index, score) for index, score in starts.get(key, ()) if index <= at]
        if call in alive and before and edit.added:
            removed = {
                text for e in later[edit.path] if e.time > edit.time for text in e.removed
            } & edit.added
            outcomes.append(alive[call])
            scores.append(max(before)[1])
            unremoved.append(1 - len(removed) / len(edit.added))
            sizes.append(float(len(edit.added)))
    return {
        "claude_code.edits": len(outcomes),
        "claude_code.alive.auc": auc(outcomes, scores),
        "claude_code.alive.unremoved": auc(outcomes, unremoved),
        "claude_code.alive.size": auc(outcomes, sizes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    started = time.perf_counter()
    metrics = measure_commits(folder) | measure_edits(folder)
    print(
        json.dumps(
            {
                "bench": "code_survival",
                "metrics": metrics,
                "data": str(folder),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
