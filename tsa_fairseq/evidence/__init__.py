"""Numbers about finished runs: what was translated, how good it is, whether a difference is real.

Knows the files of fairseq and of an export, and the tree; nothing of a page. torch and fairseq are
imported where a checkpoint or binarised data have to be read, and nowhere else.
"""
