"""`bonesoup diagnose`: from the specialists alone, whether backbones are worth training.

`measure` samples and trains what it needs, `findings` turns scores into a document, `page` prints it.
"""
