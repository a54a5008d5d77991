"""What several folders compute: intervals, cross-fitting, calibration, agreement, hash-based sampling."""
