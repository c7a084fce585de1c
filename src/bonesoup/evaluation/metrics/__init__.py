"""Metrics of what a preference gets, one idea in each module; points are the means of resamples."""
