"""examples/multi30k: the preparation of both protocols on a small made-up copy, and every message.

The copy is held to checksums of its own through --sums. What needs the real data beside the clone
is left out where that is absent.
"""

import gzip
import hashlib
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from tsa_fairseq.files.text import Text
from tsa_fairseq.files.text_settings import TextSettings

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "examples" / "multi30k"
sys.path.insert(0, str(ROOT / "examples"))  # the recipes' shared modules

from recipe.errors import RecipeError  # noqa: E402

REAL_DATA = ROOT.parent / "shared" / "data" / "multi30k"
SIZES = {"train": 60, "val": 12, "test_2016_flickr": 9}
WORDS = {
    "en": "A dog|Two men|The girl|runs|sleep|eats|outside.|at home.|.".split("|"),
    "de": "Ein Hund|Zwei Männer|Das Mädchen|läuft|schlafen|isst|draußen.|daheim.|.".split("|"),
    "fr": "Un chien|Deux hommes|La fille|court|dorment|mange|dehors.|chez lui.|.".split("|"),
}

needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="no copy of Multi30k at hand")


def load(name):
    """A helper of the recipe as a module."""
    spec = importlib.util.spec_from_file_location(f"multi30k_{name}", RECIPE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script, *arguments):
    """A script of the recipe in this Python's environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(RECIPE / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )


def succeed(script, *arguments):
    done = run(script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refuse(script, *arguments):
    """The one line with which a script refuses, without "error: "."""
    done = run(script, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.fullmatch("error: .*\n", done.stderr), done.stderr
    return done.stderr.removeprefix("error: ").removesuffix("\n")


def sentences(language, part):
    """Sentence i means the same in every language."""
    subjects, verbs, ends = (WORDS[language][i : i + 3] for i in (0, 3, 6))
    start = len(part)
    return [
        f"{subjects[i % 3]} {verbs[i // 3 % 3]} {ends[i // 9 % 3]}"
        for i in range(start, start + SIZES[part])
    ]


def tokenised(line):
    return re.sub(r" ?\.", " .", line.lower())


def write_copy(directory):
    """A copy of the dataset in both protocols' forms, and its checksums, except for French."""
    sums = []
    for part in SIZES:
        for language in WORDS:
            lines = sentences(language, part)
            text = "".join(f"{line}\n" for line in lines)
            cut = "".join(f"{tokenised(line)}\n" for line in lines)
            files = {
                f"{part}.{language}.gz": gzip.compress(text.encode()),
                f"{part}.lc.norm.tok.{language}": cut.encode(),
            }
            for name, content in files.items():
                (directory / name).write_bytes(content)
                if language != "fr":
                    sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    (directory / "SHA256SUMS").write_text("".join(sums))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    directory = tmp_path_factory.mktemp("copy")
    write_copy(directory)
    return directory


@pytest.fixture
def broken_copy(tmp_path):
    directory = tmp_path / "broken"
    directory.mkdir()
    write_copy(directory)
    return directory


def prepare_flags(copy, subwords=30):
    return "--from", copy, "--sums", copy / "SHA256SUMS", "--subwords", subwords


@pytest.fixture(scope="module")
def prepared(copy, tmp_path_factory):
    """A preparation in the tokenised protocol."""
    out = tmp_path_factory.mktemp("tokenised") / "out"
    succeed("prepare.sh", "--out", out, *prepare_flags(copy))
    return out


@pytest.fixture(scope="module")
def prepared_raw(copy, tmp_path_factory):
    out = tmp_path_factory.mktemp("raw") / "out"
    succeed("prepare.sh", "--out", out, "--protocol", "raw", *prepare_flags(copy, 90))
    return out


def facts(out):
    """What preparation.txt says."""
    return dict(line.split("=") for line in (out / "preparation.txt").read_text().splitlines())


