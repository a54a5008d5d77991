"""Finished expert work back to the questions and the research that led there, and replay."""

from upshot.artifacts.desk import Desk
from upshot.artifacts.environment import Action, Environment, Task, Turn, make_task

__all__ = ["Action", "Desk", "Environment", "Task", "Turn", "make_task"]
