"""``tsa_fairseq.load``: translate from Python, in the manner of fairseq's hub interface."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from fairseq import checkpoint_utils
from fairseq.hub_utils import GeneratorHubInterface
from omegaconf import open_dict

from tsa_fairseq.deploy.export_folder import MODEL, SUBWORDS
from tsa_fairseq.deploy.hub_ctranslate2 import (
    CTranslate2Translator,
    check_beam,
    check_lengths,
    check_options,
)
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import model_arguments, read_checkpoint
from tsa_fairseq.files.dictionaries import Dictionaries
from tsa_fairseq.files.subwords import check_pieces

# Those of fairseq's that change the best hypothesis.
_OPTIONS = (
    *("lenpen", "unkpen", "unnormalized", "temperature", "no_repeat_ngram_size"),
    *("min_len", "max_len_a", "max_len_b", "match_source_len", "no_early_stop"),
    *("sampling", "sampling_topk", "sampling_topp"),
    *("diverse_beam_groups", "diverse_beam_strength", "diversity_rate"),
)


class Translator(GeneratorHubInterface):
    """A model, or a tree's leaf or ensemble, that translates text.

    ``generate``, ``encode``, ``decode``, ``cuda``, ``half`` and the rest are fairseq's. Made by
    :func:`load`.
    """

    @overload
    def translate(
        self, sentences: str, beam: int = ..., verbose: bool = ..., **options: Any
    ) -> str: ...
    @overload
    def translate(
        self, sentences: Sequence[str], beam: int = ..., verbose: bool = ..., **options: Any
    ) -> list[str]: ...

    def translate(
        self,
        sentences: str | Sequence[str],
        beam: int = 5,
        verbose: bool = False,
        **options: Any,
    ) -> str | list[str]:
        """The best hypothesis for every sentence.

        Args:
            sentences: one, or several in a list. Without a subword model, words of the source
                dictionary separated by spaces.
            beam: hypotheses at a time.
            verbose: log sources, hypotheses and scores as fairseq-generate prints them.
            options: of fairseq-generate, by their names in Python: ``lenpen=0.6``,
                ``max_len_a=1.2``, ``sampling=True``, ...

        Raises:
            UsageError: an option that does not exist, or a sentence that is too long.
        """
        if isinstance(sentences, str):
            return self.translate([sentences], beam, verbose, **options)[0]
        check_options(options, _OPTIONS)
        check_beam(beam)
        tokens = [self.encode(sentence) for sentence in sentences]
        most = self.max_positions[0]
        check_lengths(list(map(len, tokens)), min(most, self.cfg.dataset.max_tokens or most))
        if not tokens:
            return []
        try:
            found = self.generate(tokens, beam, verbose, **options)
        except (AssertionError, ValueError) as error:  # of options that contradict each other
            raise UsageError(f"fairseq refuses the options: {error}") from None
        return [self.decode(hypotheses[0]["tokens"]) for hypotheses in found]


def load(
    path: str | os.PathLike[str],
    inference: str | None = None,
    data: str | None = None,
    subwords: str | None = None,
) -> Translator | CTranslate2Translator:
    """Load a checkpoint, or the folder of an export, to translate with it.

    Nothing that a file contains is run.

    Args:
        path: a checkpoint of a tree or of fairseq's ``transformer``, or a folder that
            ``tsa-fairseq export`` made, for fairseq or for CTranslate2.
        inference: of a tree, what translates: ``"leaf:2"``, ``"ensemble"`` or ``"gate"``; what the
            checkpoint says if not given.
        data: where the dictionaries are; not needed if they lie beside the checkpoint, or in the
            data folder that it names.
        subwords: a sentencepiece model; not needed if one lies beside the checkpoint under the
            name that fairseq has for it, ``sentencepiece.bpe.model``. Without one, ``translate``
            takes and gives text in the words of the dictionary.

    Raises:
        UsageError: a file is missing, broken or refused, or the model cannot do as asked.
    """
    place = Path(path)
    if place.is_dir() and (place / MODEL["ctranslate2"]).is_file():
        for name, value in (("inference", inference), ("data", data)):
            if value is not None:
                raise UsageError(f"{name}: got '{value}'; '{path}' is a model for CTranslate2")
        return CTranslate2Translator(place, _subwords(place, subwords))
    folder, file = (place, place / MODEL["fairseq"]) if place.is_dir() else (place.parent, place)
    state = read_checkpoint(str(file), "path", lazy=True)
    overrides: dict[str, Any] = {}
    if inference is not None:
        if not hasattr(model_arguments(state), "tree"):
            raise UsageError(f"inference: got '{inference}'; '{path}' is no tree's checkpoint")
        overrides["tree_inference"] = inference
    dictionaries = Dictionaries.find(state, data, "data", beside=str(folder))
    pieces = _subwords(folder, subwords)
    if pieces is not None:
        check_pieces(pieces, "subwords", dictionaries.source_words.symbols)
    overrides.update(
        data=dictionaries.folder,
        source_lang=dictionaries.source,
        target_lang=dictionaries.target,
        encoder_embed_path=None,
        decoder_embed_path=None,
    )
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(file)], arg_overrides=overrides
    )
    if pieces is not None:
        with open_dict(cfg):
            cfg.bpe = {"_name": "sentencepiece", "sentencepiece_model": pieces}
    return Translator(cfg, task, models).eval()


def _subwords(folder: Path, given: str | None) -> str | None:
    beside = folder / SUBWORDS
    return given or (str(beside) if beside.is_file() else None)
