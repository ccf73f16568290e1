"""prepare.sh of IWSLT'14 and WMT, on archives of their exact inner form with invented text."""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from functools import partial

import pytest
import recipe_fixtures as fixtures
from recipe_fixtures import EXAMPLES, refuse, succeed

IWSLT, WMT = "iwslt14_de_en/prepare.sh", "wmt14_en_de/prepare.sh"
ON = "the same command goes on from the last finished step"
# Of IWSLT, without flags.
SETTINGS = (
    "corpus=iwslt14\nprotocol=tokenised\nsource=de\ntarget=en\nsubwords=10000\n"
    "dictionaries=separate\n"
)


def flags(copy, *more, subwords=60):
    sums = copy / "SHA256SUMS"
    return "--from", copy, "--sums", sums, "--subwords", subwords, "--workers", 1, *more


@pytest.fixture(scope="module")
def iwslt(tmp_path_factory):
    return fixtures.iwslt(tmp_path_factory.mktemp("iwslt") / "copy")


@pytest.fixture(scope="module")
def wmt(tmp_path_factory):
    return fixtures.wmt(tmp_path_factory.mktemp("wmt") / "copy")


@pytest.fixture(scope="module")
def prepared(iwslt, tmp_path_factory):
    """IWSLT, tokenised; and what was said."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    return out, succeed(IWSLT, "--out", out, *flags(iwslt))


def lines(path):
    return path.read_bytes().decode().removesuffix("\n").split("\n")


def facts(out):
    return dict(line.split("=") for line in lines(out / "preparation.txt"))


def joined_up(out, side, part):
    """Subwords joined to words again."""
    found = lines(out / "subword" / f"{part}.{side}")
    if facts(out)["protocol"] == "tokenised":
        return [line.replace("@@ ", "") for line in found]
    return [line.replace(" ", "").replace("▁", " ").strip() for line in found]


def check_outputs(out, source, target):
    assert sorted(os.listdir(out)) == sorted(
        ["corpus", "data-bin", "preparation.txt", "reference", "subword"]
        + ["subword.codes" if facts(out)["protocol"] == "tokenised" else "subword.model"]
    )
    for part in ("train", "valid", "test"):
        for side in (source, target):
            assert (out / "data-bin" / f"{part}.{source}-{target}.{side}.bin").is_file()
    types = len(lines(out / "data-bin" / f"dict.{target}.txt")) + 4
    words = [word for line in lines(out / "subword" / f"train.{target}") for word in line.split()]
    assert facts(out)["types"] == str(types)
    assert facts(out)["tokens"] == str(len(words) + len(lines(out / "subword" / f"train.{target}")))


def test_iwslt_tokenised(prepared):
    """Numbers: 230 lines and title and description of 12 talks, less two pairs that are cleaned."""
    out, said = prepared
    check_outputs(out, "de", "en")
    whole = []  # every 23rd pair was taken out
    train, valid = (lines(out / "corpus" / f"{part}.en") for part in ("train", "valid"))
    train = iter(train)
    for number in range(1, 255):
        whole.append(valid.pop(0) if number % 23 == 0 else next(train))
    assert not valid and not list(train)
    talk = fixtures.sentences(20, 1000, "en")
    assert whole[0] == "dog &amp; amp ; co" and whole[1].startswith("talk : the ")
    assert "it &apos;s true ." in whole[2 + next(i for i, s in enumerate(talk) if "'s" in s)]
    assert whole[2:4] == [
        re.sub(r"[.]$", " .", line.lower().replace("ca.", "ca .").replace('"', "&quot;"))
        for line in talk[:2]
    ]
    assert "the two sides" not in said
    test = [s for name in fixtures.TED for s in fixtures.sentences(3, name, "en")]
    assert lines(out / "reference" / "test.en") == [line.replace("'", "’") for line in test]
    assert any(" it &apos;s true ." in line for line in lines(out / "corpus" / "test.en"))
    assert joined_up(out, "de", "train") == lines(out / "corpus" / "train.de")
    dictionaries = [(out / "data-bin" / f"dict.{side}.txt").read_text() for side in ("de", "en")]
    assert dictionaries[0] != dictionaries[1]
    assert re.search(r"^train, pairs +243 +160,239 +-159,996$", said, re.M)
    assert re.search(r"^    train, pairs before cleaning +256 +174,443 +-174,187$", said, re.M)
    # each as soon as it is known
    told = re.findall(r"^==> (.*)|^    (\w+, \w+.*?)  +[\d,]+ +\S+ +\S+$", said, re.M)
    assert [step or f"  {count}" for step, count in told] == [
        "unpacking de-en.tgz",
        "train: 256 pairs",
        "test: 15 pairs",
        "  train, pairs before cleaning",
        "  test, pairs",
        "keeping the test set's plain text",
        "tokenising",
        "cleaning, and every 23rd pair for validation",
        *(f"  {part}, pairs" for part in ("train", "valid", "test")),
        "learning 60 joint subwords (one core, once words are counted)",
        "cutting the text into subwords",
        *(f"  train, tokens {side}" for side in ("de", "en")),
        "binarising with fairseq-preprocess",
        *(f"  dictionary, types {side}" for side in ("de", "en")),
        "all counts",
        "all steps are done",
        f"prepared {out}: tokenised, de to en",
    ]
    assert re.search(r"^test, pairs +15 +6,750 +-6,735$", said, re.M)
    assert re.search(r"^train, tokens de +[\d,]+ +- +-$", said, re.M)  # not of 10,000 merges
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_iwslt_raw_with_one_dictionary(iwslt, tmp_path):
    out = tmp_path / "out"
    said = succeed(IWSLT, "--out", out, *flags(iwslt, "--protocol", "raw", "--joined"))
    check_outputs(out, "de", "en")
    assert lines(out / "corpus" / "train.en")[:1] == ["dog & co"]
    assert lines(out / "corpus" / "test.en") == lines(out / "reference" / "test.en")
    assert joined_up(out, "en", "test") == lines(out / "corpus" / "test.en")
    dictionaries = [(out / "data-bin" / f"dict.{side}.txt").read_text() for side in ("de", "en")]
    assert dictionaries[0] == dictionaries[1]
    assert re.search(r"^train, pairs +243 +- +-$", said, re.M)
    assert facts(out)["dictionaries"] == "joined"


def test_wmt14_tokenised_on_two_processes(wmt, tmp_path):
    out = tmp_path / "out"
    said = succeed(WMT, "--out", out, *flags(wmt, "--workers", 2))
    check_outputs(out, "en", "de")
    train = lines(out / "corpus" / "train.de")
    assert len(train) == 352 == len(lines(out / "corpus" / "train.en"))
    assert train[300] == "a b c"  # it had a carriage return and a separator of lines inside
    assert lines(out / "corpus" / "train.en")[302].startswith("The ")  # News Commentary's first
    quoted = [line for line in train if "wieder" in line]
    assert quoted and all("&quot; wieder &quot; ." in line or "&quot; ." in line for line in quoted)
    assert "==> train: 351 of 352 pairs have 1 to 250 subwords and ratio 1.5\n" in said
    # newstest2013 and newstest2014: never cleaned, punctuation not normalised
    test = lines(out / "corpus" / "test.de")
    assert len(test) == 7 and len(lines(out / "corpus" / "valid.de")) == 7
    assert lines(out / "reference" / "test.de") == fixtures.sentences(7, "newstest2014", "de")
    assert any("„ wieder “" in line for line in test)
    assert any("wohl @-@ bekannt" in line for line in test)
    assert joined_up(out, "de", "test") == test
    assert re.search(r"^valid, pairs +7 +3,000 +-2,993$", said, re.M)
    assert facts(out)["valid"] == "newstest2013"


def test_wmt17_raw_with_every_hundredth(wmt, tmp_path):
    out = tmp_path / "out"
    corpus = ("--corpus", "wmt17", "--valid", "hundredth", "--protocol", "raw")
    said = succeed(WMT, "--out", out, *flags(wmt, *corpus))
    check_outputs(out, "en", "de")
    valid = lines(out / "corpus" / "valid.en")
    europarl, crawl = (fixtures.sentences(150, seed, "en") for seed in ("ep", "cc"))
    assert valid == [europarl[99], crawl[49], crawl[149]]
    assert "==> training-parallel-nc-v12.tgz: 50 pairs\n" in said and "dev.tgz" not in said
    assert lines(out / "corpus" / "test.de") == lines(out / "reference" / "test.de")


def test_wmt17_is_compared_with_what_was_published():
    module = load("wmt14_en_de")
    assert module.PUBLISHED[0] == 4_590_101 - 4_590_101 // module.VALID_EVERY


def test_a_finished_preparation_is_not_made_again(iwslt, prepared):
    out, _ = prepared
    before = (out / "preparation.txt").stat().st_mtime_ns
    assert succeed(IWSLT, "--out", out, *flags(iwslt)) == (
        f"==> {out} is prepared with these settings: nothing to do (--force makes it anew)\n"
    )
    assert (out / "preparation.txt").stat().st_mtime_ns == before


def test_other_settings_are_refused(iwslt, prepared, tmp_path):
    settings = "corpus=iwslt14 protocol=tokenised source=de target=en subwords=60 dictionaries="
    out, _ = prepared
    assert refuse(IWSLT, "--out", out, *flags(iwslt, "--joined")) == (
        f"--out: {out} holds another preparation ({settings}separate); "
        "choose another directory, or give --force to replace it"
    )
    work = tmp_path / "new.partial"
    work.mkdir()
    (work / "settings.txt").write_text(settings.replace(" ", "\n") + "joined\n")
    (work / "text").mkdir()
    assert refuse(IWSLT, "--out", tmp_path / "new", *flags(iwslt)) == (
        f"--out: {work} is an unfinished preparation with other settings ({settings}joined); "
        "give the same ones, or --force to throw it away"
    )
    assert (work / "text").is_dir()


def test_other_settings_where_nothing_was_done(iwslt, tmp_path):
    """A start that was refused is corrected without --force."""
    given = ("--out", tmp_path / "out", "--workers", 1)
    assert refuse(IWSLT, *given, "--from", tmp_path).startswith("--from: ")
    settings = tmp_path / "out.partial" / "settings.txt"
    assert settings.read_text() == SETTINGS
    (tmp_path / "out.partial" / "text.unfinished").mkdir()
    more = ("--from", tmp_path, "--subwords", 60)
    assert "earlier run" not in succeed(IWSLT, *given, *more, "--dry-run")
    assert settings.read_text() == SETTINGS
    assert refuse(IWSLT, *given, *more).startswith("--from: ")
    assert settings.read_text() == SETTINGS.replace("10000", "60")
    assert os.listdir(settings.parent) == ["settings.txt"]


@pytest.mark.slow
def test_force_replaces_both(iwslt, tmp_path):
    out, work = tmp_path / "out", tmp_path / "out.partial"
    for folder, name in ((out, "preparation.txt"), (work, "settings.txt")):
        folder.mkdir()
        (folder / name).write_text("corpus=iwslt14\nprotocol=raw\n")
        (folder / "corpus").mkdir()
        (folder / "corpus" / "old").touch()
    succeed(IWSLT, "--out", out, *flags(iwslt, "--force"))
    check_outputs(out, "de", "en")
    assert not (out / "corpus" / "old").exists()
    assert os.listdir(tmp_path) == ["out"]


def test_two_at_once_are_refused(iwslt, tmp_path):
    work = tmp_path / "out.partial"
    work.mkdir()
    with (work / "settings.txt").open("w") as settings:
        fcntl.flock(settings, fcntl.LOCK_EX)
        assert refuse(IWSLT, "--out", tmp_path / "out", *flags(iwslt)) == (
            f"--out: another prepare.sh is at work in {work}"
        )


BOTH = [
    ("", "--out: missing; say where the prepared data goes"),
    ("--out", "--out: needs a value"),
    ("--out {new} --protocol bpe", "--protocol: got 'bpe'; expected one of: tokenised raw"),
    ("--out {new} --subwords 0", "--subwords: got '0'; expected a whole number, 1 or more"),
    ("--out {new} --workers all", "--workers: got 'all'; expected a whole number, 1 or more"),
    ("--out {new} --from {tmp}/none", "--from: no such directory: {tmp}/none"),
    ("--out {new} --from {tmp} --sums {tmp}/none", "--sums: no such file: {tmp}/none"),
    (
        "--out {new} --sums {tmp}/file",
        "--sums: needs --from; downloads are held to the checksums of the recipe",
    ),
    (
        "--out {new} --archives {tmp}/file",
        "--archives: got '{tmp}/file', which is a file; expected a directory",
    ),
    ("--out {new} --frm x", "unknown argument '--frm'; see prepare.sh --help"),
    (
        "--out {tmp}/file",
        "--out: {tmp}/file exists and is no preparation of this script; choose another directory",
    ),
    ("--out {tmp}/file/new --from {tmp}", "--out: cannot write to {tmp}/file"),
    (
        "--out {tmp}/strange",
        "--out: {tmp}/strange.partial exists and is no unfinished preparation; move it away",
    ),
]
OF_WMT = [
    ("--out {new} --corpus wmt16", "--corpus: got 'wmt16'; expected one of: wmt14 wmt17"),
    (
        "--out {new} --valid newstest2012",
        "--valid: got 'newstest2012'; expected one of: newstest2013 hundredth",
    ),
]


@pytest.mark.parametrize(
    ("script", "given", "message"),
    [(IWSLT, *case) for case in BOTH] + [(WMT, *case) for case in [*OF_WMT, BOTH[2], BOTH[5]]],
)
def test_flags_are_refused(script, given, message, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "strange.partial").mkdir()
    fill = partial(str.format, new=tmp_path / "new", tmp=tmp_path)
    assert refuse(script, *fill(given).split()) == fill(message)
    assert sorted(os.listdir(tmp_path)) == ["file", "strange.partial"]


def damaged_iwslt(folder, edit, known=True):
    """A copy whose archive's members an edit has changed; its checksum is known or not."""
    fixtures.iwslt(folder, edit(fixtures.iwslt_members(40)))
    if not known:
        (folder / "SHA256SUMS").write_text("")
    return folder


