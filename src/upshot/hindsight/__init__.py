"""What later messages say of earlier responses: cues, events, the embedded judge, the LLM judge,
the cascade of both.
"""

from upshot.hindsight.embedded.judge import judge_bucket, make_judge_stage

__all__ = ["judge_bucket", "make_judge_stage"]
