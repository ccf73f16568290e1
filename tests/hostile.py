"""Checkpoints that somebody changed, and every door that one may be brought to."""

import argparse
import contextlib
import io
import shutil
from types import SimpleNamespace

import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from helpers import TINY, TinyTask, save_stock, save_tree

import tsa_fairseq
from tsa_fairseq.cli.main import main
from tsa_fairseq.errors import UsageError
from tsa_fairseq.plugin.teacher import Teacher
from tsa_fairseq.plugin.warm_start import warm_start


def place(folder):
    """A folder with data, and the contents of a tree's and a stock Transformer's checkpoint."""
    task, data = TinyTask(), folder / "bin"
    data.mkdir()
    for language in ("de", "en"):
        (data / f"dict.{language}.txt").write_text("".join(f"w{n} 1\n" for n in range(36)))
    save_tree(folder / "tree.pt", task, data)
    save_stock(folder / "stock.pt", task)
    contents = {
        kind: torch.load(folder / f"{kind}.pt", weights_only=True) for kind in ("tree", "stock")
    }
    return SimpleNamespace(
        folder=folder, task=task, data=data, out=folder / "out", path=folder / "x.pt", **contents
    )


def command(*argv):
    """Run tsa-fairseq; what it complained is raised, as from Python."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main([str(word) for word in argv])
    if status == 0:
        return
    assert status == 1
    *progress, last = said.getvalue().splitlines()
    assert all(line.startswith(("reading ", "looking at ")) for line in progress), progress
    raise UsageError(last.removeprefix("tsa-fairseq: error: "))


def load(at):
    pair = dict(source_lang="de", target_lang="en")  # which a stock one here does not say
    tsa_fairseq.load(at.path, data=str(at.data), **pair).translate("w3 w4", max_len_b=3)


def export(at, *flags):
    command("export", at.path, at.out, *flags)


def start_from(at):
    args = argparse.Namespace(**TINY, tree="1[1[1,1],2]")
    ARCH_CONFIG_REGISTRY["tsa_transformer"](args)
    model = ARCH_MODEL_REGISTRY["tsa_transformer"].build_model(args, at.task)
    warm_start(model, str(at.path))


# Of a tree, and of a stock Transformer: by the name that a message begins with.
TREE_DOORS = {
    "load": ("path", load),
    "export": ("CHECKPOINT", export),
    "export to CTranslate2": ("CHECKPOINT", lambda at: export(at, "--to", "ctranslate2")),
    "average": ("CHECKPOINT", lambda at: command("average", at.out, at.path, at.path)),
    "translate": ("MODEL", lambda at: command("translate", at.path)),
}
STOCK_DOORS = {
    "load": ("path", load),
    "--kd-teacher": ("--kd-teacher", lambda at: Teacher(str(at.path), at.task)),
    "--tree-init-from": ("--tree-init-from", start_from),
}
DOORS = [("tree", name) for name in TREE_DOORS] + [("stock", name) for name in STOCK_DOORS]


def bring(at, kind, door):
    """What a door answers to the file: its message, or None if it takes it."""
    _, enter = (TREE_DOORS if kind == "tree" else STOCK_DOORS)[door]
    try:
        enter(at)
    except UsageError as error:
        said = str(error)
        assert "\n" not in said and 0 < len(said) < 1000, said
        assert not at.out.exists(), "something partial"
        return said
    finally:
        if at.out.is_dir():
            shutil.rmtree(at.out)
        at.out.unlink(missing_ok=True)
        assert not [path.name for path in at.folder.iterdir() if path.name.startswith(".")]
    return None


def fields_of(state, part):
    section = state["cfg"][part]
    return vars(section) if isinstance(section, argparse.Namespace) else section
