"""Upshot learns from what happened next."""
