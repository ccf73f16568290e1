"""What a checkpoint's pickle may call, and that what is verified is what torch reads."""

import copy
import io
import pickle
import shutil
import time
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from helpers import exactly
from omegaconf import OmegaConf

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import load_safely
from tsa_fairseq.files.pickle_values import Unexpected
from tsa_fairseq.files.pickles import check_pickle

# Written by hand: protocol 2, then what follows; "." ends it.
BEGIN = b"\x80\x02"
DTYPE = b"cnumpy\ndtype\n"
ENCODE = b"c_codecs\nencode\n"
NAMESPACE = b"cargparse\nNamespace\n)R"
DICT_CONFIG = b"comegaconf.dictconfig\nDictConfig\n)\x81"


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
        # torch makes what is left below the last value, too: nests of any depth
        (b")" + b"\x85" * 50 + b"}.", "makes what it does not hold"),
        (b"(}.", "makes what it does not hold"),
        # keys: nests, whose numbers Python computes without an end; numbers that all are one to it
        (b"})" + b"\x85" * 50 + b"Ns.", "has a dictionary with a key that is no name"),
        (
            b"}\x8a\x08" + (2**61 - 1).to_bytes(8, "little") + b"Ns.",
            "has a dictionary with a key that is no name",
        ),
        (b"}NNs.", "has a dictionary with a key that is no name"),
        (b"}K\x01NsK\x01Ns.", "has a dictionary with a key twice"),
        # a method of its own, which is called when it is told something again
        (NAMESPACE + b"}X\x0c\x00\x00\x00__setstate__Nsb.", "changes a argparse.Namespace"),
        (NAMESPACE + b"}b}b.", "changes a argparse.Namespace"),
        (NAMESPACE + b"N}\x86b.", "changes a argparse.Namespace"),
        (DICT_CONFIG + b"}X\x07\x00\x00\x00_parent)sb.", "has a configuration in what is none"),
        # much of little
        (
            b"c__builtin__\nlist\nX\x01\x00\x00\x00a\x85R.",
            "calls __builtin__.list as fairseq does not",
        ),
        (
            b"ccollections\nOrderedDict\n}\x85R.",
            "calls collections.OrderedDict as fairseq does not",
        ),
        (
            b"ccollections\nCounter\nX\x01\x00\x00\x00a\x85R.",
            "calls collections.Counter as fairseq does not",
        ),
        (
            b"ctorch\nSize\n(" + b"K\x01" * 9 + b"tR.",
            "calls torch.Size as fairseq does not",
        ),
        (b"cargparse\nNamespace\nK\x01\x85\x81.", "makes a argparse.Namespace"),
        (b"X\x07\x00\x00\x00storageQ.", "has a storage that is none"),
        # a type of objects, which are addresses that the file says
        (DTYPE + b"X\x02\x00\x00\x00O8\x89\x88\x87R.", "calls numpy.dtype as fairseq does not"),
        # its state says what an honest type holds
        (
            DTYPE
            + b"X\x02\x00\x00\x00i8\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNK\x08K\x01K\x00tb.",
            "changes a numpy.dtype",
        ),
        (ENCODE + b"q\x00.", None),
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


def test_tuples_in_each_other_end_at_once():
    with pytest.raises(Unexpected, match="^holds values in each other without an end$"):
        check(BEGIN + b")" + b"\x85" * 101)  # before the end, which is not there


def test_lists_that_double():
    """Thirty of them are a thousand million values to whoever walks through them."""
    doubled = b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(30))
    doubled = b"(]q\x00" + doubled + b"t."
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
    """Its tensors' sizes are what it says: of a few bytes, gigabytes of memory as it is."""
    path = tmp_path / "old.pt"
    torch.save({"model": {"a": torch.arange(3)}}, path, _use_new_zipfile_serialization=False)
    message = (
        f"CHECKPOINT: '{path}' is in the format of torch before 1.6, which cannot be verified; "
        "expected it saved again by a newer torch, where it is trusted"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        load_safely(str(path), "CHECKPOINT")
    path.write_bytes(pickle.dumps({"model": 1}, protocol=2))
    with pytest.raises(UsageError, match="is damaged, no file of torch's"):
        load_safely(str(path), "CHECKPOINT")


def rewritten(path, **records):
    """An archive of torch's with more records, or others."""
    with zipfile.ZipFile(path) as archive:
        content = {record: archive.read(record) for record in archive.namelist()}
    folder = next(iter(content)).partition("/")[0]
    content.update({f"{folder}/{name}": text for name, text in records.items()})
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)


