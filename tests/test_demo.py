"""examples/demo: the phrases, the corpus, the report, every message, and (slow) the quick run."""

import dataclasses
import datetime
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo"
sys.path.insert(0, str(DEMO))  # its modules import each other by name

import compare  # noqa: E402
import make_data  # noqa: E402
import phrases  # noqa: E402
import report  # noqa: E402
import results as demo_results  # noqa: E402
import sentences  # noqa: E402
import translate_ct2  # noqa: E402
import words  # noqa: E402
from words import Pair  # noqa: E402

from tsa_fairseq.files.checkpoint import count_parameters  # noqa: E402
from tsa_fairseq.objectives import OBJECTIVES  # noqa: E402


def run_demo(*arguments, script="run.sh", **environment):
    """run.sh, or another script of the demo, in this Python's environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(DEMO / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, **environment},
    )


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pair, en, de",
    [
        (words.spelled(21), "twenty-one", "einundzwanzig"),
        (
            words.spelled(230145),
            *"two hundred and thirty thousand, one hundred and forty-five|"
            "zweihundertdreißigtausendeinhundertfünfundvierzig".split("|"),
        ),
        (words.digits(1234.5), "1,234.5", "1.234,5"),
        (words.ordinal(3), "third", "dritte"),
        (words.ordinal(21), "twenty-first", "einundzwanzigste"),
        (words.year_words(1985), "nineteen eighty-five", "neunzehnhundertfünfundachtzig"),
        (words.date(datetime.date(2021, 3, 5), "short"), "3/5/21", "05.03.21"),
        (words.date(datetime.date(2021, 3, 5), "medium"), "Mar 5, 2021", "05.03.2021"),
        (words.date(datetime.date(2021, 3, 5), "long"), "March 5, 2021", "5. März 2021"),
        (
            words.date(datetime.date(2021, 3, 5), "full"),
            *"Friday, March 5, 2021|Freitag, 5. März 2021".split("|"),
        ),
        (words.clock(datetime.time(15, 30)), "3:30 PM", "15:30 Uhr"),
        (words.clock(datetime.time(0, 5)), "12:05 AM", "00:05 Uhr"),
        (words.spoken_clock(3, 30), "half past three", "halb vier"),
        (words.spoken_clock(12, 30), "half past twelve", "halb eins"),
        (words.spoken_clock(12, 45), "a quarter to one", "Viertel vor eins"),
        (words.spoken_clock(6, 15), "a quarter past six", "Viertel nach sechs"),
        (words.spoken_clock(7, 35), "twenty-five to eight", "fünfundzwanzig vor acht"),
        (words.spoken_clock(9, 20), "twenty past nine", "zwanzig nach neun"),
        (words.measure(3.5, "length-kilometer"), "3.5 kilometers", "3,5 Kilometer"),
        (words.measure(12, "speed-kilometer-per-hour", "short"), "12 km/h", "12 km/h"),
        (words.currency_name("CHF"), "Swiss francs", "Schweizer Franken"),
    ],
)
def test_words_are_said_in_both_languages(pair, en, de):
    assert pair == Pair(en, de)


def test_digits_are_replaced_by_words_in_either_language():
    weeks = Pair("1,200 weeks ago", "vor 1.200 Wochen")

    assert words.in_words(1200, weeks) == Pair(
        "one thousand, two hundred weeks ago", "vor eintausendzweihundert Wochen"
    )


def test_inventories_name_real_things_only():
    assert Pair("Switzerland", "Schweiz") in words.territories()
    assert Pair("Vienna", "Wien") in words.cities()
    assert "CHF" in words.currencies()
    assert not {pair.en for pair in words.territories()} & {"Pseudo-Accents", "Unknown Region"}
    assert not {pair.en for pair in words.cities()} & {"Isle of Man", "Qatar"}
    assert "DEM" not in words.currencies(), "the mark is no legal tender any more"
    assert "ZWG" not in words.currencies(), "CLDR has no German name for it"


@pytest.mark.parametrize("unit", words.UNITS)
def test_every_unit_has_a_name_in_both_languages(unit):
    pair = words.measure(3, unit)

    # Without a name Babel gives the unit's CLDR code.
    assert unit not in (pair.en.split(" ", 1)[1], pair.de.split(" ", 1)[1])


def test_drawn_numbers_do_not_end_in_one_of_a_kind():
    rng = random.Random(0)
    drawn = [words.draw_number(rng, 4) for _ in range(5000)]

    assert min(drawn) == 2 and max(drawn) < 10_000
    assert not [number for number in drawn if number % 100 == 1]


# --- phrases -------------------------------------------------------------------------------------


class First(random.Random):
    """Draws the first of everything, and the least number."""

    def choice(self, seq):
        return seq[0]

    def sample(self, population, k):
        return list(population)[:k]

    def randrange(self, start, stop=None, step=1):
        return 0 if stop is None else start

    def randint(self, a, b):
        return a

    def random(self):
        return 0.0


@pytest.mark.parametrize(
    "maker, en, de",
    [
        (phrases.counted, "the first chapter", "das erste Kapitel"),
        (phrases.plain_date, "1/1/50", "01.01.50"),
        (
            phrases.date_in_words,
            *"the first of January, nineteen fifty|der erste Januar neunzehnhundertfünfzig".split(
                "|"
            ),
        ),
        (phrases.date_range, "Jan 1 – 3, 1950", "1.–3. Jan. 1950"),
        (phrases.quarter, "1st quarter 1950", "1. Quartal 1950"),
        (phrases.on_day, "on Sunday, January 1", "am Sonntag, dem 1. Januar"),
        (phrases.appointment, "on Monday at 12:00 AM", "am Montag um 00:00 Uhr"),
        (
            phrases.opening_hours,
            *"Monday to Monday from 12:00 AM to 12:00 AM|"
            "Montag bis Montag von 00:00 Uhr bis 00:00 Uhr".split("|"),
        ),
        (phrases.money_rounded, "1.1 million UAE dirhams", "1,1 Millionen VAE-Dirham"),
        (phrases.place_list, "Ascension Island", "Ascension"),
        (
            sentences.journey,
            *"Flight from Abidjan to Accra on Sunday, January 1, at 12:00 AM|"
            "Flug von Abidjan nach Accra am Sonntag, dem 1. Januar, um 00:00 Uhr".split("|"),
        ),
    ],
)
def test_phrases_are_said_in_both_languages(maker, en, de, monkeypatch):
    for module in (phrases, sentences):
        monkeypatch.setattr(module, "draw_number", lambda rng, digits: 2)

    assert maker(First()) == Pair(en, de)


@pytest.mark.parametrize("maker", sentences.WEIGHTS, ids=lambda maker: maker.__name__)
def test_every_kind_of_phrase_is_whole_and_clean(maker):
    rng = random.Random(7)
    for _ in range(200):
        for text in maker(rng):
            assert text == " ".join(text.split()), "one line, single plain spaces"
            assert not re.search(r"[{}]|\d{7}|None", text), text


def test_percentages_have_one_decimal_at_most():
    rng = random.Random(0)
    for _ in range(500):
        pair = phrases.percentage(rng)
        assert re.fullmatch(r"\d+(\.\d)?(%| percent)", pair.en), pair
        assert re.fullmatch(r"\d+(,\d)? (%|Prozent)", pair.de), pair


# --- the corpus ----------------------------------------------------------------------------------


def read(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}


def make(out, *arguments):
    sizes = ["--train", "900", "--valid", "50", "--test", "50"]
    return make_data.main(["--out", str(out), *sizes, *arguments])


def test_corpus_is_a_function_of_the_seed(tmp_path):
    assert make(tmp_path / "a") == make(tmp_path / "b") == make(tmp_path / "c", "--seed", "2") == 0

    assert read(tmp_path / "a") == read(tmp_path / "b")
    assert read(tmp_path / "a")["test.de"] != read(tmp_path / "c")["test.de"]


def test_corpus_has_its_sizes_and_no_line_twice(tmp_path, capsys):
    assert make(tmp_path / "data") == 0

    files = read(tmp_path / "data")
    assert sorted(files) == ["test.de", "test.en", "train.de", "train.en", "valid.de", "valid.en"]
    for language in words.LANGUAGES:
        lines = [files[f"{part}.{language}"].splitlines() for part in ("train", "valid", "test")]
        assert [len(part) for part in lines] == [900, 50, 50]
        assert len(set(sum(lines, []))) == 1000
    assert capsys.readouterr().out == f"wrote 1000 pairs to {tmp_path / 'data'}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "nothing temporary is left"


def test_pairs_that_share_a_side_are_not_drawn_again():
    pairs = iter([Pair("a", "x"), Pair("a", "y"), Pair("b", "x"), Pair("c", "z")])

    drawn = make_data.draw_corpus(2, seed=1, draw=lambda rng: next(pairs))

    assert sorted(drawn) == [("a", "x"), ("c", "z")]


def test_an_exhausted_generator_is_reported(monkeypatch):
    monkeypatch.setattr(make_data, "PATIENCE", 10)
    with pytest.raises(make_data.DemoError) as caught:
        make_data.draw_corpus(3, seed=1, draw=lambda rng: Pair("a", "x"))

    assert str(caught.value) == "only 1 different pairs can be made; 3 were asked for"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--seed", "x"], "--seed: got 'x'; expected a whole number"),
        (["--seed", "-1"], "--seed: got '-1'; expected a whole number"),
        (["--train", "0"], "--train: got '0'; expected a whole number above 0"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_make_data_refuses_bad_flags(arguments, message, tmp_path, capsys):
    assert make_data.main(["--out", str(tmp_path / "data"), *arguments]) == 1

    assert capsys.readouterr().err == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_make_data_leaves_foreign_files_alone(tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")

    assert make(folder) == 1

    assert (
        capsys.readouterr().err == f"error: --out: '{folder}' exists and is not an empty folder\n"
    )
    assert read(folder) == {"thesis.txt": "mine"}


# --- the report ----------------------------------------------------------------------------------


def result(name, bleu, translations, **values):
    defaults = dict(exact=0.5, parameters=2000, inference_parameters=1000, seconds=83.4, speed=77.7)
    defaults["memory"] = 12 * 2**20
    return report.Result(
        name=name,
        bleu=bleu,
        signature="nrefs:1",
        file=Path(name) / "checkpoint_best.pt",
        said=Path(name) / "generate.txt",
        translations=translations,
        **{**defaults, **values},
    )


def test_translations_are_put_in_the_order_of_the_test_set(tmp_path):
    path = tmp_path / "generate.txt"
    path.write_text(
        "S-1\t▁b\nH-1\t-0.1\t▁B\nD-1\t-0.1\tB\t2\nS-0\t▁a\nD-0\t-0.2\tA\u2028\nD-2\t0\t\n"
    )

    assert demo_results.read_translations(path, 3) == ["A\u2028", "B\t2", ""]


def test_missing_translations_are_reported(tmp_path):
    path = tmp_path / "generate.txt"
    path.write_text("D-1\t-0.1\tB\n")

    with pytest.raises(report.DemoError) as caught:
        demo_results.read_translations(path, 2)

    assert str(caught.value) == f"{path}: has translations of 1 sentences; expected 2"


def test_parameters_are_counted_once_and_buffers_not():
    shared = torch.zeros(5, 2)
    state = {
        "encoder.embed_tokens.weight": shared,
        "decoder.output_projection.weight": shared,
        "decoder.layers.0.fc1.bias": torch.zeros(3),
        "decoder.tree.fc1.bias": torch.zeros(4),
        "encoder.version": torch.zeros(1),
        "encoder.embed_positions._float_tensor": torch.zeros(1),
    }

    assert count_parameters(state) == 17
    assert count_parameters(state, set(state) - {"decoder.tree.fc1.bias"}) == 13


def test_paths_below_the_current_folder_are_shown_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert report.shown_path(tmp_path / "runs" / "a.pt") == "runs/a.pt"
    assert report.shown_path(Path("/elsewhere/a.pt")) == "/elsewhere/a.pt"


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (83.4, "1 min 23 s")]
)
def test_duration(seconds, text):
    assert report.duration(seconds) == text


def test_table_shows_one_model_a_line(tmp_path):
    files = [tmp_path / name for name in ("plain.pt", "tree.pt", "models", "model.bin")]
    for file, size in zip(files, (3_000_000, 5_000_000, 0, 249_000), strict=True):
        if file.suffix:
            file.write_bytes(bytes(size))
    for leaf in range(2):
        (tmp_path / "models" / f"leaf{leaf}").mkdir(parents=True)
        (tmp_path / "models" / f"leaf{leaf}" / "model.pt").write_bytes(bytes(500_000))
    exported = dict(parameters=None, seconds=None, memory=None)
    names = ["plain", "tree, leaf 0", "fairseq's ensemble of 2", "CTranslate2"]
    lines = report.table(
        [
            dataclasses.replace(one, file=file)
            for one, file in zip(
                [
                    result(names[0], 71.26, [], parameters=1000),
                    result(names[1], 8.0, [], exact=0.123, seconds=200),
                    result(names[2], 8.5, [], **exported, speed=80.1),
                    result(names[3], 8.4, [], **exported, speed=1234.5),
                ],
                files,
                strict=True,
            )
        ],
        dict(zip(names, (1.25, 0.75, 1.5, 2.25), strict=True)),
    )

    assert lines == [
        "                         BLEU   95 %  exact  sentences/s  parameters    training  memory"
        "    file",
        "plain                    71.3  ± 1.2  50.0%           78       1,000  1 min 23 s  12 MiB"
        "  3.0 MB",
        "tree, leaf 0              8.0  ± 0.8  12.3%           78       1,000  3 min 20 s  12 MiB"
        "  5.0 MB",
        "fairseq's ensemble of 2   8.5  ± 1.5  50.0%           80       1,000                    "
        "  1.0 MB",
        "CTranslate2               8.4  ± 2.2  50.0%         1234       1,000                    "
        "  0.2 MB",
    ]


def test_what_was_exported_is_read(tmp_path):
    """BLEU, speed and files, of the leaf that the export tells."""
    folder = tmp_path / "deployed-dml"
    for name in ("data", "deployed-dml/fairseq", "deployed-dml/ctranslate2"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data" / "test.de").write_text("am Montag um halb vier\neins\n")
    (folder / "fairseq" / "export.json").write_text('{"leaf": 3}')
    state = {"model": {"encoder.embed_tokens.weight": torch.zeros(3, 4)}}
    torch.save(state, folder / "fairseq" / "model.pt")
    (folder / "fairseq.txt").write_text("D-1\t-0.1\teins\nD-0\t-0.1\tam Montag um halb vier\n")
    (folder / "ctranslate2.txt").write_text("am Montag um halb vier\nzwei\n")
    (folder / "fairseq.log").write_text(
        "| Translated 2 sentences (9 tokens) in 0.1s (20.50 sentences/s, 90 tokens/s)\n"
    )
    (folder / "ctranslate2.log").write_text("Translated 2 sentences (1000.25 sentences/s)\n")
    one, other = demo_results.read_deployed(tmp_path, "dml")

    assert (one.name, one.speed, one.exact) == ("leaf 3 exported", 20.5, 1.0)
    assert (other.name, other.speed, other.exact) == ("leaf 3 CTranslate2 int8", 1000.25, 0.5)
    assert one.inference_parameters == other.inference_parameters == 12
    assert one.bleu == pytest.approx(100) and 50 < other.bleu < 100
    assert one.file == folder / "fairseq" / "model.pt" and one.seconds is one.parameters is None
    assert other.file == folder / "ctranslate2" / "model.bin"

    (folder / "ctranslate2.txt").write_text("am Montag um halb vier\n")
    with pytest.raises(report.DemoError) as caught:
        demo_results.read_deployed(tmp_path, "dml")
    assert str(caught.value) == (
        f"{folder / 'ctranslate2.txt'}: has translations of 1 sentences; expected 2"
    )
    (folder / "fairseq.log").write_text("")
    (folder / "ctranslate2.txt").write_text("a\nb\n")
    with pytest.raises(report.DemoError) as caught:
        demo_results.read_deployed(tmp_path, "dml")
    assert str(caught.value) == (
        f"{folder / 'fairseq.log'}: does not tell how fast the translation was"
    )


class Reversing:
    """A model for translate_ct2 that says its sentence backwards, and notes what it was asked."""

    def __init__(self):
        self.limits = []

    def translate_batch(self, batch, beam_size, max_decoding_length, asynchronous):
        assert beam_size == 5 and asynchronous
        self.limits.append((max(map(len, batch)), max_decoding_length))
        return [
            SimpleNamespace(result=lambda s=s: SimpleNamespace(hypotheses=[s[::-1]])) for s in batch
        ]


def test_ctranslate2_gets_sentences_of_one_length_and_the_limit_of_fairseq():
    lines = [[str(number)] * (number % 7) for number in range(70)]
    model = Reversing()

    found, seconds = translate_ct2.translate(model, lines)

    assert found == [line[::-1] for line in lines] and seconds > 0
    assert len(model.limits) == 3 and model.limits == sorted(model.limits)
    assert all(limit == int(1.5 * (length + 1)) + 10 for length, limit in model.limits)


def test_examples_are_the_first_sentences_and_then_those_that_differ():
    plain = result("plain", 1, ["a", "b", "c", "d", "e", "f"])
    tree = result("tree", 1, ["a", "B", "c", "d", "e", "F"])

    assert report.pick_examples([plain, tree], 2) == [0, 1, 5]
    assert report.examples([plain, tree], list("uvwxyz"), list("UVWXYZ")).split("\n\n") == [
        "source     u\nreference  U\nplain      a\ntree       a",
        "source     v\nreference  V\nplain      b\ntree       B",
        "source     w\nreference  W\nplain      c\ntree       c",
        "source     z\nreference  Z\nplain      f\ntree       F",
    ]


def test_bleu_of_a_perfect_translation_and_its_signature():
    text = ["Der Zug nach Wien fährt um halb vier ab."]

    score, signature = report.corpus_bleu(text, text)

    assert score == pytest.approx(100)
    assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert demo_results.exact_share(["a", "b"], ["a", "c"]) == 0.5


def test_translations_of_the_wrong_sentences_score_less():
    references = ["Österreich und Japan", "am Montag um halb vier", "drei Wochen nach Ostern"]

    assert report.corpus_bleu(references, references)[0] == pytest.approx(100)
    assert report.shuffled_bleu(references, references) < 10


def test_quick_asks_for_twice_what_one_gets_without_translating():
    assert report.required_bleu(quick=True, unchanged=3.0, shuffled=0.5) == 6.0
    assert report.required_bleu(quick=True, unchanged=3.0, shuffled=20.0) == 40.0
    assert report.required_bleu(quick=False, unchanged=3.0, shuffled=0.5) == 50.0


def few_learned(tmp_path, monkeypatch, quick, bleu):
    """The folder of a run of 60 updates whose leaf has learned little."""
    (tmp_path / "data").mkdir()
    for side in words.LANGUAGES:
        (tmp_path / "data" / f"test.{side}").write_text("x\n" * 3)
    (tmp_path / "run.txt").write_text(f"quick={quick}\nseed=1\nupdates=60\n")
    models = [result("plain", 90.0, ["a", "b", "c"]), result("tree", bleu, ["a", "b", "d"])]
    model = tmp_path / "model"
    model.write_bytes(b"x")
    models = [dataclasses.replace(one, file=model) for one in models]
    monkeypatch.setattr(report, "read_results", lambda run, objectives: models)
    monkeypatch.setattr(report, "read_deployed", lambda run, objective: [])
    monkeypatch.setattr(report, "corpus_bleu", lambda *_: (3.0, ""))
    monkeypatch.setattr(report, "compared", lambda *_: ({"plain": 1, "tree, leaf 0": 2}, ["Well."]))


def test_all_leaves_together_are_read(tmp_path):
    """By the tree, with all of its parameters, and by fairseq, of as many models as leaves."""
    folder = tmp_path / "leaves-dml"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.de").write_text("eins zwei drei vier\n")
    for leaf in range(3):
        (folder / "models" / f"leaf{leaf}").mkdir(parents=True)
        (folder / "models" / f"leaf{leaf}" / "model.pt").write_bytes(bytes(10 + leaf))
    for name, speed in (("tree", "20.50"), ("fairseq", "10.25")):
        (folder / f"{name}.txt").write_text("D-0\t-0.1\teins zwei drei vier\n")
        (folder / f"{name}.log").write_text(f"({speed} sentences/s, 90 tokens/s)\n")
    tree = result("dml", 8.0, [])
    tree = dataclasses.replace(tree, file=tmp_path / "tree-dml" / "checkpoint_best.pt")
    ours, theirs = demo_results.read_together(tmp_path, tree)

    assert (ours.name, ours.speed, ours.inference_parameters) == ("tree, all leaves", 20.5, 2000)
    assert (theirs.name, theirs.speed, theirs.inference_parameters) == (
        *("fairseq's ensemble of 3", 10.25, 3000),
    )
    assert ours.bleu == theirs.bleu == pytest.approx(100)
    assert report.size(theirs.file) == 33 and ours.file == tree.file
    assert ours.said == folder / "tree.txt" and theirs.said == folder / "fairseq.txt"

    alone = dataclasses.replace(tree, file=tmp_path / "tree-rdrop" / "checkpoint_best.pt")
    assert demo_results.read_together(tmp_path, alone) == []


def test_what_compare_says(tmp_path, monkeypatch):
    """The interval of each, and one answer about the second."""
    tmp_path = tmp_path / "a run, the first=1"
    tmp_path.mkdir()
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "data").mkdir()
    lines = [f"das ist der Satz Nummer {number} von allen" for number in range(40)]
    for side in words.LANGUAGES:
        (tmp_path / "data" / f"test.{side}").write_text("".join(f"{line}\n" for line in lines))
    said = {}
    for name, found in {
        "plain": ["x", *lines[1:]],
        "tree, leaf 0": [*lines[:20], *["nichts"] * 20],
    }.items():
        said[name] = tmp_path / f"{name}.txt"
        said[name].write_text("".join(f"{line}\n" for line in found))
    systems = [dataclasses.replace(result(name, 1, []), said=said[name]) for name in said]
    spread, sentences = report.compared(tmp_path, systems)

    assert 0 < spread["plain"] < spread["tree, leaf 0"] < 50
    assert sentences[0].startswith("tree, leaf 0 translates worse than plain on test sets like")
    assert sentences[1].endswith("1 seed of it and 1 of plain, and 2 of each is the least.")
    said["plain"].write_text("one line\n")
    with pytest.raises(report.DemoError) as caught:
        report.compared(tmp_path, systems)
    assert str(caught.value).startswith("SYSTEM: 'plain.txt' has 1 translation; ")


def test_memory_of_a_command_is_written_down(tmp_path):
    """The most of all calls; the exit status is the command's."""
    file = tmp_path / "memory"
    command = [sys.executable, str(DEMO / "measured.py"), str(file), sys.executable, "-c"]
    assert subprocess.run([*command, "x = bytearray(300 * 2**20)"]).returncode == 0
    most = int(file.read_text())
    assert 300 * 2**20 < most < 2000 * 2**20
    assert subprocess.run([*command, "raise SystemExit(3)"]).returncode == 3
    assert int(file.read_text()) == most
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([*command, killed]).returncode == 137


