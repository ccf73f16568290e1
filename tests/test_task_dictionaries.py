"""A task that puts the names of languages into its dictionaries."""

import sys
from types import SimpleNamespace

import pytest
import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq_cli.interactive import cli_main
from helpers import command_line, exactly, save_tree, translate_lines

import tsa_fairseq
from tsa_fairseq.errors import UsageError

NAME = "translation_multi_simple_epoch"
WORDS = 20
TASK = ["--task", NAME, "--lang-pairs", "de-en,de-sr", "--decoder-langtok", "--encoder-langtok"]
LINES = ["w1 w2 w3", "w4 w4", "w7 xyz"]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for language in ("de", "en", "sr"):
        text = "".join(f"w{number} 1\n" for number in range(WORDS))
        (folder / f"dict.{language}.txt").write_text(text)
    return folder


@pytest.fixture
def checkpoint(tmp_path, data):
    """As after a training on two pairs: the file names neither source nor target."""
    words = Dictionary.load(str(data / "dict.de.txt"))
    for language in ("de", "en", "sr"):
        words.add_symbol(f"__{language}__")
    path = tmp_path / "checkpoint.pt"
    save_tree(path, SimpleNamespace(source_dictionary=words, target_dictionary=words), data)
    state = torch.load(path, weights_only=False)
    argv = [str(data), "--arch", "transformer", *TASK, "tgt"]
    task = options.parse_args_and_arch(options.get_training_parser(NAME), argv)
    task._name, task.data = NAME, str(data)
    task.max_source_positions = task.max_target_positions = 1024
    state["cfg"]["task"] = task
    torch.save(state, path)
    return path


