"""What fairseq sees: the model, the criterion, their flags, and how a training starts or goes on.

Here tree, objectives, loss and files meet. Importing ``model`` and ``criterion`` registers them.
"""
