"""`bonesoup diagnose`: from the specialists alone, whether backbones are worth training.

`lines` says where to look, `measure` trains and samples there, `forecast` predicts, `findings` makes a document of it,
and `words` says it in sentences.
"""
