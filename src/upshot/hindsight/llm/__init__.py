"""The LLM judge, the cascade of both judges, and what it teaches."""
