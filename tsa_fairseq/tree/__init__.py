"""The tree: which layers there are, who computes what, and what a pass through them leaves behind.

It knows fairseq's decoder and torch; it knows no loss and no file.
"""
