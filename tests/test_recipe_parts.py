"""examples/recipe: what the recipes have in common, part by part."""

import gzip
import hashlib
import http.server
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import recipe_fixtures as fixtures
from recipe import (
    bpe,
    counts,
    download,
    errors,
    job,
    markup,
    pairs,
    parallel,
    pieces,
    progress,
    text,
)
from recipe.archives import unpack
from recipe.download import Archive
from recipe.errors import RecipeError
from recipe.hypotheses import read_hypotheses
from recipe.moses import Moses, Treatment
from recipe.score import Scorer, Texts, of_plain, of_tokens, split_compounds, table
from recipe.steps import Steps
from sacrebleu.dataset.fake_sgml import FakeSGMLDataset

MULTI30K = fixtures.ROOT.parent / "shared" / "data" / "multi30k"
CONTENT = bytes(range(256)) * 4000
SHA = {"sha256": hashlib.sha256(CONTENT).hexdigest()}


def message(call, *arguments, **named):
    with pytest.raises(RecipeError) as caught:
        call(*arguments, **named)
    return str(caught.value)


# --- downloads -----------------------------------------------------------------------------------


class Server(http.server.BaseHTTPRequestHandler):
    """Gives CONTENT, in ranges unless told not to; breaks off after some bytes if told to."""

    ranges, break_after, asked = True, None, []

    def do_GET(self):
        start = 0
        wanted = self.headers.get("Range")
        Server.asked.append(wanted)
        if wanted and self.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = None if self.break_after is None else start + self.break_after
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    Server.ranges, Server.break_after, Server.asked = True, None, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/a.tgz"
        running.shutdown()
        thread.join()


