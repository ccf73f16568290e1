"""Several processes on a CPU, as ``torchrun --nproc-per-node N`` starts them with ``--cpu``.

fairseq would count GPUs: it takes processes that torchrun starts for that many trainings of one
process each, and a model on a CPU for one on GPU 0.
"""

import logging
import os
from argparse import Namespace

import torch

from tsa_fairseq.errors import UsageError

logger = logging.getLogger(__name__)

WORLD = "--distributed-world-size"
# what torchrun tells the processes that it starts
LAUNCHED = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
# torch's own, which fairseq hands the number of a GPU
NEEDS_GPU = ("c10d", "pytorch_ddp")


def follow_processes(args: Namespace) -> None:
    """Make one training of processes on a CPU; with GPUs, fairseq's own way is left alone.

    Args:
        args: parsed by fairseq-train. Where torchrun started this process, its number and that of
            all are taken from there; gloo is the backend and ``legacy_ddp`` adds gradients up.

    Raises:
        UsageError: several processes are wanted and nobody has started them, or another number of
            them than were started.
    """
    if not (args.cpu or not torch.cuda.is_available()) or getattr(args, "tpu", False):
        return
    if args.distributed_init_method is None:
        _follow_launcher(args)
    if args.distributed_world_size < 2:
        return
    if args.distributed_backend == "nccl":
        args.distributed_backend = "gloo"
    if args.ddp_backend in NEEDS_GPU:
        logger.info("--ddp-backend: legacy_ddp on a CPU, where %s fails", args.ddp_backend)
        args.ddp_backend = "legacy_ddp"


def is_first_process() -> bool:
    """Whether this is the one of a training's processes that writes and speaks."""
    running = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not running or torch.distributed.get_rank() == 0


def world_size() -> int:
    """How many processes this training has."""
    running = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if running else 1


def _follow_launcher(args: Namespace) -> None:
    launched = all(name in os.environ for name in LAUNCHED)
    number = int(os.environ["WORLD_SIZE"]) if launched else 1
    wanted = args.distributed_world_size
    if wanted > 1 and wanted != number:
        raise UsageError(
            f"{WORLD}: got {wanted} on a CPU, where {_processes(number)} started; expected "
            f"torchrun --nproc-per-node {wanted}, or --distributed-init-method and "
            "--distributed-rank in every process"
        )
    if number > 1:
        args.distributed_world_size, args.distributed_rank = number, int(os.environ["RANK"])
        args.distributed_init_method, args.distributed_no_spawn = "env://", True


def _processes(number: int) -> str:
    return "1 process was" if number == 1 else f"{number} processes were"
