"""Archives in the exact inner form of IWSLT'14's and WMT's, with invented text and checksums.

And the recipes' scripts, run as a user does.
"""

import hashlib
import io
import os
import random
import re
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))  # the recipes' shared modules


def environment(**more):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **more}


def run(script, *arguments, **more):
    """A script of examples/ in this Python's environment."""
    command = ["bash", str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(**more))


def succeed(script, *arguments, **more):
    done = run(script, *arguments, **more)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def refuse(script, *arguments, **more):
    """The one line with which a script refuses, without "error: "."""
    done = run(script, *arguments, **more)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.fullmatch("error: .*\n", done.stderr), done.stderr
    return done.stderr.removeprefix("error: ").removesuffix("\n")


NOUNS = {
    "en": "dog cat house tree river teacher city word song machine".split(),
    "de": "Hund Katze Haus Baum Fluss Lehrer Stadt Wort Lied Maschine".split(),
}
VERBS = {
    "en": "sees hears finds loves paints follows".split(),
    "de": "sieht hört findet liebt malt verfolgt".split(),
}
EXTRA = {
    "en": ["today", "in the 21st century", '"again"', "well-known", "ca. 5,300 times", "it's true"],
    "de": [
        "heute",
        "im 21. Jahrhundert",
        "„wieder“",
        "wohl-bekannt",
        "ca. 5.300 mal",
        "ist's wahr",
    ],
}


def sentences(count, seed, language):
    """Sentence i of a seed means the same in both languages."""
    chosen = random.Random(seed)
    made = []
    for _ in range(count):
        one, verb, other, extra = (chosen.randrange(n) for n in (10, 6, 10, 6))
        nouns, verbs, extras = NOUNS[language], VERBS[language], EXTRA[language]
        made.append(f"The {nouns[one]} {verbs[verb]} the {nouns[other]} {extras[extra]}.")
    return made


def add(tar, name, text):
    content = text if isinstance(text, bytes) else text.encode()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def archive(path, members):
    """A .tgz of (name, text) pairs, folders first as tar writes them."""
    with tarfile.open(path, "w:gz") as tar:
        for folder in dict.fromkeys(name.rpartition("/")[0] for name, _ in members):
            if folder and ".." not in folder:
                member = tarfile.TarInfo(folder)
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
        for name, text in members:
            add(tar, name, text)
    return path


def write_sums(folder):
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.glob("*.tgz"))
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def talks(count, language):
    """train.tags: for each talk lines about it, title and description, then its text."""
    lines = []
    for talk in range(0, count, 20):
        lines += [
            f"<url>http://example.org/talks/{talk}</url>",
            "<keywords>talks, invented</keywords>",
            f"<talkid>{talk}</talkid>",
            f"<title>{NOUNS[language][talk % 10]} &amp; co</title>",
            f"<description>Talk: {sentences(1, talk, language)[0]}</description>",
            *(f" {line} " for line in sentences(min(20, count - talk), 1000 + talk, language)),
        ]
    lines.append(f" {' '.join(['long'] * 176)} ")  # too long to stay
    lines.append(" one " if language == "en" else " eins zwei ")  # ratio 2
    return "".join(f"{line}\n" for line in lines)


def xml_set(name, count, language):
    lines = "".join(
        f'<seg id="{number}"> {line.replace("it" + chr(39) + "s", "it’s")} </seg>\n'
        for number, line in enumerate(sentences(count, name, language), start=1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<mteval>\n'
        f'<refset setid="{name}" srclang="x">\n<doc docid="1" genre="lectures">\n'
        f"<title>A title</title>\n{lines}</doc>\n</refset>\n</mteval>\n"
    )


TED = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")


def iwslt_members(count=230, tests=3):
    members = [("de-en/README", "about\n")]
    for side in ("de", "en"):
        members.append((f"de-en/train.tags.de-en.{side}", talks(count, side)))
        for name in TED:
            members.append((f"de-en/IWSLT14.{name}.de-en.{side}.xml", xml_set(name, tests, side)))
    return members


def iwslt(folder, members=None):
    """A folder with de-en.tgz."""
    folder.mkdir(parents=True, exist_ok=True)
    archive(folder / "de-en.tgz", members or iwslt_members())
    write_sums(folder)
    return folder


def sgm(kind, language, count):
    lines = "".join(
        f'<seg id="{number}">{line}</seg>\n'
        for number, line in enumerate(sentences(count, "newstest2014", language), start=1)
    )
    return (
        f'<{kind} setid="newstest2014" srclang="any">\n<doc sysid="ref" docid="a" genre="news">\n'
        f"<p>\n{lines}</p>\n</doc>\n</{kind}>\n"
    )


def text(count, seed, language, bad=""):
    return "".join(f"{line}\n" for line in sentences(count, seed, language)) + bad


def wmt_members(count=150, tests=7):
    """By archive."""
    both = ("de", "en")
    long = f"{'x ' * 260}\n"
    return {
        "training-parallel-europarl-v7.tgz": [
            ("training/europarl-v7.cs-en.cs", "x\n"),
            *((f"training/europarl-v7.de-en.{s}", text(count, "ep", s)) for s in both),
        ],
        "training-parallel-commoncrawl.tgz": [
            # a carriage return and a separator of lines inside a line, and one that is too long
            ("commoncrawl.de-en.annotation", "x\n"),
            *(
                (f"commoncrawl.de-en.{s}", text(count, "cc", s, f"a\rb\u2028c\n{long}"))
                for s in both
            ),
        ],
        "training-parallel-nc-v9.tgz": [
            # without an end of the last line
            (f"training/news-commentary-v9.de-en.{s}", text(50, "nc9", s).rstrip("\n"))
            for s in both
        ],
        "training-parallel-nc-v12.tgz": [
            (f"training/news-commentary-v12.de-en.{s}", text(50, "nc12", s)) for s in both
        ],
        "dev.tgz": [(f"dev/newstest2013.{s}", text(tests, "dev", s)) for s in both],
        "test-full.tgz": [
            ("test-full/newstest2014-deen-src.en.sgm", sgm("srcset", "en", tests)),
            ("test-full/newstest2014-deen-ref.de.sgm", sgm("refset", "de", tests)),
        ],
    }


def wmt(folder, members=None):
    """A folder with WMT's archives."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, inside in (members or wmt_members()).items():
        archive(folder / name, inside)
    write_sums(folder)
    return folder
