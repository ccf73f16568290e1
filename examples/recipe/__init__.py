"""What the recipes have in common: downloads, archives, text, subwords, scores.

A recipe's own module, such as ``examples/wmt14_en_de/corpus.py``, says what is done with them. The
scripts put ``examples/`` on PYTHONPATH; nothing here imports torch or fairseq.
"""