def check_preparation(out, protocol, join):
    """Text as in the copy; pieces that join to it again; one dictionary for both sides."""
    for part in SIZES:
        for language in ("en", "de"):
            expected = sentences(language, part)
            if protocol == "tokenised":
                expected = [tokenised(line) for line in expected]
            assert (out / "corpus" / f"{part}.{language}").read_text().splitlines() == expected
            pieces = (out / "subword" / f"{part}.{language}").read_text().splitlines()
            assert [join(line) for line in pieces] == expected
            assert pieces != expected  # something was cut
    dictionary = (out / "data-bin" / "dict.en.txt").read_text()
    assert dictionary == (out / "data-bin" / "dict.de.txt").read_text()
    said = facts(out)
    assert said["protocol"] == protocol
    assert (said["source"], said["target"]) == ("en", "de")
    assert int(said["types"]) == len(dictionary.splitlines()) + 4
    for part in ("train", "valid", "test"):
        assert (out / "data-bin" / f"{part}.en-de.de.bin").is_file()
    assert [path.name for path in out.parent.iterdir()] == [out.name]  # no temporary directory


def test_tokenised_preparation(prepared):
    check_preparation(prepared, "tokenised", lambda line: line.replace("@@ ", ""))


def test_raw_preparation(prepared_raw):
    def join(line):
        return line.replace(" ", "").replace("▁", " ").strip()

    check_preparation(prepared_raw, "raw", join)


def test_a_finished_preparation_is_not_made_again(copy, prepared):
    before = (prepared / "data-bin" / "train.en-de.de.bin").stat().st_mtime_ns
    said = succeed("prepare.sh", "--out", prepared, *prepare_flags(copy))
    expected = (
        f"==> {prepared} is prepared with these settings: nothing to do (--force makes it anew)\n"
    )
    assert said == expected
    assert (prepared / "data-bin" / "train.en-de.de.bin").stat().st_mtime_ns == before


def test_another_preparation_is_replaced_only_by_force(copy, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "preparation.txt").write_text("protocol=raw\nsource=de\ntarget=en\nsubwords=9\n")
    (out / "old").touch()
    assert refuse("prepare.sh", "--out", out, *prepare_flags(copy)) == (
        f"--out: {out} holds another preparation "
        "(protocol=raw source=de target=en subwords=9); "
        "choose another directory, or give --force to replace it"
    )
    flags = ("--source", "fr", "--target", "de", "--force")
    said = succeed("prepare.sh", "--out", out, *flags, *prepare_flags(copy))
    note = f"==> {copy}/train.lc.norm.tok.fr: no checksum is known, taken as it is\n"
    assert said.count("no checksum") == 3 and note in said
    assert facts(out)["source"] == "fr"
    assert not (out / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "--out: missing; say where the prepared data goes"),
        ("--out", "--out: needs a value"),
        ("--out --force", "--out: needs a value"),
        ("--out {new} --protocol bpe", "--protocol: got 'bpe'; expected one of: tokenised raw"),
        ("--out {new} --source it", "--source: got 'it'; expected one of: en de fr cs"),
        ("--out {new} --target EN", "--target: got 'EN'; expected one of: en de fr cs"),
        (
            "--out {new} --source de",
            "--target: got 'de', which is the source too; expected another language",
        ),
        (
            "--out {new} --subwords 1e4",
            "--subwords: got '1e4'; expected a whole number, 1 or more",
        ),
        ("--out {new} --subwords 0", "--subwords: got '0'; expected a whole number, 1 or more"),
        ("--out {new} --pairs 0", "--pairs: got '0'; expected a whole number, 1 or more"),
        ("--out {new} --pairs all", "--pairs: got 'all'; expected a whole number, 1 or more"),
        ("--out {new} --pairs", "--pairs: needs a value"),
        ("--out {new} --from {tmp}/none", "--from: no such directory: {tmp}/none"),
        ("--out {new} --from {tmp} --sums {tmp}/none", "--sums: no such file: {tmp}/none"),
        (
            "--out {new} --sums {tmp}/file",
            "--sums: needs --from; downloads are held to the checksums of the recipe",
        ),
        ("--out {new} --frm x", "unknown argument '--frm'; see prepare.sh --help"),
        (
            "--out {tmp}/file",
            "--out: {tmp}/file exists and is no preparation of this script; "
            "choose another directory",
        ),
        (
            "--out {tmp} --force",
            "--out: {tmp} exists and is no preparation of this script; choose another directory",
        ),
        ("--out {tmp}/file/new --from {tmp}", "--out: cannot write to {tmp}/file"),
        ("--out {new} --from {tmp}", "--from: {tmp} has no train.lc.norm.tok.en"),
        (
            "--out {new} --from {tmp} --sums {tmp}/file",
            "--sums: {tmp}/file, line 1: expected 'SHA256  NAME'; got 'no sums'",
        ),
    ],
)
def test_prepare_refuses(flags, message, tmp_path):
    (tmp_path / "file").write_text("no sums\n")
    fill = partial(str.format, new=tmp_path / "new", tmp=tmp_path)
    assert refuse("prepare.sh", *fill(flags).split()) == fill(message)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def damage(copy, name, content, known=True):
    """Put other content into a copy; its checksum is then wrong, or updated, or not known."""
    (copy / name).write_bytes(content)
    sums = copy / "SHA256SUMS"
    if not known:
        lines = sums.read_text().splitlines(keepends=True)
        sums.write_text("".join(line for line in lines if not line.endswith(f"  {name}\n")))


