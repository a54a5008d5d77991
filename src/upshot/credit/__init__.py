"""Outcomes to steps: which step earned what, conserved exactly, and how to learn from it."""

from upshot.credit.conserve import ConservedParts, Credit, conserve_credits, project
from upshot.credit.reviewers import (
    REVIEWERS,
    Review,
    Reviewer,
    find_detours,
    make_reviewers,
    read_labels,
    review_with_trained_models,
    split_outcomes,
)
from upshot.credit.trajectories import Step, Trajectory, parse_trajectory, read_trajectories

__all__ = [
    "REVIEWERS",
    "ConservedParts",
    "Credit",
    "Review",
    "Reviewer",
    "Step",
    "Trajectory",
    "conserve_credits",
    "find_detours",
    "make_reviewers",
    "parse_trajectory",
    "project",
    "read_labels",
    "read_trajectories",
    "review_with_trained_models",
    "split_outcomes",
]
