"""Read, check and write settings: params.yaml and the profiles."""
