"""`bonesoup diagnose`: from the specialists alone, whether backbones are worth training.

`lines` says where to look, `measure` trains and samples there, `findings` makes a document of it, `page` prints that.
"""