@pytest.mark.parametrize("target", ["en", "sr"])
def test_export_and_load(target, checkpoint, data, tmp_path, capsys, monkeypatch):
    """The same text as fairseq-interactive gives, of the checkpoint and of the export."""
    out, pair = tmp_path / "out", ["-s", "de", "-t", target]
    status, said, err = command_line(capsys, "export", checkpoint, out, *pair)
    assert (status, err) == (0, "")
    assert said.splitlines()[-1] == f"tsa-fairseq translate {out}"
    assert {path.name for path in out.iterdir()} == {
        "model.pt", "dict.de.txt", "dict.en.txt", "dict.sr.txt", "export.json", "README.md",
    }  # fmt: skip
    assert "fairseq-interactive" not in (out / "README.md").read_text()
    file = tmp_path / "lines"
    file.write_text("".join(f"{line}\n" for line in LINES))
    argv = ["fairseq-interactive", str(data), *TASK, "tgt", *pair, "--path", str(checkpoint),
            "--cpu", "--max-len-b", "8", "--input", str(file)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", argv)
    cli_main()
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    expected = [line[2] for line in lines if line[0].startswith("D-")]
    assert len(expected) == 3 and all(expected)
    languages = dict(source_lang="de", target_lang=target)
    assert tsa_fairseq.load(checkpoint, **languages).translate(LINES, max_len_b=8) == expected
    assert tsa_fairseq.load(out).translate(LINES, max_len_b=8) == expected
    text = "".join(f"{line}\n" for line in LINES)
    done = translate_lines(capsys, monkeypatch, tmp_path, text, out, "--max-length", 8)
    assert done == (0, "".join(f"{line}\n" for line in expected), "")


def test_another_pair_of_an_export(checkpoint, tmp_path, capsys):
    command_line(capsys, "export", checkpoint, tmp_path / "out", "-s", "de", "-t", "en")
    languages = dict(source_lang="de", target_lang="sr")
    found = tsa_fairseq.load(tmp_path / "out", **languages).translate(LINES, max_len_b=8)
    assert found == tsa_fairseq.load(checkpoint, **languages).translate(LINES, max_len_b=8)
    assert found != tsa_fairseq.load(tmp_path / "out").translate(LINES, max_len_b=8)


def test_a_pair_must_be_chosen(checkpoint, tmp_path, capsys):
    message = (
        "{}: not given; expected a pair of languages that the model was trained on: de-en, de-sr"
    )
    err = command_line(capsys, "export", checkpoint, tmp_path / "out")[2]
    said = message.format("--source-lang, --target-lang")
    assert err == f"tsa-fairseq: error: {said}\n"
    with pytest.raises(UsageError, match=exactly(message.format("source_lang, target_lang"))):
        tsa_fairseq.load(checkpoint)


def test_what_it_cannot(checkpoint, tmp_path, capsys):
    """CTranslate2, whose converter would leave out the languages; and forced words."""
    pair = ["-s", "de", "-t", "en"]
    err = command_line(
        capsys, "export", checkpoint, tmp_path / "out", *pair, "--to", "ctranslate2"
    )[2]
    assert err == (
        "tsa-fairseq: error: --to: got 'ctranslate2', which cannot represent this model: --task "
        f"is '{NAME}', not 'translation'\n"
    )
    loaded = tsa_fairseq.load(checkpoint, source_lang="de", target_lang="en")
    for name, call in (
        ("prefix", lambda: loaded.translate("w1", prefix="w2")),
        ("target", lambda: loaded.score("w1", "w2")),
    ):
        message = f"{name}: --task is {NAME}; expected translation, to force words"
        with pytest.raises(UsageError, match=exactly(message)):
            call()


def test_dictionaries_from_elsewhere(checkpoint, data, tmp_path, capsys):
    state = torch.load(checkpoint, weights_only=False)
    state["cfg"]["task"].fixed_dictionary = str(data / "dict.de.txt")
    torch.save(state, checkpoint)
    err = command_line(capsys, "export", checkpoint, tmp_path / "out", "-s", "de", "-t", "en")[2]
    assert err == (
        f"tsa-fairseq: error: CHECKPOINT: was trained with --fixed-dictionary "
        f"'{data / 'dict.de.txt'}', which an export cannot carry; expected a dict.LANGUAGE.txt of "
        "every language\n"
    )


def naming(checkpoint, **files):
    state = torch.load(checkpoint, weights_only=False)
    vars(state["cfg"]["task"]).update(files)
    torch.save(state, checkpoint)


def refused_by_both(capsys, checkpoint, out, said):
    """By an export, which writes nothing, and in Python."""
    err = command_line(capsys, "export", checkpoint, out, "-s", "de", "-t", "en")[2]
    assert err == f"tsa-fairseq: error: {said}\n" and not out.exists()
    with pytest.raises(UsageError, match=exactly(said)):
        tsa_fairseq.load(checkpoint, source_lang="de", target_lang="en")


def test_a_list_of_languages(checkpoint, data, tmp_path, capsys):
    """From a file beside the dictionaries, which the export does not need any more."""
    file = data / "languages"
    file.write_text("de\nen\nsr\n")
    naming(checkpoint, lang_dict="/where/it/was/trained/languages")
    out, pair = tmp_path / "out", ["-s", "de", "-t", "en"]
    assert command_line(capsys, "export", checkpoint, out, *pair)[0] == 0
    expected = tsa_fairseq.load(checkpoint, source_lang="de", target_lang="en").translate(LINES)
    file.unlink()
    assert tsa_fairseq.load(out).translate(LINES) == expected
    said = (
        f"CHECKPOINT: its --task {NAME} takes '/where/it/was/trained/languages', and a file that "
        "a checkpoint names is not followed; expected 'languages' beside the dictionaries in "
        f"'{data}'"
    )
    refused_by_both(capsys, checkpoint, tmp_path / "other", said)


def test_a_list_of_languages_that_is_another_file(checkpoint, data, tmp_path, capsys):
    """Its lines would stand in the export, which is passed on."""
    file = data / "secret"
    file.write_text("-----BEGIN KEY-----\nde\npassword hunter2\n")
    naming(checkpoint, lang_dict=str(file))
    said = (
        f"CHECKPOINT: its task takes '{file}' for a list of languages; expected a name such as de "
        "or zh-Hans in every line"
    )
    refused_by_both(capsys, checkpoint, tmp_path / "out", said)
    file.write_text("")
    said = (
        f"CHECKPOINT: its --task {NAME} takes '{file}', which has 0 bytes; expected 1 to "
        "268,435,456"
    )
    refused_by_both(capsys, checkpoint, tmp_path / "out", said)


@pytest.mark.parametrize("name", ["lang_dict", "source_dict", "fixed_dictionary"])
@pytest.mark.parametrize("path", ["{tmp}/words", "/dev/zero", "../words", "{data}/../words", "/"])
def test_a_file_of_the_task_that_is_elsewhere(name, path, checkpoint, data, tmp_path, capsys):
    """A checkpoint may name any file of this machine: none is read, even if it would fit."""
    (tmp_path / "words").write_text("de\nen\nsr\n")
    path = path.format(tmp=tmp_path, data=data)
    naming(checkpoint, **{name: path})
    base = path.rpartition("/")[2]
    said = (
        f"CHECKPOINT: its --task {NAME} takes '{path}', and a file that a checkpoint names is not "
        f"followed; expected '{base}' beside the dictionaries in '{data}'"
    )
    if name == "fixed_dictionary":
        with pytest.raises(UsageError, match=exactly(said)):
            tsa_fairseq.load(checkpoint, source_lang="de", target_lang="en")
    else:
        refused_by_both(capsys, checkpoint, tmp_path / "out", said)
