"""Which of fairseq's kinds binarised data are of, told by the data themselves.

Left to find out, fairseq may take a file that ends in ``.fasta`` for data: it hands the name of
such a file to a shell.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from fairseq.data.indexed_dataset import infer_dataset_impl

from tsa_fairseq.errors import UsageError

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


def check_no_fasta(data: str, flag: str) -> None:
    """Refuse folders of data that fairseq reads itself, and in which such a file lies.

    Args:
        data: the folders, as fairseq takes several.
        flag: what named them.

    Raises:
        UsageError: there is one.
    """
    for folder in data.split(os.pathsep):
        for path in sorted(Path(folder).glob("*.fasta")):
            raise UsageError(
                f"{flag}: '{folder}' holds '{path.name}', whose name fairseq would hand to a "
                "shell; expected what fairseq-preprocess made"
            )
