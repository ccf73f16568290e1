"""Sentences that fairseq leaves out of validation without a word, and that training says so once.

fairseq cuts batches of sentences in order of length to sizes that are multiples of
``--required-batch-size-multiple``, by default 8, and drops a last one that is none: the longest
sentences are neither validated nor, of the training data, ever trained on.
"""

import logging
from argparse import Namespace
from typing import Any

from fairseq import utils
from fairseq.data.data_utils import numpy_seed

logger = logging.getLogger(__name__)

FLAG = "--required-batch-size-multiple"


def warn_of_sentences_left_out(args: Namespace, task: Any, model: Any) -> None:
    """Log how many sentences validation will leave out; nothing if the flag is 1.

    The validation data are read here and forgotten again: fairseq reads them when the model is
    there, and would end with "The dataset is empty" before anything is computed if all of a small
    set were left out.

    Args:
        args: of fairseq-train.
        task: of fairseq; it is not changed.
        model: just built.
    """
    multiple = args.required_batch_size_multiple
    if multiple < 2 or args.disable_validation:
        return
    loaded = dict(task.datasets)
    try:
        if args.combine_valid_subsets:
            task.load_dataset("valid", combine=True, epoch=1)
        found = []
        for subset in args.valid_subset.split(","):
            if not args.combine_valid_subsets:
                task.load_dataset(subset, combine=False, epoch=1)
            left, whole = _left_out(args, task.dataset(subset), task, model)
            found.append(f"{left:,} of {whole:,} sentences of '{subset}'")
    except Exception as error:
        # fairseq meets it in a moment, and says what is wrong with the data
        logger.debug("%s: sentences were not counted: %s", FLAG, error)
        return
    finally:
        task.datasets.clear()
        task.datasets.update(loaded)
    logger.warning(
        "%s: got %d, by which a last batch of another size is left out, in validation %s; "
        "expected 1, which leaves out none",
        *(FLAG, multiple, ", ".join(found)),
    )


def _left_out(args: Namespace, dataset: Any, task: Any, model: Any) -> tuple[int, int]:
    """How many sentences are in none of fairseq's batches, of how many that are short enough."""
    limits = utils.resolve_max_positions(task.max_positions(), model.max_positions())
    with numpy_seed(args.seed + 1):  # fairseq's order of the first epoch, and of every validation
        order = dataset.ordered_indices()
    order, _ = dataset.filter_indices_by_size(order, limits)
    batches = dataset.batch_by_size(
        order,
        max_tokens=args.max_tokens_valid,
        max_sentences=args.batch_size_valid,
        required_batch_size_multiple=args.required_batch_size_multiple,
    )
    return len(order) - sum(map(len, batches)), len(order)
