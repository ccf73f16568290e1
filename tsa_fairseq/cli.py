"""The command ``tsa-fairseq``."""

import argparse
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import tsa_fairseq
from tsa_fairseq.checkpoint import check_exists
from tsa_fairseq.errors import UsageError
from tsa_fairseq.topology import Dimensions, Topology, multiply_adds

DEFAULT_ARCH = "tsa_transformer"
DEFAULT_VOCABULARY = 10_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; 0 on success, 1 with one line on standard error for bad input."""
    args = _parser().parse_args(argv)
    run: Callable[[Namespace], str] = args.run
    try:
        print(run(args))
    except UsageError as error:
        print(f"tsa-fairseq: {error.code}", file=sys.stderr)
        return 1
    return 0


def plugin_path(_: Namespace) -> str:
    """The directory to give to fairseq's ``--user-dir``."""
    return str(Path(tsa_fairseq.__file__).resolve().parent)


def describe_tree(args: Namespace) -> str:
    """The tree drawn, with its parameters and its training cost beside the plain model's.

    Raises:
        UsageError: a bad tree, architecture, number of layers or vocabulary.
    """
    if args.vocabulary < 5:
        raise UsageError(
            f"--vocabulary: got {args.vocabulary}; expected 5 or more, four are fairseq's symbols"
        )
    filled = _architecture(args.arch, args.decoder_layers, args.spec)
    topology = Topology.parse(filled.tree, filled.decoder_layers)
    plain = Topology.parse(str(topology.depth), topology.depth)
    dims = Dimensions(
        encoder_layers=filled.encoder_layers,
        encoder_embed_dim=filled.encoder_embed_dim,
        encoder_ffn_embed_dim=filled.encoder_ffn_embed_dim,
        decoder_embed_dim=filled.decoder_embed_dim,
        decoder_ffn_embed_dim=filled.decoder_ffn_embed_dim,
        vocabulary=args.vocabulary,
    )
    training, inference = _count_parameters(filled, args.vocabulary)
    ratio = multiply_adds(topology, dims) / multiply_adds(plain, dims)
    nodes = ",".join(str(width) for width in topology.widths)
    sharing = "joined vocabulary, shared embeddings"
    return "\n".join(
        [
            topology.draw(),
            "",
            f"tree                     {topology} (nodes at each layer: {nodes})",
            f"architecture             {args.arch}, {args.vocabulary:,} words, {sharing}",
            f"parameters, training     {training:,}",
            f"parameters, inference    {inference:,} (the plain model's)",
            f"training multiply-adds   {ratio:.2f} x the plain model's",
        ]
    )


def average_checkpoints(args: Namespace) -> str:
    """Write the mean of several checkpoints.

    Raises:
        UsageError: files that do not fit each other, too few of them, or an OUT that exists.
    """
    from tsa_fairseq.averaging import average, best, newest
    from tsa_fairseq.folders import write_file

    if os.path.lexists(args.out) and not args.force:
        raise UsageError(f"OUT: '{args.out}' exists; expected a new file, or --force")
    paths, choose = args.inputs, {"--last": args.last, "--best": args.best}
    given = [flag for flag, number in choose.items() if number is not None]
    if len(paths) == 1 and Path(paths[0]).is_dir():
        if len(given) != 1:
            raise UsageError(f"INPUT: '{paths[0]}' is a folder; expected --last N or --best N")
        number = choose[given[0]]
        paths = (newest if given == ["--last"] else best)(paths[0], number, _progress)
    elif given:
        raise UsageError(f"{given[0]}: takes one folder of checkpoints; expected no file names")
    state = average(paths, _progress)
    write_file(args.out, lambda path: torch.save(state, path))
    names = ", ".join(Path(path).name for path in paths)
    return f"{args.out}: the mean of {len(paths)} checkpoints, {names}"


def _progress(text: str) -> None:
    print(text, file=sys.stderr)


def export(args: Namespace) -> str:
    """Write leaves as checkpoints of fairseq's transformer, and say how to use them.

    Raises:
        UsageError: no such leaf, a file that cannot be read, a folder that exists.
    """
    from tsa_fairseq.export import Dictionaries, TreeCheckpoint, write_leaf
    from tsa_fairseq.folders import check_target, write_whole
    from tsa_fairseq.validation import leaf_nll

    checkpoint = TreeCheckpoint.read(args.checkpoint)
    leaves = _leaves(args.leaf, checkpoint)
    dictionaries = Dictionaries.find(checkpoint, args.data)
    subwords = [] if args.subwords is None else [args.subwords]
    for path in subwords:
        check_exists(path, "--subwords")
    out = Path(args.out)
    check_target(out, args.force, [args.checkpoint, dictionaries.folder, *subwords])
    nll: list[float] = []
    if args.leaf == "best":
        nll = leaf_nll(args.checkpoint, dictionaries.folder)
        leaves = [min(leaves, key=nll.__getitem__)]

    def place(folder: Path, leaf: int) -> Path:
        return folder / f"leaf{leaf}" if args.leaf == "all" else folder

    parameters: dict[int, int] = {}

    def fill(folder: Path) -> None:
        for leaf in leaves:
            inside = place(folder, leaf)
            inside.mkdir(exist_ok=True)
            metric = {"valid_nll": nll[leaf]} if nll else {}
            parameters[leaf] = write_leaf(
                checkpoint, leaf, inside, dictionaries, args.subwords, metric
            )

    write_whole(out, fill)
    return "\n".join(
        _said_of_export(place(out, leaf), leaf, parameters[leaf], nll, dictionaries)
        for leaf in leaves
    )


