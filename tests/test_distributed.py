"""Two processes on the CPU must compute the gradients of one."""

import argparse
import socket
import sys

import pytest
import torch
import torch.distributed as dist
from fairseq.distributed import LegacyDistributedDataParallel, ModuleProxyWrapper
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from helpers import TINY, TinyTask, make_batch
from torch.nn.parallel import DistributedDataParallel

from tsa_fairseq.criterion import TSAOnlineKDConfig, TSAOnlineKDCriterion

# an output projection of its own, used outside of the model's forward: what DDP might miss
WRAPPERS = {
    "pytorch_ddp": DistributedDataParallel,
    "pytorch_ddp, unused parameters": lambda model: DistributedDataParallel(
        model, find_unused_parameters=True
    ),
    "legacy_ddp": lambda model: LegacyDistributedDataParallel(
        model, process_group=dist.group.WORLD
    ),
}


def build():
    args = argparse.Namespace(**TINY, tree="1,2,4")
    ARCH_CONFIG_REGISTRY["tsa_transformer"](args)
    torch.manual_seed(0)
    return ARCH_MODEL_REGISTRY["tsa_transformer"].build_model(args, TinyTask())


def worker(rank, port, wrapper, trunk_gradient):
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115 - warnings of both processes
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    config = TSAOnlineKDConfig(sentence_avg=False, kd_trunk_gradient=trunk_gradient)
    criterion = TSAOnlineKDCriterion(config, TinyTask())
    batches = [make_batch(TinyTask(), seed=seed) for seed in range(2)]

    model = build()
    wrapped = ModuleProxyWrapper(WRAPPERS[wrapper](model))
    for _ in range(2):  # a reducer left in a bad state shows in the next step
        wrapped.zero_grad()
        criterion(wrapped, batches[rank])[0].backward()
        if wrapper == "legacy_ddp":
            wrapped.all_reduce_grads()
    alone = build()
    for batch in batches:
        (criterion(alone, batch)[0] / 2).backward()
    for (name, actual), expected in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert torch.allclose(actual.grad, expected.grad, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("trunk_gradient", ["sum", "mean"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_gradients(wrapper, trunk_gradient):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (port, wrapper, trunk_gradient), nprocs=2)
