"""Verdicts on responses from later messages: the embedded judge, the LLM judge, their cascade."""

from upshot.hindsight.embedded.judge import (
    judge_tables,
    make_corpus_fit,
    make_judge_step,
    make_suspects_fit,
)

__all__ = ["judge_tables", "make_corpus_fit", "make_judge_step", "make_suspects_fit"]
