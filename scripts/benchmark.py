"""Speed of translation: leaf 0 of a tree against a stock ``transformer`` of the same weights.

    python scripts/benchmark.py decode --data DATA-BIN --checkpoint TREE.pt --rounds 5

Both models translate the same sentences by ``fairseq-generate``, each time in a process of its own,
in turn, so that other work on the machine falls on both alike. What counts is the time that
fairseq-generate itself reports, from the first sentence to the last, without loading.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import tsa_fairseq
from tsa_fairseq.checkpoint import model_arguments, read_checkpoint
from tsa_fairseq.errors import UsageError

PLUGIN = str(Path(tsa_fairseq.__file__).parent)
GENERATE = "import sys; from fairseq_cli.generate import cli_main; sys.exit(cli_main())"
TRANSLATED = re.compile(r"Translated ([\d,]+) sentences .* in ([\d.]+)s")


def write_leaf_0(tree: str, plain: Path) -> None:
    """Save leaf 0 of a tree's checkpoint, whose names are fairseq's own, as a plain model."""
    state = read_checkpoint(tree, "--checkpoint")
    model = model_arguments(state)
    if not hasattr(model, "tree"):
        raise UsageError(f"--checkpoint: '{tree}' is not a tree's (its model has no --tree)")
    model.arch = model._name = "transformer"
    peers = ("decoder.peers.", "decoder.leaf_norms.")
    kept = {name: t for name, t in state["model"].items() if not name.startswith(peers)}
    torch.save({**state, "model": kept, "last_optimizer_state": None}, plain)


def translate(data: str, checkpoint: str, flags: list[str]) -> tuple[float, int, list[str]]:
    """Seconds, sentences and hypotheses of one run."""
    command = [sys.executable, "-c", GENERATE, data, "--user-dir", PLUGIN, "--path", checkpoint]
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    found = TRANSLATED.search(done.stdout + done.stderr)
    if done.returncode or not found:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"fairseq-generate failed on '{checkpoint}': {last}")
    hypotheses = [line for line in done.stdout.splitlines() if line.startswith("H-")]
    return float(found.group(2)), int(found.group(1).replace(",", "")), hypotheses


def decode(args: argparse.Namespace) -> None:
    """Time both models in turn and print a Markdown table."""
    if args.rounds < 1:
        raise UsageError(f"--rounds: got {args.rounds}; expected 1 or more")
    flags = ["--beam", "5", "--max-tokens", "4096", *([] if args.cuda else ["--cpu"])]
    with tempfile.TemporaryDirectory() as folder:
        plain = str(Path(folder) / "plain.pt")
        write_leaf_0(args.checkpoint, Path(plain))
        seconds: dict[str, list[float]] = {"plain transformer": [], "leaf 0 of the tree": []}
        for number in range(args.rounds):
            paths = dict(zip(seconds, (plain, args.checkpoint), strict=True))
            # every other round begins with the tree: the machine may be getting slower or faster
            names = list(paths) if number % 2 == 0 else list(reversed(paths))
            runs = {name: translate(args.data, paths[name], flags) for name in names}
            first, second = (runs[name] for name in paths)
            if first[2] != second[2]:
                raise UsageError("the two models translate differently; their times say nothing")
            for name, run in runs.items():
                seconds[name].append(run[0])
            done = f"round {number + 1} of {args.rounds}"
            print(f"{done}: {first[0]} s plain, {second[0]} s leaf 0", flush=True)
    sentences = first[1]
    print("\n| model | seconds: median (min to max) | sentences a second |")
    print("|---|---|---|")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(
            f"| {name} | {middle:.1f} ({min(taken):.1f} to {max(taken):.1f}) "
            f"| {sentences / middle:.1f} |"
        )
    ratios = [tree / stock for stock, tree in zip(*seconds.values(), strict=True)]
    print(f"\nleaf 0 / plain within a round: median {statistics.median(ratios):.3f} "
          f"({min(ratios):.3f} to {max(ratios):.3f})")  # fmt: skip
    device = "CUDA" if args.cuda else f"CPU, {torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, tsa_fairseq {tsa_fairseq.__version__}"
    print(f"{args.rounds} rounds in turn, {sentences} sentences, beam 5, {device}, {versions}")


def main() -> int:
    """Run the suite that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    suites = parser.add_subparsers(required=True, metavar="SUITE")
    suite = suites.add_parser("decode", help="translation: plain model, leaf 0")
    suite.add_argument("--data", required=True, help="what fairseq-preprocess made")
    suite.add_argument("--checkpoint", required=True, help="a tree's checkpoint")
    suite.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    suite.add_argument("--cuda", action="store_true", help="on the GPU")
    suite.set_defaults(run=decode)
    args = parser.parse_args()
    try:
        args.run(args)
    except UsageError as error:
        print(error.code, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
