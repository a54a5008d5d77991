"""Verdicts to pairs, scored examples and masked conversations; exports to trainers' formats."""
