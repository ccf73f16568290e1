"""From Python: n-best lists, scores, prefixes, forced decoding, long texts; one signature."""

import inspect
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import exactly
from made_up import SOURCES, TARGETS

import tsa_fairseq
from tsa_fairseq.cli.main import main
from tsa_fairseq.deploy.hub_ctranslate2 import CTranslate2Translator
from tsa_fairseq.deploy.hub_fairseq import Translator
from tsa_fairseq.deploy.search import Hypothesis, Scored
from tsa_fairseq.errors import UsageError

STORED = Path(__file__).parent / "stored" / "0.2.0"

BOTH = ["fairseq", "ctranslate2"]


@pytest.fixture(scope="module")
def loaded(made_up):
    return {kind: tsa_fairseq.load(getattr(made_up, kind), threads=1) for kind in BOTH}


@pytest.fixture(params=BOTH)
def translator(request, loaded):
    return loaded[request.param]


def test_both_have_one_signature():
    for name in ("translate", "score", "prefixes", "hypotheses"):
        ours, theirs = (getattr(kind, name) for kind in (Translator, CTranslate2Translator))
        assert inspect.signature(ours) == inspect.signature(theirs)
    for name in ("cuda", "half"):
        assert hasattr(Translator, name) and hasattr(CTranslate2Translator, name)


def test_what_is_returned(translator):
    """A string for a string, a list for a list; with nbest a list for each; with scores pairs."""
    (best, score), *_ = both = translator.translate(SOURCES[:2], scores=True)
    assert [type(one) for one in both] == [Hypothesis] * 2 and best == TARGETS[0]
    assert -0.05 < score < 0
    assert translator.translate(SOURCES[0], scores=True) == both[0]
    three = translator.translate(SOURCES[0], nbest=3)
    assert three[0] == TARGETS[0] and len(set(three)) == 3
    lists = translator.translate(["", SOURCES[0]], nbest=3, scores=True)
    assert lists[0] == [Hypothesis("", 0.0)] * 3
    assert [one.text for one in lists[1]] == three
    assert lists[1][0].score > lists[1][1].score > lists[1][2].score
    assert translator.translate([], nbest=3) == [] and translator.translate("\u200b") == ""


def test_scores_agree(loaded):
    """The mean log probability of a word and the end, with fairseq and with CTranslate2."""
    ours, theirs = (
        loaded[kind].translate(SOURCES, nbest=2, beam=4, max_len_b=15, scores=True) for kind in BOTH
    )
    for one, other in zip(ours, theirs, strict=True):
        assert one[0].text == other[0].text
        assert one[0].score == pytest.approx(other[0].score, abs=2e-3)
    for kind in BOTH:
        best = loaded[kind].translate(SOURCES[0], scores=True)
        log_probs = loaded[kind].score(SOURCES[0], best.text).log_probs
        assert best.score == pytest.approx(sum(log_probs) / len(log_probs), abs=2e-3)