def test_download_says_size_and_time_first(address, tmp_path, capsys):
    archive = Archive("a.tgz", address, len(CONTENT), SHA)
    assert download.fetch(archive, tmp_path / "new").read_bytes() == CONTENT
    assert capsys.readouterr().out == (
        f"==> downloading {address} (1.0 MB, 0 s at 10.0 MB/s; sha256)\n"
    )
    assert os.listdir(tmp_path / "new") == ["a.tgz"]
    assert download.fetch(archive, tmp_path / "new") and len(Server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_download_goes_on_where_it_stopped(ranges, address, tmp_path, capsys):
    archive = Archive("a.tgz", address, None, SHA)
    Server.break_after = 700_000
    assert message(download.fetch, archive, tmp_path) == (
        f"cannot download {address}: IncompleteRead(0 bytes read, 324000 more expected); 700.0 kB "
        "are kept, and the same command goes on from there; with a copy at hand, use --from"
    )
    assert os.listdir(tmp_path) == ["a.tgz.part"]
    Server.break_after, Server.ranges = None, ranges
    assert download.fetch(archive, tmp_path).read_bytes() == CONTENT
    assert Server.asked == [None, "bytes=700000-"]
    assert ("700.0 kB of it are here already" in capsys.readouterr().out) == ranges


@pytest.mark.parametrize("more", [b"", b"another file's end"])
def test_download_of_which_all_is_here_or_more(more, address, tmp_path):
    """As after a kill between the last byte and the checksum."""
    (tmp_path / "a.tgz.part").write_bytes(CONTENT + more)
    archive = Archive("a.tgz", address, None, SHA)
    assert download.fetch(archive, tmp_path).read_bytes() == CONTENT
    assert len(Server.asked) == (2 if more else 1)


def test_download_of_another_file_is_refused(address, tmp_path):
    archive = Archive("a.tgz", address, None, {"sha256": "0" * 64})
    assert message(download.fetch, archive, tmp_path) == (
        f"{address}: wrong checksum: found {SHA['sha256']}, expected {'0' * 64}"
    )
    assert os.listdir(tmp_path) == []


def test_download_without_a_server(tmp_path):
    archive = Archive("a.tgz", "http://127.0.0.1:9/a.tgz")
    assert message(download.fetch, archive, tmp_path) == (
        "cannot download http://127.0.0.1:9/a.tgz: [Errno 111] Connection refused; "
        "with a copy at hand, use --from"
    )


def test_download_that_a_disk_cannot_hold(address, tmp_path, monkeypatch):
    monkeypatch.setattr(errors.shutil, "disk_usage", lambda _: Free)
    assert message(download.fetch, Archive("a.tgz", address), tmp_path) == (
        f"--archives: {tmp_path}/a.tgz.part has 5.0 kB of free space; about 1.0 MB are needed"
    )
    assert message(download.fetch, Archive("a.tgz", address), tmp_path, "--out") == (
        f"--out: {tmp_path}/a.tgz.part has 5.0 kB of free space; about 1.0 MB are needed"
    )


class Free:
    free = 5000


def test_what_no_checksum_is_known_of_is_recorded(tmp_path, capsys):
    copy, folder = tmp_path / "copy", tmp_path / "archives"
    copy.mkdir()
    (copy / "a.tgz").write_bytes(b"one")
    archive = Archive("a.tgz", "", 4)
    one, two = (hashlib.sha256(content).hexdigest() for content in (b"one", b"two"))
    for _ in range(2):
        download.record(archive, download.obtain(archive, folder, copy), folder)
        shown = capsys.readouterr()
        assert shown.out == f"==> a.tgz: no checksum is known; sha256 {one}\n"
        assert shown.err == f"warning: {copy}/a.tgz: has 3 bytes; 4 were published in a log\n"
    (copy / "a.tgz").write_bytes(b"two")
    download.obtain(archive, folder, copy)
    assert capsys.readouterr().err.endswith(
        f"warning: {copy}/a.tgz: is not what it was: sha256 {two}, earlier {one}\n"
    )
    download.record(archive, copy / "a.tgz", folder)
    assert (folder / "SHA256SUMS").read_text() == f"{one}  a.tgz\n"


@pytest.mark.parametrize("name", ["a.tgz", "*a.tgz", "./copies/a.tgz"])
def test_sums_as_sha256sum_writes_them(name, tmp_path):
    file = tmp_path / "sums"
    file.write_text(f"{SHA['sha256'].upper()} {name}\n")
    assert download.read_sums(file) == {"a.tgz": SHA["sha256"]}


def test_what_was_not_unpacked_is_not_recorded(tmp_path):
    """It may be cut short, and every good copy would differ from it."""
    (tmp_path / "a.tgz").write_bytes(b"one")
    download.obtain(Archive("a.tgz", ""), tmp_path, None)
    download.record(Archive("a.tgz", "", None, SHA), tmp_path / "a.tgz", tmp_path)
    assert os.listdir(tmp_path) == ["a.tgz"]


def test_another_file_among_the_downloads(tmp_path):
    """As after a download by hand that was cut off."""
    (tmp_path / "a.tgz").write_bytes(b"one")
    found = hashlib.sha256(b"one").hexdigest()
    wrong = f"{tmp_path}/a.tgz: wrong checksum: found {found}, expected {SHA['sha256']}"
    archive = Archive("a.tgz", "", None, SHA)
    assert message(download.obtain, archive, tmp_path, None) == (
        f"{wrong}; remove it to have it downloaded again, or give a good copy with --from"
    )
    assert message(download.obtain, archive, tmp_path / "archives", tmp_path) == wrong


# --- archives ------------------------------------------------------------------------------------


def test_members_are_appended_to_files(tmp_path):
    path = fixtures.archive(tmp_path / "a.tgz", [("x/one", "1\n"), ("x/two", "2\n"), ("y", "3\n")])
    unpack(path, {"x/two": tmp_path / "out"})
    unpack(path, {"y": tmp_path / "out"})
    assert (tmp_path / "out").read_text() == "2\n3\n"
    assert sorted(os.listdir(tmp_path)) == ["a.tgz", "out"]


def test_missing_member(tmp_path):
    path = fixtures.archive(tmp_path / "a.tgz", [("x/one", "1\n")])
    wanted = dict.fromkeys(("x/one", "x/two"), tmp_path / "out")
    assert message(unpack, path, wanted) == f"{path}: has no x/two"


@pytest.mark.parametrize("name", ["../evil", "x/../../evil", "/tmp/evil"])
def test_member_that_leads_out(name, tmp_path):
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as tar:
        fixtures.add(tar, name, "evil\n")
        fixtures.add(tar, "x", "1\n")
    assert message(unpack, path, {"x": tmp_path / "out"}) == (
        f"{path}: its member '{name}' leads out of the folder; it is no archive of this corpus"
    )
    assert os.listdir(tmp_path) == ["a.tgz"]


def test_link_in_the_place_of_a_member(tmp_path):
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("x")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    wanted = {"x": tmp_path / "out"}
    assert message(unpack, path, wanted) == f"{path}: x is no plain file in it"


@pytest.mark.parametrize("kept", [0, 1, 100, 3000, -9])
def test_archive_that_is_cut_short(kept, tmp_path):
    noise = os.urandom(4000).hex()
    path = fixtures.archive(tmp_path / "a.tgz", [("x", noise), ("y", noise)])
    path.write_bytes(path.read_bytes()[:kept])
    wanted = {name: tmp_path / name for name in ("x", "z")}
    assert message(unpack, path, wanted) == (
        f"{path}: not a gzipped tar archive, or one cut short or damaged"
    )


@pytest.mark.parametrize("content", [b"<html>", gzip.compress(b"no tar" * 200)])
def test_what_is_no_archive(content, tmp_path):
    path = tmp_path / "a.tgz"
    path.write_bytes(content)
    assert message(unpack, path, {"x": tmp_path / "x"}) == (
        f"{path}: not a gzipped tar archive, or one cut short or damaged"
    )


def test_damage_in_the_middle(tmp_path):
    path = fixtures.archive(tmp_path / "a.tgz", [("x", os.urandom(40000).hex())])
    damaged = bytearray(path.read_bytes())
    damaged[20000:20100] = bytes(100)
    path.write_bytes(damaged)
    assert message(unpack, path, {"x": tmp_path / "x"}) == (
        f"{path}: not a gzipped tar archive, or one cut short or damaged"
    )


# --- text ----------------------------------------------------------------------------------------


def test_text_of_talks():
    lines = ["<url>x</url>", "<keywords>x", " x <talkid>1", "<title>A</title>", " b ", "<speaker>c"]
    assert list(markup.talk_text(lines)) == ["A", " b ", "<speaker>c"]


def test_segments_are_sacrebleus(tmp_path):
    """Of the same file, as sacreBLEU reads it."""
    (tmp_path / "in").write_text(
        '<doc>\n<seg id="1">A  b &amp; c </seg>\n<hl>\n<seg id="2"></seg>\n</hl>\n'
        + fixtures.sgm("refset", "de", 5)
    )
    FakeSGMLDataset._convert_format(
        type("", (), {"_clean": staticmethod(FakeSGMLDataset._clean)})(),
        str(tmp_path / "in"),
        str(tmp_path / "out"),
    )
    ours = map(markup.one_space, markup.segments(text.lines_of(tmp_path / "in")))
    assert list(ours) == (tmp_path / "out").read_text().split("\n")[:-1]


def test_lines_that_are_not_utf8(tmp_path, capsys):
    (tmp_path / "in").write_bytes("ü\n".encode() + b"gr\xfcn\nlast")
    text.convert(tmp_path / "in", tmp_path / "out", str.upper)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "Ü\nGR\ufffdN\nLAST\n"
    assert capsys.readouterr().err == (
        "warning: in: 1 lines are not UTF-8; what is not became U+FFFD there\n"
    )


@pytest.mark.parametrize(
    ("line", "since_2018", "before"),
    [
        ("Er ist 28.", "Er ist 28 .", "Er ist 28."),  # an ordinal elsewhere
        ("Das ist Linie A.", "Das ist Linie A .", "Das ist Linie A."),
        ("Er geht ...", "Er geht ...", "Er geht ..."),
        ("Am 3. Mai.", "Am 3. Mai .", "Am 3. Mai ."),
        ("Er ging.", "Er ging .", "Er ging ."),
        (".", ".", "."),
    ],
)
def test_last_full_stop(line, since_2018, before):
    """moses-smt/mosesdecoder, pull request 204."""
    assert Moses("de", False).tokenise(line) == since_2018
    assert Moses("de", False, split_last_stop=False).tokenise(line) == before


def test_treatment():
    line = "„Wohl-be\u00adkannt“, it’s 5 %."
    treat = Treatment("en", split_dashes=True, normalise=True, lower=True)()
    assert treat([line]) == ["&quot; wohl @-@ be kannt , &quot; it &apos;s 5 % ."]
    assert Treatment("en", straighten=True)()(["It’s"]) == ["It &apos;s"]
    assert Treatment("en")()(["It’s a-b"]) == ["It ’ s a-b"]


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="no copy of Multi30k at hand")
@pytest.mark.parametrize("language", ["en", "de"])
def test_tokenisation_is_that_of_multi30k(language):
    """Lower case first, then punctuation, then tokens, by Moses of before November 2018."""
    moses = Moses(language, False, split_last_stop=False)
    raw = gzip.open(MULTI30K / f"train.{language}.gz", "rt", encoding="utf-8", newline="\n")
    published = open(MULTI30K / f"train.lc.norm.tok.{language}", encoding="utf-8", newline="\n")
    with raw, published:
        for _ in range(1000):
            line = next(raw).rstrip("\n").lower()
            assert moses.tokenise(moses.normalise(line)) == next(published).rstrip("\n")


