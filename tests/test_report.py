"""``tsa-fairseq report``: the page, in a browser where there is one, and the model card."""

import builtins
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
import yaml
from browser import PROGRAM, browser
from evidence_texts import CRASH, DONE, SPEED, generated, lines_of, training, worse
from helpers import command_line

from tsa_fairseq.report.html import Markup, join, tag, typeset
from tsa_fairseq.report.marks import marked
from tsa_fairseq.report.plots import Line, figure, forest
from tsa_fairseq.report.tree_drawing import Leaf, tree
from tsa_fairseq.tree.topology import Topology

# Elements that have no end.
VOID = {"meta", "link"}
SCRIPT = "<script>alert('x')</script>"


def run(folder, name, leaves=0, share=0.2, end=DONE, seed=1):
    """The folder of a training that has translated."""
    made = folder / name
    made.mkdir()
    training(made / "train.log", [5.5, 4.25, 4.0], leaves, end, seed)
    (made / "checkpoint_best.pt").write_bytes(name.encode())
    references = lines_of("S-plain-s1.average.test", 40)
    sources = [SCRIPT, *(f"{line} x" for line in references[1:])]
    generated(made / "generate.txt", worse(references, seed, share), references, sources, SPEED)
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return run(folder, "plain", share=0.5), run(folder, "tree", leaves=2, seed=2)


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    """Of two runs, made once; what was said is not looked at here."""
    from tsa_fairseq.cli.main import main

    out = tmp_path_factory.mktemp("page") / "page.html"
    argv = ["report", *runs, out, "--trials", 50, "--tokenize", "none"]
    assert main(list(map(str, argv))) == 0
    return out