def test_forced(loaded, made_up):
    """Word by word; against the model's own forward, and CTranslate2 against fairseq."""
    sources, targets = [SOURCES[0], "das haus", ""], [TARGETS[1], "старо кучеxy", TARGETS[0]]
    ours, theirs = (loaded[kind].score(sources, targets) for kind in BOTH)
    assert [one.words for one in ours] == [one.words for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
    assert ours[2] == theirs[2] == Scored([], []), "nothing comes of nothing"
    assert ours[0].words[-1] == "</s>" and "".join(ours[0].words[:-1]) == "▁мало▁куче"
    source, target = made_up.words
    words = loaded["fairseq"].text.source_words(sources[0])
    tokens = torch.tensor([[*map(source.index, words), source.eos()]])
    forced = [*map(target.index, ours[0].words[:-1]), target.eos()]
    shifted = torch.tensor([[target.eos(), *forced[:-1]]])
    with torch.no_grad():
        logits = made_up.model(tokens, torch.tensor([tokens.size(1)]), shifted)[0]
    expected = logits.log_softmax(-1)[0, range(len(forced)), forced].tolist()
    assert ours[0].log_probs == pytest.approx(expected, abs=1e-5)
    one = loaded["fairseq"].score(sources[0], targets[0])
    assert isinstance(one, Scored) and one.log_probs == pytest.approx(ours[0].log_probs, abs=1e-5)


def test_prefixes(translator):
    """One for all, or one each; of other lengths, and none."""
    texts = translator.translate(SOURCES[:2], prefix="старо", max_len_b=8)
    assert all(text.split()[0] == "старо" for text in texts)
    texts = translator.translate(
        [SOURCES[0], "", SOURCES[1]], prefix=["мало старо", "миш", ""], max_len_b=8
    )
    assert texts[0].startswith("мало старо") and texts[1:] == ["", TARGETS[1]]


def test_a_batch_or_one_by_one(translator):
    lines = SOURCES * 3 + ["ein baum"]
    texts = translator.translate(lines, max_len_b=10)
    assert texts == translator.translate(lines, batch=1, max_len_b=10)
    assert texts[:12] == TARGETS * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(nbest=6), "nbest: got 6; expected 1 to 5, the beam"),
        (dict(nbest=0), "nbest: got 0; expected 1 to 5, the beam"),
        (dict(batch=0), "batch: got 0; expected 1 or more"),
        (dict(prefix=["a"]), "prefix: got 1; expected 2, one a sentence"),
        (dict(split_sentences=True, nbest=2),
         "nbest: takes whole texts; expected no split_sentences"),
        (dict(split_sentences=True, scores=True),
         "scores: takes whole texts; expected no split_sentences"),
        (dict(split_sentences=True, prefix="a"),
         "prefix: takes whole texts; expected no split_sentences"),
    ],
)  # fmt: skip
def test_bad_options(options, message, translator):
    with pytest.raises(UsageError, match=exactly(message)):
        translator.translate(SOURCES[:2], **options)


def test_bad_translations(translator):
    message = "target: got 1 translations; expected 2, one a sentence"
    with pytest.raises(UsageError, match=exactly(message)):
        translator.score(SOURCES[:2], "куче")
    message = "target: number 0 has 1201 words or pieces, its end included; expected at most 1024"
    with pytest.raises(UsageError, match=exactly(message)):
        translator.score("das haus", "куче " * 1200)
    with pytest.raises(TypeError, match=exactly("prefix: number 0 is int, 3; expected a string")):
        translator.translate(SOURCES[:1], prefix=[3])


def test_long_texts(translator):
    """Cut at the ends of sentences, when it is asked for."""
    text = "das kleine haus. Die maus ist klein. "
    parts = [translator.translate(part) for part in ("das kleine haus.", "Die maus ist klein.")]
    split = translator.translate([text, "", SOURCES[0]], split_sentences=True)
    assert split == [" ".join(parts), "", TARGETS[0]]
    assert translator.translate(text, split_sentences=True) == split[0]
    assert translator.translate(text) != split[0]


