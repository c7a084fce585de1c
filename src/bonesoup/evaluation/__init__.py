"""Scoring a preference grid, comparing methods on the same prompts, and the report."""
