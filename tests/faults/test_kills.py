"""A training that is killed at any moment goes on, and loses what it had not yet written."""

import os
import random
import signal
import subprocess
import time

import pytest
from helpers import exactly
from trainings import TREE_ONLY, arguments, errors, finished, start, updates_of, wait_for

from tsa_fairseq.errors import UsageError
from tsa_fairseq.plugin.lock import hold_folder
from tsa_fairseq.plugin.restore import torn

SAVING = ["--save-interval-updates", "1", "--keep-interval-updates", "2"]


def goes_on(digits, save, updates, *flags):
    """To how many updates, and what was said."""
    status, output = finished(start(arguments(digits, save, "--max-update", updates, *flags)))
    assert status == 0, output[-3000:]
    assert updates_of(save / "checkpoint_last.pt") == updates
    return output


def test_killed_while_a_checkpoint_is_copied(digits, tmp_path):
    """fairseq's next start would end in a traceback: checkpoint_last.pt is half a file."""
    flags = ["--max-update", "9", *SAVING, "--no-epoch-checkpoints", "--disable-validation"]
    killed = finished(start(arguments(digits, tmp_path, *flags), FAULT_COPY="4"))
    assert killed[0] == -signal.SIGKILL
    whole, last = tmp_path / "checkpoint_1_4.pt", tmp_path / "checkpoint_last.pt"
    assert last.stat().st_size < whole.stat().st_size
    output = goes_on(digits, tmp_path, 6, *SAVING, "--disable-validation")
    assert (
        f"warning: '{last}' is torn (its end is missing), as when a training is killed while it "
        f"copies a checkpoint; going on from '{whole}', the newest whole one"
    ) in output
    assert "(epoch 1 @ 4 updates)" in output


@pytest.mark.slow
def test_ten_kills_at_random_moments(digits, tmp_path, capsys):
    """Every one goes on; no more is lost than the update that was being written."""
    draw, lost, found_torn = random.Random(7), [], 0
    for _ in range(10):
        process = start(arguments(digits, tmp_path, "--max-update", "100000", *SAVING))
        seen, output = 0, []
        stop = None
        for line in process.stdout:
            output.append(line)
            found_torn += " is torn (" in line
            if "| train_inner |" in line:
                seen = int(line.split('"num_updates": "')[1].split('"')[0])
                stop = stop or time.monotonic() + draw.uniform(0, 2)
            if stop is not None and time.monotonic() > stop:
                time.sleep(draw.uniform(0, 0.05))  # anywhere between two lines
                os.kill(process.pid, signal.SIGKILL)
                break
        process.communicate()
        assert not errors("".join(output)), output
        lost.append(seen)
    whole = goes_on(digits, tmp_path, max(lost) + 3, *SAVING)
    found_torn += " is torn (" in whole
    reached = int(whole.split("Loaded checkpoint")[1].split("@ ")[1].split(" ")[0])
    with capsys.disabled():
        print(f"\nkilled at updates {lost}; {found_torn} torn, goes on from {reached}")
    assert reached >= lost[-1] - 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_told_to_end(number, digits, tmp_path):
    """As by a cluster, or by Ctrl-C: it goes on, if need be from another than a torn one."""
    process = start(arguments(digits, tmp_path, "--max-update", "100000", *SAVING))
    wait_for(tmp_path / "checkpoint_1_5.pt")
    process.send_signal(number)
    status, _ = finished(process)
    assert status in (-number, 1, 130)
    whole = [path for path in tmp_path.glob("checkpoint_1_*.pt") if torn(str(path)) is None]
    here = max(map(updates_of, whole))
    goes_on(digits, tmp_path, here + 2, *SAVING)


def test_a_file_that_cannot_be_written(digits, tmp_path):
    """As on a full disk, wherever tests run: what was written before is whole, and goes on."""
    goes_on(digits, tmp_path, 2, *SAVING)

    process = start(arguments(digits, tmp_path, "--max-update", "9", *SAVING), FAULT_FULL="20000")
    assert finished(process)[0] != 0
    goes_on(digits, tmp_path, 4, *SAVING)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_disk(digits, tmp_path):
    """A small one, of which trainings fill the rest."""
    save = tmp_path / "save"
    save.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", save])
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        flags = ["--save-interval-updates", "1"]  # and none is removed
        status, _ = finished(start(arguments(digits, save, "--max-update", "99", *flags)))
        assert status != 0
        whole = [p for p in save.glob("checkpoint_1_*.pt") if p.stat().st_size > 100_000]
        assert len(whole) > 2
        for path in whole[1:]:
            path.unlink()
        status, output = finished(
            start(arguments(digits, save, "--max-update", "99", "--save-interval-updates", "99"))
        )
        assert status == 0, output[-3000:]
    finally:
        subprocess.run(["umount", save], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_folder_that_is_read_only(digits, tmp_path, monkeypatch):
    import fairseq_cli.train

    save = tmp_path / "save"
    save.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", save])
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        argv = arguments(digits, save, "--max-update", "1", tree=TREE_ONLY)
        monkeypatch.setattr("sys.argv", ["fairseq-train", *argv])
        with pytest.raises(SystemExit) as raised:
            fairseq_cli.train.cli_main()
        assert raised.value.code == (
            f"error: --save-dir: '{save}' cannot be written to; expected one that can"
        )
    finally:
        subprocess.run(["umount", save], check=True)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="a file system where nobody makes a folder")
def test_a_folder_that_cannot_be_made():
    """However free its parent says to be written to."""
    message = "--save-dir: '/proc/x' cannot be written to: No such file or directory; expected one"
    with pytest.raises(UsageError, match=exactly(f"{message} that can")):
        hold_folder("/proc/x", object())
