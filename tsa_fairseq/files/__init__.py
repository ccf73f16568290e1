"""Files: checkpoints read without running what is in them, folders that appear whole, vocabularies.

It knows fairseq's formats; it knows nothing of trees or of training.
"""
