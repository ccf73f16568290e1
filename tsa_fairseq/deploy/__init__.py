"""From a checkpoint to a product: averages, the best leaf, exports, and translating from Python.

It stands on the plugin, which builds models, and on files; nothing of a training needs it.
"""
