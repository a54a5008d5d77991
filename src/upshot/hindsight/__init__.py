"""Verdicts on responses from later messages: the embedded judge, the LLM judge, their cascade."""

from upshot.hindsight.embedded.judge import judge_bucket, make_judge_stage

__all__ = ["judge_bucket", "make_judge_stage"]
