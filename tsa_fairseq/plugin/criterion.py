"""``--criterion tsa_online_kd``: cross entropy of every leaf, and what leaves teach each other."""

import logging
import math
from typing import Any, NamedTuple

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from torch import Tensor

from tsa_fairseq.errors import UsageError
from tsa_fairseq.loss.dense import dense_loss
from tsa_fairseq.loss.fused import FusedLoss
from tsa_fairseq.objectives.blocks import LossSums, chosen, first_members
from tsa_fairseq.plugin.finite import is_retried
from tsa_fairseq.plugin.kd_flags import (
    CRITERION,
    TSAOnlineKDConfig,
    objective_from_flags,
    views_from_flags,
)
from tsa_fairseq.plugin.teacher import Teacher
from tsa_fairseq.plugin.watch import Watch, stop_if_met
from tsa_fairseq.tree.outputs import TreeOutput
from tsa_fairseq.tree.views import Views

logger = logging.getLogger(__name__)

# Of the figures that are means over tokens, beside those called nll_: bits, or shares and the like.
UNITS = {
    **dict.fromkeys(("kd_loss", "pairwise_kl"), math.log(2)),
    **dict.fromkeys(("kd_weight", "disagreement", "diversity"), 1.0),
}


class _Computed(NamedTuple):
    """Of one batch."""

    loss: Tensor
    sums: LossSums
    output: TreeOutput
    real: Tensor  # where it is no pad, B x T
    number: int  # of tokens that are none


