"""A study: many cells (setting x seed) of the pipeline on DVC's experiment queue, and their table."""
