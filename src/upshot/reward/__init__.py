"""Reward models, their calibration, uncertainty and domain; raters told apart from what they rate; objectives."""

from upshot.reward.files import load, read_rows, save, score_file, training_rows
from upshot.reward.model import RewardModel, Score, prefers, score, train

__all__ = ["RewardModel", "Score", "load", "prefers", "read_rows", "save", "score", "score_file", "train", "training_rows"]
