"""Half precision on the command line: a GPU where fairseq sees a TPU, and none on a CPU."""

import fairseq.utils
import pytest
import torch
from fairseq import options
from helpers import exactly

from tsa_fairseq.errors import UsageError

MINE = ["--arch", "tsa_transformer", "--criterion", "tsa_online_kd"]


def parsed(tmp_path, *flags):
    argv = ["data", *MINE, "--save-dir", str(tmp_path / "save"), *flags]
    return options.parse_args_and_arch(options.get_training_parser(), argv)


@pytest.mark.parametrize("flags", [["--bf16"], ["--memory-efficient-bf16"], []])
def test_a_gpu_is_no_tpu(flags, tmp_path, monkeypatch):
    """fairseq's command line says so of bfloat16, and then looks for one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not parsed(tmp_path, *flags).tpu
    monkeypatch.setattr(fairseq.utils, "xm", object())  # torch_xla is installed
    assert parsed(tmp_path, *flags).tpu == bool(flags)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@pytest.mark.parametrize("there", [True, False])
def test_a_cpu_has_no_such_optimizer(name, there, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    message = (
        f"--{name}: takes a GPU, and this training is on a CPU; expected "
        f"--memory-efficient-{name}, or no --{name}"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        parsed(tmp_path, f"--{name}", *(["--cpu"] if there else []))
    assert getattr(parsed(tmp_path, f"--memory-efficient-{name}", "--cpu"), name)