@pytest.mark.parametrize(
    ("protocol", "name", "content", "message"),
    [
        ("raw", "val.de.gz", b"\x1f\x8b\x08cut", "not a gzip file, or one cut short"),
        ("raw", "val.de.gz", b"plain text\n", "not a gzip file, or one cut short"),
        ("tokenised", "val.lc.norm.tok.de", b"gr\xfcn\n", "not UTF-8 at byte 2"),
        ("tokenised", "val.lc.norm.tok.de", b"", "empty, or its last line is cut short"),
        ("tokenised", "val.lc.norm.tok.de", b"ein hu", "empty, or its last line is cut short"),
    ],
)
def test_damaged_file_of_unknown_checksum(protocol, name, content, message, broken_copy, tmp_path):
    damage(broken_copy, name, content, known=False)
    flags = ("--out", tmp_path / "out", "--protocol", protocol, *prepare_flags(broken_copy))
    assert refuse("prepare.sh", *flags) == f"{broken_copy / name}: {message}"
    assert list(tmp_path.iterdir()) == [broken_copy]


def test_wrong_checksum(broken_copy, tmp_path):
    name = "test_2016_flickr.lc.norm.tok.de"
    expected = hashlib.sha256((broken_copy / name).read_bytes()).hexdigest()
    damage(broken_copy, name, b"ein hund .\n")
    found = hashlib.sha256(b"ein hund .\n").hexdigest()
    assert refuse("prepare.sh", "--out", tmp_path / "out", *prepare_flags(broken_copy)) == (
        f"{broken_copy / name}: wrong checksum: found {found}, expected {expected}"
    )
    assert list(tmp_path.iterdir()) == [broken_copy]


def test_sides_that_are_not_parallel(broken_copy, tmp_path):
    damage(broken_copy, "val.lc.norm.tok.de", b"ein hund .\n", known=False)
    message = "val: 12 lines of en and 1 lines of de; the two sides must be parallel"
    assert refuse("prepare.sh", "--out", tmp_path / "out", *prepare_flags(broken_copy)) == message


