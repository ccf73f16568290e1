"""The numbers of compare, each against something that does not share its code."""

import itertools
import math
import random
import statistics
import sys
import types

import numpy as np
import pytest
from evidence_texts import SPEED, generated, lines_of, training, worse, write
from helpers import exactly
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from tsa_fairseq.errors import UsageError
from tsa_fairseq.evidence import breakdown, sentences
from tsa_fairseq.evidence.costs import cost, dimensions, topology_of, training_ratio
from tsa_fairseq.evidence.generated import parse
from tsa_fairseq.evidence.leaves import Leaves, nll_of_leaves
from tsa_fairseq.evidence.logs import read_log
from tsa_fairseq.evidence.pairs import paired
from tsa_fairseq.evidence.scores import measures, pooled
from tsa_fairseq.evidence.spread import Spread, seed_test
from tsa_fairseq.evidence.systems import Seed, read_seed
from tsa_fairseq.evidence.warnings import differences, is_lower, is_tokenised

REFERENCE = lines_of("S-plain-s1.average.test", 60)
OURS, THEIRS = worse(REFERENCE, 1, 0.2), worse(REFERENCE, 2, 0.3)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("bleu", BLEU(tokenize="none", force=True)),
        ("chrf", CHRF()),
        ("ter", TER()),
    ],
)
def test_scores_are_sacrebleus(name, made):
    (measure,) = measures([name], [REFERENCE, THEIRS], "none", False)
    found = measure.score(measure.counts(OURS))
    expected = made.corpus_score(OURS, [REFERENCE, THEIRS])
    assert found.value == expected.score
    assert found.brevity_penalty == getattr(expected, "bp", None)
    assert found.length_ratio == getattr(expected, "ratio", None)
    assert measure.signature == str(made.get_signature())


def test_seeds_weigh_the_same():
    """Of one seed against two that are alike: as if there were one."""
    (measure,) = measures(["bleu"], [REFERENCE], "none", False)
    # so close that p is not the least that is possible, whatever is done
    ours, theirs = (measure.counts(worse(REFERENCE, seed, 0.25)) for seed in (1, 2))
    once = paired(measure, {"a": [ours], "b": [theirs]}, "b", 50, 50)
    twice = paired(measure, {"a": [ours, ours], "b": [theirs]}, "b", 50, 50)
    assert twice.gains == once.gains and 0.1 < once.gains["a"].p < 0.9
    assert (pooled([ours, theirs]) == np.array(ours) + np.array(theirs)).all()


def test_a_gains_interval():
    """Resampled in plain loops."""
    (measure,) = measures(["bleu"], [REFERENCE], "none", False)
    systems = {"a": [measure.counts(OURS)], "b": [measure.counts(THEIRS)]}
    gain = paired(measure, systems, "b", 40, 10).gains["a"]
    draw, bleu = np.random.default_rng(12345), BLEU(tokenize="none", force=True)
    gains = []
    for row in draw.integers(60, size=(40, 60)):
        chosen = [[lines[n] for n in row] for lines in (OURS, THEIRS, REFERENCE)]
        ours, theirs = (bleu.corpus_score(side, [chosen[2]]).score for side in chosen[:2])
        gains.append(ours - theirs)
    assert (gain.low, gain.high) == pytest.approx(np.quantile(gains, [0.025, 0.975]))
    assert gain.low < gain.value < gain.high


def test_over_seeds_as_scipy_has_it():
    from scipy.stats import ttest_ind

    ours, theirs = [30.1, 31.4, 30.9], [29.2, 30.3, 28.8, 29.9]
    found, expected = seed_test(ours, theirs), ttest_ind(ours, theirs, equal_var=False)
    reach = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((reach.low, reach.high))
    assert found.difference == pytest.approx(statistics.mean(ours) - statistics.mean(theirs))
    # of all 35 ways to choose three of the seven values
    values, extreme = ours + theirs, 0
    for chosen in itertools.combinations(range(7), 3):
        rest = [values[n] for n in range(7) if n not in chosen]
        difference = statistics.mean(values[n] for n in chosen) - statistics.mean(rest)
        extreme += abs(difference) >= abs(found.difference) - 1e-12
    assert found.p_permutation == pytest.approx(extreme / 35)
    assert found.p_least == pytest.approx(1 / 35)
    assert seed_test(ours, theirs[:3]).p_least == pytest.approx(2 / 20)


