"""The folder that an export makes, ready to use: model, vocabularies, subword model, origin."""

import json
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsa_fairseq.deploy.ctranslate import BATCH, MAX_LENGTH, write_ctranslate2
from tsa_fairseq.deploy.export import TreeCheckpoint
from tsa_fairseq.files.dictionaries import Dictionaries
from tsa_fairseq.files.folders import ORIGIN, save
from tsa_fairseq.files.subwords import kind_of
from tsa_fairseq.version import __version__

TARGETS = ("fairseq", "ctranslate2")
# The names under which fairseq's hub interface and CTranslate2 look for them.
MODEL = {"fairseq": "model.pt", "ctranslate2": "model.bin"}
SUBWORDS = "sentencepiece.bpe.model"
# What joins a hypothesis to text, by the kind of the dictionary's subwords.
_JOINED = {
    None: "' '.join(words)",
    "subword_nmt": "' '.join(words).replace('@@ ', '')",
    "sentencepiece": "''.join(words).replace('▁', ' ').strip()",
}


@dataclass(frozen=True)
class ExportFolder:
    """What goes into every folder of an export.

    Args:
        to: one of :data:`TARGETS`.
        quantization: of CTranslate2's weights; None for float32.
        dictionaries: of the tree.
        subwords: a sentencepiece model; None if there is none.
    """

    to: str
    quantization: str | None
    dictionaries: Dictionaries
    subwords: str | None

    def write(self, state: dict[str, Any], origin: dict[str, Any], folder: Path) -> None:
        """Fill a folder.

        Args:
            state: a checkpoint of fairseq's ``transformer``.
            origin: see :func:`origin`.
            folder: exists, and is empty.

        Raises:
            OSError: it cannot be written.
            UsageError: the target cannot represent the model.
        """
        task = state["cfg"]["task"]
        task["source_lang"] = self.dictionaries.source
        task["target_lang"] = self.dictionaries.target
        if self.to == "ctranslate2":
            write_ctranslate2(state, folder, self.dictionaries, self.quantization)
            origin = {**origin, "quantization": self.quantization or "float32"}
            origin["max_positions"] = positions(state)
        else:
            save(state, folder / MODEL[self.to])
            self.dictionaries.copy_to(folder)
        if self.subwords is not None:
            shutil.copyfile(self.subwords, folder / SUBWORDS)
        (folder / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")

    def command(self, folder: Path) -> str:
        """A command that translates standard input with a folder that was made."""
        if self.to == "ctranslate2":
            said = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
            program = self._program(folder, *said["max_positions"])
            return shlex.join(["python", "-c", program])
        words = ["fairseq-interactive", folder, "--path", folder / MODEL[self.to]]
        words += ["-s", self.dictionaries.source, "-t", self.dictionaries.target, "--beam", 5]
        kind = kind_of(self.dictionaries.target_words.symbols)
        if self.subwords is not None:
            words += ["--bpe", "sentencepiece", "--sentencepiece-model", folder / SUBWORDS]
        elif kind is not None:
            words += ["--remove-bpe", kind]
        return shlex.join(map(str, words))

    def _program(self, folder: Path, source: int, target: int) -> str:
        packages, cut = ["os", "sys", "ctranslate2"], "line.split()"
        join = _JOINED[kind_of(self.dictionaries.target_words.symbols)]
        parts = []
        if self.subwords is not None:
            packages.append("sentencepiece")
            path = str(folder / SUBWORDS)
            parts.append(f"pieces = sentencepiece.SentencePieceProcessor(model_file={path!r})")
            cut, join = "pieces.encode(line.strip(), out_type=str)", "pieces.decode(words)"
        parts.append(f"lines = [{cut} for line in sys.stdin]")
        # a thread a core, with a batch each: more to a batch slow small models down
        threads = "inter_threads=os.cpu_count(), intra_threads=1"
        parts.append(f"translator = ctranslate2.Translator({str(folder)!r}, {threads})")
        # longer sentences are cut off; a translation needs a position for its end
        options = f"max_input_length={source}, max_decoding_length={min(MAX_LENGTH, target - 1)}"
        options = f"beam_size=5, max_batch_size={BATCH}, {options}"
        parts.append(f"found = translator.translate_batch(lines, {options})")
        parts.append("texts = [one.hypotheses[0] for one in found]")
        parts.append(f"print(*({join} for words in texts), sep='\\n')")
        return "; ".join([f"import {', '.join(packages)}", *parts])


def positions(state: dict[str, Any]) -> list[int]:
    """Of source and target: how many a model has."""
    model = state["cfg"]["model"]
    return [model.get(f"max_{side}_positions", 1024) for side in ("source", "target")]


def origin(checkpoint: TreeCheckpoint, leaf: int | str, **figures: Any) -> dict[str, Any]:
    """What ``export.json`` says: of which file and leaf a model is, and what is known of it."""
    return {
        "leaf": leaf,
        "tree": str(checkpoint.topology),
        "source": os.path.basename(checkpoint.path),
        "source_sha256": checkpoint.sha256,
        "updates": checkpoint.updates,
        **figures,
        "tsa_fairseq": __version__,
    }