# --- pairs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "keep"),
    [
        ("a b", "a b c", True),  # 1.5 exactly
        ("a b c", "a b", True),
        ("a b", "a b c d", False),
        ("a b c d", "a b", False),
        ("", "a", False),
        ("a", " ", False),
        ("a " * 5, "a " * 5, True),
        ("a " * 6, "a " * 5, False),
    ],
)
def test_which_pairs_stay(source, target, keep):
    assert pairs.Limits(1, 5, 1.5).keep(source, target) == keep


def corpus(folder, part, source, target):
    folder.mkdir(exist_ok=True)
    (folder / f"{part}.de").write_text("".join(f"{line}\n" for line in source))
    (folder / f"{part}.en").write_text("".join(f"{line}\n" for line in target))
    return pairs.Corpus(folder, part, ("de", "en"))


def test_clean_and_split(tmp_path):
    numbers = [str(n) for n in range(1, 11)]
    source = corpus(tmp_path, "all", ["A B C", *numbers], ["A", *(f"X{n}" for n in numbers)])
    kept, rest, every = (pairs.Corpus(tmp_path, part, ("de", "en")) for part in "kre")
    assert pairs.clean(source, kept, pairs.Limits(1, 9, 1.5), str.lower) == (11, 10)
    pairs.split_every(kept, rest, every, 4)
    assert list(pairs.read(every)) == [("4", "x4"), ("8", "x8")]
    assert [one for one, _ in pairs.read(rest)] == ["1", "2", "3", "5", "6", "7", "9", "10"]


