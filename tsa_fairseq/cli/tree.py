"""``tsa-fairseq tree``: a tree drawn, with its size and what its training costs."""

from argparse import ArgumentParser, Namespace

from tsa_fairseq.errors import UsageError
from tsa_fairseq.tree.cost import ARCHITECTURES, multiply_adds, parameters
from tsa_fairseq.tree.drawing import draw
from tsa_fairseq.tree.topology import Topology, check_layers

DEFAULT_ARCH = "tsa_transformer"
DEFAULT_VOCABULARY = 10_000


def add_options(parser: ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument("spec", metavar="SPEC", nargs="?", help="as for --tree (default: --arch's)")
    parser.add_argument("--arch", default=DEFAULT_ARCH, help="default: %(default)s")
    parser.add_argument(
        "--decoder-layers", type=int, metavar="N", help="layers on every path (default: --arch's)"
    )
    parser.add_argument(
        "--vocabulary",
        type=int,
        default=DEFAULT_VOCABULARY,
        metavar="V",
        help="words in the joined dictionary (default: %(default)s)",
    )
    parser.set_defaults(run=describe_tree)


def describe_tree(args: Namespace) -> str:
    """The tree drawn, with its parameters and its training cost beside the plain model's.

    Raises:
        UsageError: a bad tree, architecture, number of layers or vocabulary.
    """
    if args.vocabulary < 5:
        raise UsageError(
            f"--vocabulary: got {args.vocabulary}; expected 5 or more, four are fairseq's symbols"
        )
    if args.arch not in ARCHITECTURES:
        raise UsageError(
            f"--arch: got '{args.arch}'; expected one of {', '.join(sorted(ARCHITECTURES))}"
        )
    architecture = ARCHITECTURES[args.arch]
    layers = architecture.layers if args.decoder_layers is None else args.decoder_layers
    check_layers("--decoder-layers", layers)
    given = args.spec is not None
    topology = Topology.parse(args.spec, layers) if given else Topology.balanced(layers)
    plain = Topology.parse(str(layers), layers)
    dims = architecture.dimensions(args.vocabulary)
    training, inference = parameters(topology, dims), parameters(plain, dims)
    ratio = multiply_adds(topology, dims) / multiply_adds(plain, dims)
    nodes = ",".join(str(width) for width in topology.widths)
    sharing = "joined vocabulary, shared embeddings"
    return "\n".join(
        [
            draw(topology),
            "",
            f"tree                     {topology} (nodes at each layer: {nodes})",
            f"architecture             {args.arch}, {args.vocabulary:,} words, {sharing}",
            f"parameters, training     {training:,}",
            f"parameters, inference    {inference:,} (the plain model's)",
            f"training multiply-adds   {ratio:.2f} x the plain model's",
        ]
    )
