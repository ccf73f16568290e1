"""A training's log: what was measured after every epoch, and where the training ends."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

RESUMED = "study: goes on after epoch "
RECORD = re.compile(r"\| INFO \| (valid|train|train_inner) \| (\{.*\})$")
DONE = "done training in "
# What depends on the machine's other work, and sizes of batches.
LEFT_OUT = {"wps", "ups", "wpb", "bsz", "wall", "train_wall", "gb_free"}


@dataclass
class Curve:
    """Validation after every epoch, by its number: an epoch that was repeated counts once.

    Args:
        patience: the training ends after so many epochs in a row without a better nll.
        limit: it ends after so many updates.
        epochs: name and value of what fairseq-train logged on the validation data, and on the
            training data with ``train_`` before it.
        updates: of the newest line.
        words: source words a second, of the newest line.
        done: fairseq-train came to its end.
    """

    patience: int
    limit: int
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    updates: int = 0
    words: float = 0.0
    done: bool = False
    offset: int = 0

    def read(self, log: Path) -> None:
        """Take in what was added to the log since the last call."""
        if not log.exists():
            return
        with open(log, "rb") as file:
            file.seek(self.offset)
            text = file.read()
        end = text.rfind(b"\n") + 1
        self.offset += end
        for line in text[:end].decode("utf-8", errors="replace").split("\n"):
            self._take(line)

    def _take(self, line: str) -> None:
        if line.startswith(RESUMED):
            last = int(line.removeprefix(RESUMED))
            self.epochs = {n: stats for n, stats in self.epochs.items() if n <= last}
            self.updates = self.updates_of(last) if last else 0
            self.done = False
        elif DONE in line:
            self.done = True
        elif match := RECORD.search(line):
            try:
                stats = json.loads(match[2])
            except json.JSONDecodeError:
                return
            self._record(match[1], stats)

    def _record(self, tag: str, stats: dict[str, str]) -> None:
        epoch, end = int(stats["epoch"]), self.end()
        if end is not None and epoch > end:
            return  # until it is stopped, it goes on
        if tag == "train_inner":
            self.updates = int(stats["num_updates"])
            self.words = float(stats.get("wps") or 0)
            return
        found = {
            key.removeprefix(f"{tag}_"): float(value)
            for key, value in stats.items()
            if key != "epoch" and value is not None
        }
        kept = {key: value for key, value in found.items() if key not in LEFT_OUT}
        if tag == "train":
            kept = {f"train_{key}": value for key, value in kept.items() if key != "num_updates"}
            self.epochs.setdefault(epoch, {}).update(kept)
        else:
            self.updates = int(found["num_updates"])
            self.epochs.setdefault(epoch, {}).update(kept)

    def updates_of(self, epoch: int) -> int:
        """Updates done when the epoch was validated."""
        return int(self.epochs[epoch]["num_updates"])

    def nll(self, epoch: int) -> float:
        """Leaf 0's on the validation data, in bits."""
        return self.epochs[epoch]["nll_loss"]

    @property
    def validated(self) -> list[int]:
        """The epochs that were, in order."""
        return sorted(epoch for epoch, stats in self.epochs.items() if "nll_loss" in stats)

    def best(self) -> int | None:
        """The epoch with the least nll, the last of equals, as fairseq's checkpoint_best.pt."""
        return min(self.validated, key=lambda epoch: (self.nll(epoch), -epoch), default=None)

    def ranked(self, names: dict[int, str]) -> list[int]:
        """The epochs of these checkpoints, best first, as ``tsa-fairseq average`` ranks them."""
        known = [epoch for epoch in names if epoch in self.validated]
        known.sort(key=lambda epoch: (-self.nll(epoch), names[epoch]), reverse=True)
        return known

    def end(self) -> int | None:
        """The epoch with which the training ends; None if it goes on.

        fairseq-train counts epochs without a better nll in memory, so that a count is lost whenever
        it is interrupted. Here it is taken from the log.
        """
        least, without = float("inf"), 0
        for epoch in self.validated:
            if self.nll(epoch) < least:
                least, without = self.nll(epoch), 0
            else:
                without += 1
            if without >= self.patience or self.updates_of(epoch) >= self.limit:
                return epoch
        return None