def test_the_first_pairs_alone(copy, tmp_path):
    """Text, subwords and dictionary of 20 pairs; what else is evaluated stays whole."""
    out = tmp_path / "out"
    # (with the slash of a shell's completion)
    said = succeed("prepare.sh", "--out", f"{out}/", "--pairs", 20, *prepare_flags(copy))
    assert "==> train: 20 pairs\n==> val: 12 pairs\n" in said
    for language in ("en", "de"):
        expected = [tokenised(line) for line in sentences(language, "train")[:20]]
        assert (out / "corpus" / f"train.{language}").read_text().splitlines() == expected
        assert len((out / "corpus" / f"val.{language}").read_text().splitlines()) == SIZES["val"]
    assert (
        (out / "preparation.txt")
        .read_text()
        .startswith("protocol=tokenised\nsource=en\ntarget=de\nsubwords=30\npairs=20\ntypes=")
    )
    words = {
        w for lang in ("en", "de") for w in (out / "subword" / f"train.{lang}").read_text().split()
    }
    assert {
        line.split()[0] for line in (out / "data-bin" / "dict.en.txt").read_text().splitlines()
    } >= words

    assert "nothing to do" in succeed(
        "prepare.sh", "--out", out, "--pairs", 20, *prepare_flags(copy)
    )
    for other in [], ["--pairs", 21]:
        assert refuse("prepare.sh", "--out", out, *other, *prepare_flags(copy)) == (
            f"--out: {out} holds another preparation (protocol=tokenised source=en target=de "
            "subwords=30 pairs=20); choose another directory, or give --force to replace it"
        )


def test_more_pairs_than_there_are(copy, tmp_path):
    flags = ("--out", tmp_path / "out", "--pairs", 61, *prepare_flags(copy))
    assert refuse("prepare.sh", *flags) == "--pairs: got 61; train has 60"
    assert list(tmp_path.iterdir()) == []


def test_too_few_pieces(copy, tmp_path):
    flags = ("--out", tmp_path / "out", "--protocol", "raw", *prepare_flags(copy, 3))
    message = refuse("prepare.sh", *flags)
    assert message.startswith("--subwords: got 3; sentencepiece says: Vocabulary size is smaller")
    assert list(tmp_path.iterdir()) == []


def test_clone_of_the_datasets_repository_is_a_copy_at_hand(copy, tmp_path):
    corpus = load("corpus")
    for protocol, folder in corpus.FOLDERS.items():
        place = tmp_path / "data" / "task1" / folder
        place.mkdir(parents=True)
        name = corpus.NAMES[protocol].format(part="val", language="de")
        (place / name).write_bytes((copy / name).read_bytes())
        assert corpus.find(tmp_path, folder, name) == place / name


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """The address of a web server for a directory, and the directory."""
    handler = partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", tmp_path
        running.shutdown()
        thread.join()


def test_download(server, copy, monkeypatch):
    """From the layout of the public repository, held to checksums."""
    address, directory = server
    corpus = load("corpus")
    monkeypatch.setattr(corpus, "TASK_1", address)
    for name in ("tok", "new"):
        (directory / name).mkdir()
    for source in copy.glob("*tok*"):
        (directory / "tok" / source.name).write_bytes(source.read_bytes())
    args = corpus.argparse.Namespace(
        protocol="tokenised", languages=["en", "de"], into=directory / "new", copy=None,
        pairs=None, sums=copy / "SHA256SUMS",
    )  # fmt: skip
    corpus.prepare(args)
    for part in SIZES:
        assert (directory / "new" / f"{part}.de").read_bytes() == (
            copy / f"{part}.lc.norm.tok.de"
        ).read_bytes()

    (directory / "tok" / "val.lc.norm.tok.de").unlink()
    with pytest.raises(RecipeError) as caught:
        corpus.prepare(args)
    assert str(caught.value) == (
        f"cannot download {address}/tok/val.lc.norm.tok.de: HTTP Error 404: File not found; "
        "with a copy at hand, use --from"
    )


def test_recipes_checksums_name_every_file():
    corpus = load("corpus")
    assert set(corpus.read_sums(RECIPE / "SHA256SUMS")) == {
        name.format(part=part, language=language)
        for name in corpus.NAMES.values()
        for part in corpus.PARTS
        for language in ("en", "de", "fr", "cs")
    }


@needs_real_data
@pytest.mark.slow
def test_real_data_give_the_literatures_dictionary(tmp_path):
    """9,712 types, as in Wu et al. (ACL 2021)."""
    succeed("prepare.sh", "--out", tmp_path / "out", "--from", REAL_DATA)
    assert facts(tmp_path / "out")["types"] == "9712"


