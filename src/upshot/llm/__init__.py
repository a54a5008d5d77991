"""Talking to language models: any OpenAI-compatible endpoint, with a budget, retries and a cache in
the lake.
"""

from upshot.llm.batch import run_batch
from upshot.llm.budget import Budget, Spent
from upshot.llm.client import Client, Reply, Request
from upshot.llm.endpoint import Endpoint
from upshot.llm.pool import Asker, ask_kept, work_through
from upshot.llm.replies import LakeReplies, Replies, key_of
from upshot.llm.structured import ask, extract, question, schema_of

__all__ = [
    "Asker",
    "Budget",
    "Client",
    "Endpoint",
    "LakeReplies",
    "Replies",
    "Reply",
    "Request",
    "Spent",
    "ask",
    "ask_kept",
    "extract",
    "key_of",
    "question",
    "run_batch",
    "schema_of",
    "work_through",
]
