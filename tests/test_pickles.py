"""What a checkpoint's pickle may call, and that what is verified is what torch reads."""

import io
import pickle
import shutil
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import load_safely
from tsa_fairseq.files.pickles import Unexpected, check_pickle

# Written by hand: protocol 2, then what follows; "." ends it.
BEGIN = b"\x80\x02"
DTYPE = b"cnumpy\ndtype\n"
ENCODE = b"c_codecs\nencode\n"


def check(content):
    check_pickle(io.BytesIO(content))


def test_what_fairseq_writes():
    content = {
        "args": Namespace(arch="transformer", lr=[0.1]),
        "cfg": OmegaConf.create({"model": {"a": [1, None, {"b": "c"}]}}),
        "model": OrderedDict(a=torch.zeros(2, 3), b=torch.zeros(0)),
        "extra_state": {
            "numbers": [
                np.int64(3),
                np.float32(0.5),
                np.float64(2.5),
                np.float16(1),
                np.bool_(True),
            ],
            "array": np.arange(3),
            "more": defaultdict(list, x=[1.5, True, False, 2**70]),
        },
    }
    file = io.BytesIO()
    torch.save(content, file)
    with zipfile.ZipFile(file) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
        check(archive.read(name))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # a type of objects, which are addresses that the file says
        (DTYPE + b"X\x02\x00\x00\x00O8\x89\x88\x87R.", "calls numpy.dtype as fairseq does not"),
        # its state says what an honest type holds
        (
            DTYPE
            + b"X\x02\x00\x00\x00i8\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNK\x08K\x01K\x00tb.",
            "changes a numpy.dtype",
        ),
        (b"X\x01\x00\x00\x00aX\x04\x00\x00\x00utf8\x86" + ENCODE + b"q\x00.", None),
        (
            ENCODE + b"X\x01\x00\x00\x00aX\x05\x00\x00\x00utf16\x86R.",
            "calls _codecs.encode as fairseq does not",
        ),
        (b"c__builtin__\nmap\n" + ENCODE + b"\x85R.", "hands on _codecs.encode"),
        (b"cnumpy\nload\nX\x01\x00\x00\x00x\x85R.", "calls numpy.load as fairseq does not"),
        (b"N)R.", "calls what is no name"),
        # a list that is in itself
        (b"]q\x00h\x00a.", "holds values in each other without an end"),
    ],
)
def test_what_it_never_does(content, message):
    if message is None:  # named, and not called
        check(BEGIN + content)
        return
    with pytest.raises(Unexpected) as raised:
        check(BEGIN + content)
    assert str(raised.value) == message


def test_lists_that_double():
    """Thirty of them are a thousand million values to whoever walks through them."""
    doubled = b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(30)) + b"."
    with pytest.raises(Unexpected, match="^holds values in each other without an end$"):
        check(BEGIN + doubled)


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"\x80\x02h\x07.", b"garbage"])
def test_what_is_no_pickle(content):
    with pytest.raises((ValueError, IndexError)) as raised:
        check(content)
    assert not isinstance(raised.value, Unexpected)


def test_one_line_and_nothing_run(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"model": {}}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            hostile = BEGIN + DTYPE + b"X\x02\x00\x00\x00O8\x89\x88\x87R."
            archive.writestr(name, hostile if name.endswith("data.pkl") else content)
    with pytest.raises(UsageError) as raised:
        load_safely(str(path), "CHECKPOINT")
    assert str(raised.value) == (
        f"CHECKPOINT: '{path}' is refused: it calls numpy.dtype as fairseq does not; "
        "nothing of it was run"
    )


@pytest.mark.parametrize("what", ["comment", "behind"])
def test_an_archive_with_two_tables(what, tmp_path):
    """By one of them it would be verified, by the other read."""
    one, other = tmp_path / "one.pt", tmp_path / "other.pt"
    torch.save({"model": 1}, one)
    torch.save({"model": 2}, other)
    both = tmp_path / "both.pt"
    if what == "behind":
        both.write_bytes(one.read_bytes() + other.read_bytes())
    else:
        shutil.copy(one, both)
        with zipfile.ZipFile(both, "a") as archive:
            archive.comment = b"PK\5\6"
    with pytest.raises(UsageError) as raised:
        load_safely(str(both), "CHECKPOINT")
    assert "is refused: its archive has two tables of contents" in str(raised.value) or (
        "its archive is not whole, or not of torch's kind" in str(raised.value)
    )


def test_a_file_of_early_torch(tmp_path):
    path = tmp_path / "old.pt"
    content = {"model": {"a": torch.arange(3)}, "args": Namespace(arch="x")}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    import tsa_fairseq  # noqa: F401 - what may be loaded

    loaded = load_safely(str(path), "CHECKPOINT")
    assert torch.equal(loaded["model"]["a"], torch.arange(3)) and loaded["args"].arch == "x"
    path.write_bytes(pickle.dumps({"model": 1}, protocol=2))
    with pytest.raises(UsageError):
        load_safely(str(path), "CHECKPOINT")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # memory as it is, of any size
        (b"ctorch\nTensor\nJ\x80\xf0\xfa\x02\x85R.", "calls torch.Tensor as fairseq does not"),
        (b"ctorch\nFloatStorage\nK\x08\x85R.", "calls torch.FloatStorage as fairseq does not"),
        (
            b"ctorch._utils\n_rebuild_parameter_with_state\nN\x85R.",
            "calls torch._utils._rebuild_parameter_with_state as fairseq does not",
        ),
        (
            b"ctorch._utils\n_rebuild_nested_tensor\nN\x85R.",
            "calls torch._utils._rebuild_nested_tensor as fairseq does not",
        ),
        (b"ctorch\nTensor\n)\x81.", "makes a torch.Tensor"),
        # methods of its own
        (
            b"ccollections\nOrderedDict\n)R}X\x04\x00\x00\x00keysc__builtin__\nint\nsb.",
            "changes a collections.OrderedDict",
        ),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R}b.", "changes a torch._utils._rebuild_tensor_v2"),
    ],
)
def test_tensors_are_what_the_file_holds(content, message):
    with pytest.raises(Unexpected) as raised:
        check(BEGIN + content)
    assert str(raised.value) == message


def test_a_state_dict_of_a_module():
    """It says versions of its modules, as it always does; parameters may be torch's own class."""
    file = io.BytesIO()
    module = torch.nn.Linear(2, 3)
    torch.save({"model": module.state_dict(), "more": dict(module.named_parameters())}, file)
    with zipfile.ZipFile(file) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
        check(archive.read(name))
