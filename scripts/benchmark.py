"""What training and translation cost: stock fairseq, trees, the fused and the dense loss.

    python scripts/benchmark.py all --out docs/benchmark

Suites: ``loss``, the loss alone; ``step``, whole training steps; ``all``, these two; ``decode``,
translation; ``objectives``, training steps with every --kd-objective; ``kernel``, the arithmetic
of the loss on a GPU.
Every variant has a process of its own, and all of a suite are measured in turn, so that other work
on the machine falls on all alike: compare the ratios, not the times.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import torch
from bench import decode, kernel, loss, report, step
from bench.data import write_corpus
from bench.measure import WorkerError, measure

from tsa_fairseq.errors import UsageError

SUITES = ("loss", "step")
RESULTS = ("results.csv", "results.md", "results.svg")


def say(text: str) -> None:
    """Progress, at once."""
    print(f"==> {text}", flush=True)


def run_loss(args: argparse.Namespace, folder: Path) -> list[report.Row]:
    """Dense and fused, for every vocabulary."""
    found = []
    for words in args.vocabulary:
        setting = f"K = {args.leaves}, N = {args.tokens}, V = {words}, D = {args.width}"
        say(f"loss: {setting}")
        cases = loss.cases(args.leaves, args.tokens, words, args.width, args.device, args.fp16)
        measured = measure(cases, args.rounds, say)
        found += report.rows("loss", setting, measured, args.device, args.fp16)
    return found


def run_step(args: argparse.Namespace, folder: Path) -> list[report.Row]:
    """Every model, for every vocabulary."""
    found = []
    for words in args.vocabulary:
        setting = f"{args.model}, batches of 4,096 tokens, V = {words}"
        say(f"step: {setting}")
        cases = _step_cases(args, folder, words)
        chosen = [c for c in cases if not args.only or c.name in args.only or c is cases[0]]
        measured = measure(chosen, args.rounds, say)
        found += report.rows("step", setting, measured, args.device, args.fp16)
    return found


def run_decode(args: argparse.Namespace, folder: Path) -> list[report.Row]:
    """A plain model, leaf 0 in several forms, and two ensembles in a table of their own."""
    if args.checkpoint:
        data, checkpoint = Path(args.data), args.checkpoint
        setting = "beam 5, a trained model"
    else:
        cases = _step_cases(args, folder, args.vocabulary[0])
        tree = next(case for case in cases if case.name == "tree, 4 leaves")
        data, checkpoint = (
            Path(tree.argument.argv[0]),
            decode.train_briefly(tree.argument.argv, folder),
        )
        setting = f"{args.model}, beam 5, untrained, V = {args.vocabulary[0]}"
    say(f"decode: {setting}")
    trained = bool(args.checkpoint)
    cases = decode.cases(data, checkpoint, folder, args.device, args.fp16, trained)
    measured = measure(cases, args.rounds, say)
    decode.check_same(cases)
    ensembles = [one for one in measured if one.case.name in decode.ENSEMBLES]
    alone = [one for one in measured if one not in ensembles]
    return [
        row
        for name, group in (("decode", alone), ("decode, all leaves", ensembles))
        for row in report.rows(name, setting, group, args.device, args.fp16, "sentences/s")
    ]


def run_objectives(args: argparse.Namespace, folder: Path) -> list[report.Row]:
    """The stock model and every objective, for the first vocabulary."""
    words = args.vocabulary[0]
    setting = f"{args.model}, 4 leaves, batches of 4,096 tokens, V = {words}"
    say(f"objectives: {setting}")
    cases = step.objective_cases(
        _corpus(folder, words), args.model, words, args.steps, args.device, args.fp16, folder
    )
    return report.rows(
        "objectives", setting, measure(cases, args.rounds, say), args.device, args.fp16
    )


def run_kernel(args: argparse.Namespace, folder: Path) -> list[report.Row]:
    """The closed form as torch's operations, compiled, and as our kernel."""
    found = []
    for words in args.vocabulary:
        setting = f"K = {args.leaves}, N = {args.tokens}, V = {words}, {kernel.REPEATS} times"
        say(f"kernel: {setting}")
        cases = kernel.cases(args.leaves, args.tokens, words, args.fp16)
        measured = measure(cases, args.rounds, say)
        found += report.rows("kernel", setting, measured, args.device, args.fp16)
    return found


def _corpus(folder: Path, words: int) -> Path:
    corpus = folder / str(words)
    if not corpus.exists():
        corpus.mkdir()
        write_corpus(corpus, words)
    return corpus / "data-bin"