def test_sides_that_are_not_parallel(tmp_path):
    uneven = corpus(tmp_path, "train", ["a", "b"], ["a"])
    assert message(lambda: list(pairs.read(uneven))) == (
        f"{tmp_path}/train: the two sides are not parallel: one ends after 1 lines, "
        "the other goes on"
    )


# --- subwords, processes -------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path):
    made = []
    for side in ("en", "de"):
        path = tmp_path / f"train.{side}"
        path.write_text("".join(f"{line}\n" for line in fixtures.sentences(5000, 1, side)))
        made.append(path)
    return made


@pytest.mark.parametrize("workers", [1, 2])
def test_merges_are_subword_nmts(workers, texts, tmp_path):
    """Learned and applied by its own commands, from the texts one after the other."""
    bpe.learn(texts, 50, tmp_path / "ours", workers)
    both = b"".join(path.read_bytes() for path in texts)
    learn = ["subword-nmt", "learn-bpe", "--symbols", "50", "--output", tmp_path / "theirs"]
    environment = fixtures.environment()
    subprocess.run(learn, input=both, check=True, env=environment, stderr=subprocess.DEVNULL)
    codes = (tmp_path / "ours").read_text()
    assert codes == (tmp_path / "theirs").read_text() and codes.count("\n") == 51

    parallel.map_file(bpe.Cutter(tmp_path / "ours"), texts[1], tmp_path / "cut", workers, "")
    apply = ["subword-nmt", "apply-bpe", "--codes", tmp_path / "ours", "--input", texts[1]]
    done = subprocess.run(apply, capture_output=True, check=True, env=environment)
    assert (tmp_path / "cut").read_bytes() == done.stdout