def test_after_fewer_updates_nothing_is_promised(tmp_path, monkeypatch, capsys):
    few_learned(tmp_path, monkeypatch, "yes", 0.0)
    assert report.main(["table", "--run", str(tmp_path), "--made-for", "250"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out == (tmp_path / "report.txt").read_text()


@pytest.mark.parametrize("quick, bleu, rest", [("no", 49.94, "50.0"), ("yes", 5.0, "6.0")])
def test_a_leaf_that_learned_too_little_ends_in_an_error(
    quick, bleu, rest, tmp_path, monkeypatch, capsys
):
    few_learned(tmp_path, monkeypatch, quick, bleu)

    assert report.main(["table", "--run", str(tmp_path)]) == 1

    shown = capsys.readouterr()
    assert shown.err == (
        f"error: the tree's leaf reaches {bleu:.1f} BLEU; expected more than {rest}\n"
    )
    assert shown.out == (tmp_path / "report.txt").read_text(), "the table is shown all the same"
    assert "seed=1" in shown.out


def compared(folder, seed, *objectives, updates=300):
    """A run of the demo's, as far as its folder tells."""
    run = folder / f"seed{seed}"
    for name in ("plain", *(f"tree{demo_results.suffix(objective)}" for objective in objectives)):
        (run / name).mkdir(parents=True)
        (run / name / "trained").touch()
    (run / "run.txt").write_text(f"quick=no\nseed={seed}\nupdates={updates}\n")
    return run


def test_comparison_of_all_trees_of_several_runs(tmp_path, monkeypatch, capsys):
    runs = [compared(tmp_path, seed, "dealt", "one") for seed in (1, 2)]

    def read(run, objectives):
        assert objectives == ["dealt", "one"], "in the order of --objective"
        more = 10.0 if run == runs[1] else 0.0
        return [
            result("plain", 50.0 + more, ["a"], exact=0.25, seconds=100),
            result("tree", 40.0 + more, ["a"], exact=0.5, seconds=150 + more),
            result("one", 30.0 + more, ["a"], exact=0.0, seconds=210),
        ]

    monkeypatch.setattr(demo_results, "read_results", read)
    assert compare.main(["--run", *map(str, runs)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| method | BLEU (seed 1, seed 2) | mean | exact | training time |",
        "|---|---|---|---|---|",
        "| plain | 50.0, 60.0 | 55.0 | 25.0% | 1.0, 1.0 x plain |",
        "| `dealt` | 40.0, 50.0 | 45.0 | 50.0% | 1.5, 1.6 x plain |",
        "| `one` | 30.0, 40.0 | 35.0 | 0.0% | 2.1, 2.1 x plain |",
        "",
        "sacreBLEU nrefs:1, 1 sentences; quick=no updates=300",
    ]


def test_runs_that_cannot_be_compared(tmp_path, capsys):
    runs = [compared(tmp_path, 1, "dealt"), compared(tmp_path, 2, "dealt", updates=7)]
    assert compare.main(["--run", *map(str, runs)]) == 1
    assert (
        capsys.readouterr().err == f"error: --run: '{runs[1]}' differs from the first in updates\n"
    )
    runs = [compared(tmp_path / "other", 1, "tsa", "one"), compared(tmp_path / "other", 2, "tsa")]
    assert compare.main(["--run", *map(str, runs)]) == 1
    assert capsys.readouterr().err == f"error: --run: '{runs[1]}' has no tree of one\n"


# --- run.sh --------------------------------------------------------------------------------------


def test_the_demo_knows_every_objective():
    """The scripts' list, and the package's own table, in one order."""
    text = (DEMO.parent / "lib.sh").read_text()
    (names,) = re.findall(r"^OBJECTIVES=[(](.*)[)]$", text, re.MULTILINE)
    assert names.split() == list(OBJECTIVES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--fast"],
            "unknown argument '--fast'; expected --seeds, --objectives, --updates, --out or "
            "--quick (see compare.sh --help)",
        ),
        (["--seeds"], "--seeds: needs a value"),
        (["--seeds", "1 x"], "--seeds: got 'x'; expected a whole number, 0 or more"),
        (
            ["--objectives", "tsa okdip"],
            f"--objectives: got 'okdip'; expected one of: dealt {' '.join(OBJECTIVES)}",
        ),
        (["--updates", "0"], "--updates: got '0'; expected a whole number, 1 or more"),
    ],
)
def test_compare_refuses_bad_flags(arguments, message, tmp_path):
    """All of them before any training."""
    out = [] if "--out" in arguments else ["--out", tmp_path / "run"]
    done = run_demo(*arguments, *out, script="compare.sh")

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--fast"],
            "unknown argument '--fast'; expected --objective, --quick, --out, --seed or --updates "
            "(see run.sh --help)",
        ),
        (["--out"], "--out: needs a value"),
        (["--out", ""], "--out: needs a value"),
        (["--seed", "x"], "--seed: got 'x'; expected a whole number, 0 or more"),
        (["--updates", "0"], "--updates: got '0'; expected a whole number, 1 or more"),
        (["--updates", "ten"], "--updates: got 'ten'; expected a whole number, 1 or more"),
        (
            ["--objective", "okdip"],
            f"--objective: got 'okdip'; expected one of: dealt {' '.join(OBJECTIVES)}",
        ),
    ],
)
def test_run_refuses_bad_flags(arguments, message, tmp_path):
    done = run_demo(*arguments, *(["--out", tmp_path / "run"] if "--out" not in arguments else []))

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_run_leaves_files_and_foreign_folders_alone(tmp_path):
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("mine")

    file, folder = run_demo("--out", thesis), run_demo("--out", tmp_path)

    assert file.returncode == folder.returncode == 1
    assert file.stderr == f"error: --out: '{thesis}' is a file; expected a folder\n"
    assert folder.stderr == (
        f"error: --out: '{tmp_path}' holds something else than a run of the demo; "
        "choose a new folder\n"
    )
    assert read(tmp_path) == {"thesis.txt": "mine"}


