"""The table of scores of a model's translations: leaf 0, the best leaf, all leaves together.

Called by evaluate.sh. Each row is a log of fairseq-generate; each column one way to count.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from recipe.errors import RecipeError, run
from recipe.hypotheses import read_hypotheses, read_lines
from recipe.moses import Moses
from recipe.versions import versions

SPLIT_DASH = " @-@ "
NAMES = {
    "tokenised": "BLEU, tokenised",
    "detokenised": "sacreBLEU, detokenised",
    "compound": "BLEU, compound-split (not comparable with the others)",
    "chrf": "chrF2, detokenised",
}


@dataclass(frozen=True)
class Texts:
    """The same sentences in two forms.

    Args:
        words: Moses' tokens, without the splits at dashes that ``-a`` makes.
        plain: as people write.
    """

    words: list[str]
    plain: list[str]


def split_compounds(line: str) -> str:
    """A hyphen inside a word as a token of its own, as in Vaswani et al.'s figures."""
    return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", line)


def of_tokens(lines: list[str], moses: Moses) -> Texts:
    """Texts of the tokenised protocol's lines."""
    words = [line.replace(SPLIT_DASH, "-") for line in lines]
    return Texts(words, [moses.detokenise(line) for line in lines])


def of_plain(lines: list[str], moses: Moses) -> Texts:
    """Texts of the raw protocol's lines."""
    return Texts([moses.tokenise(line) for line in lines], lines)


class Scorer:
    """Every score of a list of translations.

    Args:
        reference: what they are compared with.
        lower: whether case counts for nothing, of plain text: the tokenised protocol has none.
        compound: whether compound-split BLEU is of interest; it was published for German.
    """

    def __init__(self, reference: Texts, lower: bool, compound: bool) -> None:
        self._reference, self._compound = reference, compound
        # sacreBLEU warns about tokenised text unless forced; here it is on purpose.
        self.metrics: dict[str, BLEU | CHRF] = {
            "tokenised": BLEU(tokenize="none", force=True),
            "detokenised": BLEU(tokenize="13a", lowercase=lower),
        }
        if compound:
            self.metrics["compound"] = BLEU(tokenize="none", force=True)
        self.metrics["chrf"] = CHRF(lowercase=lower)
        self.signatures: dict[str, str] = {}

    def score(self, texts: Texts) -> dict[str, float]:
        """By name of the metric."""
        found = {}
        for name, metric in self.metrics.items():
            ours, theirs = self._forms(name, texts), self._forms(name, self._reference)
            found[name] = metric.corpus_score(ours, [theirs]).score
            self.signatures[name] = str(metric.get_signature())
        return found

    def _forms(self, name: str, texts: Texts) -> list[str]:
        if name == "compound":
            return [split_compounds(line) for line in texts.words]
        return texts.words if name == "tokenised" else texts.plain


def table(rows: dict[str, dict[str, float]], signatures: dict[str, str]) -> str:
    """Figures, a model in each column, and what they were counted with."""
    width = max(len(NAMES[name]) for name in signatures)
    columns = {row: max(len(row), 6) for row in rows}
    lines = [" " * width + "".join(f"  {row:>{size}}" for row, size in columns.items())]
    for name in signatures:
        figures = (f"  {rows[row][name]:>{size}.2f}" for row, size in columns.items())
        lines.append(f"{NAMES[name]:<{width}}" + "".join(figures))
    lines += ["", *(f"{NAMES[name]}: {text}" for name, text in signatures.items())]
    return "\n".join(lines)


def evaluate(args: argparse.Namespace) -> str:
    """Score all rows, and write hypotheses and report; the table."""
    moses = Moses(args.language, split_dashes=False)
    plain = read_lines(args.reference)
    tokenised = args.protocol == "tokenised"
    form = of_tokens if tokenised else of_plain
    if tokenised:
        words = read_lines(args.words)
        if len(words) != len(plain):
            raise RecipeError(
                f"{args.reference}: has {len(plain)} lines, and {args.words} has {len(words)}"
            )
        reference = Texts(of_tokens(words, moses).words, plain)
    else:
        reference = of_plain(plain, moses)
    scorer = Scorer(reference, args.lower, args.compound)
    rows = {}
    for name, log in args.row:
        hypotheses = form(read_hypotheses(Path(log), len(plain)), moses)
        text = "".join(f"{line}\n" for line in hypotheses.plain)
        Path(log).with_suffix(f".{args.language}").write_text(text, encoding="utf-8")
        rows[name] = scorer.score(hypotheses)
    report = {
        "scores": rows,
        "signatures": scorer.signatures,
        "sentences": len(plain),
        **dict(args.note),
        "versions": versions("sacrebleu", "sacremoses"),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    args.report.write_text(text, encoding="utf-8")
    return table(rows, scorer.signatures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", required=True, choices=["tokenised", "raw"])
    parser.add_argument("--language", required=True, help="of the translations")
    parser.add_argument("--reference", required=True, type=Path, help="plain text")
    parser.add_argument("--words", type=Path, help="the same, of the tokenised protocol")
    parser.add_argument("--report", required=True, type=Path, help="written: JSON")
    parser.add_argument("--lower", action="store_true")
    parser.add_argument("--compound", action="store_true")
    parser.add_argument("--row", nargs=2, action="append", required=True, metavar=("NAME", "LOG"))
    parser.add_argument("--note", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    print(evaluate(parser.parse_args()))


if __name__ == "__main__":
    run(main)
