"""Intervals, cross-fitting, calibration, agreement, hash-based sampling: shared by many folders."""
