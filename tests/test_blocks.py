import copy
import math

import pytest
import torch

from tsa_fairseq.objectives.blocks import LossSums, Term, first_members


def sums(nll, kd, leaf_of=None):
    return LossSums(
        9,
        leaf_of or tuple(range(len(nll))),
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
    assert sums(nll, kd).first_not_finite() == found


def test_not_finite_in_several_views():
    """Of 2 leaves in 2 views, the third is leaf 0 again."""
    values = [1.0, 2.0, math.nan, 3.0]
    found = sums(values, [0.0] * 4, (0, 1, 0, 1)).first_not_finite()
    assert found == "leaf 0: cross entropy is nan"


def test_not_finite_of_a_leaf_in_several_views():
    """A term that has one value for each of 2 leaves, which are 4 members."""
    found = sums([1.0] * 4, [0.0, math.inf], (0, 3, 0, 3)).first_not_finite()
    assert found == "leaf 3: kd is inf"
    assert sums([1.0] * 4, [math.inf], (0, 3, 0, 3)).first_not_finite() == "all leaves: kd is inf"


def test_some_members():
    nll, smooth = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([5.0, 6.0, 7.0, 8.0])
    whole = LossSums(9, (0, 2, 0, 2), nll, smooth, (Term("kd", 1.0, nll),), {"x": nll})
    assert first_members(whole.leaf_of) == [0, 1] and first_members((1, 1, 0)) == [0, 2]
    some = whole.of_members([1, 2])
    assert (some.leaf_of, some.nll.tolist(), some.smooth.tolist()) == ((2, 0), [2, 3], [6, 7])
    assert (some.vocabulary, some.terms, some.compared) == (9, whole.terms, whole.compared)


def test_sums_add_up():
    one = LossSums(
        9,
        (0,),
        torch.tensor([1.0]),
        torch.tensor([2.0]),
        (Term("kd", 0.5, torch.tensor([4.0])),),
        {"x": torch.tensor(3.0)},
    )
    both = copy.deepcopy(one)
    both.add_(one)
    assert (one.nll.item(), one.compared["x"].item()) == (1.0, 3.0)
    assert (both.nll.item(), both.smooth.item(), both.compared["x"].item()) == (2.0, 4.0, 6.0)
    assert (both.vocabulary, both.leaf_of) == (9, (0,))
    assert [(term.name, term.weight, term.values.item()) for term in both.terms] == [("kd", 0.5, 8)]
