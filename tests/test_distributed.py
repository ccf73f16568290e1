"""Two processes on the CPU must compute the gradients of one."""

import argparse
import socket
import sys

import pytest
import torch
import torch.distributed as dist
from fairseq.distributed import LegacyDistributedDataParallel, ModuleProxyWrapper
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from helpers import TINY, TinyTask, make_batch, save_stock
from torch.nn.parallel import DistributedDataParallel

from tsa_fairseq.plugin.criterion import TSAOnlineKDConfig, TSAOnlineKDCriterion

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


def build(flags):
    heads = {n: flags.get(n) for n in ("kd_objective", "kd_teacher")}
    args = argparse.Namespace(
        **TINY, tree="1,2,4", **heads, kd_bridge_layers=1, kd_bridge_init=None
    )
    ARCH_CONFIG_REGISTRY["tsa_transformer"](args)
    torch.manual_seed(0)
    return ARCH_MODEL_REGISTRY["tsa_transformer"].build_model(args, TinyTask())


def worker(rank, port, wrapper, flags):
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115 - warnings of both processes
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    config = TSAOnlineKDConfig(sentence_avg=False, max_update=0, kd_rampup_updates=0, **flags)
    criterion = TSAOnlineKDCriterion(config, TinyTask())
    batches = [make_batch(TinyTask(), seed=seed) for seed in range(2)]

    model = build(flags)
    wrapped = ModuleProxyWrapper(WRAPPERS[wrapper](model))
    for _ in range(2):  # a reducer left in a bad state shows in the next step
        wrapped.zero_grad()
        criterion(wrapped, batches[rank])[0].backward()
        if wrapper == "legacy_ddp":
            wrapped.all_reduce_grads()
    alone = build(flags)
    for batch in batches:
        (criterion(alone, batch)[0] / 2).backward()
    for (name, actual), expected in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert torch.allclose(actual.grad, expected.grad, rtol=1e-3, atol=1e-5), name


SUM, MEAN = {"kd_trunk_gradient": "sum"}, {"kd_trunk_gradient": "mean"}
DEAL = {"kd_views": 2, "kd_views_leaves": "deal"}
PLAIN_DDP = "pytorch_ddp"


@pytest.mark.parametrize(
    ("wrapper", "flags"),
    [
        *((wrapper, flags) for wrapper in WRAPPERS for flags in (SUM, MEAN)),
        # without looking for unused parameters: every head takes part in every step
        *((PLAIN_DDP, {"kd_objective": name, **DEAL}) for name in ("okddip", "one")),
        (PLAIN_DDP, {"kd_objective": "sokd", "kd_teacher": "teacher.pt", "kd_views": 2}),
    ],
)
def test_gradients(wrapper, flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_stock("teacher.pt", TinyTask())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (port, wrapper, flags), nprocs=2)
