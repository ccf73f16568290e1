"""``tsa-fairseq export``: a leaf for fairseq without the plugin, or for CTranslate2."""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from tsa_fairseq.cli.progress import progress
from tsa_fairseq.cli.text_flags import add_text_flags, text_options
from tsa_fairseq.deploy.ctranslate import check_representable
from tsa_fairseq.deploy.export import EXPORT_TEACHER, TreeCheckpoint
from tsa_fairseq.deploy.export_folder import ExportFolder, command, origin
from tsa_fairseq.deploy.hub import DEVICES
from tsa_fairseq.deploy.precision import DTYPES, read_dtype
from tsa_fairseq.deploy.validation import METRICS, Scores, leaf_scores
from tsa_fairseq.errors import UsageError, check_choice
from tsa_fairseq.files.checkpoint import count_parameters
from tsa_fairseq.files.dictionaries import Dictionaries
from tsa_fairseq.files.folders import check_target
from tsa_fairseq.files.leftovers import clear
from tsa_fairseq.files.names import MODEL, TARGETS
from tsa_fairseq.files.task_dictionaries import task_name
from tsa_fairseq.files.text import Text
from tsa_fairseq.files.text_settings import find_text
from tsa_fairseq.files.whole import write_whole
from tsa_fairseq.plugin.teacher import read_teacher

DEFAULT_METRIC = "nll"


def add_options(parser: ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="of a tree")
    parser.add_argument("out", metavar="OUT", help="a new folder; with --leaf all, of folders")
    parser.add_argument(
        "--leaf",
        default="0",
        metavar="N|best|all|bridge",
        help="best on the validation data; bridge: the teacher that --kd-objective sokd improved "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--to", default=TARGETS[0], metavar="|".join(TARGETS), help="default: %(default)s"
    )
    parser.add_argument(
        "--quantization",
        metavar="TYPE",
        help="of CTranslate2's weights, such as int8 or float16 (default: float32)",
    )
    parser.add_argument(
        "--dtype",
        metavar="|".join(DTYPES),
        help="of fairseq's parameters (default: float32)",
    )
    parser.add_argument(
        "--metric",
        metavar="|".join(METRICS),
        help="of --leaf best: nll of the reference, or sacreBLEU of a translation with beam 5 "
        f"(default: {DEFAULT_METRIC})",
    )
    parser.add_argument(
        "--device",
        metavar="|".join(DEVICES),
        help="that --leaf best is looked for on (default: a GPU if there is one)",
    )
    parser.add_argument(
        "--data", help="what fairseq-preprocess made (default: what the checkpoint names)"
    )
    add_text_flags(parser)
    parser.add_argument(
        EXPORT_TEACHER, metavar="FILE", help="of --leaf bridge (default: what the checkpoint names)"
    )
    parser.add_argument("--force", action="store_true", help="replace an export in OUT")
    parser.set_defaults(run=export)


