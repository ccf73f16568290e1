"""fairseq-train, in which something happens that the environment says.

FAULT_NAN=RANK:UPDATE:WHAT  a number of the loss or its gradient is not finite in one process
FAULT_DIE=RANK:UPDATE       a process kills itself
FAULT_TERM=UPDATE           the process is told to end by SIGTERM
FAULT_COPY=N                the Nth copy of a checkpoint is cut in the middle, by SIGKILL
FAULT_FULL=BYTES            no file can be larger, as on a full disk
"""

import math
import os
import resource
import shutil
import signal

from fairseq_cli.train import cli_main


def happen():
    from fairseq.file_io import PathManager

    import tsa_fairseq  # noqa: F401 - registers the criterion
    from tsa_fairseq.plugin.criterion import TSAOnlineKDCriterion

    if "FAULT_FULL" in os.environ:
        most = int(os.environ["FAULT_FULL"])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    rank = os.environ.get("RANK", "0")
    forward, copied = TSAOnlineKDCriterion.forward, []

    def faulty(self, model, sample, reduce=True):
        training, updates = model.training, str(getattr(model, "num_updates", None))
        die = os.environ.get("FAULT_DIE", "").split(":")
        if training and die == [rank, updates]:
            os.kill(os.getpid(), signal.SIGKILL)
        if training and os.environ.get("FAULT_TERM") == updates:
            os.kill(os.getpid(), signal.SIGTERM)
        who, when, what = (os.environ.get("FAULT_NAN") or "::").split(":")
        now = who == rank and when == (updates if training else "valid")
        if now and what == "weight":
            model.decoder.layers[1].fc1.weight.data[0, 0] = math.nan
        if now and what == "gradient":  # and is so when the batch is repeated
            matrix = model.decoder.output_projection.weight
            matrix.register_hook(lambda gradient: gradient * math.nan)
        return forward(self, model, sample, reduce)

    def copy(source, target, *args, **kwargs):
        copied.append(target)
        if os.environ.get("FAULT_COPY") == str(len(copied)):
            with open(source, "rb") as whole, open(target, "wb") as half:
                half.write(whole.read(os.path.getsize(source) // 2))
            os.kill(os.getpid(), signal.SIGKILL)
        shutil.copyfile(source, target)
        return True

    TSAOnlineKDCriterion.forward = faulty
    if "FAULT_COPY" in os.environ:
        PathManager.copy = copy


if __name__ == "__main__":
    happen()
    cli_main()
