"""Kinds of pairs."""

KINDS = ("sibling", "thread", "edit", "across")
"""Made from the lake alone: of regenerated answers, of a failed answer and a later one that worked,
of an answer and its edit by a person, across users who made the same request.
"""
REWRITE = "rewrite"
"""Written by a language model from a user's correction."""
