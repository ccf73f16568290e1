"""How well every leaf of a checkpoint does on validation data."""

import logging
import math
from typing import Any

import torch

from tsa_fairseq.errors import UsageError

SUBSET = "valid"
# Of a batch: enough for speed, little enough for any machine.
MAX_TOKENS = 4000


@torch.no_grad()
def leaf_nll(path: str, data: str) -> list[float]:
    """−log2 p of the reference, bits a token, of every leaf.

    Args:
        path: a tree's checkpoint, which was found safe to read.
        data: what fairseq-preprocess made.

    Raises:
        UsageError: there is no validation data.
    """
    from fairseq import checkpoint_utils
    from fairseq.utils import resolve_max_positions

    from tsa_fairseq.criterion import TSAOnlineKDCriterion
    from tsa_fairseq.kd_flags import TSAOnlineKDConfig

    logging.getLogger("fairseq").setLevel(logging.WARNING)
    models, _, task = checkpoint_utils.load_model_ensemble_and_task(
        [path], arg_overrides={"data": data}
    )
    try:
        task.load_dataset(SUBSET)
    except FileNotFoundError:
        raise UsageError(
            f"--data: '{data}' has no {SUBSET} data; expected what fairseq-preprocess made"
        ) from None
    model: Any = models[0].eval()
    # cross entropy alone, whatever the tree was trained with
    criterion = TSAOnlineKDCriterion(
        TSAOnlineKDConfig(kd_objective="none", sentence_avg=False, max_update=0), task
    )
    batches = task.get_batch_iterator(
        dataset=task.dataset(SUBSET),
        max_tokens=MAX_TOKENS,
        max_positions=resolve_max_positions(
            task.max_positions(), model.max_positions(), MAX_TOKENS
        ),
        ignore_invalid_inputs=True,
    ).next_epoch_itr(shuffle=False)
    leaves = model.decoder.topology.num_leaves
    names = [f"nll_leaf{leaf}" for leaf in range(leaves)] if leaves > 1 else ["nll_loss"]
    sums, tokens = torch.zeros(leaves, dtype=torch.float64), 0
    for sample in batches:
        _, _, logs = criterion(model, sample)
        sums += torch.stack([logs[name].double() for name in names])
        tokens += sample["ntokens"]
    if tokens == 0:
        raise UsageError(f"--data: '{data}' has no {SUBSET} sentence that the model can read")
    return (sums / tokens / math.log(2)).tolist()
