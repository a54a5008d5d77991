"""Where verdicts can be sent: one module per system."""

from collections.abc import Mapping

from upshot.serve.back import langfuse, otlp, phoenix
from upshot.serve.back.target import Answer, Target

TARGETS: Mapping[str, Target] = {
    module.TARGET.name: module.TARGET for module in (langfuse, otlp, phoenix)
}
"""By the names that `upshot push --to` takes."""

__all__ = ["TARGETS", "Answer", "Target"]
