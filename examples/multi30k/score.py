"""Score what fairseq-generate printed against a reference file, with sacreBLEU.

Called by evaluate.sh.
"""

import argparse
import json
import platform
import re
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU

# fairseq's line for a hypothesis: its sentence's place in the corpus, its score, its text.
HYPOTHESIS = re.compile(r"^H-(\d+)\t[^\t]*\t(.*)$")


class ScoringError(Exception):
    """The translations do not fit the reference; the message is one line for the user."""


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file; only a newline ends a line."""
    return path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")


def read_hypotheses(generated: Path, count: int) -> list[str]:
    """The `count` hypotheses of a log of fairseq-generate, in the order of the corpus.

    fairseq translates batches of similar length, and prints in that order.
    """
    found: dict[int, str] = {}
    for line in read_lines(generated):
        if match := HYPOTHESIS.match(line):
            found[int(match[1])] = match[2]
    if sorted(found) != list(range(count)):
        raise ScoringError(f"fairseq-generate gave {len(found)} hypotheses for {count} references")
    return [found[index] for index in range(count)]


def versions() -> dict[str, str]:
    """The versions of what has a part in the score; fairseq goes by several distribution names."""
    distributions = packages_distributions()
    packages = ("tsa_fairseq", "fairseq", "torch", "sacrebleu")
    return {"python": platform.python_version()} | {
        name: version(distributions[name][0]) for name in packages if name in distributions
    }


def score(args: argparse.Namespace) -> str:
    """Write the hypotheses and the report; returns the line to print."""
    references = read_lines(args.reference)
    hypotheses = read_hypotheses(args.generated, len(references))
    # sacreBLEU warns about tokenised text unless forced; in one of the protocols it is on purpose.
    bleu = BLEU(tokenize=args.tokenize, force=True)
    result = bleu.corpus_score(hypotheses, [references])
    signature = str(bleu.get_signature())
    args.hypotheses.write_text("".join(f"{line}\n" for line in hypotheses), encoding="utf-8")
    report = {
        "bleu": result.score,
        "signature": signature,
        "brevity_penalty": result.bp,
        "sentences": len(hypotheses),
        **dict(args.note),
        "versions": versions(),
    }
    args.report.write_text(
        json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return f"BLEU {result.score:.2f}  {signature}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--generated", required=True, type=Path, help="the output of fairseq-generate"
    )
    parser.add_argument("--reference", required=True, type=Path)
    parser.add_argument("--tokenize", required=True, choices=["none", "13a"])
    parser.add_argument(
        "--hypotheses", required=True, type=Path, help="written: one line a sentence"
    )
    parser.add_argument("--report", required=True, type=Path, help="written: JSON")
    parser.add_argument("--note", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    try:
        print(score(parser.parse_args()))
    except (ScoringError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
