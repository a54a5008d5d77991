"""Make `threads/background.json`: how common words are among the sessions of several corpora.

Each corpus counts alike, whatever its size. What is stored are hashes of words and the share of
sessions that use them; the corpora of `threads/`, on which linking is measured, are not among them.
The baseline is the number of words of the largest corpus alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

import corpora
import upshot
from upshot.records import RawConversation
from upshot.threads.background import StoredBackground
from upshot.threads.sessions import extract_terms

MIN_SHARE = 1 / 50
"""Of sessions, up to which a word counts as rare (`threads.background`)."""


def count_words(conversations: Iterable[RawConversation]) -> tuple[Counter[int], int]:
    """In how many sessions each word of the user's occurs, and how many there are."""
    texts = [
        "\n".join(message.content for message in c.messages if message.role == "user")
        for c in conversations
    ]
    counts = Counter(word for terms in extract_terms(texts) for word in terms.words)
    return counts, len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="the file to make")
    arguments = parser.parse_args()
    started = time.perf_counter()
    data: Path = arguments.data
    parts = [count_words(corpus.conversations) for corpus in corpora.satisfaction(data)]
    logs = [data / "coding-agents" / "claude-code", data / "coding-chats" / "aider-chat-history.md"]
    parts += [
        count_words(c for c in upshot.read([path]) if isinstance(c, RawConversation))
        for path in logs
    ]
    parts.append(count_words(corpora.real_human_eval(data)[0]))
    shares: defaultdict[int, float] = defaultdict(float)
    for counts, sessions in parts:
        for word, count in counts.items():
            shares[word] += count / sessions / len(parts)
    words = {f"{w:x}": round(share, 4) for w, share in sorted(shares.items()) if share > MIN_SHARE}
    total = sum(sessions for _, sessions in parts)
    if arguments.write:
        stored = StoredBackground(total, words)
        arguments.write.write_bytes(msgspec.json.encode(stored) + b"\n")
    largest, sessions = max(parts, key=lambda part: part[1])
    metrics = {
        "sessions": total,
        "words": len(words),
        "words.largest": sum(count > MIN_SHARE * sessions for count in largest.values()),
    }
    print(
        json.dumps(
            {
                "bench": "train_background",
                "metrics": metrics,
                "data": str(data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
