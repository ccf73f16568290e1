"""What a step asks of a GPU: operations to start and values to wait for, counted on a CPU.

A large GPU takes longer to start a small operation than to do it, so that counts are what a step
costs there; and whatever asks a tensor for a value waits for all that was started.
"""

import sys
from pathlib import Path

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from helpers import make_batch

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from bench.operations import Started

import tsa_fairseq.loss.fused

LAYERS = dict(encoder_layers=6, decoder_layers=6, dropout=0.1, share_all_embeddings=True)
# A step of 4,096 tokens and one GPU, each a 64th as long and the loss a 4,096th as large.
LENGTHS = (16, 20, 12, 16)
SMALLER = 64**2
GPU_MEMORY = 80 * 2**30
WAIT = ("_local_scalar_dense", "nonzero", "masked_select", "equal")


class Counter(Started):
    """Operations, and among them those that would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name == "index" else ()
        by_mask = any(i is not None and i.dtype == torch.bool for i in indices)
        # a Python list becomes a tensor on the CPU, which is then copied
        listed = name == "lift_fresh" and args[0].numel() > 1
        if name in WAIT or by_mask or listed:
            self.waits.append(name)
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The rules by which blocks are cut, for a GPU as much smaller as the step is."""
    fused = tsa_fairseq.loss.fused
    monkeypatch.setattr(fused, "_is_cpu", lambda device: False)
    monkeypatch.setattr(fused, "_memory", lambda device: GPU_MEMORY // SMALLER)
    monkeypatch.setitem(fused.BLOCK_LOGITS, "cuda", fused.BLOCK_LOGITS["cuda"] // SMALLER)


def count(model, criterion, batch):
    """Of the second step: the first may look at its batch more closely."""
    for _ in range(2):
        model.zero_grad()
        with Counter() as counter:
            criterion(model, batch)[0].backward()
    return counter


@pytest.fixture
def steps(task, build, criterion, as_on_a_gpu):
    """steps(words): counts for the plain model, one leaf and four."""

    def counted(words, **flags):
        task.__init__(words)
        batch = make_batch(task, LENGTHS)
        stock = LabelSmoothedCrossEntropyCriterion(task, sentence_avg=False, label_smoothing=0.1)
        return (
            count(build("transformer", **LAYERS), stock, batch),
            count(build(tree="6", **LAYERS), criterion(kd_objective="none"), batch),
            count(build(tree="4[1[1,1],1[1,1]]", **LAYERS), criterion(**flags), batch),
        )

    return counted


@pytest.mark.parametrize(("words", "four"), [(9712 // 64, 1.6), (32768 // 64, 1.8)])
def test_operations_of_a_step(steps, words, four):
    stock, leaf, tree = steps(words)
    assert stock.started > 900  # six layers on either side, forward and backward
    assert leaf.started <= 1.1 * stock.started
    assert tree.started <= four * stock.started


@pytest.mark.parametrize("flags", [{}, {"kd_views": 2}, {"kd_objective": "ensemble"}])
def test_a_step_waits_for_no_more_than_the_plain_model(steps, flags):
    stock, leaf, tree = steps(9712 // 64, **flags)
    assert stock.waits
    assert leaf.waits == stock.waits
    # whether a peer's layer is dropped is drawn on the CPU, once for each of four peers
    assert len(tree.waits) == len(stock.waits) + 4
