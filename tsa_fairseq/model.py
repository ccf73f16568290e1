"""``--arch tsa_transformer``: fairseq's Transformer with a tree for a decoder."""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any, Literal

from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import (
    TransformerModel,
    base_architecture,
    transformer_iwslt_de_en,
    transformer_wmt_en_de,
    transformer_wmt_en_de_big,
)
from torch import Tensor, nn

from tsa_fairseq.checkpoint import check_exists
from tsa_fairseq.decoder import TreeDecoder
from tsa_fairseq.errors import UsageError
from tsa_fairseq.heads import build_heads, run_heads
from tsa_fairseq.kd_flags import (
    ONE_LEAF_OBJECTIVE,
    TREE_OBJECTIVE,
    check_group,
    objective_from_flags,
    views_from_flags,
)
from tsa_fairseq.objectives import check_name
from tsa_fairseq.outputs import TreeOutput
from tsa_fairseq.resume import follow_checkpoint
from tsa_fairseq.teacher import FLAG as TEACHER_FLAG
from tsa_fairseq.teacher import TeacherOutput, checksum
from tsa_fairseq.topology import Topology
from tsa_fairseq.views import Views
from tsa_fairseq.warm_start import FLAG, PEER_CHOICES, warm_start

CRITERION = "tsa_online_kd"
HEADS = "heads."