def without(name):
    return lambda members: [(n, text) for n, text in members if n != name]


def shorter(name):
    return lambda members: [
        (n, text.rpartition("\n")[0].rpartition("\n")[0] if n == name else text)
        for n, text in members
    ]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            without("de-en/IWSLT14.TEDX.dev2012.de-en.en.xml"),
            "{archive}: has no de-en/IWSLT14.TEDX.dev2012.de-en.en.xml",
        ),
        (without("de-en/train.tags.de-en.de"), "{archive}: has no de-en/train.tags.de-en.de"),
        (
            shorter("de-en/train.tags.de-en.de"),
            "train: 46 lines of de and 46 of en; the two sides must be parallel",
        ),
        (
            lambda members: [*members, ("de-en/../../x", "x")],
            "{archive}: its member 'de-en/../../x' leads out of the folder; "
            "it is no archive of this corpus",
        ),
    ],
)
def test_archive_that_is_not_iwslts(edit, message, tmp_path):
    copy = damaged_iwslt(tmp_path / "copy", edit)
    found = refuse(IWSLT, "--out", tmp_path / "out", *flags(copy))
    expected = message.format(archive=copy / "de-en.tgz")
    assert found == expected.replace("46 lines of de", "45 lines of de")
    assert sorted(os.listdir(tmp_path)) == ["copy", "out.partial"]


