"""Where work runs: this process or local processes. A stage never knows which."""

from upshot.engine.stages import Stage, StageReport, run_stage

__all__ = ["Stage", "StageReport", "run_stage"]
