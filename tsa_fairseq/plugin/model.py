"""``--arch tsa_transformer``: fairseq's Transformer with a tree for a decoder."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any, Literal

from fairseq.models import register_model
from fairseq.models.transformer import TransformerModel
from torch import Tensor, nn

from tsa_fairseq.errors import UsageError
from tsa_fairseq.plugin.arguments import complete_arguments, inference
from tsa_fairseq.plugin.configuration import arguments_of
from tsa_fairseq.plugin.heads import build_heads, fitting_heads, run_heads
from tsa_fairseq.plugin.left_out import warn_of_sentences_left_out
from tsa_fairseq.plugin.lock import hold_folder
from tsa_fairseq.plugin.misfit import misfit
from tsa_fairseq.plugin.processes import is_first_process
from tsa_fairseq.plugin.restore import to_load
from tsa_fairseq.plugin.teacher import TeacherOutput
from tsa_fairseq.plugin.warm_start import warm_start
from tsa_fairseq.tree.cut import cut_embeddings
from tsa_fairseq.tree.decoder import TreeDecoder
from tsa_fairseq.tree.outputs import TreeOutput
from tsa_fairseq.tree.peers import DEFAULT_START, PEER_STARTS, start_peers
from tsa_fairseq.tree.topology import Topology
from tsa_fairseq.tree.views import Views


@register_model("tsa_transformer")
class TSATransformerModel(TransformerModel):
    """A Transformer whose decoder layers branch into a tree of parallel peers.

    Called as fairseq calls its Transformer, it is the Transformer of the leaf, or the mixture of
    all leaves, that ``--tree-inference`` chooses; called with ``leaves``, it returns features of
    all of them.
    """

    decoder: TreeDecoder

    def __init__(self, args: Namespace, encoder: Any, decoder: TreeDecoder) -> None:
        super().__init__(args, encoder, decoder)
        self.num_updates: int | None = None
        # of a training, the checkpoint that it is going to load
        self.resumed_from: str | None = None
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
            "two each; with --kd-objective rdrop or simcut none does). Draw one with: "
            "tsa-fairseq tree SPEC",
        )
        parser.add_argument(
            "--tree-inference",
            metavar="leaf:N|ensemble|gate",
            help="the leaf that translates, or all: by the mean of their probabilities, or mixed "
            "by the gate of --kd-objective one (default: leaf:0)",
        )
        parser.add_argument(
            "--tree-init-from",
            metavar="CHECKPOINT",
            help="start from a stock transformer checkpoint: everything but the peers is copied",
        )
        parser.add_argument(
            "--tree-peers",
            metavar="|".join(PEER_STARTS),
            help="how the layers beside leaf 0 start: drawn afresh, with leaf 0's attention to the "
            f"encoder, or as copies of leaf 0's layer (default: {DEFAULT_START})",
        )
        parser.add_argument(
            "--tree-init-peers",
            metavar="|".join(PEER_STARTS),
            help="the same with --tree-init-from, where leaf 0 is the checkpoint "
            "(default: as --tree-peers)",
        )

    @classmethod
    def build_model(cls, args: Any, task: Any) -> "TSATransformerModel":
        """Build the model; with ``--tree-init-from``, fill it from that checkpoint.

        Of a training, keep others out of its folder, and say how many sentences its validation will
        leave out.
        """
        with arguments_of(args, cls.add_args) as flat:
            return cls._build(flat, task)

    @classmethod
    def _build(cls, args: Namespace, task: Any) -> "TSATransformerModel":
        complete_arguments(args)
        model = super().build_model(args, task)
        # after everything else, so that one seed draws the same tree for every objective
        model.heads = build_heads(args, model.decoder, task)
        if "gate" in model.heads:
            model.decoder.set_gate(model.heads["gate"])
        if args.tree_init_from:
            warm_start(model, args.tree_init_from)
            start_peers(model.decoder, args.tree_init_peers)
            # done: a checkpoint of this model must load where that file does not exist
            args.tree_init_from = None
        else:
            start_peers(model.decoder, args.tree_peers)
        if getattr(args, "tree_training", False):
            del args.tree_training
            model.resumed_from = to_load(args)[1]
            if is_first_process():
                if not args.no_save:  # otherwise nothing is written there
                    hold_folder(args.save_dir, model)
                warn_of_sentences_left_out(args, task, model)
        return model

    @classmethod
    def build_decoder(cls, args: Any, tgt_dict: Any, embed_tokens: Any) -> TreeDecoder:
        """Build the tree (a hook of fairseq's ``build_model``)."""
        return TreeDecoder(
            args,
            tgt_dict,
            embed_tokens,
            topology=Topology.parse(args.tree, args.decoder.layers),
            inference=inference(args.tree_inference),
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
            views: how often the batch is computed, which leaf reads which view, and what is cut.
            teacher: what it computed for this batch; the bridge, if there is one, starts from it.
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
        with cut_embeddings(views, self.encoder.embed_tokens, self.decoder.embed_tokens):
            encoder_out = self.encoder(
                views.repeat(src_tokens), src_lengths=views.repeat(src_lengths)
            )
            run = self.decoder.leaf_features(
                views.repeat(prev_output_tokens), encoder_out, numbers, trunk_gradient, views
            )
        heads, others = run_heads(self.heads, run, teacher)
        matrix = self.decoder.output_projection.weight
        return TreeOutput(
            tuple(member.leaf for member in run.members),
            run.features,
            matrix.view_as(matrix),
            self.num_updates,
            heads,
            others,
        )

    def load_state_dict(
        self, state_dict: dict[str, Any], strict: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        """A head that the checkpoint does not have, or has in another size, stays as it was built.

        That is the case where a training starts from the parameters of one with another objective;
        a training that goes on has the same (:mod:`tsa_fairseq.plugin.resume`).

        Raises:
            SystemExit: in a training, parameters of other names or sizes. Not a UsageError, which
                fairseq would answer with a traceback and a guess.
        """
        fitting = fitting_heads(self.heads, state_dict)
        try:
            return super().load_state_dict(fitting, strict, *args, **kwargs)
        except RuntimeError:
            problem = misfit(fitting, self.state_dict())
            if self.resumed_from is None or problem is None:
                raise
            raise SystemExit(
                f"error: '{self.resumed_from}' does not fit this model: {problem}"
            ) from None

    def prepare_for_inference_(self, cfg: Any) -> None:
        """Keep what translates: of one leaf, generation is the plain Transformer's.

        Raises:
            UsageError: ``--replace-unk``, which would end the translation at an unknown word.
        """
        unknown = getattr(cfg.generation, "replace_unk", None)
        if unknown is not None:
            raise UsageError(
                f"--replace-unk: got '{unknown}'; fairseq fails with it at the first unknown word, "
                "with this and any other model: expected --print-alignment, to replace by what it "
                "prints"
            )
        super().prepare_for_inference_(cfg)
        if self.decoder.inference != "gate":
            self.heads = nn.ModuleDict()
            self.decoder.set_gate(None)
        self.decoder.keep_inference_leaf()
