"""Which of fairseq's kinds binarised data are of, told by the data themselves.

Left to find out, fairseq may take a file that ends in ``.fasta`` for data: it hands the name of
such a file to a shell.
"""

from collections.abc import Iterable
from pathlib import Path

from fairseq.data.indexed_dataset import infer_dataset_impl

# By fairseq's names for --dataset-impl.
_RAW, _INDEXED = "raw", ("cached", "huffman", "mmap")


def kind_of_data(prefixes: Iterable[Path | str]) -> str:
    """What ``--dataset-impl`` is for such data.

    Args:
        prefixes: paths of data without ``.idx`` and ``.bin``; only headers are read.

    Returns:
        The kind of what is there; of nothing at all, or of plain text, ``raw``.
    """
    found = {infer_dataset_impl(str(prefix)) for prefix in prefixes}
    return next((kind for kind in _INDEXED if kind in found), _RAW)
