"""How well every leaf of a checkpoint does on validation data: nll or BLEU."""

import math
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsa_fairseq.deploy.device import choose_device
from tsa_fairseq.deploy.search import BEAM
from tsa_fairseq.errors import UsageError, plural
from tsa_fairseq.files.binarised import kind_of_data
from tsa_fairseq.files.building import reason
from tsa_fairseq.files.subwords import kind_of

METRICS = ("nll", "bleu")
SUBSET = "valid"
# Of a batch: enough for speed, little enough for any machine.
MAX_TOKENS = 4000


@dataclass(frozen=True)
class Scores:
    """A metric of every leaf.

    Args:
        metric: one of :data:`METRICS`.
        values: by leaf; nll in bits a token.
        signature: sacreBLEU's; empty for nll.
    """

    metric: str
    values: tuple[float, ...]
    signature: str = ""

    @property
    def best(self) -> int:
        """The leaf that does best; one that has no number does not."""
        choose = min if self.metric == "nll" else max
        numbers = [leaf for leaf, value in enumerate(self.values) if math.isfinite(value)]
        return choose(numbers, key=self.values.__getitem__)

    def of(self, leaf: int) -> dict[str, float | str]:
        """One leaf's figures, by name."""
        signature = {"signature": self.signature} if self.signature else {}
        return {f"{SUBSET}_{self.metric}": self.values[leaf], **signature}

    def __str__(self) -> str:
        digits, unit = (3, "bits a token") if self.metric == "nll" else (2, self.signature)
        leaves = ", ".join(f"leaf {k} {value:.{digits}f}" for k, value in enumerate(self.values))
        return f"validation {self.metric}, {unit}: {leaves}"


@torch.no_grad()
def leaf_scores(
    metric: str,
    state: dict[str, Any],
    path: str,
    data: str,
    say: Callable[[str], None],
    device: str | None = None,
) -> Scores:
    """Every leaf's nll of the reference, or sacreBLEU of its translation.

    BLEU is that of text whose subwords are joined (sentencepiece's, or those that end in ``@@``).

    Args:
        metric: one of :data:`METRICS`.
        state: of a tree's checkpoint, read and checked.
        path: its file, for messages.
        data: what fairseq-preprocess made.
        say: shows progress.
        device: ``cpu`` or ``cuda``; a GPU if there is one if not given.

    Raises:
        UsageError: there is no such device, no validation data, or damaged ones, or no leaf that
            predicts anything.
    """
    from tsa_fairseq.deploy.build import build

    chosen = choose_device(device, "--device")
    for file in sorted(Path(data).glob(f"{SUBSET}*")):
        if not file.is_file():  # one that is a pipe is waited for
            raise _damaged(data, f"'{file.name}' is no file")
    kind = kind_of_data(file.with_suffix("") for file in Path(data).glob(f"{SUBSET}*.idx"))
    model, _, task = build(state, path, "CHECKPOINT", {"data": data, "dataset_impl": kind}, {})
    try:
        task.load_dataset(SUBSET)
    except FileNotFoundError:
        raise UsageError(
            f"--data: '{data}' has no {SUBSET} data; expected what fairseq-preprocess made"
        ) from None
    except Exception as error:  # fairseq unpacks what it finds there
        raise _damaged(data, reason(error)) from error
    model = model.eval().to(chosen)
    try:
        batches = list(_batches(model, task))
        _check_words(batches, task)
    except UsageError:
        raise
    except Exception as error:
        raise _damaged(data, reason(error)) from error
    if not batches:
        raise UsageError(f"--data: '{data}' has no {SUBSET} sentence that the model can read")
    measure = _nll if metric == "nll" else _bleu
    found = measure(model, task, _Moved(batches, chosen), say)
    if not any(map(math.isfinite, found.values)):
        raise UsageError(f"CHECKPOINT: '{path}': no leaf has a {metric} that is a number")
    return found


