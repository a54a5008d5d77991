"""Reward models, their calibration, uncertainty and domain; raters told apart from what they rate;
objectives.
"""

from upshot.reward.files import load, save
from upshot.reward.model import RewardModel, Score, prefers, score, train
from upshot.reward.rows import read_rows, score_file, training_rows

__all__ = [
    "RewardModel",
    "Score",
    "load",
    "prefers",
    "read_rows",
    "save",
    "score",
    "score_file",
    "train",
    "training_rows",
]