def test_wrong_checksum_and_cut_archive(wmt, tmp_path):
    """Before any other work is done; all archives are looked at first."""
    copy = tmp_path / "copy"
    shutil.copytree(wmt, copy)
    path = copy / "dev.tgz"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:-20])
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert refuse(WMT, "--out", tmp_path / "out", *flags(copy)) == (
        f"{path}: wrong checksum: found {found}, expected {expected}"
    )
    assert os.listdir(tmp_path / "out.partial") == ["settings.txt"]
    sums = copy / "SHA256SUMS"
    sums.write_text("".join(s + "\n" for s in lines(sums) if not s.endswith("  dev.tgz")))
    assert refuse(WMT, "--out", tmp_path / "out", *flags(copy)) == (
        f"{path}: not a gzipped tar archive, or one cut short or damaged"
    )
    path.unlink()
    message = f"--from: {copy} has no dev.tgz"
    assert refuse(WMT, "--out", tmp_path / "out", *flags(copy)) == message


def test_sides_of_a_part_of_wmt(wmt, tmp_path):
    members = fixtures.wmt_members()
    name = "training-parallel-nc-v9.tgz"
    members[name][0] = (members[name][0][0], "one\ntwo\n")
    copy = fixtures.wmt(tmp_path / "copy", members)
    assert refuse(WMT, "--out", tmp_path / "out", *flags(copy)) == (
        f"{name}: 50 lines of en and 2 of de; the two sides must be parallel"
    )


