import math

import pytest
import torch

from tsa_fairseq.objectives.blocks import LossSums, Term


def sums(nll, kd):
    return LossSums(
        9,
        torch.tensor(nll),
        torch.zeros_like(torch.tensor(nll)),
        (Term("kd", 1.0, torch.tensor(kd)),),
    )


@pytest.mark.parametrize(
    ("nll", "kd", "found"),
    [
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], None),
        ([1.0, 2.0, math.nan], [math.inf, 0.0, 0.0], "leaf 2: cross entropy is nan"),
        ([1.0, 2.0, 3.0], [0.0, -math.inf, math.nan], "leaf 1: kd is -inf"),
        ([1.0, 2.0, 3.0], [math.inf], "all leaves: kd is inf"),
        ([math.nan], [0.0], "leaf 0: cross entropy is nan"),
        # not reduced: K x tokens
        ([[1.0] * 8, [2.0] * 8], [[0.0] * 8, [0.0] * 7 + [math.nan]], "leaf 1: kd is nan"),
    ],
)
def test_first_not_finite(nll, kd, found):
    assert sums(nll, kd).first_not_finite((0, 1, 2)) == found


def test_not_finite_in_several_views():
    """Of 2 leaves in 2 views, the third is leaf 0 again."""
    values = [1.0, 2.0, math.nan, 3.0]
    assert sums(values, [0.0] * 4).first_not_finite((0, 1, 0, 1)) == "leaf 0: cross entropy is nan"


def test_sums_add_up():
    one = LossSums(9, torch.tensor([1.0]), torch.tensor([2.0]), (), {"x": torch.tensor(3.0)})
    both = one + one
    assert (both.nll.item(), both.smooth.item(), both.compared["x"].item()) == (2.0, 4.0, 6.0)
    assert both.vocabulary == 9
