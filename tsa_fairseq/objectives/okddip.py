"""OKDDip: peers attend to each other, and a leader learns from all of them."""

import math
from itertools import combinations

import torch
from torch import Tensor

from tsa_fairseq.objectives.base import TargetObjective
from tsa_fairseq.objectives.blocks import TokenBlock, chosen
from tsa_fairseq.objectives.divergence import at_temperature, tempered
from tsa_fairseq.objectives.settings import Published


class OKDDip(TargetObjective):
    """L = Σ_k CE_k + w(t) T² [Σ_{peers a} KL(t_a ‖ p_a^T) + KL(t̄ ‖ p_leader^T)], divided by K.

    t_a = softmax(Σ_b α_ab z_b / T), α_a = softmax_b((W_q h_a) · (W_k h_b)) over the peers b, itself
    included, and t̄ = softmax(mean_b z_b / T). Leaf 0 is the leader, the others are peers. A tree
    that splits once, near the output, is the authors' branch-based variant; one that splits before
    the first decoder layer comes close to their network-based one.

    Source: Online Knowledge Distillation with Diverse Peers (Chen, Mei, Wang, Feng, Chen, AAAI
    2020, arXiv 1912.00350); T = 3. The authors' code mixes logits, the paper probabilities:
    ``--kd-aggregation``. Differs from their code in that the peers' logits and features are
    detached in targets, whereas α is not: it learns through t_a only. With ``--kd-detach-targets
    no`` the peers' logits get a gradient from targets, as there; features get none from α. A peer
    that attends to itself alone has nothing to learn: ``--kd-mask-self`` forbids it.
    """

    published = Published("okddip", temperature=3.0, ramp_share=80 / 300)
    least_leaves = 3
    head = "peer_attention"
    logged = ("diversity",)
    copies = 11
    shows_stop_gradient = False  # α keeps its gradient

    def distillation(self, block: TokenBlock) -> Tensor:
        """KL from each peer's own target, and for the leader from the peers' mean: K x N."""
        log_probs = tempered(block.log_probs, self.settings.temperature)
        peers = self._peers(block)
        mixed = self.as_target(chosen(block.log_probs, peers))  # P x N x V
        attention = self._attention(block, len(peers))  # N x P x P
        evenly = attention.new_full(attention.shape[:-1], -math.log(len(peers)))
        values = []
        for member, leaf in enumerate(block.leaf_of):
            log_weights = evenly if leaf == 0 else attention[:, peers.index(member)]
            values.append(self.towards(self._mixture(mixed, log_weights.t()), log_probs[member]))
        return torch.stack(values)

    @staticmethod
    def _peers(block: TokenBlock) -> list[int]:
        """The members that are no leader."""
        return [member for member, leaf in enumerate(block.leaf_of) if leaf != 0]

    def _mixture(self, peers: Tensor, log_weights: Tensor) -> Tensor:
        """A target, N x V, from peers at temperature 1, P x N x V, and log α, P x N."""
        temperature = self.settings.temperature
        if self.settings.aggregation == "probabilities":
            return (tempered(peers, temperature) + log_weights.unsqueeze(-1)).logsumexp(dim=0)
        logits = torch.einsum("pn,pnv->nv", log_weights.exp(), peers)
        return at_temperature(logits, temperature)

    def _attention(self, block: TokenBlock, peers: int) -> Tensor:
        """log α: N x P x P; where a peer may not attend to itself, the smallest number there is."""
        scores = block.heads["peer_attention"].to(block.log_probs.dtype)
        if self.settings.mask_self:
            itself = torch.eye(peers, dtype=torch.bool, device=scores.device)
            # not -inf, whose difference from itself is no number
            scores = scores.masked_fill(itself, torch.finfo(scores.dtype).min)
        return scores.log_softmax(dim=-1)

    def figures(self, block: TokenBlock) -> dict[str, Tensor]:
        """The authors' measure: mean distance ‖p_a − p_b‖₂ between two peers."""
        probs = [block.log_probs[peer].exp() for peer in self._peers(block)]
        distances = [(a - b).norm(dim=-1) for a, b in combinations(probs, 2)]
        return {"diversity": torch.stack(distances).mean(dim=0)}

    def divergence(self) -> str:
        """For the formula."""
        return self.kl_formula("t_k")

    def remark(self) -> str:
        """For the formula."""
        peer = "sg[z_b]" if self.settings.detach_targets else "z_b"
        over = "b≠k" if self.settings.mask_self else "b"
        weighted, mean = f"Σ_{{{over}}} α_kb", "mean_b"
        if self.settings.aggregation == "logits":
            target, leader = f"softmax({weighted} {peer} / T)", f"softmax({mean} {peer} / T)"
        else:
            target, leader = f"{weighted} softmax({peer} / T)", f"{mean} softmax({peer} / T)"
        return f", t_k = {target}, t_0 = {leader}, peers b ≥ 1"
