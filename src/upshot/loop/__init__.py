"""Rounds: from logs to a better policy to its logs; gates, releases, hotfixes, and recipes that are
kept and run again.
"""