@needs_real_data
@pytest.mark.parametrize("protocol", ["tokenised", "raw"])
def test_real_data_have_the_recipes_checksums(protocol, tmp_path):
    command = [sys.executable, str(RECIPE / "corpus.py"), "--protocol", protocol]
    command += ["--languages", "en", "de", "--from", str(REAL_DATA), "--into", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "examples")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    pairs = "==> train: 29,000 pairs\n==> val: 1,014 pairs\n==> test_2016_flickr: 1,000 pairs\n"
    assert done.stdout == pairs


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "--data: missing; give the directory that prepare.sh made"),
        ("--data", "--data: needs a value"),
        (
            "--data {tmp}/none",
            "--data: {tmp}/none is no finished preparation; run prepare.sh --out {tmp}/none first",
        ),
        ("--data {data}", "--save: missing; say where checkpoints go"),
        (
            "--data {data} --save {new} --model big",
            "--model: got 'big'; expected one of: tree plain",
        ),
        (
            "--data {data} --save {new} --updates many",
            "--updates: got 'many'; expected a whole number, 1 or more",
        ),
        (
            "--data {data} --save {new} --warmup 0",
            "--warmup: got '0'; expected a whole number, 1 or more",
        ),
        (
            "--data {data} --save {new} --seed -1",
            "--seed: got '-1'; expected a whole number, 0 or more",
        ),
        (
            "--data {data} --save {new} --lr 1",
            "unknown argument '--lr'; see train.sh --help (flags of fairseq-train go after --)",
        ),
        (
            "--data {data} --save {tmp}/file",
            "--save: {tmp}/file exists and holds no run of this script; choose another directory",
        ),
        ("--data {data} --save {tmp}/file/new", "--save: cannot create {tmp}/file/new"),
        (
            "--data {data} --save {tmp}/run --seed 2",
            "--save: {tmp}/run holds a run with other settings (model=plain warmup=2000 seed=1); "
            "give the same ones or choose another directory",
        ),
    ],
)
def test_train_refuses(flags, message, prepared, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training.txt").write_text("model=plain\nwarmup=2000\nseed=1\n")
    (tmp_path / "run" / "checkpoint_last.pt").touch()
    fill = partial(str.format, data=prepared, new=tmp_path / "new", tmp=tmp_path)
    assert refuse("train.sh", *fill(flags).split()) == fill(message)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "--data: missing; give the directory that prepare.sh made"),
        (
            "--data {tmp}",
            "--data: {tmp} is no finished preparation; run prepare.sh --out {tmp} first",
        ),
        ("--data {data}", "--model: missing; give the directory that train.sh made"),
        ("--data {data} --model {tmp}/none", "--model: no such directory: {tmp}/none"),
        ("--data {data} --model {tmp}", "--checkpoint: {tmp} has no checkpoint_best.pt"),
        (
            "--data {data} --model {tmp} --checkpoint average.pt",
            "--checkpoint: {tmp} has no average.pt",
        ),
        (
            "--data {data} --model {tmp} --subset train",
            "--subset: got 'train'; expected one of: test valid",
        ),
        (
            "--data {data} --model {tmp} --beam five",
            "--beam: got 'five'; expected a whole number, 1 or more",
        ),
        (
            "--data {data} --model {tmp} --lenpen -1",
            "--lenpen: got '-1'; expected a number, 0 or more",
        ),
        (
            "--data {data} --model {tmp} --average 10",
            "unknown argument '--average'; see evaluate.sh --help",
        ),
        (
            "--data {data} --model {tmp} --checkpoint file --out {tmp}",
            "--out: {tmp} exists and is no evaluation of this script; choose another directory",
        ),
        (
            "--data {data} --model {tmp} --checkpoint file --out {tmp}/done",
            "--out: {tmp}/done holds an evaluation; "
            "choose another directory, or give --force to replace it",
        ),
        (
            "--data {data} --model {tmp} --checkpoint file",
            "--checkpoint: '{tmp}/file' cannot be loaded as a checkpoint: it is damaged, no file "
            "of torch's, or holds more than fairseq stores; nothing of it was run",
        ),
        (
            "--data {tmp}/other --model {tmp} --checkpoint file",
            "--data: {tmp}/other has no corpus/test_2016_flickr.en; "
            "expected what prepare.sh of Multi30k made",
        ),
    ],
)
def test_evaluate_refuses(flags, message, prepared, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "preparation.txt").write_text("corpus=iwslt14\nprotocol=raw\ntarget=en\n")
    (tmp_path / "file").touch()
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "score.json").touch()
    fill = partial(str.format, data=prepared, tmp=tmp_path)
    assert refuse("evaluate.sh", *fill(flags).split()) == fill(message)
    assert not (tmp_path / "evaluation").exists()