def _damaged(data: str, why: str) -> UsageError:
    return UsageError(
        f"--data: the {SUBSET} data of '{data}' are damaged: {why}; expected what "
        "fairseq-preprocess made"
    )


def _check_words(batches: Sequence[dict[str, Any]], task: Any) -> None:
    """Refuse what is no number of a word, which would be looked up all the same."""
    sides = ("src_tokens", task.source_dictionary), ("prev_output_tokens", task.target_dictionary)
    for sample in batches:
        for name, words in sides:
            numbers = sample["net_input"][name]
            if numbers.min() < 0 or numbers.max() >= len(words):
                raise ValueError(f"a word's number is not one of {len(words):,}")


class _Moved(Sequence[dict[str, Any]]):
    """Batches, each of which is on the device while it is looked at."""

    def __init__(self, batches: list[dict[str, Any]], device: torch.device) -> None:
        self._batches, self._device = batches, device

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: Any) -> Any:
        from fairseq.utils import apply_to_sample

        return apply_to_sample(lambda tensor: tensor.to(self._device), self._batches[index])


def _batches(model: Any, task: Any) -> Iterator[dict[str, Any]]:
    from fairseq.utils import resolve_max_positions

    return task.get_batch_iterator(
        dataset=task.dataset(SUBSET),
        max_tokens=MAX_TOKENS,
        max_positions=resolve_max_positions(
            task.max_positions(), model.max_positions(), MAX_TOKENS
        ),
        ignore_invalid_inputs=True,
    ).next_epoch_itr(shuffle=False)


def _nll(
    model: Any, task: Any, batches: Sequence[dict[str, Any]], say: Callable[[str], None]
) -> Scores:
    from tsa_fairseq.plugin.criterion import TSAOnlineKDCriterion
    from tsa_fairseq.plugin.kd_flags import TSAOnlineKDConfig

    # cross entropy alone, whatever the tree was trained with
    criterion = TSAOnlineKDCriterion(
        TSAOnlineKDConfig(kd_objective="none", sentence_avg=False, max_update=0, save_dir=""), task
    )
    leaves = model.decoder.topology.num_leaves
    names = [f"nll_leaf{leaf}" for leaf in range(leaves)] if leaves > 1 else ["nll_loss"]
    sums, tokens = torch.zeros(leaves, dtype=torch.float64), 0
    say(f"nll of {plural(leaves, 'leaf', 'leaves')}, {plural(len(batches), 'batch', 'batches')}")
    for sample in batches:
        _, _, logs = criterion(model, sample)
        sums += torch.stack([logs[name].double() for name in names]).cpu()
        tokens += sample["ntokens"]
    return Scores("nll", tuple((sums / tokens / math.log(2)).tolist()))


def _bleu(
    model: Any, task: Any, batches: Sequence[dict[str, Any]], say: Callable[[str], None]
) -> Scores:
    from sacrebleu.metrics.bleu import BLEU

    generator = task.build_generator([model], Namespace(beam=BEAM))
    words = task.target_dictionary
    joined = kind_of(words.symbols)
    references = [
        words.string(row[row != words.pad()], joined, escape_unk=True)
        for sample in batches
        for row in sample["target"]
    ]
    values, metric = [], BLEU()
    for leaf in range(model.decoder.topology.num_leaves):
        of_leaf = (model.encoder, model.decoder.leaf_decoder(leaf))
        if not all(bool(p.isfinite().all()) for part in of_leaf for p in part.parameters()):
            values.append(math.nan)  # fairseq finds no best word, and ends in an assertion
            continue
        say(f"translating {plural(len(references), 'sentence')} with leaf {leaf}")
        model.decoder.inference = leaf
        translations = [
            words.string(hypotheses[0]["tokens"], joined)
            for sample in batches
            for hypotheses in task.inference_step(generator, [model], sample)
        ]
        values.append(metric.corpus_score(translations, [references]).score)
    # of a metric that nothing was measured with there is none
    signature = str(metric.get_signature()) if any(map(math.isfinite, values)) else ""
    return Scores("bleu", tuple(values), signature)
