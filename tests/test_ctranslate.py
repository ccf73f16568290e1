"""Leaves in CTranslate2: the probabilities that fairseq computes; what cannot be one is named."""

import argparse
import json

import ctranslate2
import pytest
import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from helpers import VARIANTS, command_line, make_batch, save_stock, save_tree

from tsa_fairseq.deploy.export import TreeCheckpoint

WIDTHS = dict(decoder_embed_dim=24, decoder_ffn_embed_dim=16, encoder_embed_dim=16)


def log_probabilities(model, batch):
    """Of every reference word, fairseq's way; B x T."""
    logits = model(**batch["net_input"])[0]
    return logits.log_softmax(-1).gather(-1, batch["target"].unsqueeze(-1)).squeeze(-1)


def sentences(task, batch):
    """Source and target words, without the ends of sentences, as CTranslate2 takes them."""
    symbols, special = task.target_dictionary.symbols, task.target_dictionary.nspecial
    for rows in (batch["net_input"]["src_tokens"], batch["target"]):
        yield [[symbols[word] for word in row if word >= special] for row in rows.tolist()]


@pytest.fixture
def batch(task):
    """No special symbols inside a sentence: CTranslate2 takes words."""
    batch = make_batch(task)
    special = task.target_dictionary.nspecial
    assert (batch["target"] != task.target_dictionary.unk()).all() and special == 4
    return batch


@pytest.mark.parametrize("leaf", ["0", "2"])
@pytest.mark.parametrize(
    "flags",
    [*VARIANTS.values(), WIDTHS, dict(layernorm_embedding=True, no_scale_embedding=True),
     dict(activation_fn="gelu"), dict(activation_fn="gelu_accurate", decoder_layerdrop=0.2)],
    ids=[*VARIANTS, "widths", "embeddings", "gelu", "gelu_accurate"],
)  # fmt: skip
def test_scores_are_fairseqs(flags, leaf, task, data, batch, tmp_path, capsys):
    path, out = str(tmp_path / "tree.pt"), tmp_path / "out"
    model = save_tree(path, task, data, **flags).eval()
    status, _, err = command_line(
        capsys, "export", path, out, "--leaf", leaf, "--to", "ctranslate2"
    )
    assert status == 0, err
    model.decoder.inference = int(leaf)
    expected = log_probabilities(model, batch)
    source, target = sentences(task, batch)
    found = ctranslate2.Translator(str(out)).score_batch(source, target)
    for row, (result, length) in enumerate(zip(found, (7, 4, 5), strict=True)):
        assert len(result.log_probs) == length, "the end of the sentence counts"
        torch.testing.assert_close(
            torch.tensor(result.log_probs), expected[row, :length], atol=1e-4, rtol=0
        )


def test_what_the_folder_holds(tree, tmp_path, capsys):
    out, whole = tmp_path / "out", tmp_path / "whole"
    status, said, _ = command_line(
        capsys, "export", tree, out, "--to", "ctranslate2", "--quantization", "int8"
    )
    assert status == 0
    assert {path.name for path in out.iterdir()} == {
        "model.bin", "config.json", "shared_vocabulary.json", "export.json", "README.md",
    }  # fmt: skip
    made = json.loads((out / "export.json").read_text())
    assert (made["leaf"], made["quantization"]) == (0, "int8")
    assert made["max_positions"] == [1024, 1024]
    command_line(capsys, "export", tree, whole, "--to", "ctranslate2")
    assert json.loads((whole / "export.json").read_text())["quantization"] == "float32"
    small, large = ((folder / "model.bin").stat().st_size for folder in (out, whole))
    assert small < 0.8 * large
    first, command = said.splitlines()
    parameters = sum(p.numel() for p in torch.load(tree, weights_only=True)["model"].values())
    assert first.startswith(f"leaf 0 -> {out}: ") and first.endswith(
        f" parameters, {small:,} bytes"
    )
    assert int(first.split()[4].replace(",", "")) < parameters
    assert command == f"tsa-fairseq translate {out}"


def test_an_export_replaces_another(tree, tmp_path, capsys):
    """Of either kind, and of all leaves; nothing else."""
    out = tmp_path / "out"
    for flags in (["--to", "ctranslate2"], [], ["--leaf", "all", "--to", "ctranslate2"], []):
        assert command_line(capsys, "export", tree, out, "--force", *flags)[0] == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"model.pt", "dict.de.txt", "dict.en.txt", "export.json", "README.md"}


def test_half_precision_is_cast(task, data, batch, tmp_path, capsys):
    path, out = str(tmp_path / "tree.pt"), tmp_path / "out"
    save_tree(path, task, data, dtype=torch.float16)
    assert command_line(capsys, "export", path, out, "--to", "ctranslate2")[0] == 0
    source, target = sentences(task, batch)
    result = ctranslate2.Translator(str(out)).score_batch(source, target)[0]
    leaf = TreeCheckpoint.read(path).leaf(0)
    stock = ARCH_MODEL_REGISTRY["transformer"].build_model(
        argparse.Namespace(**leaf["cfg"]["model"]), task
    )
    stock.load_state_dict(leaf["model"])
    expected = log_probabilities(stock.eval(), batch)[0]
    torch.testing.assert_close(torch.tensor(result.log_probs), expected, atol=1e-4, rtol=0)