def score(tmp_path, generated, reference, tokenize="none"):
    (tmp_path / "log").write_text(generated)
    (tmp_path / "reference").write_text(reference)
    command = [sys.executable, str(RECIPE / "score.py"), "--tokenize", tokenize]
    for flag in ("generated", "reference", "hypotheses", "report"):
        file = "log" if flag == "generated" else flag
        command += [f"--{flag}", str(tmp_path / file)]
    command += ["--note", "checkpoint", "best.pt"]
    return subprocess.run(command, capture_output=True, text=True)


def test_score_puts_hypotheses_in_order(tmp_path):
    """Reference length 12, hypothesis length 11, all n-grams right: BLEU is 100 exp(1 - 12/11)."""
    log = (
        "INFO | loading model\n"
        "S-2\ta source\nT-2\ta target\nH-2\t-0.5\tone two three four five\nD-2\t-0.5\tignored\n"
        "H-0\t-0.1\tsix seven eight nine ten eleven\n"
        "H-1\t-0.3\t\n"
    )
    done = score(tmp_path, log, "six seven eight nine ten eleven\nx\none two three four five\n")
    assert done.returncode == 0, done.stderr
    hypotheses = (tmp_path / "hypotheses").read_text()
    assert hypotheses == "six seven eight nine ten eleven\n\none two three four five\n"
    assert re.fullmatch(
        r"BLEU 91\.31  nrefs:1\|case:mixed\|eff:no\|tok:none\|smooth:exp\|version:[0-9.]+\n",
        done.stdout,
    )
    report = json.loads((tmp_path / "report").read_text())
    assert report["bleu"] == pytest.approx(91.3101, abs=1e-4)
    assert done.stdout.endswith(report["signature"] + "\n")
    assert (report["sentences"], report["checkpoint"]) == (3, "best.pt")
    assert {"python", "torch", "sacrebleu", "fairseq"} <= set(report["versions"])


