"""A study: many cells (setting x seed) of the pipeline, each in a clone, and their table."""