def test_too_few_seeds_and_none_that_differ():
    assert seed_test([1.0], [2.0, 3.0]) is None
    same = seed_test([2.0, 2.0], [2.0, 2.0])
    assert (same.p, same.low, same.high, same.p_permutation) == (1, 0, 0, 1)
    # t would be infinite
    assert seed_test([3.0, 3.0], [2.0, 2.0]).p == pytest.approx(2 / 6)
    assert Spread.of([]) is None
    assert Spread.of([1.0]) == Spread(1.0, None, 1)
    assert Spread.of([1.0, 3.0]) == Spread(2.0, math.sqrt(2), 2)


def test_many_seeds_are_dealt_out_at_random():
    drawn = random.Random(1)
    ours, theirs = ([drawn.gauss(0, 1) for _ in range(12)] for _ in range(2))
    assert 0.05 < seed_test(ours, theirs).p_permutation <= 1
    assert seed_test([one + 9 for one in ours], theirs).p_permutation == 1 / 20_000


def test_by_length():
    (measure,) = measures(["bleu"], [REFERENCE], "none", False)
    groups = breakdown.by_length(measure, {"a": [measure.counts(OURS)]}, REFERENCE)
    assert sum(group.size for group in groups) == 60
    bounds = [tuple(map(int, group.label.split(" to "))) for group in groups]
    assert bounds == sorted(bounds) and len(bounds) > 2
    low, high = bounds[1]
    inside = [n for n, line in enumerate(REFERENCE) if low <= len(line.split()) <= high]
    assert groups[1].size == len(inside)
    bleu = BLEU(tokenize="none", force=True)
    some = [[lines[n] for n in inside] for lines in (OURS, REFERENCE)]
    assert groups[1].values["a"] == bleu.corpus_score(some[0], [some[1]]).score


def test_by_frequency():
    """'the' is common, 'cat' was seen once, 'emu' never."""
    groups = breakdown.by_frequency(
        {"a": [["the cat the", "emu"]], "b": [["the the", "the"]]},
        ["the cat sat", "the emu"],
        ["the the the", "the the cat"],
        breakdown.Words("none", False),
    )
    sizes = {group.label: group.size for group in groups}
    assert sizes == {"never": 2, "1": 1, "5 to 9": 2}
    # never: 'sat' is missing and 'emu' found; the: of two wanted, one of two given is right
    assert [group.values["a"] for group in groups] == pytest.approx([200 / 3, 100, 50])
    assert [group.values["b"] for group in groups] == pytest.approx([0, 0, 200 * 2 / 5])


def test_a_duel():
    ours, theirs = np.array([[5.0, 2, 3, 4]]), np.array([[1.0, 2, 9, 4]])
    lines = [["a", "b", "c", "d"]]
    found = sentences.duel(ours, theirs, lines, [["x", "b", "y", "z"]])
    assert (found.identical, found.won, found.tied, found.lost) == (0.25, 0.25, 0.25, 0.25)
    assert [(one.number, one.value) for one in found.best] == [(0, 4)]
    assert [(one.number, one.value) for one in found.worst] == [(2, -6)]
    # two seeds, the second of which gives what the baseline does
    both = sentences.duel(np.array([[5.0], [1.0]]), np.array([[1.0]]), [["a"], ["x"]], [["x"]])
    assert (both.identical, both.won) == (0.5, 0.5)
    assert both.best[0].value == 2


def test_ngrams():
    won, lost = sentences.ngrams(
        [["the old cat sat", "a dog"]], [["the cat", "a big dog"]],
        ["the old cat", "a big dog"], str,
    )  # fmt: skip
    # 'the old' and 'old' say no more than what they are part of
    assert [(one.words, one.ours, one.theirs) for one in won] == [("the old cat", 1, 0)]
    assert [(one.words, one.ours, one.theirs) for one in lost] == [("a big dog", 0, 1)]