@pytest.mark.parametrize("record", ["constants.pkl", "code/__torch__.py"])
def test_a_program(record, tmp_path):
    """torch before 2.6 runs an archive for these, however it was told to read it."""
    path = tmp_path / "x.pt"
    torch.save({"model": {}}, path)
    rewritten(path, **{record: b"N."})
    message = f"F: '{path}' is refused: it is a program of TorchScript's, no checkpoint"
    with pytest.raises(UsageError, match=exactly(message)):
        load_safely(str(path), "F")


def test_records_in_each_other(tmp_path):
    """Many names for the same bytes: each would be read to its end."""
    path = tmp_path / "x.pt"
    torch.save({"model": {"a": torch.zeros(1000)}}, path)
    with zipfile.ZipFile(path, "a") as archive:
        large = max(archive.infolist(), key=lambda record: record.file_size)
        for number in range(20):
            other = copy.copy(large)
            other.filename = f"x/data/999{number}"
            archive.filelist.append(other)
            archive.NameToInfo[other.filename] = other
        archive._didModify = True
    message = f"F: '{path}' is refused: its archive has records that lie in each other"
    with pytest.raises(UsageError, match=exactly(message)):
        load_safely(str(path), "F")


@pytest.mark.parametrize("name", ["builtins.list", "builtins.set", "collections.OrderedDict"])
def test_a_tensor_is_walked_through_by_nothing(name):
    """One number can be a tensor of any size, which takes as many objects."""
    called = "c" + name.replace(".", "\n") + "\n"
    tensor = "ctorch._utils\n_rebuild_tensor_v2\n)R"
    with pytest.raises(Unexpected, match=exactly(f"calls {name} as fairseq does not")):
        check(BEGIN + f"{called}{tensor}".encode() + b"\x85R.")
    with pytest.raises(Unexpected, match=exactly(f"makes a {name}")):
        check(BEGIN + f"{called}{tensor}".encode() + b"\x85\x81.")
    with pytest.raises(Unexpected, match="calls torch.Size as fairseq does not"):
        check(BEGIN + f"ctorch\nSize\n{tensor}".encode() + b"\x85R.")


def test_many_references_to_one_list_take_no_time():
    number = 4000
    content = BEGIN + b"]](" + b"K\x01" * number + b"eq\x00a(" + b"h\x00" * number + b"e."
    began = time.process_time()
    check(content)
    assert time.process_time() - began < 2  # it took seven seconds, and grew by the square


def test_a_pickle_of_any_size():
    with pytest.raises(Unexpected, match="has a pickle of more than 8,388,608 bytes"):
        check(BEGIN + b"]" * 2**23 + b".")


@pytest.mark.parametrize("what", ["argparse\nNamespace", "torch\nSize"])
def test_values_are_put_into_what_holds_them(what):
    """The safe loader of earlier releases puts them anywhere."""
    with pytest.raises(ValueError, match="puts values into what holds none"):
        check(BEGIN + f"c{what}\n)RK\x01K\x02s.".encode())


@pytest.mark.parametrize("length", [1, 2])
def test_a_configuration_that_holds_itself(length):
    made = [OmegaConf.create({"a": 1}) for _ in range(length)]
    for one, other in zip(made, made[1:] + made[:1], strict=True):
        one.__dict__["_parent"] = other
    with pytest.raises(Unexpected, match="holds values in each other without an end"):
        check(pickle.dumps(made[0], protocol=2))


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
