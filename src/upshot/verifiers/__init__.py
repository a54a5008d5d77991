"""Outcomes without a judge: tests, code quality, speed and proofs, in a sandbox."""