REFUSED = "--to: got 'ctranslate2', which cannot represent this model: "


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (
            dict(encoder_attention_heads=4),
            "--encoder-attention-heads is 4 and --decoder-attention-heads is 2, not the same",
        ),
        (
            dict(decoder_normalize_before=True),
            "--encoder-normalize-before is False and --decoder-normalize-before is True, "
            "not the same",
        ),
        (
            dict(decoder_output_dim=8),
            "--decoder-output-dim is 8, not --decoder-embed-dim, 16",
        ),
        (dict(quant_noise_pq=0.1), "--quant-noise-pq is set"),
        (dict(scale_heads=True, scale_fc=True), "--scale-heads is set; --scale-fc is set"),
        (
            dict(activation_fn="tanh"),
            "--activation-fn is tanh, not one of relu, gelu, gelu_fast, gelu_accurate",
        ),
        (dict(no_token_positional_embeddings=True), "--no-token-positional-embeddings is set"),
    ],
)
def test_what_it_cannot_represent(flags, reason, task, data, tmp_path, capsys):
    path = str(tmp_path / "tree.pt")
    save_tree(path, task, data, **flags)
    status, out, err = command_line(capsys, "export", path, tmp_path / "out", "--to", "ctranslate2")
    assert (status, out, err) == (1, "", f"tsa-fairseq: error: {REFUSED}{reason}\n")
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "tree.pt"}, "nothing half-written"


def test_what_the_converter_itself_refuses(tree, tmp_path, capsys, monkeypatch):
    """Its many lines as one, and nothing half-written."""
    monkeypatch.setattr("tsa_fairseq.deploy.ctranslate._ACTIVATIONS", ("relu", "tanh"))
    state = torch.load(tree, weights_only=False)
    state["cfg"]["model"].activation_fn = "tanh"
    torch.save(state, tree)
    err = command_line(capsys, "export", tree, tmp_path / "out", "--to", "ctranslate2")[2]
    assert err == (
        f"tsa-fairseq: error: {REFUSED}Option --activation-fn tanh is not supported (supported "
        "activations are: gelu, gelu_accurate, gelu_fast, relu, swish)\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "tree.pt"}


def test_another_task(tree, tmp_path, capsys):
    """Which fairseq stores as a Namespace if it is an old one."""
    state = torch.load(tree, weights_only=False)
    task = {**state["cfg"]["task"], "_name": "translation_multi_simple_epoch"}
    state["cfg"]["task"] = argparse.Namespace(**task)
    torch.save(state, tree)
    out = tmp_path / "out"
    err = command_line(capsys, "export", tree, out, "--to", "ctranslate2")[2]
    assert err == (
        f"tsa-fairseq: error: {REFUSED}--task is 'translation_multi_simple_epoch', "
        "not 'translation'\n"
    )
    assert command_line(capsys, "export", tree, out)[0] == 0
    stored = torch.load(out / "model.pt", weights_only=True)["cfg"]["task"]
    assert stored["_name"] == "translation_multi_simple_epoch" and stored["target_lang"] == "en"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to", "onnx"], "--to: got 'onnx'; expected one of fairseq, ctranslate2"),
        (
            ["--to", "ctranslate2", "--quantization", "int4"],
            "--quantization: got 'int4'; expected one of int8, int8_float32, int8_float16, "
            "int8_bfloat16, int16, float16, bfloat16, float32",
        ),
        (
            ["--quantization", "int8"],
            "--quantization: got 'int8', which --to fairseq does not take",
        ),
        (["--dtype", "int8"], "--dtype: got 'int8'; expected one of float32, float16, bfloat16"),
        (
            ["--dtype", "float16", "--to", "ctranslate2"],
            "--dtype: got 'float16', which --to ctranslate2 does not take",
        ),
        (["--metric", "bleu"], "--metric: got 'bleu', which --leaf 0 does not take"),
        (["--leaf", "best", "--metric", "ter"], "--metric: got 'ter'; expected one of nll, bleu"),
        (["--teacher", "x.pt"], "--teacher: got 'x.pt', which --leaf 0 does not take"),
    ],
)
def test_bad_flags(flags, message, tree, tmp_path, capsys):
    status, _, err = command_line(capsys, "export", tree, tmp_path / "out", *flags)
    assert (status, err) == (1, f"tsa-fairseq: error: {message}\n")
    assert not (tmp_path / "out").exists()


def test_without_the_package(tree, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tsa_fairseq.deploy.ctranslate.importlib.util.find_spec", lambda name: None)
    err = command_line(capsys, "export", tree, tmp_path / "out", "--to", "ctranslate2")[2]
    assert err == (
        "tsa-fairseq: error: --to: got 'ctranslate2', which is not installed: "
        "pip install ctranslate2\n"
    )


def test_the_bridges_teacher_is_looked_at(task, data, tmp_path, capsys):
    """The model is the teacher's, not the tree's."""
    teacher = tmp_path / "teacher.pt"
    save_stock(teacher, task, encoder_attention_heads=4)
    tree = str(tmp_path / "tree.pt")
    save_tree(tree, task, data, objective="sokd", teacher=teacher)
    err = command_line(
        capsys, "export", tree, tmp_path / "out", "--leaf", "bridge", "--to", "ctranslate2"
    )[2]
    assert err == (
        f"tsa-fairseq: error: {REFUSED}--encoder-attention-heads is 4 and "
        "--decoder-attention-heads is 2, not the same\n"
    )
