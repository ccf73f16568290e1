"""What the files of an export are called, and whether a file is there; without torch or fairseq."""

import os

from tsa_fairseq.errors import UsageError

TARGETS = ("fairseq", "ctranslate2")
# The names under which fairseq's hub interface and CTranslate2 look for them.
MODEL = {"fairseq": "model.pt", "ctranslate2": "model.bin"}
ORIGIN = "export.json"
README = "README.md"
# Written beside an export by ``tsa-fairseq report --card``.
CARD = "MODEL_CARD.md"
# Of both sides, under fairseq's own names; or of each.
PIECES = "sentencepiece.bpe.model"
PIECES_OF = {"source": "sentencepiece.source.model", "target": "sentencepiece.target.model"}
CODES = "bpecodes"
CODES_OF = {"source": "bpecodes.source", "target": "bpecodes.target"}
VOCABULARY_OF = {"source": "bpevocabulary.source", "target": "bpevocabulary.target"}


def check_exists(path: str, flag: str) -> None:
    """Refuse a path that is not a file.

    Raises:
        UsageError: there is no such file.
    """
    if not os.path.isfile(path):
        raise UsageError(f"{flag}: '{path}' does not exist or is not a file")
