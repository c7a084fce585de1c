"""Settings: what params.yaml and the profiles hold, checked."""
