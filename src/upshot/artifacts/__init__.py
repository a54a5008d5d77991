"""Finished expert work back to the questions and the research that led there, and replay."""
