"""Checkpoints of released versions: they load, translate as they did, and can be exported.

Those of a release that is out are never made anew: ``tests/stored/make.py``.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tsa_fairseq
from tsa_fairseq.cli.main import main

RELEASES = sorted(path.parent for path in Path(__file__).parent.glob("stored/*/tree.pt"))


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def release(request):
    return request.param


def expected(release):
    return json.loads((release / "expected.json").read_text(encoding="utf-8"))


def check(translator, sentences, hypotheses):
    """Words and scores, of every sentence alone and of all together."""
    for sentence, (words, score) in zip(sentences, hypotheses, strict=True):
        assert translator.translate(sentence) == words
        (found, *_) = translator.generate(translator.encode(sentence))
        assert found["score"].item() == pytest.approx(score, abs=1e-5)
    assert translator.translate(sentences) == [words for words, _ in hypotheses]


def test_this_release_is_among_them():
    assert tsa_fairseq.__version__ in [folder.name for folder in RELEASES]


@pytest.mark.parametrize("inference", ["leaf:0", "leaf:1", "leaf:2", "ensemble", "gate"])
def test_it_translates_as_it_did(inference, release):
    made = expected(release)
    translator = tsa_fairseq.load(release / "tree.pt", inference=inference)
    check(translator, made["sentences"], made["hypotheses"][inference])


def test_its_leaves_differ(release):
    """Or else the test above could not tell one from another."""
    scores = [[score for _, score in of] for of in expected(release)["hypotheses"].values()]
    for one in range(len(scores)):
        for other in scores[:one]:
            assert max(abs(a - b) for a, b in zip(scores[one], other, strict=True)) > 1e-4


@pytest.mark.parametrize("leaf", [0, 1, 2])
def test_its_leaves_can_be_exported(leaf, release, tmp_path):
    made, out = expected(release), tmp_path / "out"
    flags = ["--leaf", str(leaf), "--data", str(release)]
    assert main(["export", str(release / "tree.pt"), str(out), *flags]) == 0
    check(tsa_fairseq.load(out), made["sentences"], made["hypotheses"][f"leaf:{leaf}"])


def test_it_can_be_exported_to_ctranslate2(release, tmp_path):
    made, out = expected(release), tmp_path / "out"
    flags = ["--leaf", "2", "--data", str(release), "--to", "ctranslate2"]
    assert main(["export", str(release / "tree.pt"), str(out), *flags]) == 0
    words = [words for words, _ in made["hypotheses"]["leaf:2"]]
    assert tsa_fairseq.load(out).translate(made["sentences"]) == words


@pytest.mark.parametrize("to", ["fairseq", "ctranslate2"])
def test_its_exports_translate_as_they_did(to, release):
    """Leaf 2, exported by that release."""
    made = expected(release)
    translator = tsa_fairseq.load(release / f"exported.{to}")
    words = [words for words, _ in made["hypotheses"]["leaf:2"]]
    assert translator.translate(made["sentences"]) == words
    if to == "fairseq":
        check(translator, made["sentences"], made["hypotheses"]["leaf:2"])


def test_it_can_be_averaged(release, tmp_path):
    """The mean of one checkpoint is that checkpoint."""
    made, mean = expected(release), tmp_path / "mean.pt"
    assert main(["average", str(mean), str(release / "tree.pt")]) == 0
    translator = tsa_fairseq.load(mean, data=str(release))
    check(translator, made["sentences"], made["hypotheses"]["leaf:0"])


@pytest.mark.slow
def test_the_next_release_can_be_made(tmp_path):
    """The script that is run once a release still works."""
    script, out = Path(__file__).parent / "stored" / "make.py", tmp_path / "next"
    done = subprocess.run([sys.executable, script, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    made = expected(out)
    translator = tsa_fairseq.load(out / "tree.pt", inference="ensemble")
    check(translator, made["sentences"], made["hypotheses"]["ensemble"])
    names = {path.name for path in out.iterdir()}
    exported = {"exported.fairseq", "exported.ctranslate2"}
    assert names == {"tree.pt", "dict.digits.txt", "dict.words.txt", "expected.json"} | exported
    for name in exported:
        words = [words for words, _ in made["hypotheses"]["leaf:2"]]
        assert tsa_fairseq.load(out / name).translate(made["sentences"]) == words


@pytest.mark.parametrize(
    ("flags", "loss"),
    [
        (dict(), 38.77260971069336),
        (dict(decoder_layerdrop=0.4), 40.02244567871094),
        (dict(kd_views=2, kd_views_leaves="deal"), 40.9192008972168),
        (dict(kd_objective="one", kd_views=2, decoder_normalize_before=True), 82.28126525878906),
    ],
)
def test_a_seed_gives_the_numbers_of_release_0_2_0(flags, loss, build, batch, criterion):
    """In training, where dropout and layer drop draw: in the same order as then."""
    flags = {"kd_objective": "tsa", "tree_peers": "fresh", "dropout": 0.3, **flags}
    model = build(tree="1[2,1[1,1]]", seed=1, kd_bridge_layers=None, **flags).train()
    model.set_num_updates(3)
    tested = criterion(max_update=9, **{n: v for n, v in flags.items() if n.startswith("kd_")})
    torch.manual_seed(2)
    assert tested(model, batch)[0].item() == pytest.approx(loss, rel=1e-5)
