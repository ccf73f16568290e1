"""The pieces of the closed form; their sum is tested in test_fused.py."""

import pytest
import torch

from tsa_fairseq.objectives.closed_form import argmax, softmax


@pytest.mark.parametrize("words", [1, 5, 127, 128, 129, 256, 300, 1000])
@pytest.mark.parametrize("tokens", [0, 1, 40])
def test_argmax_is_torchs(tokens, words):
    draw = torch.Generator().manual_seed(words)
    values = torch.randn(tokens, 3, words, generator=draw)
    assert torch.equal(argmax(values), values.argmax(dim=-1, keepdim=True))


def test_argmax_everywhere_and_of_equals():
    """Each place once, and the first of two equal values wherever they stand."""
    for place in range(300):
        values = torch.zeros(1, 1, 300)
        values[..., place] = 1.0
        assert argmax(values).item() == place
        values[..., 290] = 1.0
        assert argmax(values).item() == min(place, 290)


def test_softmax_far_from_zero():
    """Sure predictions and large logits: log Σ exp is exact where exp itself is not."""
    logits = torch.tensor([[[1000.0, 0.0, -1000.0], [-500.0, -501.0, -502.0]]])
    found = softmax(logits)
    torch.testing.assert_close(found.log_sum, torch.logsumexp(logits, dim=-1, keepdim=True))
    torch.testing.assert_close(found.probs, torch.softmax(logits, dim=-1))
    assert found.top.flatten().tolist() == [0, 0]
