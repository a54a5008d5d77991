"""How far verdicts can be trusted: audit, labels, calibration, comparison, hostile text, crowds."""
