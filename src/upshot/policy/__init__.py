"""Policies: a better assistant from what is known of the one that is there."""
