"""Whether verdicts on an assistant's code agree with what became of it.

Each log goes the road that users go: ingested into a lake of 16 buckets, linked, judged by the
shipped judge. Only what follows in the log is read.

- aider's log (one developer, 17 days): is a commit in the repository's history; is at least half of
  it alive at the next release. Some commits have no response behind them, since the tool commits
  what the user had changed by hand first: these get one constant, `_OWN`. Baselines: `/undo` as a
  stack (`undo`), and with what the tool's "HEAD is" leaves behind (`undo_head`).
- Claude Code's logs (one repository, three weeks): is at least half of an edit in the main branch
  seven days later. `alive.auc`: by the fact `adopted` of the step, or of the turn where it has no
  step of its own; `alive.score.auc`: by the score of the whole turn; `alive.late.*`: the later half
  by time. Baselines: the share of an edit's lines that no later edit in the logs removes
  (`removed`), which is all that the logs say of most edits, since their branches are merged
  elsewhere; its number of lines (`size`).
- Pull requests of Copilot: was it merged. Baseline: sentiment of the last comment.
- RealHumanEval: was the answer copied, by the fact `adopted` (`copied.auc`) and by the score
  (`copied.score.auc`); the copy events are not in the log. The fact's weights are trained on this
  file, so `copied.auc` is out of fold by programmer in `bench/train_adoption.py`, and in-sample
  here. Baseline: does the answer show code.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parent))
import corpora
import satisfaction
import upshot
from upshot.api.judging import read_logs
from upshot.records import RawConversation, RawMessage

_OWN = 0.85
_ABBREVIATED = 7
"""Digits of a commit's hash in aider's log."""
_NOTHING_SAID = 0.5
"""P(adopted) of an edit of which nothing says what became of it."""
_NO_CODE = 0.0
"""P(copied) of an answer of which nothing says that it may be taken over."""


class Edit(NamedTuple):
    """One edit by a coding agent's tool call."""

    time: float
    path: str
    removed: frozenset[str]
    """Lines of the old text that the new one lacks, stripped."""
    added: frozenset[str]


class Judged:
    """Verdicts of a lake, looked up by any message of a response."""

    def __init__(self, verdicts: Iterable[upshot.Verdict]) -> None:
        self.by_name: dict[str, list[upshot.Verdict]] = {}
        for verdict in verdicts:
            self.by_name.setdefault(verdict.id, []).append(verdict)
        for some in self.by_name.values():
            some.sort(key=lambda verdict: verdict.index)

    def at(self, name: str, index: int) -> upshot.Verdict | None:
        """The verdict on the response that a message is part of."""
        before = [v for v in self.by_name.get(name, ()) if v.index <= index]
        return before[-1] if before else None


def judge_logs(logs: Sequence[Path] | Sequence[RawConversation]) -> Judged:
    """Verdicts through a lake with 16 buckets."""
    with tempfile.TemporaryDirectory() as scratch:
        lake = Path(scratch) / "lake"
        upshot.ingest([str(log) if isinstance(log, Path) else log for log in logs], lake)  # type: ignore[arg-type]
        list(upshot.link(lake=lake))
        list(upshot.judge(lake=lake))
        return Judged(upshot.verdicts(lake))


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


def _read(paths: Sequence[Path]) -> list[RawConversation]:
    return [c for c in read_logs([str(p) for p in paths]) if isinstance(c, RawConversation)]


def measure_commits(folder: Path) -> dict[str, float]:
    """aider's log: verdicts and `/undo` against what became of its commits."""
    log = folder / "coding-chats" / "aider-chat-history.md"
    if not log.is_file():
        return {}
    conversations = _read([log])
    judged = judge_logs([log])
    rows = corpora.commits(folder)
    score: dict[str, float] = {}
    for conversation in conversations:
        for index, message in enumerate(conversation.messages):
            for signal in message.signals:
                if signal.kind in ("commit", "own_commit"):
                    verdict = judged.at(conversation.id, index)
                    if message.role == "assistant" and verdict is not None:
                        score[signal.detail] = verdict.score
    metrics: dict[str, float] = {"aider.commits": len(rows)}
    metrics["aider.with_response"] = sum(c.hash in score for c in rows)
    for name, part in (("", rows), ("ai_only.", [c for c in rows if c.hash in score])):
        scores = [score.get(c.hash, _OWN) for c in part]
        metrics[f"aider.{name}in_history.auc"] = auc([c.in_history for c in part], scores)
        metrics[f"aider.{name}half_alive.auc"] = auc([c.half_alive for c in part], scores)
    for name, with_head in (("undo", False), ("undo_head", True)):
        gone = {commit[:_ABBREVIATED] for commit in follow_undo(conversations, with_head)}
        scores = [float(c.hash[:_ABBREVIATED] not in gone) for c in rows]
        metrics[f"aider.in_history.{name}"] = auc([c.in_history for c in rows], scores)
        metrics[f"aider.half_alive.{name}"] = auc([c.half_alive for c in rows], scores)
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


