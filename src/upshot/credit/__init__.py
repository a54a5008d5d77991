"""Outcomes to steps: who earned what, conserved exactly, and how to learn from it."""

from upshot.credit.conserve import Credit, project, settle
from upshot.credit.reviewers import REVIEWERS, Review, Reviewer, credit, detours, labelled, trained
from upshot.credit.trajectories import Step, Trajectory, of_record, read

__all__ = [
    "REVIEWERS",
    "Credit",
    "Review",
    "Reviewer",
    "Step",
    "Trajectory",
    "credit",
    "detours",
    "labelled",
    "of_record",
    "project",
    "read",
    "settle",
    "trained",
]