def test_what_fairseq_generate_prints(tmp_path):
    path = generated(
        tmp_path / "x", ["eins", "", "drei"], ["e", "z", "d"], ["1", "2 2", "3 3 3"], SPEED
    )
    found = parse(path.read_text().split("\n"), str(path), "SYSTEM")
    assert found.hypotheses == ["eins", "", "drei"]
    assert (found.sources, found.references) == (["1", "2 2", "3 3 3"], ["e", "z", "d"])
    assert found.speed == 40.25
    # without its tokenizer; the best of several; standard error in a file beside it
    lines = ["H-0\t-1\tein &quot;", 'D-0\t-1\tein "', "H-0\t-2\tzwei", "D-0\t-2\tzwei"]
    write(tmp_path / "y.log", [SPEED])
    found = parse(lines, str(write(tmp_path / "y.txt", lines)), "SYSTEM")
    assert (found.hypotheses, found.references, found.speed) == (['ein "'], None, 40.25)
    message = (
        "SYSTEM: 'y' has 2 translations, up to number 2, but none of number 1; expected every "
        "sentence (fairseq-generate with --required-batch-size-multiple 1 leaves none out)"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        parse(["H-0\t-1\ta", "H-2\t-1\tb"], "y", "SYSTEM")


def log_of(folder, **config):
    log = read_log(str(training(folder / "train.log", [5, 4], leaves=2)), "RUN")
    log.config.update(config)
    return log


def test_cost_of_a_training(tmp_path):
    """A tree 1,2 of width 8 and 100 words: 3 decoder layers where the plain model has 2."""
    training(tmp_path / "train.log", [5, 4], leaves=2)
    (tmp_path / "checkpoint_best.pt").write_bytes(b"x" * 50)
    generated(tmp_path / "generate.txt", ["a"], ["b"], ["c"], SPEED)
    found = cost(read_seed(str(tmp_path), "RUN", None, True))
    encoder, decoder = 4 * 64 + 2 * 8 * 16, 8 * 64 + 2 * 8 * 16
    plain, tree = 2 * encoder + 2 * decoder + 800, 2 * encoder + 3 * decoder + 2 * 800
    layer = 8 * 8 * 9 + (9 * 16 + 17 * 8) + 3 * 16
    assert found.training_parameters == 3000
    assert found.parameters == 3000 - layer
    assert found.ratio == pytest.approx(tree / plain)
    assert found.multiply_adds == pytest.approx(3 * tree * 20 * 100)
    assert (found.seconds, found.speed, found.size) == (8.5, 40.25, 50)
    assert cost(Seed("x", ["a"], "x", None, None)).ratio is None


@pytest.mark.parametrize("deal", [False, True])
def test_cost_of_views(tmp_path, deal):
    """Dealt out, each of two leaves is computed in one view: the trunk twice, all else once."""
    log = log_of(tmp_path, kd_views=2, kd_views_leaves="deal" if deal else "all")
    encoder, decoder = 4 * 64 + 2 * 8 * 16, 8 * 64 + 2 * 8 * 16
    plain = 2 * encoder + 2 * decoder + 800
    tree = 2 * (2 * encoder + 3 * decoder + 2 * 800)
    if deal:
        tree = 2 * (2 * encoder + decoder) + 2 * (decoder + 800)
    assert training_ratio(log, topology_of(log), dimensions(log)) == pytest.approx(tree / plain)
    log = log_of(tmp_path, kd_views=None, kd_objective="rdrop", tree="2")
    assert training_ratio(log, topology_of(log), dimensions(log)) == 2


def test_leaves(tmp_path):
    assert nll_of_leaves(log_of(tmp_path)) == (4, 4.25)
    (bleu,) = measures(["bleu"], [["a"]], "none", False)
    right = Leaves("t", (4.0, 3.5), (20.0, 21.0), 22.0, 0.5, ())
    assert right.kept == 1
    assert right.verdict(bleu) == "Validation keeps leaf 1, and it translates best."
    wrong = Leaves("t", (3.0, 3.5), (20.0, 21.25), 22.0, 0.5, ())
    assert wrong.verdict(bleu) == (
        "Validation keeps leaf 0; leaf 1 translates better by 1.25 BLEU, which the test set alone "
        "knows."
    )
    silent = Leaves("t", (), (20.0, 21.25), 22.0, 0.5, ())
    assert silent.verdict(bleu) == (
        "Leaf 1 translates best; no validation log says which would be kept."
    )


RAW = ["Das Haus.", "Ein Hund.", "Es regnet.", "Ja.", "Nein."]
APART = [line.replace(".", " .") for line in RAW]
LOWER = [line.lower() for line in RAW]


def test_tokenised_and_lower_case():
    assert (is_tokenised(APART), is_tokenised(RAW), is_tokenised(RAW[:4])) == (True, False, None)
    assert is_lower(LOWER) and not is_lower(RAW)


@pytest.mark.parametrize(
    ("systems", "references", "tokenize", "expected"),
    [
        ({"a": RAW}, [RAW], "13a", []),
        ({"a": APART}, [APART], "none", []),
        (
            {"a": APART, "b": RAW}, [RAW], "13a",
            "a: tokenised, b and the reference: not; their scores cannot be compared",
        ),
        (
            {"a": APART}, [APART], "13a",
            "the texts are tokenised, and --tokenize 13a splits them again; scores of tokenised "
            "text (--tokenize none) are not those of raw text",
        ),
        (
            {"a": RAW}, [RAW], "none",
            "the texts are not tokenised, and --tokenize none leaves full stops on their words; "
            "13a is usual",
        ),
        (
            {"a": LOWER, "b": LOWER}, [RAW], "13a",
            "a and b: all lower case, the others not; --lowercase disregards it",
        ),
        (
            {"a": RAW}, [RAW, [*RAW[:3], "", " "]], "13a",
            "reference 2 is empty for 2 sentences: fewer references than the others have",
        ),
        (
            {"a": RAW}, [["Das <<unk>>.", *RAW[1:]]], "13a",
            "1 reference with words that the dictionary lacks (<<unk>>), which no translation can "
            "match; --reference with the text itself gives the real scores",
        ),
    ],
)  # fmt: skip
def test_warnings(systems, references, tokenize, expected):
    assert differences(systems, references, tokenize, False) == ([expected] if expected else [])


def test_comet(monkeypatch):
    """Of a model that judges by the share of the source in the translation."""
    with pytest.raises(UsageError, match=exactly(
        "--metrics: 'comet' takes unbabel-comet, which is not installed: pip install unbabel-comet"
    )):  # fmt: skip
        measures(["comet"], [["a"]], "13a", False, ["b"])

    class Model:
        def predict(self, rows, batch_size, gpus, progress_bar):
            scores = [len(row["mt"]) / (len(row["src"]) + len(row["ref"])) for row in rows]
            return types.SimpleNamespace(scores=scores)

    module = types.SimpleNamespace(download_model=str, load_from_checkpoint=lambda path: Model())
    monkeypatch.setitem(sys.modules, "comet", module)
    (measure,) = measures(["comet"], [["aa", "bb"]], "13a", False, ["cc", "dd"])
    ours, theirs = measure.counts(["a", "bbb"]), measure.counts(["a", "b"])
    assert measure.score(ours).value == 50 and measure.title == "COMET"
    assert measure.signature == "nrefs:1|model:Unbabel/wmt22-comet-da|version:2.6.0"
    gain = paired(measure, {"a": [ours], "b": [theirs]}, "b", 10, 10).gains["a"]
    assert gain.value == 25
    for references, sources, message in (
        ([["a"]], None, "--metrics: 'comet' reads the sources, too; expected --source"),
        ([["a"], ["b"]], ["c"], "--metrics: 'comet' takes one reference; got 2"),
    ):
        with pytest.raises(UsageError, match=exactly(message)):
            measures(["comet"], references, "13a", False, sources)
