"""The embedded judge: rules and a small model, no network."""
