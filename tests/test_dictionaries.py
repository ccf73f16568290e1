"""Dictionaries that are missing, broken or another model's, and languages that nobody named."""

import pytest
import torch
from helpers import command_line


def test_languages_that_the_checkpoint_does_not_name(tree, data, tmp_path, capsys):
    """As after a training without -s and -t: the data tell them, and the export says so."""
    state = torch.load(tree, weights_only=False)
    state["cfg"]["task"].update(source_lang=None, target_lang=None)
    torch.save(state, tree)
    (data / "train.de-en.de.idx").touch()
    out = tmp_path / "out"
    assert command_line(capsys, "export", tree, out)[0] == 0
    task = torch.load(out / "model.pt", weights_only=True)["cfg"]["task"]
    assert (task["source_lang"], task["target_lang"]) == ("de", "en")


def test_a_dictionary_of_another_size(tree, data, tmp_path, capsys):
    (data / "dict.en.txt").write_text("one 1\n")
    err = command_line(capsys, "export", tree, tmp_path / "out")[2]
    assert err == (
        f"tsa-fairseq: error: --data: '{data / 'dict.en.txt'}' has 5 words, the model 40; "
        "expected the dictionary that it was trained with\n"
    )


def test_data_that_is_gone(tree, data, tmp_path, capsys):
    (data / "dict.en.txt").unlink()
    err = command_line(capsys, "export", tree, tmp_path / "out")[2]
    assert err == (
        f"tsa-fairseq: error: --data: not given, and '{data}' has no dict.en.txt; "
        "expected what fairseq-preprocess made\n"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "one two three\n",
            "Incorrect dictionary format, expected '<token> <cnt> [flags]': \"one two\"",
        ),
        (
            "one 1\none 1\n",
            "Duplicate word found when loading Dictionary: 'one'. Duplicate words can overwrite "
            "earlier ones by adding the #fairseq:overwrite flag at the end of the corresponding "
            "row in the dictionary file. If using the Camembert model, please download an "
            "updated copy of the model file.",
        ),
    ],
)
def test_a_broken_dictionary(text, reason, tree, data, tmp_path, capsys):
    (data / "dict.en.txt").write_text(text)
    err = command_line(capsys, "export", tree, tmp_path / "out")[2]
    file = data / "dict.en.txt"
    assert err == (
        f"tsa-fairseq: error: --data: '{file}' is not a dictionary of fairseq's: {reason}\n"
    )
