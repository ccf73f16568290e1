"""Files: checkpoints read without running what is in them, folders that appear whole, vocabularies.

It knows fairseq's formats and the names of an export's files; nothing of how a tree computes.
"""
