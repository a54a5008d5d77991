"""Language models behind any OpenAI-compatible endpoint: budget, retries, a cache in the lake."""

from upshot.llm.batch import run_batch
from upshot.llm.budget import Budget, Spent
from upshot.llm.client import SUBJECT, Client, Reply, Request
from upshot.llm.endpoint import Endpoint
from upshot.llm.interrupts import run_interruptible
from upshot.llm.model_json import extract_json
from upshot.llm.pool import Asker, ask_cached, work_through
from upshot.llm.replies import (
    FileReplies,
    LakeReplies,
    Replies,
    keep_replies,
    request_key,
    settle_journals,
)
from upshot.llm.structured import ask, load_prompt, make_question, make_response_format

__all__ = [
    "SUBJECT",
    "Asker",
    "Budget",
    "Client",
    "Endpoint",
    "FileReplies",
    "LakeReplies",
    "Replies",
    "Reply",
    "Request",
    "Spent",
    "ask",
    "ask_cached",
    "extract_json",
    "keep_replies",
    "load_prompt",
    "make_question",
    "make_response_format",
    "request_key",
    "run_batch",
    "run_interruptible",
    "settle_journals",
    "work_through",
]
