"""Execution of stages, in this process or in local ones. A stage never knows which."""

from upshot.engine.stages import Stage, StageReport, run_stage

__all__ = ["Stage", "StageReport", "run_stage"]
