"""What later messages say of earlier responses: cues, events, the embedded judge, the LLM judge,
the cascade of both.
"""

from upshot.hindsight.embedded.judge import judge_bucket, stage

__all__ = ["judge_bucket", "stage"]
