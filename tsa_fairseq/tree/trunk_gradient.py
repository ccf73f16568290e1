"""``--kd-trunk-gradient mean``: what branches share gets the mean of their gradients.

Backpropagation adds up the gradients of all leaves in the layers that they share. Collaborative
learning (CL-ILR, Song & Chai, NeurIPS 2018, section 3.2) divides the gradient by the number of
children at every split instead, and leaves the forward pass as it is. The paper's networks have
only a trunk; here every decoder layer also reads the encoder, which all leaves share. Its gradient
is divided in the same way: a leaf's share in it is that of its path. What else reads the state at a
split, the gate of ONE, is divided with the branches.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from tsa_fairseq.tree.views import ViewPlan


def scale_gradient(tensor: Tensor, factor: float | Tensor) -> Tensor:
    """The tensor itself on the way forward, its gradient times ``factor`` on the way back."""
    if not tensor.requires_grad:
        return tensor
    scaled = tensor.view_as(tensor)
    scaled.register_hook(lambda gradient: gradient * factor)
    return scaled


def average_at_splits(plan: ViewPlan, states: Mapping[tuple[int, int], Tensor]) -> None:
    """Turn the sum of the children's gradients into their mean, at the output of every node."""
    for (depth, peer), state in states.items():
        readers_of = plan.readers(depth, peer)
        if max(readers_of) > 1 and state.requires_grad:
            by_row = _by_row([1 / readers for readers in readers_of], state)
            # a tensor's hook sees the gradients of all that read it, added up
            state.register_hook(lambda gradient, by_row=by_row: gradient * by_row)


@contextmanager
def averaged_encoder_gradient(
    plan: ViewPlan, node: Callable[[int, int], nn.Module]
) -> Iterator[None]:
    """While it lasts, layers called send the encoder the share of their gradient that is due.

    Args:
        plan: the tree, and the views that its nodes compute.
        node: the decoder layer at a depth and peer; called with the encoder's output second.
    """
    with ExitStack() as hooks:
        for depth, width in enumerate(plan.topology.widths):
            for peer in range(width):
                shares = plan.shares(depth, peer)
                if min(shares) < 1:
                    hook = node(depth, peer).register_forward_pre_hook(_scale_second(shares))
                    hooks.callback(hook.remove)
        yield


def _by_row(of_views: list[float], tensor: Tensor) -> Tensor | float:
    """Factors of views to factors of rows: 1 x V · B x 1; one number, if they are equal.

    Args:
        of_views: one for each view.
        tensor: T x V · B x D.
    """
    if len(set(of_views)) == 1:
        return of_views[0]
    factors = tensor.new_tensor(of_views).repeat_interleave(tensor.size(1) // len(of_views))
    return factors.view(1, -1, 1)


def _scale_second(shares: list[float]) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        state, encoder_out, *rest = inputs
        return (state, scale_gradient(encoder_out, _by_row(shares, encoder_out)), *rest)

    return hook
