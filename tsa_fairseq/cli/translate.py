"""``tsa-fairseq translate``: lines of text in, as many lines out, by a model of any kind."""

import math
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from tsa_fairseq.cli.progress import nobody_reads
from tsa_fairseq.cli.text_flags import add_text_flags, text_options
from tsa_fairseq.deploy.hub import DEVICES, load
from tsa_fairseq.deploy.search import (
    BATCH,
    BEAM,
    MAX_LENGTH,
    Hypothesis,
    Search,
    check_positive,
    check_search_numbers,
    cut,
)
from tsa_fairseq.errors import UsageError, check_choice, plural

# Bytes asked for at a time: of a pipe, what is there is given at once.
_READ = 2**20
# Batches translated together, for each of which sentences of one length are chosen among them.
_TOGETHER = 64


def add_options(parser: ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument(
        "model", metavar="MODEL", help="a checkpoint, or the folder of an export of any kind"
    )
    parser.add_argument("--beam", type=int, default=BEAM, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--nbest",
        type=int,
        default=1,
        metavar="N",
        help="N lines for every one, best first (default: %(default)s)",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="before every translation its score, the mean log probability of a word, and a tab",
    )
    parser.add_argument(
        "--batch", type=int, default=BATCH, metavar="N", help="sentences (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="default: CTranslate2 all cores, fairseq torch's"
    )
    parser.add_argument("--device", default="cpu", metavar="|".join(DEVICES), help="default: cpu")
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help=f"words or pieces of a translation (default: {MAX_LENGTH})",
    )
    parser.add_argument("--prefix", metavar="TEXT", help="what every translation begins with")
    parser.add_argument("--inference", metavar="leaf:N|ensemble|gate", help="of a tree")
    parser.add_argument("--data", help="where the dictionaries are, of a checkpoint")
    add_text_flags(parser)
    parser.set_defaults(run=translate)


def translate(args: Namespace) -> None:
    """Translate standard input to standard output, until either is closed.

    Raises:
        UsageError: a flag or a file that cannot be used, or text that is not UTF-8.
    """
    check_search_numbers(args.beam, args.nbest, args.batch, "--")
    check_choice("--device", args.device, DEVICES)
    for flag, value in (("--threads", args.threads), ("--max-length", args.max_length)):
        if value is not None:
            check_positive(flag, value)
    try:
        _translate(args)
    except UsageError as error:
        raise _in_flags(error, args) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        nobody_reads()


def _translate(args: Namespace) -> None:
    translator = load(
        args.model,
        args.inference,
        args.data,
        source_lang=args.source_lang,
        target_lang=args.target_lang,
        threads=args.threads,
        device=args.device,
        **text_options(args),
    )
    options = {} if args.max_length is None else {"max_len_b": args.max_length}
    search = Search(args.beam, args.nbest, args.batch, args.scores, options)
    prefix = translator.prefixes(args.prefix, 1)
    most, done = translator.longest()[0], 0
    progress = _Progress()
    for lines in _groups(sys.stdin.fileno(), _TOGETHER * args.batch):
        sources = cut([translator.text.source_words(line) for line in lines], most, done + 1)
        prefixes = None if prefix is None else prefix * len(sources)
        found = translator.hypotheses(sources, prefixes, search)
        text = "".join(_shown(best, args.nbest, args.scores) for best in found)
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
        done += len(lines)
        progress.show(done)
    progress.end()


def _shown(best: list[Hypothesis], number: int, scores: bool) -> str:
    """So many lines, whether or not so many translations were found."""
    best = best + [Hypothesis("", -math.inf)] * (number - len(best))
    return "".join(f"{one.score:.4f}\t{one.text}\n" if scores else f"{one.text}\n" for one in best)


def _groups(file: int, most: int) -> Iterator[list[str]]:
    """Lines of a file or pipe, as many as are there already, at most so many together.

    Raises:
        UsageError: they are not UTF-8.
    """
    number, rest = 1, b""
    while data := os.read(file, _READ):
        *whole, rest = (rest + data).split(b"\n")
        for start in range(0, len(whole), most):
            group = whole[start : start + most]
            yield from _decode(group, number)
            number += len(group)
    if rest:
        yield from _decode([rest], number)


def _decode(lines: list[bytes], first: int) -> Iterator[list[str]]:
    """The lines as text; those before one that is none, and only then is it refused."""
    decoded: list[str] = []
    for number, line in enumerate(lines, first):
        try:
            decoded.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            if decoded:
                yield decoded
            raise UsageError(
                f"standard input: line {number} is not UTF-8: {error.reason}"
            ) from None
    yield decoded


def _in_flags(error: UsageError, args: Namespace) -> UsageError:
    """A message that names an argument of ``load``, with the flag for it."""
    name, _, rest = str(error).partition(":")
    flags: dict[str, Any] = {"path": "MODEL", "max_len_b": "--max-length"}
    flags["--tree-inference"] = "--inference"
    flags.update({known: f"--{known.replace('_', '-')}" for known in vars(args)})
    shown = ", ".join(flags.get(one, one) for one in name.split(", "))
    return UsageError(f"{shown}:{rest}")


class _Progress:
    """Lines and lines a second, where somebody looks on while something else is written."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty() and not sys.stdout.isatty()
        self._begun = time.perf_counter()

    def show(self, lines: int) -> None:
        """After so many lines."""
        if self._shown:
            rate = lines / max(time.perf_counter() - self._begun, 1e-9)
            said = f"\r{plural(lines, 'line')}, {rate:,.1f} a second"
            print(said, end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line as it is."""
        if self._shown:
            print(file=sys.stderr)