def test_long_texts_without_what_splits_them(translator, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencex", None)
    message = (
        "split_sentences: got True, which takes sentencex, which is not installed: "
        "pip install sentencex"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        translator.translate("das haus", split_sentences=True)


def test_half_precision(made_up):
    """fairseq has it on any device; CTranslate2 says where it cannot, and goes on as before."""
    loaded = tsa_fairseq.load(made_up.fairseq).half()
    assert next(loaded.parameters()).dtype == torch.float16
    assert loaded.translate(SOURCES[:2]) == TARGETS[:2]
    loaded = tsa_fairseq.load(made_up.ctranslate2)
    with pytest.raises(UsageError, match="^path: CTranslate2 refuses '.*': .*float16"):
        loaded.half()
    assert loaded.translate(SOURCES[:2]) == TARGETS[:2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="expects no GPU")
def test_no_gpu(made_up):
    loaded = tsa_fairseq.load(made_up.ctranslate2)
    message = "device: got 'cuda'; CTranslate2 sees no GPU here; expected cpu"
    with pytest.raises(UsageError, match=exactly(message)):
        loaded.cuda()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(made_up):
    for kind in BOTH:
        loaded = tsa_fairseq.load(getattr(made_up, kind)).cuda()
        assert loaded.translate(SOURCES) == TARGETS
        assert loaded.half().translate(SOURCES) == TARGETS


def test_threads(made_up):
    before = torch.get_num_threads()
    try:
        assert tsa_fairseq.load(made_up.fairseq, threads=2) and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert tsa_fairseq.load(made_up.ctranslate2, threads=3).model.num_translators == 3
    with pytest.raises(UsageError, match=exactly("threads: got 0; expected 1 or more")):
        tsa_fairseq.load(made_up.ctranslate2, threads=0)


def test_a_tree_and_its_ensemble(made_up):
    """Forced decoding by all leaves together, which are not leaf 0."""
    files = list(map(str, made_up.files))
    leaf, ensemble = (
        tsa_fairseq.load(made_up.path, inference=name, subwords=files).score("das haus", "куче")
        for name in ("leaf:0", "ensemble")
    )
    assert leaf.words == ensemble.words and leaf.log_probs != ensemble.log_probs
    assert all(value < 0 for value in ensemble.log_probs)


class FakeModel:
    """A CTranslate2 model that notes how it was opened, and finds one translation."""

    opened: list[dict] = []

    def __init__(self, folder, **options):
        FakeModel.opened.append(options)

    def translate_batch(self, sources, **options):
        words = ["<s>", "куче", "<blank>", "</s>", "<pad>"]
        return [SimpleNamespace(hypotheses=[words], scores=[-1.0]) for _ in sources]


def test_numbers_that_ctranslate2_does_not_take(made_up):
    with pytest.raises(UsageError, match=exactly("max_len_b: got 2.5; expected a whole number")):
        tsa_fairseq.load(made_up.ctranslate2).translate("haus", max_len_b=2.5)


@pytest.fixture
def fake(made_up, monkeypatch):
    import ctranslate2

    monkeypatch.setattr(ctranslate2, "Translator", FakeModel)
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    FakeModel.opened = []
    return made_up.ctranslate2


def test_symbols_are_not_shown(fake):
    """CTranslate2 finds them; fairseq shows none."""
    assert tsa_fairseq.load(fake).translate("haus") == "куче"


def test_one_batch_at_a_time_on_a_gpu_unless_told(fake, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    tsa_fairseq.load(fake).cuda()
    tsa_fairseq.load(fake, device="cuda")
    tsa_fairseq.load(fake, threads=4).cuda()
    assert [options["inter_threads"] for options in FakeModel.opened] == [3, 1, 1, 4, 4]


def test_scores_of_a_model_that_is_not_sure(tmp_path):
    """Of the stored tree, by both backends: all translations that both find, whatever lenpen."""
    folders = {}
    for to in BOTH:
        folders[to] = tmp_path / to
        argv = ["export", STORED / "tree.pt", folders[to], "--data", STORED, "--to", to]
        assert main([str(word) for word in argv]) == 0
    ours, theirs = (tsa_fairseq.load(folder) for folder in folders.values())
    words = ours.task.source_dictionary.symbols[4:]
    sources = [" ".join(words[start : start + 4]) for start in range(0, 12, 3)]
    compared = 0
    for lenpen in (0.0, 0.6, 1.0):
        options = dict(beam=4, nbest=3, scores=True, lenpen=lenpen, max_len_b=20)
        for one, other in zip(
            ours.translate(sources, **options), theirs.translate(sources, **options), strict=True
        ):
            scores = {found.text: found.score for found in other}
            for found in one:
                if found.text in scores and found.text.count(" ") < 15:  # ended by itself
                    assert scores[found.text] == pytest.approx(found.score, rel=0.01)
                    compared += abs(found.score) > 0.05
    assert compared >= 6
