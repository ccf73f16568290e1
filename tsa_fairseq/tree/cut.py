"""``--kd-view-cut``: in every view of a batch but the first, some tokens are not seen.

The embedding of a token is zero with probability P, before it is scaled and positions are added;
the others are not scaled up to make up for it. Every token of source and shifted target is drawn by
itself, and keeps its position. This is token cutoff (Shen et al., arXiv 2009.13818) as SimCut (Gao,
He, Wu, Wang, NAACL 2022) has it. The last and the first position are cut like any other: the first
author's port to fairseq spares the last of the source and the first of the shifted target, where
the end of the sentence stands.

What is drawn comes from torch's generator, which fairseq seeds at every update.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from tsa_fairseq.tree.views import Views


@contextmanager
def cut_embeddings(views: Views, *embeddings: nn.Embedding) -> Iterator[None]:
    """While it lasts, modules in training embed some tokens as zeros in all views but the first.

    Every call draws anew, also of a module that encoder and decoder share.

    Args:
        views: of a batch, and with which probability tokens are cut.
        embeddings: called with tokens, V · B x T, they return V · B x T x D.
    """
    with ExitStack() as hooks:
        if views.cut > 0:
            for embedding in set(embeddings):  # one hook, if it is one module twice
                hooks.callback(embedding.register_forward_hook(_cut(views)).remove)
        yield


def _cut(views: Views) -> Callable[[nn.Embedding, tuple[Any, ...], Tensor], Tensor]:
    def hook(embedding: nn.Embedding, inputs: tuple[Any, ...], embedded: Tensor) -> Tensor:
        if not embedding.training:
            return embedded
        tokens: Tensor = inputs[0]
        cut = torch.rand(tokens.shape, device=tokens.device) < views.cut
        cut &= tokens.ne(cast(int, embedding.padding_idx))
        cut[: tokens.size(0) // views.count] = False  # the first view
        return embedded.masked_fill(cut.unsqueeze(-1), 0.0)

    return hook