def test_run_goes_on_with_the_same_settings_only(tmp_path):
    (tmp_path / "run.txt").write_text(made_with(seed=2, updates=7))

    done = run_demo("--out", tmp_path, "--updates", "8")

    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: --out: '{tmp_path}' was made with seed=2, not seed=1; updates=7, not updates=8; "
    )
    assert done.stderr.endswith("; remove it or choose another folder\n")
    assert sorted(read(tmp_path)) == ["run.txt"]


def made_with(seed, updates):
    """The settings that run.sh records, but of a recipe that never was."""
    tools = "".join(f"{name}={version}\n" for name, version in report.versions().items())
    return f"quick=no\nseed={seed}\nupdates={updates}\nrecipe=0-0\n{tools}"


def test_a_run_of_few_updates_ends_with_its_table(tmp_path):
    """All stages, once; the models have learned nothing, which is no failure of the demo."""
    done = run_demo("--quick", "--updates", "8", "--out", tmp_path / "run")

    assert done.returncode == 0, done.stderr
    stages = re.findall(r"^==> \[(\d+)/14\] ", done.stdout, re.MULTILINE)
    assert stages == [str(number) for number in range(1, 15)]
    shown = (tmp_path / "run" / "report.txt").read_text()
    assert done.stdout.endswith(shown)
    assert [line.split("  ")[0] for line in shown.splitlines()[1:5]] == [
        *("plain", "tree, leaf 0", "tree, all leaves", "fairseq's ensemble of 4"),
    ]
    assert "tree, all leaves, and fairseq's ensemble of 4: 200 translations are equal.\n" in shown
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
def test_quick_run_is_interrupted_goes_on_and_learns(tmp_path):
    out = tmp_path / "run"
    interrupt_when("update  100 of", "--quick", "--out", out)
    assert (out / "plain" / "checkpoint_last.pt").is_file()
    assert not (out / "plain" / "trained").exists()

    done = run_demo("--quick", "--out", out)

    assert done.returncode == 0, done.stderr
    assert "making English-German pairs" not in done.stdout, "finished stages are not done again"
    assert "update   50 of 250" not in done.stdout.split("training the tree")[0]
    shown = (out / "report.txt").read_text()
    assert done.stdout.endswith(shown)
    page = out / "report.html"
    assert f"==> a page about both models: {page}\n" in done.stdout and page.is_file()
    rows = {
        name: cells
        for name, *cells in (re.split(" {2,}", line) for line in shown.splitlines()[1:7])
    }
    bleu = {name: float(cells[0]) for name, cells in rows.items()}
    assert min(bleu.values()) > 6
    exported, int8 = (name for name in rows if re.match(r"leaf \d", name))
    assert bleu[int8] == pytest.approx(bleu[exported], abs=1.5), "int8, of so young a model"
    sizes = {rows[name][4] for name in ("plain", "tree, leaf 0", exported, int8)}
    assert len(sizes) == 1, "a leaf has the plain model's size"

    done = run_demo("--quick", "--out", out, "--objective", "kd")
    assert done.returncode == 0, done.stderr
    assert "training the plain model" not in done.stdout, "it is the teacher"
    assert done.stdout.endswith((out / "report-kd.txt").read_text())

    again = run_demo("--quick", "--out", out)

    assert again.returncode == 0 and again.stdout.endswith(shown)
    assert "training" not in again.stdout.split("results, also in")[0]


def interrupt_when(text, *arguments):
    """Start run.sh and press Ctrl-C, so to say, when a line of its output contains the text."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", str(DEMO / "run.sh"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PATH": path},
        start_new_session=True,  # so that the signal reaches the whole group, as from a terminal
        # a command started in the background ignores Ctrl-C, and all that it starts do as well
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        seen = ""
        for line in process.stdout:
            seen += line
            if text in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        seen += process.stdout.read()
    assert process.returncode == 130, seen
    assert seen.endswith("==> interrupted; the same command goes on from here\n")
