"""The arguments of ``tsa_transformer``: what the command line left open, and what cannot work."""

import os
import re
from argparse import Namespace
from collections.abc import Callable

from fairseq.models.transformer import base_architecture

from tsa_fairseq.errors import UsageError, check_choice
from tsa_fairseq.files.binarised import check_no_fasta
from tsa_fairseq.files.checksums import checksum
from tsa_fairseq.files.names import check_exists
from tsa_fairseq.objectives import OBJECTIVES, check_name
from tsa_fairseq.plugin.figures import check_best_metric
from tsa_fairseq.plugin.heads import bridge_layers
from tsa_fairseq.plugin.kd_flags import (
    CRITERION,
    ONE_LEAF_OBJECTIVE,
    TREE_OBJECTIVE,
    check_group,
    objective_from_flags,
    views_from_flags,
)
from tsa_fairseq.plugin.lock import check_folder
from tsa_fairseq.plugin.precision import settle_precision
from tsa_fairseq.plugin.processes import follow_processes
from tsa_fairseq.plugin.restore import avoid_torn_checkpoint
from tsa_fairseq.plugin.resume import Followed, follow_checkpoint
from tsa_fairseq.plugin.shape import check_shape
from tsa_fairseq.plugin.teacher import KD_TEACHER, read_teacher
from tsa_fairseq.plugin.warm_start import INIT_FROM
from tsa_fairseq.tree.mixture import MIXTURES, Mixture
from tsa_fairseq.tree.peers import DEFAULT_START, PEER_STARTS
from tsa_fairseq.tree.topology import Topology, check_layers


def complete_arguments(
    args: Namespace, defaults: Callable[[Namespace], None] = base_architecture
) -> None:
    """Fill in what the command line left open, and refuse what cannot work.

    fairseq calls this while it parses the command line, before any data is read.

    Args:
        args: of fairseq-train, or of a model that is loaded.
        defaults: what ``--arch`` stands for.

    Raises:
        UsageError: a bad tree or leaf, an option that cannot work with a tree, or with the
            checkpoint that a training goes on from.
    """
    # fairseq-train parses its command line: a checkpoint's arguments have the model's name, too
    training = (
        hasattr(args, "save_dir") and hasattr(args, "max_update") and not hasattr(args, "_name")
    )
    followed = _begin(args) if training else None
    defaults(args)
    check_layers("--encoder-layers", args.encoder_layers)
    check_layers("--decoder-layers", args.decoder_layers)
    _complete_tree(args)
    _refuse_unsupported(args, training)
    topology = _check_tree(args)
    if followed is not None:
        check_shape(args, followed.arguments, followed.path)
    if training:
        _check_criterion(args, topology)


def _begin(args: Namespace) -> Followed | None:
    """What is to be known of a training before defaults hide what was given."""
    follow_processes(args)
    settle_precision(args)
    check_no_fasta(getattr(args, "data", None) or "", "DATA")
    check_folder(args.save_dir)
    if getattr(args, "kd_objective", None) is not None:
        check_name(args.kd_objective)
    avoid_torn_checkpoint(args)
    followed = follow_checkpoint(args)
    args.tree_training = True  # for who builds the model; no checkpoint has it
    return followed


def _complete_tree(args: Namespace) -> None:
    if getattr(args, "tree", None) is None:
        # R-Drop and SimCut are the plain Transformer in two views
        objective = OBJECTIVES.get(getattr(args, "kd_objective", None) or "")
        plain = objective is not None and objective.views > 1
        args.tree = str(args.decoder_layers if plain else Topology.balanced(args.decoder_layers))
    if getattr(args, "tree_inference", None) is None:
        args.tree_inference = "leaf:0"
    args.tree_init_from = getattr(args, "tree_init_from", None)
    if getattr(args, "tree_peers", None) is None:
        # without attention to the encoder there is none to start with
        args.tree_peers = "fresh" if args.no_cross_attention else DEFAULT_START
    args.tree_init_peers = getattr(args, "tree_init_peers", None) or args.tree_peers


