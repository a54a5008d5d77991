"""Whether verdicts on AI-written code agree with what became of it.

The verdict is that on the response behind each commit of the coding log, by the shipped judge,
whose training never saw `outcomes.csv`; only what follows the commit in the log is read. AUC
against two outcomes: the commit is in the repository's history; at least half of its lines are
alive at the next release.

Some commits have no response behind them: before it applies a response, the tool commits what the
user had changed by hand. These get one constant, `_OWN`, since they are likely to stay; `ai_only.*`
measures the others alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parent))
import corpora
import train_judge
from upshot import threads
from upshot.api.judging import read_logs as read
from upshot.hindsight.embedded.judge import collect_events, judge
from upshot.hindsight.embedded.model import load_shipped_model
from upshot.hindsight.embedded.timeline import build_timeline
from upshot.privacy import Pseudonyms, clean
from upshot.records import RawConversation

_OWN = 0.85


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    started = time.perf_counter()
    items = list(read(folder / "coding-chats" / "aider-chat-history.md"))
    conversations = [item for item in items if isinstance(item, RawConversation)]
    batch = clean(conversations, Pseudonyms("a fixed key for benchmarks"), None, 1)
    linked = threads.link_bucket(batch.tables, {})
    line = build_timeline(batch.messages, batch.conversations, linked)
    judged = judge(line, collect_events(batch.events, line), load_shipped_model())
    row_of = train_judge.commit_rows(line, conversations)
    score = {
        commit.hash: float(judged.score[row_of[commit.hash]]) if commit.hash in row_of else _OWN
        for commit in corpora.commits(folder)
    }
    metrics: dict[str, float] = {
        "commits": len(score),
        "with_response": sum(h in row_of for h in score),
    }
    rows = corpora.commits(folder)
    metrics["in_history.auc"] = round(
        float(roc_auc_score([c.in_history for c in rows], [score[c.hash] for c in rows])), 4
    )
    half = [c for c in rows if c.half_alive is not None]
    metrics["half_alive.auc"] = round(
        float(roc_auc_score([c.half_alive for c in half], [score[c.hash] for c in half])), 4
    )
    ai = [c for c in rows if c.hash in row_of]
    ai_half = [c for c in half if c.hash in row_of]
    metrics["ai_only.in_history.auc"] = round(
        float(roc_auc_score([c.in_history for c in ai], [score[c.hash] for c in ai])), 4
    )
    metrics["ai_only.half_alive.auc"] = round(
        float(roc_auc_score([c.half_alive for c in ai_half], [score[c.hash] for c in ai_half])), 4
    )
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