def test_pieces_of_a_part_of_many_lines(texts, tmp_path, monkeypatch):
    """Every third line here, as 10,000 are more than two times 4,000."""
    pieces.learn(texts, 60, tmp_path / "all.model")
    monkeypatch.setattr(pieces, "MOST_LINES", 4000)
    seen = list(pieces._every(3, texts))
    assert seen[1] == texts[0].read_text().split("\n")[3]
    pieces.learn(texts, 60, tmp_path / "some.model")
    thirds = [tmp_path / "third"]
    thirds[0].write_text("".join(f"{line}\n" for line in seen))
    pieces.learn(thirds, 60, tmp_path / "third.model")
    some, third = ((tmp_path / f"{name}.vocab").read_text() for name in ("some", "third"))
    assert some == third != (tmp_path / "all.vocab").read_text()


def _number():
    return lambda lines: [f"{os.getpid()} {line}" for line in lines]


def _fail():
    def fail(lines):
        raise RecipeError("a worker's reason")

    return fail


def test_processes_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 10)
    (tmp_path / "in").write_text("".join(f"{n}\n" for n in range(205)))
    parallel.map_file(_number, tmp_path / "in", tmp_path / "out", 2, "numbering")
    done = [line.split() for line in (tmp_path / "out").read_text().splitlines()]
    assert [number for _, number in done] == [str(n) for n in range(205)]
    assert os.getpid() not in {int(process) for process, _ in done}
    assert message(parallel.map_file, _fail, tmp_path / "in", tmp_path / "x", 2, "") == (
        "a worker's reason"
    )


def test_no_more_lines_are_read_than_wait():
    """With two processes 6 chunks: what bounds the memory."""
    read = []

    def lines():
        for number in range(parallel.CHUNK * 20):
            read.append(number)
            yield ""

    results = parallel.over_chunks(_number, lines(), 2, progress.Progress("", 1))
    next(results)
    assert len(read) == 6 * parallel.CHUNK
    results.close()


INTERRUPTED = """
import os, signal, sys, time
from recipe import errors, parallel, progress

def slow():
    def work(lines):
        if lines != ["first"]:
            time.sleep(60)
    return work

def main():
    parallel.CHUNK = 1
    lines = ["first", *"abcdefgh"]
    for _ in parallel.over_chunks(slow, lines, 2, progress.Progress("", 9)):
        os.killpg(0, signal.SIGINT)  # as a terminal does

if __name__ == "__main__":
    errors.run(main)
"""


def test_interrupted_with_several_processes(tmp_path):
    """Those that work have nothing to say about it, and do not go on."""
    (tmp_path / "program.py").write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        capture_output=True,
        text=True,
        env=fixtures.environment(PYTHONPATH=str(fixtures.EXAMPLES)),
        start_new_session=True,
        timeout=50,
        # a runner may ignore it for its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (
        1, "error: interrupted; the same command goes on from the last finished step\n"
    )  # fmt: skip