@pytest.mark.parametrize("log", ["H-0\t-0.1\tone\n", "H-0\t-1\tone\nH-2\t-1\ttwo\n"])
def test_score_refuses_missing_hypotheses(log, tmp_path):
    done = score(tmp_path, log, "one\ntwo\n")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: log: fairseq-generate gave {log.count('H-')} hypotheses for 2 references\n"
    )
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["plain", "tree"])
def test_train_resume_evaluate(model, prepared, tmp_path):
    """All three scripts: a run that goes on, then a score for every sentence of the test set.

    Their number is no multiple of 8, where fairseq-generate by itself would leave some out.
    """
    flags = ("--data", prepared, "--save", tmp_path / "run", "--model", model, "--cpu")
    first = succeed("train.sh", *flags, "--updates", 2, "--warmup", 50, "--", "--max-tokens", 600)
    assert "going on" not in first
    again = succeed("train.sh", *flags, "--updates", 4, "--warmup", 50, "--", "--max-tokens", 600)
    assert f"==> going on with the run in {tmp_path / 'run'}\n" in again
    log = (tmp_path / "run" / "train.log").read_text()
    assert "@ 2 updates" in log and "num_updates: 4 >= max_update: 4" in log

    flags = ("--data", prepared, "--model", tmp_path / "run", "--beam", 2, "--cpu")
    message = f"--out: cannot write to {prepared / 'preparation.txt'}"
    assert refuse("evaluate.sh", *flags, "--out", prepared / "preparation.txt" / "new") == message
    said = succeed("evaluate.sh", *flags)
    out = tmp_path / "run" / "evaluation" / "checkpoint_best-test-beam2-lenpen1"
    report = json.loads((out / "score.json").read_text())
    assert f"==> report: {out / 'report.html'}\n" in said and (out / "report.html").is_file()
    assert said.endswith(f"BLEU {report['bleu']:.2f}  {report['signature']}\n")
    assert report["sentences"] == SIZES["test_2016_flickr"]
    assert len((out / "hypotheses.de").read_text().splitlines()) == SIZES["test_2016_flickr"]
    assert report["command"] == "evaluate.sh " + " ".join(map(str, flags))
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def pretended_tools(directory, python, *commands):
    """A PATH with nothing but what the scripts need, `python` as python3, and empty commands."""
    for name in ("bash", "dirname", "cat", "head", "mkdir", "mktemp", "rm"):
        (directory / name).symlink_to(shutil.which(name))
    for name, text in {"python3": python, **dict.fromkeys(commands, "exit 0")}.items():
        (directory / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
        (directory / name).chmod(0o755)
    return {"PATH": str(directory)}


@pytest.fixture
def clone(tmp_path):
    """The examples without a .venv beside them."""
    shutil.copytree(ROOT / "examples", tmp_path / "clone" / "examples")
    (tmp_path / "bin").mkdir()
    return tmp_path / "clone"


def refuse_to_prepare(clone, environment, copy, *flags):
    command = [shutil.which("bash"), str(clone / "examples" / "multi30k" / "prepare.sh")]
    command += ["--out", str(clone / "out"), "--from", str(copy), *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert [path.name for path in clone.iterdir()] == ["examples"]
    return done.stderr


def test_prepare_without_fairseq(clone, copy):
    environment = pretended_tools(clone.parent / "bin", f'exec "{sys.executable}" "$@"')
    assert refuse_to_prepare(clone, environment, copy) == (
        "error: fairseq-train and tsa-fairseq are not on PATH: "
        f"run 'bash scripts/setup.sh' in {clone}, or activate the environment that has them\n"
    )


@pytest.mark.parametrize(
    ("protocol", "tool"), [("tokenised", "subword-nmt"), ("raw", "sentencepiece")]
)
def test_prepare_without_its_subword_tool(protocol, tool, clone, copy):
    without_packages = f'exec "{sys.executable}" -S "$@"'
    environment = pretended_tools(
        clone.parent / "bin", without_packages, "fairseq-train", "tsa-fairseq"
    )
    assert refuse_to_prepare(clone, environment, copy, "--protocol", protocol) == (
        f"error: --protocol {protocol}: needs {tool}, which is not installed: "
        f"python3 -m pip install {tool}\n"
    )


@needs_real_data
@pytest.mark.parametrize(("language", "expected"), [("en", 1014), ("de", 1011)])
def test_an_export_tokenises_as_the_data_were(language, expected):
    """With the flags that the README gives to tsa-fairseq export."""
    text = Text(TextSettings(language, language, tokenizer="moses", moses_no_dash_splits=True,
                             lowercase=True))  # fmt: skip
    raw = gzip.decompress((REAL_DATA / f"val.{language}.gz").read_bytes()).decode().split("\n")
    file = REAL_DATA / f"val.lc.norm.tok.{language}"
    lines = file.read_text(encoding="utf-8").split("\n")
    pairs = list(zip(raw, lines, strict=True))[:-1]
    assert len(pairs) == 1014
    assert sum(" ".join(text.source_words(one)) == other for one, other in pairs) == expected