def test_published_checksums_hold_downloads(wmt, tmp_path):
    """Without --sums a made-up copy is refused."""
    given = ("--out", tmp_path / "out", "--from", wmt)
    path = wmt / "training-parallel-europarl-v7.tgz"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert refuse(WMT, *given) == (
        f"{path}: wrong checksum: found {found}, expected "
        "0224c7c710c8a063dfd893b0cc0830202d61f4c75c17eb8e31836103d27d96e7"
    )


# --- interruption --------------------------------------------------------------------------------


def load(recipe):
    spec = importlib.util.spec_from_file_location(recipe, EXAMPLES / recipe / "corpus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contents(folder):
    """Every file by name; logs have times in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".log"
    }


@pytest.mark.parametrize("recipe", ["iwslt14_de_en", "wmt14_en_de"])
def test_stopped_in_every_step_and_started_again(recipe, iwslt, wmt, tmp_path, monkeypatch):
    """Each run ends with half a step more than the one before; the result is that of one run."""
    from recipe.steps import Steps

    module = load(recipe)
    copy = {"iwslt14_de_en": iwslt, "wmt14_en_de": wmt}[recipe]
    common = ["corpus.py", "--protocol", "tokenised", "--subwords", "60", "--workers", "1"]
    common += ["--archives", str(tmp_path / "a")]
    common += ["--sums", str(copy / "SHA256SUMS")]
    if recipe == "wmt14_en_de":
        common += ["--joined", "--corpus", "wmt17", "--valid", "hundredth"]

    def once(work, copy=copy):
        monkeypatch.setattr("sys.argv", [*common, "--work", str(work), "--from", str(copy)])
        module.main()

    monkeypatch.setenv("PATH", fixtures.environment()["PATH"])
    real, made = Steps.run, []
    monkeypatch.setattr(Steps, "run", lambda s, n, w, m: (made.append(n), real(s, n, w, m))[1])
    once(tmp_path / "at once")
    names = list(made)
    assert len(names) >= 6

    class Stopped(BaseException):
        pass

    for stop in names:

        def run(steps, name, what, make, stop=stop):
            def half(folder):
                make(folder)
                for path in folder.iterdir():
                    if path.is_file():
                        content = path.read_bytes()
                        path.unlink()  # it may be another step's file under a second name
                        path.write_bytes(content[:100])
                raise Stopped

            made.append(name)
            return real(steps, name, what, half if name == stop else make)

        made.clear()
        monkeypatch.setattr(Steps, "run", run)
        with pytest.raises(Stopped):
            once(tmp_path / "work")
        assert made == names[: names.index(stop) + 1]
        assert not (tmp_path / "work" / stop).exists()
    monkeypatch.setattr(Steps, "run", real)
    once(tmp_path / "work", tmp_path / "thrown away")  # to make room for what is made of it
    assert contents(tmp_path / "work") == contents(tmp_path / "at once")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("during", ["tokenising", "binarising"])
def test_killed_and_started_again(how, during, iwslt, prepared, tmp_path):
    """The whole process group, as a cluster or Ctrl-C does it."""
    command = ["bash", str(EXAMPLES / IWSLT), "--out", tmp_path / "out", *flags(iwslt)]
    running = subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=fixtures.environment(),
        start_new_session=True,
    )
    for line in running.stdout:
        if line.startswith(f"==> {during}"):
            break
    time.sleep(0.3)
    os.killpg(running.pid, how)
    _, complaints = running.communicate()
    assert running.returncode != 0
    if how == signal.SIGTERM:
        assert f"error: interrupted; {ON}\n" in complaints
    assert os.listdir(tmp_path) == ["out.partial"]
    said = succeed(IWSLT, "--out", tmp_path / "out", *flags(iwslt))
    assert "==> unpacking de-en.tgz: done by an earlier run\n" in said
    assert contents(tmp_path / "out") == contents(prepared[0])


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of so many bytes; only root may make one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_disk_that_is_too_small(iwslt, tmp_path):
    with small_disk(tmp_path / "disk", 65536) as disk:
        needed = 20 * (iwslt / "de-en.tgz").stat().st_size - 87
        message = refuse(IWSLT, "--out", disk / "out", *flags(iwslt))
    pattern = (
        rf"--out: {disk}/out.partial has 6\d\.\d kB of free space; about (\d+\.\d) kB are needed"
    )
    found = re.fullmatch(pattern, message)
    assert found and abs(float(found[1]) - needed / 1000) < 0.1


def test_disk_that_is_too_small_before_a_download(tmp_path):
    with small_disk(tmp_path / "disk", 65536) as disk:
        message = refuse(IWSLT, "--out", disk / "out")
        assert os.listdir(disk) == ["out.partial"]
    assert re.fullmatch(
        rf"--out: {disk}/out.partial has .* kB of free space; about 399\.7 MB are needed", message
    )


@pytest.mark.slow
@pytest.mark.parametrize("free", [30, 60, 100, 250])
def test_disk_that_fills_up(free, iwslt, prepared, tmp_path, monkeypatch):
    """Others write there, too. What fits is kept; with room again, the same command goes on."""
    with small_disk(tmp_path / "disk", 4_000_000) as disk:
        work = disk / "out.partial"
        command = [*map(str, ("--out", disk / "out", *flags(iwslt)))]
        running = subprocess.Popen(
            ["bash", str(EXAMPLES / IWSLT), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=fixtures.environment(),
        )
        for line in running.stdout:
            if line.startswith("==> unpacking"):
                break
        with (disk / "others").open("wb") as others:
            room = shutil.disk_usage(disk).free
            with contextlib.suppress(OSError):  # what the preparation took meanwhile
                others.write(bytes(max(room - free * 1000, 0)))
        _, complaints = running.communicate()
        if running.returncode == 0:
            pytest.skip("the preparation was faster than the disk filled up")
        assert complaints.endswith(f"error: the disk is full; make room, and {ON}\n"), complaints
        assert work.is_dir() and not (disk / "out").exists()
        (disk / "others").unlink()
        succeed(IWSLT, *command)
        assert contents(disk / "out") == contents(prepared[0])


# --- dry runs ------------------------------------------------------------------------------------


def test_dry_run_of_wmt(tmp_path):
    given = ("--out", tmp_path / "out", "--corpus", "wmt17", "--workers", 4, "--dry-run")
    said = succeed(WMT, *given)
    assert said.startswith(
        "archives:\n  training-parallel-europarl-v7.tgz: "
        "https://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz "
        "(657.6 MB, 1 min 6 s at 10.0 MB/s; sha256)\n"
    )
    assert "test-full.tgz: https://statmt.org/wmt14/test-full.tgz (size unknown; md5)\n" in said
    assert "\nsteps (4 processes; estimated):\n  text: unpack: " in said
    assert re.search(rf"\ndisk: 1\.6 GB of archives in {tmp_path}/archives, about \d+\.\d GB", said)
    assert os.listdir(tmp_path) == []


def test_dry_run_knows_what_is_there(iwslt, tmp_path):
    work = tmp_path / "out.partial"
    (work / "text").mkdir(parents=True)
    (work / "settings.txt").write_text(SETTINGS)
    given = ("--from", iwslt, "--workers", 1, "--dry-run")
    said = succeed(IWSLT, "--out", tmp_path / "out", *given)
    assert "\ntime: 4 min 22 s beside downloads\n" in said  # of what is left
    assert said.startswith(f"archives:\n  de-en.tgz: {iwslt}/de-en.tgz, ")
    assert "  text: unpack, drop markup: done by an earlier run\n" in said
    packed = (iwslt / "de-en.tgz").stat().st_size / 1000
    assert f"\ndisk: {packed:.1f} kB of archives in {iwslt}, about {packed * 20:.1f} kB" in said
    given = ("--out", tmp_path / "out", "--from", tmp_path, "--dry-run")
    said = succeed(IWSLT, *given)
    assert said.startswith("archives:\n  de-en.tgz: not needed: unpacked by an earlier run\n")
    (work / "text").rmdir()
    missing = succeed(IWSLT, *given)
    assert missing.startswith(f"archives:\n  de-en.tgz: MISSING in {tmp_path}\n")


def test_dry_run_of_what_is_prepared(iwslt, prepared):
    out, _ = prepared
    assert succeed(IWSLT, "--out", out, *flags(iwslt, "--dry-run")) == (
        f"==> {out} is prepared with these settings: nothing to do (--force makes it anew)\n"
    )
    assert refuse(IWSLT, "--out", out, "--dry-run").startswith(
        f"--out: {out} holds another preparation ("
    )
    said = succeed(IWSLT, "--out", out, *flags(iwslt, "--dry-run", "--force"))
    assert said.startswith(f"==> {out} would be replaced (--force)\narchives:\n")
    assert "earlier run" not in said


def test_dry_run_beside_another_unfinished_preparation(iwslt, tmp_path):
    work = tmp_path / "out.partial"
    (work / "text").mkdir(parents=True)
    (work / "settings.txt").write_text(SETTINGS)
    given = ("--out", tmp_path / "out", *flags(iwslt), "--dry-run")
    assert refuse(IWSLT, *given) == (
        f"--out: {work} is an unfinished preparation with other settings "
        f"({' '.join(SETTINGS.split())}); give the same ones, or --force to throw it away"
    )
    said = succeed(IWSLT, *given, "--force")
    assert said.startswith(
        f"==> {work}, an unfinished preparation with other settings, would be thrown away "
        "(--force)\narchives:\n"
    )
    assert "earlier run" not in said and (work / "text").is_dir()


def test_stopped_after_the_last_step(iwslt, prepared, tmp_path):
    """At any place of what comes after it nothing is made again; there are no archives here."""
    out, _ = prepared
    tools = tmp_path / "tools"
    tools.mkdir()
    for stopped in ("find", "mv", "rm"):
        here = tmp_path / stopped
        work = here / "out.partial"
        shutil.copytree(out, work)
        (work / "settings.txt").write_text(SETTINGS.replace("10000", "60"))
        (work / "facts.txt").write_text("types=1\n")
        (work / "learned").mkdir()
        (tools / stopped).write_text("#!/bin/sh\nexit 1\n")
        (tools / stopped).chmod(0o755)
        given = ("--out", here / "out", "--subwords", 60, "--workers", 1)
        environment = fixtures.environment()
        path = f"{tools}{os.pathsep}{environment['PATH']}"
        command = ["bash", str(EXAMPLES / IWSLT), *map(str, given)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**environment, "PATH": path}
        )
        assert (done.returncode, done.stdout) == (1, "")
        (tools / stopped).unlink()
        assert succeed(IWSLT, *given, "--dry-run") == (
            f"==> all steps are done in {work}: it would become {here}/out\n"
        )
        assert succeed(IWSLT, *given) == f"==> prepared {here}/out: tokenised, de to en\n"
        assert contents(here / "out") == contents(out)
        assert os.listdir(here) == ["out"] and not (here / "out" / "learned").exists()


def test_wrong_download_and_its_checksum(iwslt, tmp_path):
    """A file that is cut short is not what later ones are compared with."""
    archives = tmp_path / "archives"
    archives.mkdir()
    path = archives / "de-en.tgz"
    whole = (iwslt / "de-en.tgz").read_bytes()
    path.write_bytes(whole[:-20])
    given = ("--out", tmp_path / "out", "--subwords", 60, "--workers", 1)
    done = fixtures.run(IWSLT, *given)
    assert done.stderr.splitlines()[-1] == (
        f"error: {path}: not a gzipped tar archive, or one cut short or damaged; "
        "remove it to have it downloaded again, or give a good copy with --from"
    )
    assert os.listdir(archives) == ["de-en.tgz"]
    path.write_bytes(whole)
    done = fixtures.run(IWSLT, *given)
    assert (done.returncode, "is not what it was" in done.stderr) == (0, False)
    found = hashlib.sha256(whole).hexdigest()
    assert (archives / "SHA256SUMS").read_text() == f"{found}  de-en.tgz\n"