# --- progress, steps, counts ---------------------------------------------------------------------


def test_progress():
    shown = progress.Progress("cutting", 4000, start=1000)
    shown.done = 2000
    assert shown.line(10) == "cutting: 2,000 lines of 4,000 lines (50 %), 100 lines/s, 20 s left"
    bytes_ = progress.Progress("loading", None, "bytes")
    bytes_.done = 5_000_000
    assert bytes_.line(2) == "loading: 5.0 MB, 2.5 MB/s"
    assert [progress.duration(n) for n in (59, 61, 3700)] == ["59 s", "1 min 1 s", "1 h 1 min"]


def test_progress_is_shown_every_ten_seconds(monkeypatch):
    now = iter([0.0, 9.0, 10.0, 11.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    shown = progress.Progress("reading", 40, out=out)
    for _ in range(4):
        shown.add(10)
    assert out.getvalue() == (
        "    reading: 20 lines of 40 lines (50 %), 2 lines/s, 10 s left\n"
        "    reading: 40 lines of 40 lines (100 %), 2 lines/s, 0 s left\n"
    )


def test_what_binarising_is_at(tmp_path, monkeypatch, capsys):
    """With a clock that is ten seconds further whenever it is looked at."""
    clock = SimpleNamespace(monotonic=count(0, 10).__next__, sleep=time.sleep)
    monkeypatch.setattr(job, "time", clock)
    job._quietly(["sleep", "0.1"], tmp_path)
    assert capsys.readouterr().out.startswith("    counting words after 20 s\n")
    (tmp_path / "train.de-en.de.bin").write_bytes(bytes(1_500_000))
    (tmp_path / "train.de-en.de.pt1.bin").symlink_to("merged")
    job._quietly(["sleep", "0.1"], tmp_path)
    assert capsys.readouterr().out.startswith("    writing, 1.5 MB after 20 s\n")


def test_steps(tmp_path, capsys):
    steps = Steps(tmp_path)

    def stopped(folder):
        (folder / "half").touch()
        raise KeyboardInterrupt

    def whole(folder):
        assert not list(folder.iterdir())
        (folder / "whole").touch()

    with pytest.raises(KeyboardInterrupt):
        steps.run("one", "making", stopped)
    assert not steps.path("one").exists()
    assert steps.run("one", "making", whole) == tmp_path / "one"
    steps.run("one", "making", stopped)  # not called
    assert capsys.readouterr().out == (
        "==> making\n==> making\n==> making: done by an earlier run\n"
    )
    assert os.listdir(tmp_path) == ["one"]


def test_counts_beside_published_ones():
    shown = counts.table(
        [
            counts.Count("pairs", 160_239, 160_239),
            counts.Count("more pairs", 160_240, 160_239),
            counts.Count("tokens", 4_024_591, 4_035_591),
            counts.Count("types", 7),
        ]
    )
    assert shown == (
        "                 here  published  difference\n"
        "pairs         160,239    160,239    the same\n"
        "more pairs    160,240    160,239          +1\n"
        "tokens      4,024,591  4,035,591     -11,000\n"
        "types               7          -           -"
    )


def test_counts_of_a_step(capsys):
    found = counts.tell([counts.Count("pairs", 7, 6)])
    assert found == [counts.Count("pairs", 7, 6)]
    assert capsys.readouterr().out == (
        "           here  published  difference\n    pairs     7          6          +1\n"
    )


def test_sides_must_be_parallel(capsys):
    pairs.check_parallel("x.tgz", ("de", "en"), 7000, 7000)
    assert capsys.readouterr().out == "==> x.tgz: 7,000 pairs\n"
    for one, other in ((7000, 6999), (0, 0)):
        assert message(pairs.check_parallel, "x.tgz", ("de", "en"), one, other) == (
            f"x.tgz: {one:,} lines of de and {other:,} of en; the two sides must be parallel"
        )


def test_program_ends_in_one_line(monkeypatch, capsys):
    def full():
        raise OSError(28, "No space left on device", "x")

    def missing():
        raise FileNotFoundError(2, "No such file or directory", "x")

    def stopped():
        raise KeyboardInterrupt

    for main, expected in (
        (
            full,
            "the disk is full; make room, and the same command goes on from the last finished step",
        ),
        (missing, "x: No such file or directory"),
        (stopped, "interrupted; the same command goes on from the last finished step"),
    ):
        monkeypatch.setattr(errors.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as caught:
            errors.run(main)
        assert caught.value.code == f"error: {expected}"


# --- scores --------------------------------------------------------------------------------------


def test_compounds_are_split():
    assert split_compounds("well-known , a - b x-y-z") == (
        "well ##AT##-##AT## known , a - b x ##AT##-##AT## y-z"
    )


def test_forms_of_the_protocols():
    moses = Moses("de", False)
    line = "Ein wohl @-@ bekannter Mann &amp; Sohn , &quot; hier &quot; ."
    plain = 'Ein wohl-bekannter Mann & Sohn, "hier".'
    found = of_tokens([line], moses)
    assert found == Texts(["Ein wohl-bekannter Mann &amp; Sohn , &quot; hier &quot; ."], [plain])
    assert of_plain([plain], moses).words == found.words


def test_scores_by_hand():
    """One word of ten is wrong; with the compound split, one of eleven."""
    reference = Texts(["a b c d e f g h-i j k"], ["A b c d e f g h-i j k"])
    scorer = Scorer(reference, lower=True, compound=True)
    found = scorer.score(Texts(["a b c d e f g h-i j x"], ["a B c d e f g h-i j x"]))
    of_ten = 100 * (9 / 10 * 8 / 9 * 7 / 8 * 6 / 7) ** 0.25
    of_twelve = 100 * (11 / 12 * 10 / 11 * 9 / 10 * 8 / 9) ** 0.25
    assert found["tokenised"] == pytest.approx(of_ten)
    assert found["detokenised"] == pytest.approx(of_ten)
    assert found["compound"] == pytest.approx(of_twelve)
    assert Scorer(reference, lower=False, compound=False).score(reference).keys() == {
        "tokenised", "detokenised", "chrf",
    }  # fmt: skip
    shown = table({"leaf0": found, "leaf3-best": found}, scorer.signatures).split("\n")
    assert shown[0].split() == ["leaf0", "leaf3-best"]
    assert shown[3].startswith("BLEU, compound-split (not comparable with the others)")
    assert "sacreBLEU, detokenised: nrefs:1|case:lc|eff:no|tok:13a" in shown[7]


def test_missing_hypotheses(tmp_path):
    log = tmp_path / "leaf0.log"
    log.write_text("INFO\nH-1\t-0.5\tb\nH-0\t-1\ta\n")
    assert read_hypotheses(log, 2) == ["a", "b"]
    assert message(read_hypotheses, log, 3) == (
        "leaf0.log: fairseq-generate gave 2 hypotheses for 3 references"
    )


def test_shared_shell_is_sourced_by_all_recipes():
    """Flags, refusals and messages have one place."""
    for script in Path(fixtures.EXAMPLES).glob("*/prepare.sh"):
        said = script.read_text()
        assert "recipe/preparing.sh" in said and "check_output()" not in said, script


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a b", "{here}/a b"),
        ("out/", "{here}/out"),
        ("/x/y//", "/x/y"),
        ("/", "/"),
        (".", "{here}/."),
    ],
)
def test_whole_paths(given, expected, tmp_path):
    """What is made beside a directory must not be made inside of it."""
    command = 'source "$1/lib.sh" && absolute "$2"'
    said = subprocess.run(
        ["bash", "-euc", command, "bash", fixtures.EXAMPLES, given],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (said.stdout, said.stderr) == (expected.format(here=tmp_path) + "\n", "")
