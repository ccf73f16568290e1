"""``tsa-fairseq compare``: sacreBLEU's numbers, systems of all kinds, bad input."""

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys

import pytest
from evidence_texts import SPEED, generated, lines_of, training, worse, write
from helpers import command_line
from made_up import SOURCES, TARGETS

NAMES = ("base", "best", "less")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Three systems' translations of 100 sentences, and a reference."""
    folder = tmp_path_factory.mktemp("texts")
    average, best = (lines_of(f"S-plain-s1.{name}.test", 100) for name in ("average", "best"))
    write(folder / "ref", worse(average, 1, 0.4))
    for name, lines in zip(NAMES, (average, best, worse(best, 2, 0.1)), strict=True):
        write(folder / name, lines)
    return folder


def compare(capsys, *argv):
    """What it said, as JSON."""
    status, said, complaint = command_line(capsys, "compare", *argv, "--format", "json")
    assert status == 0, complaint
    return json.loads(said)


def sacrebleu(folder, *argv):
    """The numbers of each cell of its table, by system. (Its JSON fails on numpy's.)"""
    command = [sys.executable, "-m", "sacrebleu", "ref", *argv, "-m", "bleu", "chrf", "ter"]
    command += ["-tok", "none", "--force", "-f", "text", "-w", "12", "-i", *NAMES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found, last = {}, ""
    for line in done.stdout.split("\n"):
        if line.startswith("│") and re.search(r"\d\.\d", line):
            name, *cells = (cell.strip() for cell in line.split("│")[1:-1])
            last = name.removeprefix("Baseline: ") or last
            numbers = [re.findall(r"\d+\.\d+", cell) for cell in cells]
            before = found.get(last, [[], [], []])
            found[last] = [one + more for one, more in zip(before, numbers, strict=True)]
    return found


@pytest.mark.parametrize("test", ["bs", "ar"])
def test_every_number_is_that_of_sacrebleus_own_command(texts, capsys, test):
    said = sacrebleu(texts, f"--paired-{test}", f"--paired-{test}-n", "200")
    argv = ["--reference", texts / "ref", "--tokenize", "none", "--trials", 200]
    found = compare(capsys, *(texts / name for name in NAMES), *argv)
    scores = {row["system"]: row for row in found["scores"]}
    pairs = {(row["system"], row["metric"]): row for row in found["over_sentences"]}
    column = {"bs": "bootstrap", "ar": "randomisation"}[test]
    assert tuple(said) == NAMES
    for name, cells in said.items():
        for title, numbers in zip(("BLEU", "chrF2", "TER"), cells, strict=True):
            ours = [scores[name][title]["mean"]]
            if test == "bs":
                ours += scores[name][f"{title} 95 %"].values()
            expected = [f"{one:.12f}" for one in ours]
            if name != "base":
                expected.append(f"{pairs[name, title][f'p, {column}']:.4f}")
            assert numbers == expected
    signatures = {(row["metric"], row["of"]): row["signature"] for row in found["signatures"]}
    assert signatures["BLEU", column] == (
        f"nrefs:1|{test}:200|seed:12345|case:mixed|eff:no|tok:none|smooth:exp|version:2.6.0"
    )


def test_the_answer_claims_no_more_than_the_data(texts, capsys):
    argv = ["--reference", texts / "ref", "--tokenize", "none", "--trials", 200]
    found = compare(capsys, texts / "base", f"worse={texts / 'less'}", *argv)
    first, second = found["said"]
    assert re.fullmatch(
        r"worse translates worse than base on test sets like this one: "
        r"-\d+\.\d\d \[-\d+\.\d\d, -\d+\.\d\d\], p = 0\.\d{3} \(BLEU, 100 sentences\)\.",
        first,
    )
    assert second == (
        "Whether other seeds would say the same of worse, these data cannot tell: they have 1 seed "
        "of it and 1 of base, and 2 of each is the least."
    )
    lines = lines_of("S-plain-s1.best.test", 100)
    paths = [write(texts / f"s{seed}", worse(lines, seed, 0.3)) for seed in (1, 2, 3)]
    seeds = ",".join(map(str, paths))
    others = f"b={texts / 'base'},{texts / 'best'}"
    found = compare(capsys, f"a={seeds}", "--baseline", others, *argv)
    (row,) = [row for row in found["over_seeds"] if row["metric"] == "BLEU"]
    assert row["seeds"] == {"ours": 3, "theirs": 2} and row["least p possible"] == 1 / 10
    over = (
        r"Over seeds of a \(3 against 2\), the difference of the means may be chance: -\d.* BLEU, "
    )
    assert re.match(over + r"Welch's p = 0\.\d{3}\.$", found["said"][1])
    assert [row["system"] for row in found["scores"]] == ["b", "a"]
    only = compare(capsys, f"a={seeds}", others, "--question", "seeds", *argv)
    assert "over_sentences" not in only and len(only["said"]) == 1
    assert "BLEU 95 %" not in only["scores"][0]
    only = compare(capsys, f"a={seeds}", others, "--question", "sentences", *argv)
    assert "over_seeds" not in only and len(only["said"]) == 1


def test_a_difference_in_few_sentences_is_none(texts, tmp_path, capsys):
    """sacreBLEU counts what differs by more, which no way to swap three sentences does."""
    lines, best = lines_of("S-plain-s1.best.test", 100), (texts / "ref").read_text().split("\n")
    some = write(tmp_path / "some", [*best[:3], *lines[3:]])
    argv = ["--reference", texts / "ref", "--tokenize", "none", "--trials", 200]
    found = compare(capsys, texts / "best", some, *argv)
    assert found["over_sentences"][0]["p, randomisation"] == 1 / 201
    assert re.fullmatch(
        r"some and best cannot be told apart on test sets like this one: \+\S+ \[\S+ \S+\], "
        r"p = 0\.005 \(BLEU, 100 sentences; 3 of them count otherwise, with which p is 0\.25 at "
        r"least\)\.",
        found["said"][0],
    )
    assert not any("other metrics" in sentence for sentence in found["said"])


def test_too_few_trials_to_tell_anything(texts, capsys):
    argv = ["--reference", texts / "ref", "--tokenize", "none", "--trials", 9]
    found = compare(capsys, texts / "base", texts / "less", *argv)
    assert re.fullmatch(
        r"less and base cannot be told apart .* p = 0\.100 \(BLEU, 100 sentences; with --trials 9 "
        r"p is 0\.100 at least\)\.",
        found["said"][0],
    )


def test_flags_that_take_several_may_be_repeated(texts, capsys):
    once = ["--reference", texts / "ref", texts / "best", "--metrics", "bleu", "ter"]
    each = ["--reference", texts / "ref", "--reference", texts / "best"]
    each += ["--metrics", "bleu", "--metrics", "ter"]
    more = ["--tokenize", "none", "--trials", 20]
    first, second = (
        compare(capsys, texts / "less", texts / "base", *argv, *more) for argv in (once, each)
    )
    assert first["scores"] == second["scores"] and "TER" in first["scores"][0]
    assert "nrefs:2" in first["signatures"][0]["signature"]


def test_two_seeds_of_one_training(texts, tmp_path, capsys):
    (tmp_path / "train.log").write_text("")
    training(tmp_path / "train.log", [3, 2])
    paths = [write(tmp_path / name, (texts / name).read_text().split("\n")[:100])
             for name in ("base", "less")]  # fmt: skip
    argv = ["compare", f"a={paths[0]},{paths[1]}", texts / "best", "--reference", texts / "ref"]
    status, said, _ = command_line(capsys, *argv, "--tokenize", "none", "--trials", 20)
    assert status == 0
    assert (
        f"a: two seeds lie in the folder of one training, '{tmp_path}'; the spread over seeds is "
        "of several trainings"
    ) in said


def test_a_tie(texts, tmp_path, capsys):
    """sacreBLEU's tests give it the least p that is possible."""
    argv = ["--reference", texts / "ref", "--tokenize", "none", "--trials", 50]
    (tmp_path / "copy").write_text((texts / "base").read_text())
    found = compare(capsys, texts / "base", tmp_path / "copy", *argv)
    assert found["said"][0] == "copy and base translate every sentence alike."
    for row in found["over_sentences"]:
        p = row["p, randomisation"], row["p, bootstrap"]
        assert (row["difference"], *row["95 %"].values(), *p) == (0, 0, 0, 1, 1)
    # the very same scores by other words, which no reference has
    lines = [f"{line} qq" for line in lines_of("S-plain-s1.average.test", 100)]
    for name in ("p", "q"):
        write(tmp_path / name, [line.replace("qq", name * 2) for line in lines])
    found = compare(capsys, tmp_path / "p", tmp_path / "q", "--metrics", "bleu", *argv)
    assert found["said"][0].startswith(
        "q and p cannot be told apart on test sets like this one: +0.00 [+0.00, +0.00], p = 1.000 "
    )


def test_metrics_that_do_not_agree(texts, tmp_path, capsys):
    """chrF does not see blanks."""
    glued = [line.replace(" ", "", 1) for line in lines_of("S-plain-s1.best.test", 100)]
    argv = [texts / "best", write(tmp_path / "glued", glued), "--reference", texts / "ref"]
    found = compare(capsys, *argv, "--tokenize", "none", "--trials", 200)
    assert found["said"][0].startswith("glued translates worse than best")
    assert found["said"][1] == ("Not so by other metrics: chrF2 +0.00 [+0.00, +0.00], p = 1.000.")


def test_few_seeds_of_which_welch_is_sure(texts, tmp_path, capsys):
    lines = lines_of("S-plain-s1.average.test", 100)
    groups = [
        ",".join(str(write(tmp_path / f"{part}-{n}", worse(lines, n, part))) for n in (1, 2, 3))
        for part in (0.2, 0.5)
    ]
    argv = ["--reference", texts / "ref", "--tokenize", "none", "--trials", 9]
    found = compare(capsys, f"a={groups[0]}", f"b={groups[1]}", *argv)
    assert re.search(
        r"the mean is worse: -.*, Welch's p . 0\.0\d+; permutation p = 0\.100, with so few seeds "
        r"0\.100 at least\.$",
        found["said"][1],
    )


def test_many_systems_say_nothing_but_the_answer(texts, tmp_path):
    """sacreBLEU forks workers, and ends them by the signal that the command takes for its own."""
    names = [write(tmp_path / f"s{n}", worse(lines_of("S-plain-s1.best.test", 100), n, 0.1))
             for n in range(5)]  # fmt: skip
    words = [sys.executable, "-m", "tsa_fairseq.cli.main", "compare", *map(str, names)]
    words += ["--reference", str(texts / "ref"), "--tokenize", "none", "--trials", "9"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_odd_is_said(texts, tmp_path, capsys):
    lines = lines_of("S-plain-s1.best.test", 100)
    write(tmp_path / "gaps", ["", " ", *lines[2:]])
    (tmp_path / "copy").write_text((texts / "best").read_text())
    argv = ["compare", texts / "base", f"a={texts / 'best'},{tmp_path / 'copy'}", tmp_path / "gaps"]
    argv += ["--reference", texts / "ref", "--tokenize", "none", "--trials", 9]
    status, said, _ = command_line(capsys, *argv)
    assert status == 0 and said.startswith(
        "warning: a: seeds 1 and 2 have the same translations; counted as two trainings, they make "
        "the spread over seeds too small\n"
        "warning: gaps: 2 of 100 translations empty\n"
    )
    assert "Cost, of the first seed" not in said  # of texts nothing is known
    _, said, complaint = command_line(capsys, *argv, "--format", "csv")
    assert "warning" not in said and complaint.count("warning: ") == 2


def test_pieces_of_words_are_said(texts, tmp_path, capsys):
    for number, piece in enumerate(("@@ ", "\u2581")):
        cut = [line.replace("e", f"e{piece}") for line in lines_of("S-plain-s1.best.test", 100)]
        other = write(tmp_path / f"cut{number}", cut)
        argv = [texts / "best", other, "--reference", texts / "ref", "--tokenize", "none"]
        found = compare(capsys, *argv, "--trials", 20)
        assert found["said"][0].endswith(
            "of 100 translations in pieces of words; fairseq-generate joins them with "
            "--remove-bpe or --remove-bpe sentencepiece"
        )


def test_another_test_set_is_said(texts, tmp_path, capsys):
    lines = [(texts / name).read_text().split("\n")[:100] for name in ("ref", "best", "base")]
    file = tmp_path / "generate.txt"
    generated(file, lines[2][::-1], lines[0][::-1], lines[1])
    argv = [texts / "base", file, "--reference", texts / "ref", "--tokenize", "none"]
    found = compare(capsys, *argv, "--trials", 20)
    assert re.fullmatch(
        r"warning: generate\.txt: fairseq-generate printed other references than it is scored with "
        r"\(of 100, \d+ have the same letters\); is it the same test set\?",
        found["said"][0],
    )
    generated(file, lines[2][::-1], [line.replace(" ", "") for line in lines[0]], lines[1])
    found = compare(capsys, *argv, "--trials", 20)
    assert not found["said"][0].startswith("warning")


@pytest.mark.parametrize("size", range(1, 9))
def test_few_sentences(size, texts, tmp_path, capsys):
    """Whose lengths leave no group of sentences empty."""
    files = [write(tmp_path / name, (texts / name).read_text().split("\n")[:size])
             for name in ("base", "less", "ref")]  # fmt: skip
    found = compare(capsys, *files[:2], "--reference", files[2], "--trials", 20)
    assert sum(row["sentences"] for row in found["by_length"]) == size


def test_a_folder_with_what_is_no_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    generated(tmp_path / "generate.txt", ["a"], ["b"], ["c"])
    write(tmp_path / "other", ["x"])
    argv = ["compare", tmp_path, tmp_path / "other", "--trials", 9]
    assert command_line(capsys, *argv)[0] == 0


def test_runs_and_what_they_printed(tmp_path, capsys):
    """References, sources and costs are found in the folders."""
    for name, leaves in (("plain", 0), ("tree", 2)):
        folder = tmp_path / name
        folder.mkdir()
        training(folder / "train.log", [5, 4], leaves)
        (folder / "checkpoint_best.pt").write_bytes(b"x" * 2_000_000)
        guess = [*TARGETS[:3], "куче"] if leaves else TARGETS[::-1]
        generated(folder / "generate.txt", guess, TARGETS, SOURCES, SPEED)
    found = compare(capsys, tmp_path / "plain", tmp_path / "tree", "--trials", 20)
    assert [row["words"] for row in found["by_length"]][0] == "3"
    costs = {row["system"]: row for row in found["costs"]}
    assert costs["plain"]["parameters, training"] == 3000
    assert costs["plain"]["step, x plain"] == 1 < costs["tree"]["step, x plain"]
    assert costs["tree"]["sentences a second"] == 40.25 and costs["tree"]["file, MB"] == 2
    assert found["shares"][0]["identical"] == 0
    best = found["sentences_tree"][0]
    assert (best["tree"], best["reference"]) == (TARGETS[best["sentence"] - 1],) * 2


def test_formats(texts, capsys):
    argv = ["compare", texts / "base", texts / "best", "--reference", texts / "ref"]
    argv += ["--tokenize", "none", "--trials", 20, "--metrics", "bleu", "ter"]
    argv += ["--training-text", texts / "base"]
    found = compare(capsys, *argv[1:])
    score = found["scores"][0]["BLEU"]["mean"]
    _, shown, _ = command_line(capsys, *argv)
    assert re.search(rf"^base +1  {score:.2f} +± ", shown, re.MULTILINE)
    assert "Sentences with the largest difference between best and base\n─────" in shown
    _, shown, _ = command_line(capsys, *argv, "--format", "markdown")
    assert f"| base | 1 | {score:.2f} | ± " in shown and "**Scores on 100 sentences**" in shown
    _, shown, _ = command_line(capsys, *argv, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(shown)))
    values = {(row["table"], row["row"], row["column"]): row["value"] for row in rows}
    assert float(values["scores", "base", "BLEU: mean"]) == score
    assert len(values) == len(rows), "every key is one"
    assert ("over_sentences", "best / BLEU", "difference") in values
    assert ("signatures", "BLEU / score", "signature") in values


def test_leaves_are_translated_by_the_tree_itself(made_up, tmp_path, capsys):
    """Leaf 0 knows the sentences by heart, the other was left as it was made."""
    run = tmp_path / "run"
    run.mkdir()
    log = training(run / "train.log", [3, 2], leaves=2)
    tree = "0[2,2]"
    text = log.read_text().replace("tree='1,2'", f"tree='{tree}'")
    log.write_text(text)
    (run / "checkpoint_best.pt").symlink_to(made_up.path)
    for language in ("de", "sr"):
        (run / f"dict.{language}.txt").symlink_to(made_up.data / f"dict.{language}.txt")
    references = write(tmp_path / "r", [f"{target} ." for target in TARGETS])
    sources = write(tmp_path / "s", SOURCES)
    baseline = write(tmp_path / "base", TARGETS[::-1])
    argv = [f"base={baseline}", run, "--reference", references, "--source", sources]
    argv += ["--translate", "--leaves", "--subwords", *made_up.files, "--trials", 20]
    status, said, complaint = command_line(capsys, "compare", *argv, "--format", "json")
    assert status == 0, complaint
    assert f"translating 4 sentences by {run / 'checkpoint_best.pt'}\n" in complaint
    assert f"translating 4 sentences by {run / 'checkpoint_best.pt'} with leaf:1\n" in complaint
    leaves = json.loads(said)["leaves_run"]
    own = json.loads(said)["scores"][1]["BLEU"]["mean"]
    assert leaves[0]["BLEU"] == own > leaves[1]["BLEU"]
    assert [row["nll, validation"] for row in leaves] == [2, 2.25, None]
    assert leaves[0]["choice"] == "kept by validation"


def test_a_file_that_is_no_checkpoint_is_said_of_its_system(tmp_path, capsys):
    """In words of ours: torch's advise to read it unsafely."""
    run, file = tmp_path / "run", tmp_path / "run" / "checkpoint_best.pt"
    run.mkdir()
    write(file, ["no checkpoint"])
    lines = write(tmp_path / "s", SOURCES)
    argv = ["compare", write(tmp_path / "base", TARGETS), run, "--translate"]
    status, _, complaint = command_line(capsys, *argv, "--source", lines, "--reference", lines)
    assert status == 1
    assert complaint.splitlines()[-1] == (
        f"tsa-fairseq: error: SYSTEM: '{file}' cannot be loaded as a checkpoint: it is damaged, "
        "no file of torch's, or holds more than fairseq stores; nothing of it was run"
    )


def test_an_export_is_translated_if_that_is_asked(made_up, tmp_path, capsys):
    references = write(tmp_path / "r", [f"{target} ." for target in TARGETS])
    sources = write(tmp_path / "s", SOURCES)
    base = write(tmp_path / "base", TARGETS[::-1])
    argv = ["compare", base, made_up.ctranslate2, "--reference", references, "--trials", 20]
    status, _, complaint = command_line(capsys, *argv)
    assert status == 1
    assert complaint == (
        f"tsa-fairseq: error: SYSTEM: '{made_up.ctranslate2}' has no translations: run "
        f"'fairseq-generate DATA --path {made_up.ctranslate2 / 'model.bin'} ... > "
        f"{made_up.ctranslate2}/generate.txt', or give --translate and --source\n"
    )
    found = compare(capsys, *argv[1:], "--source", sources, "--translate")
    row = found["sentences_ctranslate2"][0]
    assert row["ctranslate2"] == TARGETS[row["sentence"] - 1]


BAD = {
    "an empty file": (
        ["{empty}", "{ok}"], "SYSTEM: '{empty}' is empty; expected a sentence a line"
    ),
    "no file": (["{no}", "{ok}"], "SYSTEM: '{no}' does not exist or is not a file"),
    "too few lines": (
        ["{short}", "{ok}"],
        "SYSTEM: '{short}' has 1 translation; expected 100, one for each line of the reference "
        "'{ref}'",
    ),
    "a binary file": (
        ["{binary}", "{ok}"],
        "SYSTEM: '{binary}' is no text: line 1 is not UTF-8: invalid start byte",
    ),
    "a log": (
        ["{log}", "{ok}"],
        "SYSTEM: '{log}' is a log of fairseq-train; expected the run's folder, fairseq-generate's "
        "output or a file of translations",
    ),
    "an unknown metric": (
        ["{ok}", "{other}", "--metrics", "bleu", "meteor"],
        "--metrics: got 'meteor'; expected some of bleu, chrf, ter, comet",
    ),
    "an unknown tokenizer": (
        ["{ok}", "{other}", "--tokenize", "moses"],
        "--tokenize: got 'moses'; expected one of none, zh, 13a, intl, char, ja-mecab, ko-mecab, "
        "spm, flores101, flores200, spBLEU-1K",
    ),
    "one seed": (
        ["{ok}", "{other}", "--question", "seeds"],
        "--question: got 'seeds', and 'base' has one seed; expected 2 or more of every system: "
        "NAME=PATH,PATH",
    ),
    "an unknown question": (
        ["{ok}", "{other}", "--question", "why"],
        "--question: got 'why'; expected one of sentences, seeds",
    ),
    "no trials": (["{ok}", "{other}", "--trials", "0"], "--trials: got 0; expected 1 or more"),
    "a broken compressed file": (
        ["{broken}", "{ok}"],
        "SYSTEM: '{broken}' cannot be read: Error -3 while decompressing data: invalid block type",
    ),
    "a name of nothing": (
        ["a=", "{ok}"], "SYSTEM: got 'a='; expected PATH, or NAME=PATH,PATH of several seeds"
    ),
    "a seed twice": (
        ["a={ok},{other},{ok}", "{other}"],
        "SYSTEM: got 'a={ok},{other},{ok}', in which '{ok}' stands twice; expected a training of "
        "its own for each seed",
    ),
    "the reference": (
        ["{ok}", "{ref}"],
        "SYSTEM: '{ref}' has the very lines of the reference '{ref}'; expected translations",
    ),
    "one system": (["{ok}"], "SYSTEM: got 1 with the baseline; expected 2 or more to compare"),
    "two of one name": (
        ["a={ok}", "a={other}"], "SYSTEM: two systems are called 'a'; expected names: NAME=PATH"
    ),
    "a baseline of a system's name": (
        ["base={other}", "--baseline", "{ok}"],
        "--baseline: '{ok}' is called 'base', as a system is; expected names: NAME=PATH",
    ),
    "a format": (
        ["{ok}", "{other}", "--format", "xml"],
        "--format: got 'xml'; expected one of text, markdown, csv, json",
    ),
    "a source of another length": (
        ["{ok}", "{other}", "--source", "{short}"],
        "--source: '{short}' has 1 line, the reference '{ref}' 100; expected as many",
    ),
    "a subset of nothing": (
        ["{ok}", "{other}", "--subset", "valid"], "--subset: got 'valid'; expected --data, too"
    ),
    "no text to translate": (
        ["{ok}", "{other}", "--leaves"],
        "--leaves: takes text to translate; expected --source or --data, too",
    ),
    "subwords of nothing": (
        ["{ok}", "{other}", "--subwords", "{ok}"],
        "--subwords: expected --translate or --leaves, too",
    ),
    "no tree": (
        ["{ok}", "{other}", "--leaves", "--source", "{ok}"],
        "--leaves: no system is a tree of several leaves; expected the folder of a tree's "
        "training, with its log and a checkpoint",
    ),
    "no data": (
        ["{ok}", "{other}", "--data", "{folder}"],
        "--data: '{folder}' has no test data; expected a folder of fairseq-preprocess with test of "
        "one pair of languages",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, texts, tmp_path, capsys):
    files = {
        "ok": texts / "base",
        "other": texts / "best",
        "ref": texts / "ref",
        "no": texts / "no",
    }
    files |= {"empty": write(tmp_path / "empty", []), "short": write(tmp_path / "short", ["a"])}
    files |= {
        "binary": tmp_path / "x.pt",
        "log": training(tmp_path / "x.log", [4]),
        "folder": tmp_path,
    }
    files["binary"].write_bytes(b"PK\x03\x04\xff\xfe")
    files["broken"] = tmp_path / "x.gz"
    files["broken"].write_bytes(gzip.compress(b"")[:10] + b"\xff" * 99)
    argv, message = BAD[name]
    argv = [word.format(**files) for word in argv] + ["--reference", files["ref"]]
    argv += ["--trials", "9"] * ("--trials" not in argv)
    status, said, complaint = command_line(capsys, "compare", *argv)
    assert (status, said) == (1, "")
    assert complaint == f"tsa-fairseq: error: {message.format(**files)}\n"


def test_references_that_are_not_one_test_set(tmp_path, capsys):
    one = generated(tmp_path / "a", ["a", "b"], ["c", "d"], ["1", "2"])
    other = generated(tmp_path / "b", ["a", "b"], ["c", "e"], ["1", "2"])
    more = generated(tmp_path / "c", ["a"], ["c"], ["1"])
    for file, differ in ((other, "the first at sentence 2"), (more, "1 against 2")):
        _, _, complaint = command_line(capsys, "compare", one, file)
        assert complaint == (
            f"tsa-fairseq: error: SYSTEM: '{file}' was translated beside other references than "
            f"'{one}' ({differ}); expected one test set\n"
        )
    texts = [write(tmp_path / name, ["a", "b"]) for name in ("x", "y")]
    _, _, complaint = command_line(capsys, "compare", *texts)
    assert complaint == (
        "tsa-fairseq: error: --reference: not given, and no system is fairseq-generate's output, "
        "which has the references; expected --reference FILE or --data DIR\n"
    )
    _, _, complaint = command_line(capsys, "compare", *texts, "--reference", texts[0], more)
    assert complaint == (
        f"tsa-fairseq: error: --reference: '{more}' has 5 lines, '{texts[0]}' 2; expected as many\n"
    )


def test_binarised_data(tmp_path, capsys):
    """References and sources of what fairseq-preprocess made, without its subwords."""
    from fairseq.data import Dictionary
    from fairseq.data.indexed_dataset import make_builder

    folder = tmp_path / "bin"
    folder.mkdir()
    for language, lines in (("de", ["ei@@ n hund", "zwei"]), ("sr", ["je@@ dan pas", "dva"])):
        words = Dictionary()
        for word in " ".join(lines).split():
            words.add_symbol(word)
        words.save(str(folder / f"dict.{language}.txt"))
        prefix = folder / f"test.de-sr.{language}"
        builder = make_builder(f"{prefix}.bin", "mmap", vocab_size=len(words))
        for line in lines:
            builder.add_item(words.encode_line(line, add_if_not_exist=False))
        builder.finalize(f"{prefix}.idx")
    systems = [write(tmp_path / name, lines) for name, lines in (
        ("a", ["jedan pas", "dve"]), ("b", ["pas jedan", "dva dva"])
    )]  # fmt: skip
    found = compare(capsys, *systems, "--data", folder, "--trials", 9)
    assert {row["reference"] for row in found["sentences_b"]} == {"jedan pas", "dva"}
    # by the words of the source, not of its pieces
    assert [row["words"] for row in found["by_length"]] == ["1", "2"]


def test_a_run_with_several_outputs(tmp_path, capsys):
    files = [generated(tmp_path / f"{name}.txt", ["a"], ["b"], ["1"]) for name in ("test", "valid")]
    _, _, complaint = command_line(capsys, "compare", tmp_path, files[0])
    assert complaint == (
        f"tsa-fairseq: error: SYSTEM: '{tmp_path}' holds 2 outputs of fairseq-generate, "
        f"'{files[0]}', '{files[1]}'; expected one of them by its name\n"
    )


@pytest.mark.parametrize("command", ["compare", "report"])
def test_texts_need_neither_torch_nor_fairseq(texts, tmp_path, command):
    out = [str(tmp_path / "x.html")] * (command == "report")
    words = ["tsa-fairseq", command, *(str(texts / name) for name in NAMES[:2]), *out]
    words += ["--reference", str(texts / "ref"), "--tokenize", "none", "--trials", "9"]
    program = (
        "import sys; sys.modules['fairseq'] = sys.modules['torch'] = None\n"
        f"sys.argv = {words}\n"
        "from tsa_fairseq.cli.main import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", ["numpy", "sacrebleu", "scipy"])
def test_without_what_computes_scores(texts, package):
    program = (
        f"import sys; sys.modules['{package}'] = None\n"
        f"sys.argv = ['tsa-fairseq', 'compare', '{texts / 'base'}', '{texts / 'best'}']\n"
        "from tsa_fairseq.cli.main import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"tsa-fairseq: error: scores are computed with {package}, which is not installed: "
        "pip install 'tsa_fairseq[report]'\n"
    )


def test_compressed_texts_and_warnings(texts, tmp_path, capsys):
    packed = tmp_path / "base.gz"
    packed.write_bytes(gzip.compress((texts / "base").read_bytes()))
    argv = ["compare", packed, texts / "best", "--reference", texts / "ref", "--trials", 9]
    status, said, complaint = command_line(capsys, *argv)
    assert status == 0 and "\nbase.gz  " in said and complaint == ""
    assert said.startswith(
        "warning: the texts are tokenised, and --tokenize 13a splits them again; scores of "
        "tokenised text (--tokenize none) are not those of raw text\n"
    )