def _leaves(text: str, checkpoint: Any) -> list[int]:
    if text in ("best", "all"):
        return list(range(checkpoint.topology.num_leaves))
    if not text.isdecimal():
        raise UsageError(f"--leaf: got '{text}'; expected a leaf's number, best or all")
    checkpoint.topology.check_leaf(int(text), f"--leaf: got '{text}';")
    return [int(text)]


def _said_of_export(
    folder: Path, leaf: int, parameters: int, nll: list[float], dictionaries: Any
) -> str:
    from tsa_fairseq.export import MODEL, SUBWORDS

    size = (folder / MODEL).stat().st_size
    lines = [f"leaf {leaf} -> {folder}: {parameters:,} parameters, {size:,} bytes"]
    if nll:
        others = ", ".join(f"leaf {k} {value:.3f}" for k, value in enumerate(nll))
        lines.append(f"validation nll, bits a token: {others}")
    command = ["fairseq-interactive", folder, "--path", folder / MODEL]
    command += ["-s", dictionaries.source, "-t", dictionaries.target, "--beam", 5]
    if (folder / SUBWORDS).exists():
        command += ["--bpe", "sentencepiece", "--sentencepiece-model", folder / SUBWORDS]
    lines.append(shlex.join(map(str, command)))
    return "\n".join(lines)


def _architecture(arch: str, decoder_layers: int | None, spec: str | None) -> Namespace:
    """The model arguments that ``--arch`` stands for."""
    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

    ours = [
        name
        for name, model in ARCH_MODEL_REGISTRY.items()
        if model is tsa_fairseq.model.TSATransformerModel
    ]
    if arch not in ours:
        raise UsageError(f"--arch: got '{arch}'; expected one of {', '.join(sorted(ours))}")
    args = Namespace(tree=spec, share_all_embeddings=True)
    if decoder_layers is not None:
        args.decoder_layers = decoder_layers
    ARCH_CONFIG_REGISTRY[arch](args)
    return args


class _Vocabulary:
    """As much of a fairseq task with a joined dictionary as building a model takes."""

    def __init__(self, words: int) -> None:
        from fairseq.data import Dictionary

        self.source_dictionary = self.target_dictionary = Dictionary()
        for word in range(words - len(self.source_dictionary)):
            self.source_dictionary.add_symbol(str(word))


def _count_parameters(args: Namespace, words: int) -> tuple[int, int]:
    """Parameters of the whole tree and of the leaf that translates, counted in a built model."""
    with torch.device("meta"):  # sizes without memory
        model: Any = tsa_fairseq.model.TSATransformerModel.build_model(args, _Vocabulary(words))
    training = _parameters(model)
    model.decoder.keep_inference_leaf()
    return training, _parameters(model)


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tsa-fairseq", description=tsa_fairseq.__doc__)
    parser.add_argument("--version", action="version", version=tsa_fairseq.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    path = commands.add_parser("path", help="print the directory for fairseq's --user-dir")
    path.set_defaults(run=plugin_path)

    tree = commands.add_parser("tree", help="draw a tree, with its parameters and training cost")
    tree.add_argument("spec", metavar="SPEC", nargs="?", help="as for --tree (default: --arch's)")
    tree.add_argument("--arch", default=DEFAULT_ARCH, help="default: %(default)s")
    tree.add_argument(
        "--decoder-layers", type=int, metavar="N", help="layers on every path (default: --arch's)"
    )
    tree.add_argument(
        "--vocabulary",
        type=int,
        default=DEFAULT_VOCABULARY,
        metavar="V",
        help="words in the joined dictionary (default: %(default)s)",
    )
    tree.set_defaults(run=describe_tree)

    mean = commands.add_parser("average", help="write the mean of several checkpoints")
    mean.add_argument("out", metavar="OUT", help="a new file")
    mean.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="checkpoints, or the folder they are in"
    )
    mean.add_argument("--last", type=int, metavar="N", help="of a folder, the last N")
    mean.add_argument(
        "--best", type=int, metavar="N", help="of a folder, the N with the best validation score"
    )
    mean.add_argument("--force", action="store_true", help="replace OUT")
    mean.set_defaults(run=average_checkpoints)

    out = commands.add_parser(
        "export", help="write a leaf as a checkpoint of fairseq's transformer, without the plugin"
    )
    out.add_argument("checkpoint", metavar="CHECKPOINT", help="of a tree")
    out.add_argument("out", metavar="OUT", help="a new folder; with --leaf all, of folders")
    out.add_argument(
        "--leaf", default="0", metavar="N|best|all", help="best on --data (default: %(default)s)"
    )
    out.add_argument(
        "--data", help="what fairseq-preprocess made (default: what the checkpoint names)"
    )
    out.add_argument("--subwords", metavar="FILE", help="a sentencepiece model to put beside it")
    out.add_argument("--force", action="store_true", help="replace an export in OUT")
    out.set_defaults(run=export)
    return parser


if __name__ == "__main__":
    sys.exit(main())