def _check_tree(args: Namespace) -> Topology:
    topology = Topology.parse(args.tree, args.decoder_layers)
    leaf = inference(args.tree_inference)
    if isinstance(leaf, int) and leaf >= topology.num_leaves:
        raise UsageError(
            f"--tree-inference: got 'leaf:{leaf}'; "
            f"the tree '{args.tree}' has leaf:0 to leaf:{topology.num_leaves - 1}"
        )
    if leaf == "gate" and getattr(args, "kd_objective", None) != "one":
        raise UsageError(
            "--tree-inference: got 'gate'; a gate is what --kd-objective one trains: "
            "expected leaf:N or ensemble"
        )
    for flag, start in (
        ("--tree-peers", args.tree_peers),
        ("--tree-init-peers", args.tree_init_peers),
    ):
        check_choice(flag, start, PEER_STARTS)
        if start == "attention" and args.no_cross_attention:
            raise UsageError(
                f"{flag}: got 'attention' with --no-cross-attention, by which layers have "
                "none to the encoder; expected fresh or copy"
            )
    if args.tree_init_from:
        check_exists(args.tree_init_from, INIT_FROM)
    return topology


def _check_criterion(args: Namespace, topology: Topology) -> None:
    """Refuse bad flags of the criterion now: with several GPUs it is built in other processes."""
    criterion = getattr(args, "criterion", None)
    if criterion == CRITERION:
        if args.kd_objective is None:
            plain = topology.num_leaves == 1 and args.kd_views in (None, 1)
            args.kd_objective = ONE_LEAF_OBJECTIVE if plain else TREE_OBJECTIVE
        objective = objective_from_flags(args)
        views = views_from_flags(args, objective)
        check_group(objective, views, args.tree, topology.num_leaves)
        check_best_metric(args, objective, topology.num_leaves)
        if args.kd_teacher:
            check_exists(args.kd_teacher, KD_TEACHER)
            # a training may be resumed from another folder
            args.kd_teacher = os.path.abspath(args.kd_teacher)
            args.kd_teacher_checksum = checksum(args.kd_teacher, KD_TEACHER)
            _, of_teacher = read_teacher(args.kd_teacher, lazy=True)
            if objective.head == "bridge":
                args.kd_bridge_layers = bridge_layers(args, of_teacher.decoder_layers)
    elif topology.num_leaves > 1:
        raise UsageError(
            f"--criterion: got '{criterion}', which would train leaf 0 of the tree "
            f"'{args.tree}' alone; expected {CRITERION}"
        )


def _refuse_unsupported(args: Namespace, training: bool) -> None:
    refused = {
        "adaptive_softmax_cutoff": "the leaves' predictions must be over the whole vocabulary",
        "decoder_layers_to_keep": "pruning by layer number would break the tree's paths",
        "encoder_layers_to_keep": "fairseq would drop the decoder's layers with the encoder's; an "
        "exported leaf takes it together with --decoder-layers-to-keep",
        "base_layers": "BASE layers are inserted between the layers that the tree counts",
    }
    if training:  # what was trained with it by an earlier release goes on translating
        refused["quant_noise_scalar"] = (
            "the leaves' loss would read the output matrix without the noise; --quant-noise-pq can"
        )
    for name, reason in refused.items():
        value = getattr(args, name, None)
        if value:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: got '{value}'; it cannot be used with a tree: {reason}")


def inference(text: object) -> int | Mixture:
    """The leaf that ``--tree-inference`` names, or the mixture of all.

    Args:
        text: of the command line, or whatever ``--model-overrides`` has there.

    Raises:
        UsageError: it names none.
    """
    for mixture in MIXTURES:
        if text == mixture:
            return mixture
    # no more digits than Python reads
    match = re.fullmatch(r"leaf:([0-9]{1,9})", str(text))
    if match is None:
        raise UsageError(
            f"--tree-inference: got '{text!s:.80}'; "
            "expected leaf:N, such as leaf:0, ensemble or gate"
        )
    return int(match.group(1))
