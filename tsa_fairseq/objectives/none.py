"""No distillation: the control, which tells what the tree does by itself."""

from tsa_fairseq.errors import UsageError
from tsa_fairseq.objectives.blocks import Term, TokenBlock
from tsa_fairseq.objectives.pairwise import PairwiseObjective
from tsa_fairseq.objectives.settings import KDSettings, Published


class Independent(PairwiseObjective):
    """L = Σ_k CE_k, here divided by K. The log shows how far apart leaves stay by themselves."""

    published = Published("none", alpha=0.0)
    least_members = 1

    def __init__(self, settings: KDSettings) -> None:
        super().__init__(settings)
        if self.settings.alpha > 0:
            raise UsageError(
                f"--kd-alpha: got {self.settings.alpha:g} with --kd-objective none, which distils "
                "nothing and is the default for a tree of one leaf; expected another objective, or "
                "no --kd-alpha"
            )

    def kd_weight(self, members: int, ramp: float) -> float:
        """0."""
        return 0.0

    def terms(self, block: TokenBlock, ramp: float) -> list[Term]:
        """How far apart the members are, with weight 0; nothing for a single one."""
        return super().terms(block, ramp) if block.log_probs.size(0) > 1 else []

    def formula(self) -> str:
        """The loss as a formula with this run's numbers."""
        return f"(1/K) Σ_k {self.weight_of_ce()}CE_k"
