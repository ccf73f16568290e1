"""The figures of a validation, of which ``--best-checkpoint-metric`` must be one.

fairseq looks for it when the first validation is over, and then ends with nothing saved.
"""

from argparse import Namespace

from tsa_fairseq.errors import UsageError
from tsa_fairseq.objectives import Objective

FLAG = "--best-checkpoint-metric"


def validation_figures(objective: Objective, leaves: int) -> list[str]:
    """What the criterion logs in validation, which is in one view, by name."""
    figures = ["loss", "nll_loss", "ppl"]
    if leaves > 1:
        figures += [*(f"nll_leaf{leaf}" for leaf in range(leaves)), "nll_ensemble"]
    compared = leaves > 1 or objective.needs_teacher
    distils = compared and leaves >= objective.least_members and not objective.compares_views
    if leaves > 1 or distils:
        figures += ["kd_loss", "kd_weight"]
    if leaves > 1:
        figures += ["pairwise_kl", "disagreement"]
    return [*figures, *(objective.logged if distils else ())]


def check_best_metric(args: Namespace, objective: Objective, leaves: int) -> None:
    """Refuse a figure that no validation of this training will have.

    Raises:
        UsageError: there is none of that name.
    """
    name = getattr(args, "best_checkpoint_metric", "loss")
    figures = validation_figures(objective, leaves)
    if getattr(args, "eval_bleu", False):
        figures.append("bleu")
    # another task may have figures of its own, but knows nothing of leaves
    ours = getattr(args, "task", None) == "translation" or name.startswith("nll_leaf")
    if name in figures or args.disable_validation or not ours:
        return
    hint = "; bleu takes --eval-bleu" if name == "bleu" else ""
    raise UsageError(f"{FLAG}: got '{name}'; expected one of {', '.join(figures)}{hint}")
