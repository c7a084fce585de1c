"""The stages of dvc.yaml, one module each: settings and files under out/ in, files under out/ out."""
