"""Language models behind any OpenAI-compatible endpoint: budget, retries, a cache in the lake."""

from upshot.llm.batch import run_batch
from upshot.llm.budget import Budget, Spent
from upshot.llm.client import Client, Reply, Request
from upshot.llm.endpoint import Endpoint
from upshot.llm.pool import Asker, ask_cached, work_through
from upshot.llm.replies import LakeReplies, Replies, request_key
from upshot.llm.structured import ask, extract_json, make_question, make_response_format

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
    "ask_cached",
    "extract_json",
    "make_question",
    "make_response_format",
    "request_key",
    "run_batch",
    "work_through",
]
