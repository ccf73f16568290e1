"""A translator by fairseq: its hub interface, with text in and out as for all doors."""

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from fairseq import utils
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.hub_utils import GeneratorHubInterface
from fairseq.sequence_scorer import SequenceScorer
from omegaconf import open_dict
from torch import Tensor

from tsa_fairseq.deploy.search import Found, Search, Words
from tsa_fairseq.deploy.translation import TextTranslator
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.text import Text

# Those of fairseq's that change the best hypothesis.
OPTIONS = (
    *("lenpen", "unkpen", "unnormalized", "temperature", "no_repeat_ngram_size"),
    *("min_len", "max_len_a", "max_len_b", "match_source_len", "no_early_stop"),
    *("sampling", "sampling_topk", "sampling_topp"),
    *("diverse_beam_groups", "diverse_beam_strength", "diversity_rate"),
)


class Translator(TextTranslator, GeneratorHubInterface):
    """A model, or a tree's leaf or ensemble, that translates text.

    ``generate``, ``cuda``, ``half`` and the rest are fairseq's. Made by ``tsa_fairseq.load``.

    Args:
        cfg: fairseq's configuration of the model.
        task: fairseq's task.
        models: one.
        text: from text to words and back.
    """

    known: ClassVar[tuple[str, ...]] = OPTIONS

    def __init__(self, cfg: Any, task: Any, models: list[Any], text: Text) -> None:
        super().__init__(cfg, task, models)
        self.text = text

    def longest(self) -> tuple[int, int]:
        """Positions of the model."""
        source, target = self.max_positions
        return source, target

    def encode(self, sentence: str) -> Tensor:
        """The numbers of a sentence's words, and of its end."""
        return _numbers(self.src_dict, self.text.source_words(sentence))

    def decode(self, tokens: Tensor) -> str:
        """The text of a translation."""
        return self.text.sentence(self._words(tokens, set()))

    def search(
        self, sources: list[Words], prefixes: list[Words] | None, search: Search
    ) -> list[list[Found]]:
        """The best translations; see :class:`TextTranslator`."""
        if prefixes is not None:
            self._check_plain_task("prefix")
        settings = copy.deepcopy(self.cfg.generation)
        with open_dict(settings):
            for name, value in {**search.options, "beam": search.beam}.items():
                setattr(settings, name, value)
        try:
            generator = self.task.build_generator(self.models, settings)
            return self._search(generator, sources, prefixes, search)
        except (AssertionError, ValueError) as error:  # of options that contradict each other
            for name, parameter in self.models.named_parameters():
                if not parameter.isfinite().all():  # no word is ever the best then
                    raise UsageError(
                        f"the model cannot translate: its {name} is not finite"
                    ) from None
            raise UsageError(f"fairseq refuses the options: {error}") from None

    def _search(
        self, generator: Any, sources: list[Words], prefixes: list[Words] | None, search: Search
    ) -> list[list[Found]]:
        found: list[list[Found]] = [[] for _ in sources]
        tokens = [_numbers(self.src_dict, words) for words in sources]
        ignored = set(getattr(generator, "symbols_to_strip_from_output", ()))
        for chosen in self._groups(tokens, search.batch):
            lengths = [tokens[number].numel() for number in chosen]
            rows = self.task.build_dataset_for_inference([tokens[n] for n in chosen], lengths)
            sample = rows.collater([rows[row] for row in range(len(chosen))])
            numbers = [chosen[row] for row in sample["id"].tolist()]
            sample = utils.apply_to_sample(lambda tensor: tensor.to(self.device), sample)
            first = None
            if prefixes is not None:
                first = self._prefix_tokens([prefixes[number] for number in numbers])
            best = self.task.inference_step(generator, self.models, sample, prefix_tokens=first)
            for number, hypotheses in zip(numbers, best, strict=True):
                found[number] = [
                    Found(self._words(one["tokens"], ignored), float(one["score"]))
                    for one in hypotheses[: search.nbest]
                ]
        return found

    def force(self, sources: list[Words], targets: list[Words], batch: int) -> list[list[float]]:
        """Log probabilities of given translations; see :class:`TextTranslator`."""
        self._check_plain_task("target")
        scorer = SequenceScorer(self.tgt_dict)
        source = [_numbers(self.src_dict, words) for words in sources]
        target = [_numbers(self.tgt_dict, words) for words in targets]
        found: list[list[float]] = [[] for _ in sources]
        for chosen in self._groups(source, batch):
            parts = [[side[number] for number in chosen] for side in (source, target)]
            lengths = [[tokens.numel() for tokens in part] for part in parts]
            rows = LanguagePairDataset(
                parts[0], lengths[0], self.src_dict, parts[1], lengths[1], self.tgt_dict
            )
            sample = rows.collater([rows[row] for row in range(len(chosen))])
            numbers = [chosen[row] for row in sample["id"].tolist()]
            sample = utils.apply_to_sample(lambda tensor: tensor.to(self.device), sample)
            for number, one in zip(numbers, scorer.generate(self.models, sample), strict=True):
                found[number] = one[0]["positional_scores"].tolist()
        return found

    def _check_plain_task(self, name: str) -> None:
        """Refuse to force words where the task puts its own in front of them."""
        task = getattr(self.cfg.task, "_name", None) or "translation"
        if task != "translation":
            raise UsageError(f"{name}: --task is {task}; expected translation, to force words")

    def _groups(self, tokens: list[Tensor], batch: int) -> Iterator[list[int]]:
        """Numbers of sentences of about one length, no more than a training's batch together."""
        most = self.cfg.dataset.max_tokens
        group: list[int] = []
        for number in sorted(range(len(tokens)), key=lambda number: tokens[number].numel()):
            length = tokens[number].numel()
            full = most is not None and (len(group) + 1) * length > most
            if group and (len(group) == batch or full):
                yield group
                group = []
            group.append(number)
        yield group

    def _prefix_tokens(self, prefixes: list[Words]) -> Tensor:
        rows = [_numbers(self.tgt_dict, words)[:-1] for words in prefixes]
        padded = torch.nn.utils.rnn.pad_sequence(
            rows, batch_first=True, padding_value=self.tgt_dict.pad()
        )
        return padded.to(self.device)

    def _words(self, tokens: Tensor, ignored: set[int]) -> Words:
        words = self.tgt_dict
        ignored = {*ignored, words.bos(), words.eos(), words.pad()}
        return [words[token] for token in tokens.tolist() if token not in ignored]


def _numbers(words: Dictionary, sentence: Words) -> Tensor:
    return torch.tensor([*map(words.index, sentence), words.eos()])
