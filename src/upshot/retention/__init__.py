"""Which AI-written lines survive in git."""