def _step_adopted(verdict: upshot.Verdict, index: int) -> float:
    """The fact `adopted` of a step, of its turn where it has none of its own."""
    of_step = [step.adopted for step in verdict.steps if step.index == index]
    adopted = of_step[0] if of_step else verdict.adopted
    return _NOTHING_SAID if adopted is None else adopted


def measure_edits(folder: Path) -> dict[str, float]:
    """Claude Code's logs: verdicts and later edits against the main branch a week later."""
    logs = sorted((folder / "coding-agents" / "claude-code").glob("*.jsonl.gz"))
    if not logs:
        return {}
    judged = judge_logs(logs)
    with open(logs[0].parent / "edits.csv", newline="") as handle:
        alive = {
            row["tool_use_id"]: float(row["share_in_main_after_7_days"]) >= 0.5
            for row in csv.DictReader(handle)
        }
    edits = {call: (name, at, edit) for call, name, at, edit in edits_of(_read(logs))}
    later: dict[str, list[Edit]] = {}
    for _, _, edit in edits.values():
        later.setdefault(edit.path, []).append(edit)
    rows: list[tuple[float, bool, float, float, float, float]] = []
    for call, (name, at, edit) in edits.items():
        verdict = judged.at(name, at)
        if call in alive and verdict is not None and edit.added:
            removed = {
                text for e in later[edit.path] if e.time > edit.time for text in e.removed
            } & edit.added
            stays = 1 - len(removed) / len(edit.added)
            step = _step_adopted(verdict, at)
            size = float(len(edit.added))
            rows.append((edit.time, alive[call], verdict.score, step, stays, size))
    rows.sort()
    metrics: dict[str, float] = {"claude_code.edits": len(rows)}
    for name, part in (("alive", rows), ("alive.late", rows[len(rows) // 2 :])):
        outcomes = [row[1] for row in part]
        for column, suffix in ((2, "score.auc"), (3, "auc"), (4, "removed"), (5, "size")):
            metrics[f"claude_code.{name}.{suffix}"] = auc(outcomes, [row[column] for row in part])  # type: ignore[misc]
    return metrics


def measure_pull_requests(folder: Path) -> dict[str, float]:
    """Pull requests: the verdict on the request's answer against whether it was merged."""
    path = folder / "coding-agents" / "pull-requests-copilot.jsonl.gz"
    if not path.is_file():
        return {}
    with gzip.open(path, "rt") as handle:
        rows = [json.loads(line) for line in handle]
    conversations = [
        RawConversation(
            tuple(RawMessage(m["role"], m["content"]) for m in row["messages"]),
            row["id"],
            row["id"],
        )
        for row in rows
    ]
    judged = judge_logs(conversations)
    scores: list[float] = []
    for row in rows:
        verdict = judged.at(row["id"], row["judged"])
        scores.append(verdict.score if verdict is not None else math.nan)
    last = [[m["content"] for m in row["messages"] if m["role"] == "user"][-1] for row in rows]
    merged = [bool(row["merged"]) for row in rows]
    return {
        "pull_requests": len(rows),
        "pull_requests.merged.auc": auc(merged, scores),
        "pull_requests.merged.last_comment": auc(merged, satisfaction.count_words(last).tolist()),
    }


def measure_copies(folder: Path) -> dict[str, float]:
    """RealHumanEval: whether an answer was copied."""
    if not (folder / "coding-chats" / "realhumaneval-chat.csv").is_file():
        return {}
    conversations, copied = corpora.real_human_eval(folder)
    judged = judge_logs(conversations)
    texts = {
        (c.id, index): message.content
        for c in conversations
        for index, message in enumerate(c.messages)
    }
    verdicts = [judged.at(name, index) for name, index in copied]
    taken = list(copied.values())
    return {
        "copied": len(copied),
        "copied.auc": auc(
            taken, [v.adopted if v and v.adopted is not None else _NO_CODE for v in verdicts]
        ),
        "copied.score.auc": auc(taken, [v.score if v else math.nan for v in verdicts]),
        "copied.has_code": auc(taken, [float("```" in texts[key]) for key in copied]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    started = time.perf_counter()
    metrics = (
        measure_commits(folder)
        | measure_edits(folder)
        | measure_pull_requests(folder)
        | measure_copies(folder)
    )
    print(
        json.dumps(
            {
                "bench": "outcomes",
                "metrics": metrics,
                "data": str(folder),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