@register_criterion(CRITERION, dataclass=TSAOnlineKDConfig)
class TSAOnlineKDCriterion(FairseqCriterion):
    """An objective's loss, averaged over the leaves: settings of the plain model carry over.

    Raises:
        UsageError: a flag out of range.
    """

    def __init__(self, cfg: TSAOnlineKDConfig, task: Any) -> None:
        super().__init__(task)
        self.objective = objective_from_flags(cfg)
        self.views = views_from_flags(cfg, self.objective)
        self.sentence_avg = cfg.sentence_avg
        self.label_smoothing = cfg.label_smoothing
        self.ignore_prefix_size = cfg.ignore_prefix_size
        self._prefix_checked = cfg.ignore_prefix_size == 0
        self._number_is_known: bool | None = None
        self.trunk_gradient = cfg.kd_trunk_gradient or self.objective.trunk_gradient
        # no module, and so in no state dict
        self.teacher = Teacher(cfg.kd_teacher, task) if cfg.kd_teacher else None
        self.fused = cfg.kd_loss == "fused"
        self.block_tokens = cfg.kd_block_tokens
        # nobody trains where nothing is saved: a leaf may be NaN among others then
        self.watch = Watch(cfg.save_dir) if cfg.save_dir else None
        name, views = self.objective.published.objective, ""
        if self.views.count > 1:
            views = f"; {self.views}"
        logger.info("objective %s: %s%s", name, self.objective.formula(), views)

    def forward(
        self, model: Any, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """The loss of one batch, its sample size, and sums for the log.

        Args:
            model: a ``tsa_transformer``, or fairseq's wrapper around one.
            sample: a batch of fairseq's translation task; it is not changed.
            reduce: sum the loss over tokens; otherwise it is B * T values, 0 at pads, and computed
                densely: each of them may have a gradient of its own.

        Raises:
            SystemExit: the model has no tree, or the loss is not finite. Not a UsageError: fairseq
                answers an exception during a step by writing a checkpoint.
        """
        if not hasattr(model.decoder, "leaf_features"):
            raise SystemExit(
                f"error: --criterion: got '{CRITERION}', which needs a tree: expected "
                f"--arch tsa_transformer or a named one, not {type(model).__name__}"
            )
        if self.watch is not None and is_retried(model):
            self.watch.explain(model, lambda inner: self._loss(inner, sample, reduce).loss)
        loss, sums, output, real, number = self._loss(model, sample, reduce)
        found = None if self.watch is None else sums.first_not_finite()
        if self.watch is not None and found is not None:
            loss = self.watch.meet(
                *(found, loss, output, real, model),
                compute=lambda inner: self._loss(inner, sample, reduce).loss,
            )
        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        logs = {
            **self._logs(loss, sums, number),
            "real_tokens": number,
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
            **({} if self.watch is None else self.watch.log()),
        }
        return loss, sample_size, logs

    def _loss(self, model: Any, sample: dict[str, Any], reduce: bool) -> "_Computed":
        output = self._output(model, sample["net_input"])
        target = model.get_targets(sample, None)
        if self.ignore_prefix_size:
            target = target[:, self.ignore_prefix_size :]
            output = output.at_tokens(lambda tensor: tensor[:, self.ignore_prefix_size :])
        real = target.ne(self.padding_idx)  # B x T
        self._check_prefix(sample, real, model.training)
        number = self._number(sample, real)
        ramp = self.objective.settings.ramp(output.num_updates)
        if self.fused and reduce:
            loss, sums = self._fused_loss(output, target, real, number, ramp)
        else:
            loss, sums = dense_loss(
                output, target, real, self.objective, ramp, self.label_smoothing, reduce
            )
        return _Computed(loss, sums, output, real, number)

    def _check_prefix(self, sample: dict[str, Any], real: Tensor, training: bool) -> None:
        """Refuse a prefix that leaves nothing of any sentence, at the first batch trained on.

        Nothing may be left of a batch: fairseq puts short sentences together. It adds nothing to
        gradients and figures then.
        """
        if self._prefix_checked or not training:
            return
        if not real.any():
            sizes = getattr(getattr(self.task, "datasets", {}).get("train"), "tgt_sizes", None)
            # of other data than pairs only this batch is known, which may be one of short sentences
            longest = None if sizes is None else int(sizes.max())
            if longest is not None and longest <= self.ignore_prefix_size:
                raise SystemExit(
                    f"error: --ignore-prefix-size: got {self.ignore_prefix_size}, which leaves "
                    f"nothing of any sentence; expected less than {longest}, "
                    "the tokens of the longest target with its end"
                )
        self._prefix_checked = True

    def _number(self, sample: dict[str, Any], real: Tensor) -> int:
        """How many real tokens there are: N.

        fairseq's data sets count them as they make a batch; asking the tensor means waiting for a
        GPU. Whether they count what is counted here, the first batch tells.
        """
        known = sample["ntokens"]
        if self._number_is_known is None:
            whole = isinstance(known, int) and not self.ignore_prefix_size
            self._number_is_known = whole and int(real.sum()) == known
        return known if self._number_is_known else int(real.sum())

    def _output(self, model: Any, net_input: dict[str, Any]) -> TreeOutput:
        """Of the tree, its heads and the teacher; in several views while training only."""
        teacher = None
        if self.teacher is not None:
            bridge = model.heads["bridge"].below if "bridge" in model.heads else 0
            teacher = self.teacher(net_input, next(model.parameters()), bridge)
        output = model(
            **net_input,
            leaves="all",
            trunk_gradient=self.trunk_gradient,
            views=self.views if model.training else Views(),
            teacher=teacher,
        )
        head = self.objective.head
        if head is not None and head not in {**output.heads, **output.others}:
            raise SystemExit(
                f"error: --kd-objective: got '{self.objective.published.objective}', but the model "
                f"was built without its {head}; expected the objective that it was trained with"
            )
        return output

    def _fused_loss(
        self, output: TreeOutput, target: Tensor, real: Tensor, number: int, ramp: float
    ) -> tuple[Tensor, LossSums]:
        # N, of B * T; sorting by a known number of them, unlike nonzero, does not wait for a GPU
        tokens = real.flatten().sort(descending=True, stable=True).indices[:number]

        def without_pads(tensor: Tensor) -> Tensor:
            return tensor.flatten(0, 1).index_select(0, tokens)

        output = output.at_tokens(without_pads)
        fused = FusedLoss(self.objective, ramp, self.label_smoothing, self.block_tokens)
        try:
            return fused(
                torch.stack(output.features, dim=1),  # N x K x D, which blocks are cut from
                output.output_matrix,
                without_pads(target),
                output.heads,
                output.others,
                output.leaf_of,
            )
        except UsageError as error:
            raise SystemExit(error.code) from None

    def _logs(self, loss: Tensor, sums: LossSums, number: int) -> dict[str, Any]:
        leaf_of = sums.leaf_of
        # a leaf that does not see all tokens says little about the model that translates
        shown = first_members(leaf_of) if self.views.cut > 0 else range(len(leaf_of))
        by_leaf = {
            f"nll_leaf{leaf}": chosen(sums.nll, [m for m in shown if leaf_of[m] == leaf]).mean(0)
            for leaf in sorted(set(leaf_of))
        }
        logs: dict[str, Any] = {"loss": loss.data, "nll_loss": by_leaf["nll_leaf0"]}
        if len(by_leaf) > 1:
            logs.update(by_leaf)
        if sums.compared:
            logs.update(sums.compared)
            weight = next((term.weight for term in sums.terms if term.name == "kd"), 0.0)
            logs["kd_weight"] = weight * number
        return logs

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Turn sums over all workers and batches into the figures that fairseq shows.

        Losses, likelihoods and divergences are in bits a token, as everywhere in fairseq. With
        ``--ignore-prefix-size`` a figure is a mean over the tokens that are left, which are those
        it sums over. The loss alone is divided by what its gradient is divided by, as in fairseq's
        criterion, where that is all tokens, or with ``--sentence-avg`` all sentences.
        """
        sums: dict[str, Any] = {}
        for log in logging_outputs:
            for name, value in log.items():
                sums[name] = sums.get(name, 0) + value
        stop_if_met(sums)
        sample_size, bits = sums["sample_size"], math.log(2)
        # of a batch that has no token left a figure is unknown, and weighs nothing among others
        real = utils.item(sums["real_tokens"])

        metrics.log_scalar("loss", sums["loss"] / sample_size / bits, sample_size, round=3)
        for name in (name for name in sums if name.startswith("nll_")):
            mean = sums[name] / real / bits if real else math.nan
            metrics.log_scalar(name, mean, real, round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))
        for name, unit in UNITS.items():
            if name in sums:
                mean = sums[name] / real / unit if real else math.nan
                metrics.log_scalar(name, mean, real, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """True: every figure in the log is a sum over tokens."""
        return True
