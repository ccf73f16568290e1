"""Half precision, as fairseq-train's flags ask for it."""

from argparse import Namespace

import fairseq.utils
import torch

from tsa_fairseq.errors import UsageError


def settle_precision(args: Namespace) -> None:
    """Train in bfloat16 on a GPU, and refuse what takes a GPU where there is none.

    fairseq's command line takes ``--bf16`` to mean a TPU, and fails where there is none.

    Args:
        args: parsed by fairseq-train; ``tpu`` becomes False where torch has no TPUs.

    Raises:
        UsageError: half precision with parameters in float32, which fairseq keeps on GPUs alone.
    """
    if fairseq.utils.xm is None:
        args.tpu = False
    if args.tpu or (torch.cuda.is_available() and not args.cpu):
        return
    for name in ("fp16", "bf16"):
        if getattr(args, name, False) and not getattr(args, f"memory_efficient_{name}", False):
            raise UsageError(
                f"--{name}: takes a GPU, and this training is on a CPU; expected "
                f"--memory-efficient-{name}, or no --{name}"
            )