class Outline(HTMLParser):
    """What is in a page: elements with their attributes; fails where one is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.found.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text += data

    def of(self, name):
        return [attributes for found, attributes in self.found if found == name]


def test_the_page(page, runs):
    outline = Outline(page.read_text(encoding="utf-8"))
    assert not outline.of("script") and SCRIPT in outline.text
    ids = [attributes["id"] for _, attributes in outline.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in outline.of("a")]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    for name, attributes in outline.found:
        for key in ("src", "href", "xlink:href"):
            assert attributes.get(key, "#").startswith(("#", "data:")), (name, attributes)
        if name == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    sections = [attributes["id"] for attributes in outline.of("section")]
    assert sections == [
        "answer", "systems", "scores", "tree", "learning", "where", "examples", "cost", "provenance"
    ]  # fmt: skip
    assert re.search(
        r"tree translates better than plain on test sets like this one: \+\d", outline.text
    )
    assert "tree 1[1,1], 2 leaves, tsa" in outline.text
    drawn = [
        attributes["aria-label"] for attributes in outline.of("svg") if "aria-label" in attributes
    ]
    assert "The tree 1[1,1]. leaf 0, least nll: nll 4.000; leaf 1: nll 4.250" in drawn
    curves = next(label for label in drawn if label.startswith("tree: nll of the validation data."))
    assert "leaf 1 from 5.75 at update 10 to 4.25 at 30" in curves
    assert "all leaves together from 5 at update 10 to 3.5 at 30" in curves
    assert "plain from 5.5 at update 10 to 4 at 30" in curves
    import hashlib

    for path in (runs[0] / "train.log", runs[1] / "generate.txt"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in outline.text


@pytest.fixture(scope="module")
def chromium():
    if PROGRAM is None:
        pytest.skip("no Chromium is installed")
    with browser() as found:
        yield found


# Of every text that is shown, and of the lines of plots: the least contrast with what is behind.
CONTRAST = """(() => {
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) =>
    0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const found = numbers(getComputedStyle(one).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const ratio = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  let text = [99, ""], line = [99, ""];
  for (const one of document.querySelectorAll("body *")) {
    const style = getComputedStyle(one);
    const own = [...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (own && one.tagName !== "SCRIPT") {
      const colour = one.ownerSVGElement ? style.fill : style.color;
      const found = ratio(numbers(colour), behind(one));
      if (found < text[0]) text = [found, one.tagName + ": " + one.textContent.slice(0, 40)];
    }
    const is_line = one.tagName === "path" && one.closest("[id*=line2d]");
    if (is_line && /line\\d/.test(one.getAttribute("style"))) {
      const found = ratio(numbers(style.stroke), behind(one));
      if (found < line[0]) line = [found, one.getAttribute("style")];
    }
  }
  return [text, line];
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(page, chromium, scheme):
    for width in (390, 820, 1280):
        chromium.open(page.as_uri(), width, scheme=scheme)
        assert chromium.complaints() == []
        assert chromium.requests() == [page.as_uri()]
        # an element that is wider scrolls by itself
        assert chromium.value("document.documentElement.scrollWidth") <= width
        assert chromium.value("document.body.scrollWidth") <= width
        text, line = chromium.value(CONTRAST)
        assert text[0] >= 4.5, text  # WCAG 2.2, AA: 1.4.3
        assert 3 <= line[0] < 99, line  # 1.4.11
    dark = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(20, 23, 27)") == (scheme == "dark")


def test_by_keyboard_and_in_print(page, chromium):
    chromium.open(page.as_uri(), 390)
    press = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    reached = []
    for _ in range(14):
        for kind in ("keyDown", "keyUp"):
            chromium.call("Input.dispatchKeyEvent", type=kind, **press)
        reached.append(chromium.value(
            "document.activeElement.getAttribute('href') || document.activeElement.className"
        ))  # fmt: skip
    assert reached[0] == "#answer" and "#provenance" in reached and "wide" in reached
    outline = chromium.value("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    # the names of rows stay where they are
    moved = """(() => {
      const box = [...document.querySelectorAll(".wide")].find(e => e.scrollWidth > e.clientWidth);
      box.scrollLeft = 80;
      const left = e => e.getBoundingClientRect().left;
      return box.scrollLeft && left(box.querySelector("tbody th")) - left(box);
    })()"""
    assert 0 <= chromium.value(moved) <= 1
    # on paper it is light, whatever the screen is
    chromium.open(page.as_uri(), 820, scheme="dark", media="print")
    text, line = chromium.value(CONTRAST)
    assert text[0] >= 4.5 and 3 <= line[0] < 99, (text, line)
    assert chromium.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_trainings_that_did_not_end(tmp_path, capsys):
    folder = tmp_path / "runs"
    folder.mkdir()
    crashed = run(folder, "crashed", end=CRASH)
    unfinished = run(folder, "unfinished", leaves=2, end=[])
    out = tmp_path / "x.html"
    status, said, _ = command_line(capsys, "report", crashed, unfinished, out, "--trials", 9)
    assert status == 0 and said == f"{out}: {out.stat().st_size:,} bytes\n"
    text = Outline(out.read_text(encoding="utf-8")).text
    assert (
        f"crashed ({crashed / 'train.log'}) crashed at update 30: RuntimeError: no memory left"
        in text
    )
    assert (
        f"unfinished ({unfinished / 'train.log'}) is unfinished: update 30 of 40; its figures"
        in text
    )


def test_of_logs_alone(tmp_path, capsys):
    """Nothing was translated, and one has just begun."""
    done, begun = training(tmp_path / "a.log", [5, 4]), training(tmp_path / "b.log", [], end=[])
    out = tmp_path / "x.html"
    status, _, complaint = command_line(capsys, "report", f"one={done}", begun, out)
    assert status == 0, complaint
    text = Outline(out.read_text(encoding="utf-8")).text
    assert "one: least nll of the validation data 4.000 bits a token, at update 20." in text
    assert "No scores: they take translations of every system" in text
    assert f"b.log ({begun}) is unfinished: update 0 of 40" in text


def test_of_events(tmp_path, capsys):
    tensorboard = pytest.importorskip("tensorboardX")
    for leaf in (0, 1):
        with tensorboard.SummaryWriter(
            str(tmp_path / "tb" / "valid"), filename_suffix=f".{leaf}"
        ) as writer:
            for step in (10, 20):
                writer.add_scalar(f"nll_leaf{leaf}", 50 / step + leaf, step)
                writer.add_scalar("nll_loss", 50 / step, step)
    out = tmp_path / "x.html"
    status, _, complaint = command_line(capsys, "report", tmp_path / "tb", out)
    assert status == 0, complaint
    outline = Outline(out.read_text(encoding="utf-8"))
    assert "a training, by TensorBoard's events" in outline.text
    labels = [attributes.get("aria-label") or "" for attributes in outline.of("svg")]
    assert any("leaf 1 from 6 at update 10 to 3.5 at 20" in label for label in labels)


def test_of_one_run(runs, tmp_path, capsys):
    """Its scores, with what another test set would give, and no comparison."""
    out = tmp_path / "x.html"
    argv = ["report", f"mine={runs[1] / 'generate.txt'}", out, "--trials", 50, "--metrics", "bleu"]
    assert command_line(capsys, *argv)[0] == 0
    outline = Outline(out.read_text(encoding="utf-8"))
    number = r"(\d\d\.\d\d)"
    sentence = f"mine: {number} BLEU, 40 sentences, 1 seed; on test sets like this one {number} to "
    said = re.search(f"{sentence}{number} in 95 of 100", outline.text)
    assert float(said[2]) < float(said[1]) < float(said[3])
    # a file in a run's folder belongs to that run
    assert "tree 1[1,1], 2 leaves, tsa" in outline.text
    sections = {attributes["id"] for attributes in outline.of("section")}
    assert "scores" in sections and "examples" not in sections


def test_what_cannot_be_written(runs, tmp_path, capsys, monkeypatch):
    out = tmp_path / "x.html"
    out.write_text("mine")

    def refused(*argv):
        status, said, complaint = command_line(capsys, "report", *argv, "--trials", 9)
        assert (status, said) == (1, "")
        return complaint.removeprefix("tsa-fairseq: error: ")

    assert refused(*runs, out) == f"OUT.html: '{out}' exists; expected a new file, or --force\n"
    assert refused(*runs, tmp_path / "x") == (
        f"OUT.html: got '{tmp_path / 'x'}'; expected a name that ends in .html\n"
    )
    assert refused(tmp_path, tmp_path / "y.html").startswith(
        f"RUN: '{tmp_path}' holds no checkpoint"
    )
    assert refused(*runs, tmp_path / "y.html", "--card", runs[0]) == (
        f"--card: '{runs[0]}' is no export; expected what tsa-fairseq export made\n"
    )
    real = builtins.__import__

    def absent(name, *args):
        if name == "matplotlib":
            raise ModuleNotFoundError(name=name)
        return real(name, *args)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", absent)
        assert refused(*runs, tmp_path / "y.html") == (
            "report: draws with matplotlib, which is not installed: pip install matplotlib\n"
        )
    assert refused(*runs, out, "--force") == (
        f"OUT.html: '{out}' is no page as this program wrote it; --force replaces pages alone\n"
    )
    assert out.read_text() == "mine" and not (tmp_path / "y.html").exists()


def test_a_page_is_replaced_as_it_was_written(page, runs, tmp_path, capsys):
    out = tmp_path / "x.html"
    text = page.read_text(encoding="utf-8")
    assert re.search(r"</html>\n<!-- tsa-fairseq [0-9a-f]{64} -->\n\Z", text)
    out.write_bytes(page.read_bytes())
    argv = ["report", *runs, out, "--trials", 9, "--force"]
    assert command_line(capsys, *argv)[0] == 0
    assert out.read_bytes() != page.read_bytes()
    changed = text.replace("The answer", "My answer").encode("utf-8")
    out.write_bytes(changed)
    status, _, complaint = command_line(capsys, *argv)
    assert (status, complaint) == (
        1,
        f"tsa-fairseq: error: OUT.html: '{out}' is no page as this program wrote it; --force "
        "replaces pages alone\n",
    )
    assert out.read_bytes() == changed


def test_a_card_beside_an_export(made_up, runs, tmp_path, capsys):
    folder, run_folder = tmp_path / "export", tmp_path / "run"
    argv = ["export", made_up.path, folder, "--subwords", *made_up.files]
    assert command_line(capsys, *argv)[0] == 0
    run_folder.mkdir()
    training(run_folder / "train.log", [5, 4], leaves=2)
    (run_folder / "checkpoint_best.pt").symlink_to(made_up.path)
    text = (runs[1] / "generate.txt").read_text()
    (run_folder / "generate.txt").write_text(text)
    argv = ["report", runs[0], run_folder, tmp_path / "x.html", "--trials", 9, "--card", folder]
    status, said, complaint = command_line(capsys, *argv)
    card = folder / "MODEL_CARD.md"
    assert status == 0, complaint
    assert f"{card}: {card.stat().st_size:,} bytes" in said
    text = card.read_text(encoding="utf-8")
    metadata = text.split("---\n")[1]
    assert metadata.startswith('language:\n- "de"\n- "sr"\nlibrary_name: fairseq\n')
    score = re.search(r"- type: bleu\n      name: BLEU\n      value: ([\d.]+)\n", metadata)
    assert score and f"| BLEU | {score[1]} | +" in text
    for words in (
        "of `checkpoint.pt`, trained with", "- `--kd-objective tsa`", "tsa_fairseq: MIT",
        "nrefs:1\\|case:mixed", "- parameters in training: 3,000", "`bin`, as fairseq-preprocess",
    ):  # fmt: skip
        assert words in text, words
    # one that was changed is somebody's work
    assert re.search(r"above as well\.\n<!-- tsa-fairseq [0-9a-f]{64} -->\n\Z", text)
    filled = text.replace("*Say here which one", "CC BY: *Say here which one")
    card.write_text(filled, encoding="utf-8")
    argv = ["report", *runs, tmp_path / "z.html", "--trials", 9, "--card", folder]
    for force, said in (
        ([], "exists; expected a new file, or --force"),
        (["--force"], "is no card as this program wrote it; --force replaces cards alone"),
    ):
        status, _, complaint = command_line(capsys, *argv, *force)
        assert complaint == f"tsa-fairseq: error: --card: '{card}' {said}\n" and status == 1
    assert card.read_text(encoding="utf-8") == filled and not (tmp_path / "z.html").exists()
    card.write_text(text, encoding="utf-8")
    # an export that is replaced takes its card with it
    argv = ["export", made_up.path, folder, "--subwords", *made_up.files, "--force"]
    status, _, complaint = command_line(capsys, *argv)
    assert status == 0 and not card.exists(), complaint
    _, _, complaint = command_line(
        capsys, "report", *runs, tmp_path / "y.html", "--trials", 9, "--card", folder
    )
    assert complaint.endswith(
        f"--card: '{folder}' was exported from 'checkpoint.pt' of none of these runs\n"
    )


def test_a_card_of_one_of_several_seeds(made_up, runs, tmp_path, capsys):
    """The hub's number is that of the model beside it, which was exported from an average."""
    folder, seeds = tmp_path / "export", [tmp_path / "one", tmp_path / "two"]
    for number, seed in enumerate(seeds):
        seed.mkdir()
        training(seed / "train.log", [5, 4], leaves=2)
        shutil.copy(runs[number] / "generate.txt", seed)
    (seeds[1] / "average.pt").symlink_to(made_up.path)
    argv = ["export", seeds[1] / "average.pt", folder, "--data", made_up.data]
    assert command_line(capsys, *argv, "--subwords", *made_up.files)[0] == 0
    systems = [runs[0], f"de: al={seeds[0]},{seeds[1]}"]
    argv = ["report", *systems, tmp_path / "x.html", "--trials", 20, "--card", folder]
    status, _, complaint = command_line(capsys, *argv)
    assert status == 0, complaint
    text = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["language"] == ["de", "sr"]
    (index,) = metadata["model-index"]
    assert index["name"] == "de: al"
    scores = {one["name"]: one["value"] for one in index["results"][0]["metrics"]}
    own = ", ".join(f"{value:.2f} {name}" for name, value in scores.items())
    assert f"Mean and standard deviation over 2 trainings; this one has {own}." in text
    mean = float(re.search(r"\| BLEU \| ([\d.]+) ± ", text)[1])
    assert mean != scores["BLEU"]
    assert "Intervals and p: `nrefs:1|bs:20|seed:12345|" in text


def test_markup():
    shown = tag("p", "a<b", tag("b", "&"), class_="x", aria_label='"', hidden=None)
    assert shown == '<p class="x" aria-label="&quot;">a&lt;b<b>&amp;</b></p>'
    assert join(["<", Markup("<i>")]) == "&lt;<i>"
    assert typeset("-1.50 [-2.00, +1.00], p = 0.001, a-3 and 2-3") == (
        "−1.50 [−2.00,\xa0+1.00], p\xa0=\xa00.001, a-3 and 2-3"
    )


def test_words_that_differ():
    assert marked("a b c", "a x c") == "a <mark>b</mark> c"
    assert marked("a b c d", "a d") == "a <mark>b c</mark> d"
    assert marked("<a>", "<a>") == "&lt;a&gt;"
    assert marked("", "a") == ""


def test_a_plot_takes_the_pages_colours():
    line = Line("a", [0, 10, 20], [3, 2, 1], colour=2)
    drawn = figure("plot", "A title", "bits", [line])
    assert drawn == figure("plot", "A title", "bits", [line])
    assert "var(--line2)" in drawn and "var(--ink)" in drawn
    assert not re.search(r"#[0-9a-f]{6}", drawn.split("<ul")[0])
    assert "A title. Lines against updates, in bits: a from 3 at update 0 to 1 at 20." in drawn
    references = re.findall(r"(?:url\(#|href=\"#)([\w-]+)", drawn)
    assert references and all(f'id="{name}"' in drawn for name in references)


def test_a_name_is_no_formula():
    """matplotlib would read one between two signs of dollar, and fail at this."""
    drawn = forest("plot", "A title", "BLEU", {"$x^$": (1.0, 0.5, 1.5)})
    assert "$x^$" in drawn


def test_a_tree_drawn():
    topology = Topology.parse("1[2,1[1,1]]", 3)
    drawn = tree(topology, [Leaf("nll 3", best=True), Leaf("nll 4"), Leaf("nll 5")])
    svg = ElementTree.fromstring(re.search(r"<svg.*?</svg>", drawn)[0])
    texts = [text.text for text in svg.iter("text")]
    assert sorted(texts) == sorted([
        "layer 1", "layers 2–3", "layer 2", "layer 3", "layer 3",
        "leaf 0, least nll", "nll 3", "leaf 1", "nll 4", "leaf 2", "nll 5",
    ])  # fmt: skip
    # edges: the root's two children, one's two, and a leaf whose box does not reach the labels
    assert len(list(svg.iter("path"))) == 5
    assert "└─ layer 3 ── leaf 2" in drawn
