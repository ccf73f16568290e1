import argparse
import collections
import hashlib
import pickle
import typing

import numpy as np
import pytest
import torch
from fairseq.distributed.utils import _TensorPlaceholder
from helpers import exactly
from omegaconf import OmegaConf

import tsa_fairseq.files.checkpoint
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import load_safely, read_checkpoint
from tsa_fairseq.files.checksums import checksum


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def saved(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    return str(path)


def test_what_fairseq_stores_loads_without_running_code(tmp_path):
    config = OmegaConf.create({"list": [1, 2], "any": {"a": None}}, flags={"allow_objects": True})
    config.args = argparse.Namespace(tree="2[1,1]")
    content = {
        "model": {"w": torch.ones(2)},
        "args": argparse.Namespace(arch="transformer"),
        "cfg": config,
        "counts": [np.zeros(4, dtype=t) for t in ("bool", "int32", "int64", "float32", "float64")],
        "scalars": [np.int64(3), np.float32(0.5), np.float64(2.5), np.float16(1), np.bool_(True)],
        "meters": collections.defaultdict(dict),
        "placeholder": _TensorPlaceholder(index=1),
        "type": typing.Any,
    }
    loaded = load_safely(saved(content, tmp_path), "--flag")
    assert loaded["args"].arch == "transformer"
    assert loaded["cfg"].list == [1, 2] and loaded["cfg"].args.tree == "2[1,1]"
    assert [c.dtype for c in loaded["counts"]] == [c.dtype for c in content["counts"]]
    assert loaded["scalars"] == content["scalars"]
    assert loaded["placeholder"].index == 1
    assert torch.equal(loaded["model"]["w"], torch.ones(2))


def test_foreign_code_is_refused_and_does_not_run(tmp_path):
    target = tmp_path / "written"
    path = saved({"model": {}, "extra": Hostile(target)}, tmp_path)
    message = (
        f"--flag: '{path}' is refused: it contains io.open, which is code and not among "
        "what fairseq's checkpoints hold; nothing of it was run"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        read_checkpoint(path, "--flag")
    assert not target.exists()
    with open(path, "rb"):  # the file does what it is said to do, when something unpickles it
        pickle.loads(pickle.dumps(Hostile(target))).close()
    assert target.exists()


def test_torch_without_an_allow_list(tmp_path, monkeypatch):
    monkeypatch.delattr(torch.serialization, "add_safe_globals")
    tsa_fairseq.files.checkpoint.allow_fairseq_checkpoints()
    with pytest.raises(UsageError) as raised:
        read_checkpoint("x.pt", "--flag")
    assert str(raised.value) == (
        f"--flag: reading 'x.pt' safely takes torch 2.4 or newer; this is {torch.__version__}"
    )


def test_looking_at_a_file_gives_what_reading_it_does(tree):
    content = torch.load(tree, weights_only=True)
    looked, read = (read_checkpoint(str(tree), "--flag", lazy=lazy) for lazy in (True, False))
    assert looked["cfg"] == read["cfg"]
    for state in (looked, read):
        assert state["model"].keys() == content["model"].keys()
        for name, tensor in content["model"].items():
            assert torch.equal(state["model"][name], tensor)


def test_checksum(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert checksum(str(tmp_path / "x"), "--flag") == hashlib.sha256(b"abc").hexdigest()
    message = f"--flag: '{tmp_path}' cannot be read: Is a directory"
    with pytest.raises(UsageError, match=exactly(message)):
        checksum(str(tmp_path), "--flag")


def test_what_was_read_stays(tree):
    """Though a training writes into the file; and what shares memory in it still does."""
    state = torch.load(tree, weights_only=True)
    shared = state["model"]["encoder.embed_tokens.weight"]
    state["model"]["decoder.embed_tokens.weight"] = shared
    torch.save(state, tree)
    found = read_checkpoint(str(tree), "--flag")["model"]
    with open(tree, "r+b") as file:
        file.write(b"\x00" * tree.stat().st_size)
    assert torch.equal(found["encoder.embed_tokens.weight"], shared)
    assert found["encoder.embed_tokens.weight"] is found["decoder.embed_tokens.weight"]
