"""What meets other systems: verdicts back to where traces live."""