@register_model("tsa_transformer")
class TSATransformerModel(TransformerModel):
    """A Transformer whose decoder layers branch into a tree of parallel peers.

    Called as fairseq calls its Transformer, it is the Transformer of the leaf chosen by
    ``--tree-inference``; called with ``leaves``, it returns features of all of them.
    """

    decoder: TreeDecoder

    def __init__(self, args: Namespace, encoder: Any, decoder: TreeDecoder) -> None:
        super().__init__(args, encoder, decoder)
        self.num_updates: int | None = None
        self.heads = nn.ModuleDict()

    @classmethod
    def add_args(cls, parser: ArgumentParser) -> None:
        """Add the options of fairseq's Transformer and those of the tree."""
        super().add_args(parser)
        parser.add_argument(
            "--tree",
            metavar="SPEC",
            help="shape of the decoder: N[child,child,...] such as 4[1[1,1],1[1,1]], or the number "
            "of nodes at each layer such as 1,1,1,1,2,4 (default: the last two layers branch in "
            "two each). Draw one with: tsa-fairseq tree SPEC",
        )
        parser.add_argument(
            "--tree-inference",
            metavar="leaf:N",
            help="the leaf that translates (default: leaf:0)",
        )
        parser.add_argument(
            "--tree-init-from",
            metavar="CHECKPOINT",
            help="start from a stock transformer checkpoint: everything but the peers is copied",
        )
        parser.add_argument(
            "--tree-init-peers",
            metavar="fresh|copy",
            help="with --tree-init-from: draw the peers afresh, or copy the checkpoint's layer of "
            "the same depth (default: fresh)",
        )

    @classmethod
    def build_model(cls, args: Namespace, task: Any) -> "TSATransformerModel":
        """Build the model; with ``--tree-init-from``, fill it from that checkpoint."""
        complete_arguments(args)
        model = super().build_model(args, task)
        # after everything else, so that one seed draws the same tree for every objective
        model.heads = build_heads(args, model.decoder, task)
        if args.tree_init_from:
            warm_start(model, args.tree_init_from, args.tree_init_peers)
            # done: a checkpoint of this model must load where that file does not exist
            args.tree_init_from = None
        return model

    @classmethod
    def build_decoder(cls, args: Any, tgt_dict: Any, embed_tokens: Any) -> TreeDecoder:
        """Build the tree (a hook of fairseq's ``build_model``)."""
        return TreeDecoder(
            args,
            tgt_dict,
            embed_tokens,
            topology=Topology.parse(args.tree, args.decoder.layers),
            inference_leaf=_inference_leaf(args.tree_inference),
            no_encoder_attn=args.no_cross_attention,
        )

    def set_num_updates(self, num_updates: int) -> None:
        """Note the number of updates done (a hook of fairseq's ``train_step``)."""
        super().set_num_updates(num_updates)
        self.num_updates = num_updates

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        return_all_hiddens: bool = True,
        features_only: bool = False,
        alignment_layer: int | None = None,
        alignment_heads: int | None = None,
        leaves: Literal["all"] | Sequence[int] | None = None,
        trunk_gradient: str = "sum",
        views: Views = Views(),  # noqa: B008 - frozen
        teacher: TeacherOutput | None = None,
    ) -> Any:
        """fairseq's ``forward`` without ``leaves``, a :class:`TreeOutput` with it.

        Args:
            leaves: ``"all"`` or the leaves to compute.
            trunk_gradient: see :meth:`TreeDecoder.leaf_features`.
            views: how often the batch is computed, and which leaf reads which view.
            teacher: what the bridge, if there is one, starts from.
            src_tokens, src_lengths, prev_output_tokens: B x S, B, B x T.
            return_all_hiddens, features_only, alignment_layer, alignment_heads: as in fairseq;
                without meaning when ``leaves`` is given.
        """
        if leaves is None:
            return super().forward(
                src_tokens,
                src_lengths,
                prev_output_tokens,
                return_all_hiddens=return_all_hiddens,
                features_only=features_only,
                alignment_layer=alignment_layer,
                alignment_heads=alignment_heads,
            )
        numbers = range(self.decoder.topology.num_leaves) if isinstance(leaves, str) else leaves
        encoder_out = self.encoder(views.repeat(src_tokens), src_lengths=views.repeat(src_lengths))
        features = self.decoder.leaf_features(
            views.repeat(prev_output_tokens), encoder_out, numbers, trunk_gradient, views
        )
        members = views.members(numbers)
        by_leaf = dict(zip(numbers, features.leaves, strict=True))
        if not views.dealt:
            by_member = [views.view(by_leaf[leaf], view) for view, leaf in members]
        else:
            by_member = [by_leaf[leaf] for _, leaf in members]
        matrix = self.decoder.output_projection.weight
        heads, others = run_heads(self.heads, members, by_member, features.shared, views, teacher)
        return TreeOutput(
            tuple(leaf for _, leaf in members),
            tuple(by_member),
            matrix.view_as(matrix),
            self.num_updates,
            heads,
            others,
        )

    def load_state_dict(
        self, state_dict: dict[str, Any], strict: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        """Heads that the checkpoint has no use for here are left out, missing ones stay as built.

        That is the case where a training starts from the parameters of one with another objective;
        a training that goes on has the same (:mod:`tsa_fairseq.resume`).
        """
        own = {n: t for n, t in self.state_dict().items() if n.startswith(HEADS)}
        given = {n: t for n, t in state_dict.items() if not n.startswith(HEADS) or n in own}
        return super().load_state_dict({**own, **given}, strict, *args, **kwargs)

    def prepare_for_inference_(self, cfg: Any) -> None:
        """Keep the leaf that translates, so that generation is the plain Transformer's."""
        super().prepare_for_inference_(cfg)
        self.heads = nn.ModuleDict()
        self.decoder.keep_inference_leaf()


def complete_arguments(args: Namespace) -> None:
    """Fill in what the command line left open, and refuse what cannot work.

    fairseq calls this while it parses the command line, before any data is read.

    Raises:
        UsageError: a bad tree or leaf, or an option that cannot work with a tree.
    """
    base_architecture(args)
    if args.decoder_layers < 1:
        raise UsageError(f"--decoder-layers: got {args.decoder_layers}; expected 1 or more")
    if not getattr(args, "tree", None):
        # R-Drop is the plain Transformer in two views
        rdrop = getattr(args, "kd_objective", None) == "rdrop"
        args.tree = str(args.decoder_layers if rdrop else Topology.balanced(args.decoder_layers))
    args.tree_inference = getattr(args, "tree_inference", None) or "leaf:0"
    args.tree_init_from = getattr(args, "tree_init_from", None)
    args.tree_init_peers = getattr(args, "tree_init_peers", None) or PEER_CHOICES[0]

    _refuse_unsupported(args)
    topology = Topology.parse(args.tree, args.decoder_layers)
    leaf = _inference_leaf(args.tree_inference)
    if leaf >= topology.num_leaves:
        raise UsageError(
            f"--tree-inference: got 'leaf:{leaf}'; "
            f"the tree '{args.tree}' has leaf:0 to leaf:{topology.num_leaves - 1}"
        )
    if args.tree_init_peers not in PEER_CHOICES:
        raise UsageError(
            f"--tree-init-peers: got '{args.tree_init_peers}'; "
            f"expected one of {', '.join(PEER_CHOICES)}"
        )
    if args.tree_init_from:
        check_exists(args.tree_init_from, FLAG)
    # fairseq-train parses its command line: a checkpoint's arguments have the model's name, too
    if hasattr(args, "save_dir") and hasattr(args, "max_update") and not hasattr(args, "_name"):
        _check_criterion(args, topology)


def _check_criterion(args: Namespace, topology: Topology) -> None:
    """Refuse bad flags of the criterion now: with several GPUs it is built in other processes."""
    criterion = getattr(args, "criterion", None)
    if criterion == CRITERION:
        if args.kd_objective is not None:
            check_name(args.kd_objective)
        follow_checkpoint(args)
        if args.kd_objective is None:
            plain = topology.num_leaves == 1 and args.kd_views in (None, 1)
            args.kd_objective = ONE_LEAF_OBJECTIVE if plain else TREE_OBJECTIVE
        objective = objective_from_flags(args)
        views = views_from_flags(args, objective)
        check_group(objective, views, args.tree, topology.num_leaves)
        if args.kd_teacher:
            check_exists(args.kd_teacher, TEACHER_FLAG)
            args.kd_teacher_checksum = checksum(args.kd_teacher)
    elif topology.num_leaves > 1:
        raise UsageError(
            f"--criterion: got '{criterion}', which would train leaf 0 of the tree "
            f"'{args.tree}' alone; expected {CRITERION}"
        )


def _refuse_unsupported(args: Namespace) -> None:
    refused = {
        "adaptive_softmax_cutoff": "the leaves' predictions must be over the whole vocabulary",
        "decoder_layers_to_keep": "pruning by layer number would break the tree's paths",
        "base_layers": "BASE layers are inserted between the layers that the tree counts",
    }
    for name, reason in refused.items():
        value = getattr(args, name, None)
        if value:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: got '{value}'; it cannot be used with a tree: {reason}")


def _inference_leaf(text: str) -> int:
    match = re.fullmatch(r"leaf:([0-9]+)", text)
    if match is None:
        raise UsageError(f"--tree-inference: got '{text}'; expected leaf:N, such as leaf:0")
    return int(match.group(1))


@register_model_architecture("tsa_transformer", "tsa_transformer")
def tsa_transformer(args: Namespace) -> None:
    """The dimensions of fairseq's ``transformer``: 6+6 layers, 512/2048, 8 heads."""
    complete_arguments(args)


@register_model_architecture("tsa_transformer", "tsa_transformer_iwslt_de_en")
def tsa_transformer_iwslt_de_en(args: Namespace) -> None:
    """The dimensions of fairseq's ``transformer_iwslt_de_en``: 6+6 layers, 512/1024, 4 heads."""
    transformer_iwslt_de_en(args)
    complete_arguments(args)


@register_model_architecture("tsa_transformer", "tsa_transformer_wmt_en_de")
def tsa_transformer_wmt_en_de(args: Namespace) -> None:
    """The dimensions of fairseq's ``transformer_wmt_en_de``: 6+6 layers, 512/2048, 8 heads."""
    transformer_wmt_en_de(args)
    complete_arguments(args)


@register_model_architecture("tsa_transformer", "tsa_transformer_wmt_en_de_big")
def tsa_transformer_wmt_en_de_big(args: Namespace) -> None:
    """The dimensions of ``transformer_wmt_en_de_big``: 6+6 layers, 1024/4096, 16 heads."""
    transformer_wmt_en_de_big(args)
    complete_arguments(args)


@register_model_architecture("tsa_transformer", "tsa_transformer_multi30k")
def tsa_transformer_multi30k(args: Namespace) -> None:
    """The tiny model of the Multi30k literature: 4+4 layers, 128/256, 4 heads (Wu et al. 2021)."""
    dimensions = {"embed_dim": 128, "ffn_embed_dim": 256, "layers": 4, "attention_heads": 4}
    for side in ("encoder", "decoder"):
        for name, value in dimensions.items():
            if not hasattr(args, f"{side}_{name}"):
                setattr(args, f"{side}_{name}", value)
    complete_arguments(args)
