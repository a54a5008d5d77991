"""What the world says, so that nobody has to judge: code that survives in git, tests, proofs,
events of an application.
"""
