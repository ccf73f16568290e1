"""Score what fairseq-generate printed against a reference file, with sacreBLEU.

Called by evaluate.sh.
"""

import argparse
import json
import sys
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU

# scripts/study.py takes this file by itself
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipe.errors import RecipeError, run  # noqa: E402, F401
from recipe.hypotheses import read_hypotheses, read_lines  # noqa: E402
from recipe.versions import versions  # noqa: E402


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
        "versions": versions("sacrebleu"),
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
    print(score(parser.parse_args()))


if __name__ == "__main__":
    run(main)
