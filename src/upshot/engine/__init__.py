"""Steps over the buckets of a lake, and where their tasks run."""

from upshot.engine.executor import Executor
from upshot.engine.here import Here
from upshot.engine.processes import Processes
from upshot.engine.steps import (
    Fit,
    Learned,
    Models,
    Options,
    Step,
    StepReport,
    Tables,
    learn,
    learn_from_tables,
    read_tables,
    run_step,
)

__all__ = [
    "Executor",
    "Fit",
    "Here",
    "Learned",
    "Models",
    "Options",
    "Processes",
    "Step",
    "StepReport",
    "Tables",
    "learn",
    "learn_from_tables",
    "read_tables",
    "run_step",
]