def export(args: Namespace) -> str:
    """Write leaves, or the bridge, as plain models, and say how to use them.

    Raises:
        UsageError: no such leaf, a file that cannot be read, a folder that exists, a target that
            cannot represent the model.
    """
    _check_flags(args)
    checkpoint = TreeCheckpoint.read(args.checkpoint)
    leaves = _leaves(args.leaf, checkpoint)
    inputs = [args.checkpoint]
    teacher = ""
    if args.leaf == "bridge":
        teacher = checkpoint.check_bridge(args.teacher)
        inputs.append(teacher)
    task = task_name(checkpoint.state)
    if args.leaf == "best" and task != "translation":
        raise UsageError(
            f"--leaf: got 'best' with --task {task}, whose validation data may be of several "
            "languages; expected a leaf's number or all, which can be compared by hand"
        )
    if args.to == "ctranslate2":
        _, of_teacher = read_teacher(teacher, lazy=True) if teacher else (None, None)
        check_representable(of_teacher or checkpoint.arguments, task, args.quantization)
    languages = args.source_lang, args.target_lang
    dictionaries = Dictionaries.find(checkpoint.state, args.data, "--data", languages=languages)
    pair = dictionaries.source, dictionaries.target
    settings = find_text(Path(args.checkpoint).parent, *pair, text_options(args), "--")
    inputs += [dictionaries.folder, *settings.subwords, *settings.vocabulary]

    def check() -> None:
        check_target(Path(args.out), args.force, inputs)

    clear(Path(args.out))
    check()
    words = dictionaries.source_words.symbols, dictionaries.target_words.symbols
    Text(settings, "--subwords").check(*words)
    dtype = read_dtype(args.dtype)
    contents = ExportFolder(args.to, args.quantization, dictionaries, settings, dtype)
    scores: Scores | None = None
    if args.leaf == "best":
        metric = args.metric or DEFAULT_METRIC
        state, of = checkpoint.state, args.checkpoint
        scores = leaf_scores(metric, state, of, dictionaries.folder, progress, args.device)
        leaves = [scores.best]
    written = _write(args, checkpoint, leaves, contents, scores, teacher, check)
    lines = []
    for name, (folder, parameters) in written.items():
        size = (folder / MODEL[args.to]).stat().st_size
        lines.append(f"{name} -> {folder}: {parameters:,} parameters, {size:,} bytes")
        lines += [] if scores is None else [str(scores)]
        lines.append(command(folder))
    return "\n".join(lines)


def _check_flags(args: Namespace) -> None:
    check_choice("--to", args.to, TARGETS)
    check_choice("--metric", args.metric, METRICS)
    check_choice("--device", args.device, DEVICES)
    read_dtype(args.dtype)
    for flag, value, needed, of in (
        ("--quantization", args.quantization, "ctranslate2", "--to"),
        ("--dtype", args.dtype, "fairseq", "--to"),
        ("--metric", args.metric, "best", "--leaf"),
        ("--device", args.device, "best", "--leaf"),
        (EXPORT_TEACHER, args.teacher, "bridge", "--leaf"),
    ):
        given = args.to if of == "--to" else args.leaf
        if value is not None and given != needed:
            raise UsageError(f"{flag}: got '{value}', which {of} {given} does not take")


def _leaves(text: str, checkpoint: TreeCheckpoint) -> list[int]:
    if text in ("best", "all"):
        return list(range(checkpoint.topology.num_leaves))
    if text == "bridge":
        return []
    # digits of ASCII alone, and not so many that Python refuses to read them
    if not re.fullmatch("[0-9]{1,9}", text):
        raise UsageError(f"--leaf: got '{text:.80}'; expected a leaf's number, best, all or bridge")
    checkpoint.topology.check_leaf(int(text), f"--leaf: got '{text}';")
    return [int(text)]


def _write(
    args: Namespace,
    checkpoint: TreeCheckpoint,
    leaves: list[int],
    contents: ExportFolder,
    scores: Scores | None,
    teacher: str,
    check: Callable[[], None],
) -> dict[str, tuple[Path, int]]:
    """Make the folders; where each is, by what is in it, and how many parameters that has."""
    out = Path(args.out)
    found: dict[str, tuple[Path, int]] = {}

    def fill(folder: Path) -> None:
        if teacher:
            state = checkpoint.bridge(teacher, contents.dictionaries)
            said = origin(checkpoint, "bridge", teacher=Path(teacher).name)
            contents.write(state, said, folder)
            found["bridge"] = out, count_parameters(state["model"])
        for leaf in leaves:
            if len(leaves) > 1:
                progress(f"writing leaf {leaf}")
            inside = f"leaf{leaf}" if args.leaf == "all" else "."
            (folder / inside).mkdir(exist_ok=True)
            state = checkpoint.leaf(leaf)
            figures = {} if scores is None else scores.of(leaf)
            contents.write(state, origin(checkpoint, leaf, **figures), folder / inside)
            found[f"leaf {leaf}"] = out / inside, count_parameters(state["model"])

    write_whole(out, fill, check)
    return found
