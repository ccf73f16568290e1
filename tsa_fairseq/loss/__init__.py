"""How the loss of a batch is computed from what the tree hands over: in blocks, or all at once.

It knows objectives, which say what the loss is, and the tree's outputs; no model and no file.
"""