def _step_cases(args: argparse.Namespace, folder: Path, words: int) -> list[step.Case]:
    return step.cases(
        _corpus(folder, words),
        args.model,
        words,
        args.steps,
        args.device,
        args.fp16,
        args.tree_flags.split(),
    )


RUN = {
    "loss": run_loss,
    "step": run_step,
    "decode": run_decode,
    "objectives": run_objectives,
    "kernel": run_kernel,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("suite", metavar="SUITE", help=f"one of {', '.join(RUN)}, all")
    made.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    made.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    made.add_argument("--fp16", action="store_true", help="half precision; with --device cuda")
    made.add_argument("--out", help="directory for results.csv, results.md and results.svg")
    made.add_argument("--force", action="store_true", help="overwrite what --out holds")
    made.add_argument(
        "--vocabulary",
        type=int,
        nargs="+",
        default=[9712, 32768],
        help="words, multiples of 8 (default: 9712 32768)",
    )
    of_step = made.add_argument_group("step and decode")
    of_step.add_argument("--model", default="multi30k", help=f"one of {', '.join(step.MODELS)}")
    of_step.add_argument("--steps", type=int, default=1, help="of a round (default: %(default)s)")
    of_step.add_argument("--only", nargs="+", help="names of variants, beside stock fairseq")
    of_step.add_argument("--tree-flags", default="", help="of fairseq-train, for the trees alone")
    of_loss = made.add_argument_group("loss and kernel")
    of_loss.add_argument("--leaves", type=int, default=4, help="K (default: %(default)s)")
    of_loss.add_argument("--tokens", type=int, default=4096, help="N (default: %(default)s)")
    of_loss.add_argument("--width", type=int, default=512, help="D (default: %(default)s)")
    of_decode = made.add_argument_group("decode")
    of_decode.add_argument("--data", help="what fairseq-preprocess made (default: random words)")
    of_decode.add_argument("--checkpoint", help="a tree's, for --data (default: an untrained one)")
    return made


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be measured.

    Raises:
        UsageError: a bad value.
    """
    if args.suite not in (*RUN, "all"):
        raise UsageError(f"SUITE: got '{args.suite}'; expected one of {', '.join(RUN)}, all")
    for flag in ("rounds", "steps", "leaves", "tokens", "width"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag}: got {getattr(args, flag)}; expected 1 or more")
    for words in args.vocabulary:
        if words < 16 or words % 8:
            raise UsageError(f"--vocabulary: got {words}; expected multiples of 8, from 16")
    if args.model not in step.MODELS:
        raise UsageError(f"--model: got '{args.model}'; expected one of {', '.join(step.MODELS)}")
    if args.device not in ("cpu", "cuda"):
        raise UsageError(f"--device: got '{args.device}'; expected one of cpu, cuda")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device: got 'cuda'; torch finds no GPU here")
    if args.suite == "kernel" and args.device == "cpu":
        raise UsageError("SUITE: kernel takes --device cuda")
    if args.fp16 and args.device == "cpu":
        raise UsageError("--fp16: takes --device cuda")
    if bool(args.data) != bool(args.checkpoint):
        raise UsageError("--data and --checkpoint: expected both or neither")
    if args.suite == "decode" and importlib.util.find_spec("ctranslate2") is None:
        raise UsageError(
            "SUITE: decode takes CTranslate2, which is not installed: pip install ctranslate2"
        )
    if args.out and not args.force:
        for name in RESULTS:
            if (Path(args.out) / name).exists():
                raise UsageError(
                    f"--out: '{args.out}' has a {name}; expected --force to replace it"
                )
    if args.out and importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "--out: draws with matplotlib, which is not installed: pip install matplotlib"
        )
    names = [step.STOCK, *(f"tree, {n}" for n in step.TREES[args.model]), step.RDROP]
    for name in args.only or []:
        if name not in names:
            raise UsageError(f"--only: got '{name}'; expected some of: {'; '.join(names)}")


def main() -> int:
    """Run the suites that were asked for, and print their tables."""
    args = parser().parse_args()
    try:
        check(args)
        if args.out:
            Path(args.out).mkdir(parents=True, exist_ok=True)
        found: list[report.Row] = []
        with tempfile.TemporaryDirectory() as folder:
            for suite in SUITES if args.suite == "all" else (args.suite,):
                found += RUN[suite](args, Path(folder))
                if args.out:  # as far as it has come: a suite takes minutes
                    report.write(Path(args.out), found)
    except (UsageError, WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n" + report.markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
