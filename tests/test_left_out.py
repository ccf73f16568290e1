"""The sentences that fairseq leaves out of validation, counted against fairseq's own batches."""

import random

import numpy as np
import pytest
import torch
from fairseq import options, tasks, utils
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import make_builder
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from tsa_fairseq.plugin.left_out import warn_of_sentences_left_out

SIZES = [
    *("--encoder-layers", "1", "--decoder-layers", "2", "--tree", "1,2"),
    *("--encoder-embed-dim", "16", "--decoder-embed-dim", "16"),
    *("--encoder-ffn-embed-dim", "16", "--decoder-ffn-embed-dim", "16"),
]


def write(data, subset, count, longest=9, seed=0):
    """What fairseq-preprocess makes of random sentences."""
    draw = random.Random(seed)
    for language in ("de", "en"):
        dictionary = Dictionary.load(str(data / f"dict.{language}.txt"))
        path = data / f"{subset}.de-en.{language}"
        builder = make_builder(f"{path}.bin", "mmap", len(dictionary))
        for _ in range(count):
            words = " ".join(f"w{draw.randrange(36)}" for _ in range(draw.randint(1, longest)))
            builder.add_item(dictionary.encode_line(words, add_if_not_exist=False))
        builder.finalize(f"{path}.idx")


def begin(data, *flags):
    """What fairseq-train does until the model is built: arguments, task and model."""
    argv = [str(data), "--arch", "tsa_transformer", "--criterion", "tsa_online_kd", *SIZES, *flags]
    parsed = options.parse_args_and_arch(options.get_training_parser(), list(map(str, argv)))
    config = convert_namespace_to_omegaconf(parsed)
    task = tasks.setup_task(config.task)
    return config.model, task, task.build_model(config.model)


def seen_by_fairseq(args, task, model, subset):
    """Sentences in the batches that fairseq's trainer asks the task for."""
    task.load_dataset(subset, combine=args.combine_valid_subsets or False, epoch=1)
    batches = task.get_batch_iterator(
        dataset=task.dataset(subset),
        max_tokens=args.max_tokens_valid,
        max_sentences=args.batch_size_valid,
        max_positions=utils.resolve_max_positions(task.max_positions(), model.max_positions()),
        ignore_invalid_inputs=args.skip_invalid_size_inputs_valid_test,
        required_batch_size_multiple=args.required_batch_size_multiple,
        seed=args.seed,
        epoch=1,
    )
    found = [number for batch in batches.frozen_batches for number in batch]
    assert len(found) == len(set(found))
    return len(found)


def warnings(caplog):
    records = [r for r in caplog.records if r.levelname == "WARNING"]
    return [r.message for r in records if r.name == "tsa_fairseq.plugin.left_out"]


MESSAGE = (
    "--required-batch-size-multiple: got {}, by which a last batch of another size is left out, "
    "in validation {}; expected 1, which leaves out none"
)


@pytest.mark.parametrize(
    ("count", "flags", "left"),
    [
        (5, ["--max-tokens", "500"], 5),
        (50, ["--max-tokens", "500"], 2),
        (48, ["--max-tokens", "500"], 0),
        # cut by length, by their own limit, and by number, which need be no multiple
        (101, ["--max-tokens", "60"], 5),
        (101, ["--max-tokens", "500", "--max-tokens-valid", "30"], None),
        (101, ["--batch-size", "7"], 3),
        (101, ["--max-tokens", "500", "--required-batch-size-multiple", "3"], 2),
        # the longer sentences are left out for another reason, which fairseq gives
        (
            101,
            [
                *("--max-tokens", "500", "--max-source-positions", "6"),
                "--skip-invalid-size-inputs-valid-test",
            ],
            None,
        ),
        (1234, ["--max-tokens", "500"], 2),
    ],
)
def test_as_many_as_fairseq_leaves_out(count, flags, left, data, caplog):
    write(data, "valid", count)
    args, task, model = begin(data, *flags)
    assert not task.datasets
    seen = seen_by_fairseq(args, task, model, "valid")
    sizes = task.dataset("valid").src_sizes
    whole = int((sizes <= args.max_source_positions).sum())
    assert left is None or whole - seen == left
    multiple = args.required_batch_size_multiple
    said = f"{whole - seen:,} of {whole:,} sentences of 'valid'"
    assert warnings(caplog) == [MESSAGE.format(multiple, said)]


def test_of_random_sets(data, caplog):
    """Sizes, limits and multiples drawn: always fairseq's number."""
    draw = random.Random(1)
    for trial in range(12):
        caplog.clear()
        count = draw.randint(1, 300)
        write(data, "valid", count, longest=draw.choice([3, 9]), seed=trial)
        limit = draw.choice([["--batch-size", draw.randint(1, 40)],
                             ["--max-tokens", draw.randint(12, 300)]])  # fmt: skip
        multiple = draw.randint(2, 16)
        args, task, model = begin(data, *limit, "--required-batch-size-multiple", multiple)
        left = count - seen_by_fairseq(args, task, model, "valid")
        said = f"{left:,} of {count:,} sentences of 'valid'"
        assert warnings(caplog) == [MESSAGE.format(multiple, said)], (limit, count)


def test_several_sets(data, caplog):
    for subset, count in (("valid", 12), ("valid1", 16), ("other", 1009)):
        write(data, subset, count)
    begin(data, "--max-tokens", "500", "--valid-subset", "valid,other")
    said = "4 of 12 sentences of 'valid', 1 of 1,009 sentences of 'other'"
    assert warnings(caplog) == [MESSAGE.format(8, said)]
    caplog.clear()
    begin(data, "--max-tokens", "500", "--combine-valid-subsets", "--upsample-primary", "1")
    assert warnings(caplog) == [MESSAGE.format(8, "4 of 28 sentences of 'valid'")]


@pytest.mark.parametrize(
    "flags",
    [["--required-batch-size-multiple", "1"], ["--disable-validation"], ["--valid-subset", "gone"]],
)
def test_nothing_to_say(flags, data, caplog):
    """Missing data, too, which fairseq names itself."""
    write(data, "valid", 5)
    _, task, _ = begin(data, "--max-tokens", "500", *flags)
    assert warnings(caplog) == [] and not task.datasets


def test_once_a_training(data, task, caplog):
    """Not where a checkpoint's model is built, nor by any process but the first."""
    write(data, "valid", 5)
    args, task, model = begin(data, "--max-tokens", "500")
    assert len(warnings(caplog)) == 1 and not hasattr(args, "tree_training")
    task.build_model(args)
    assert len(warnings(caplog)) == 1


def test_by_the_first_process_alone(data, caplog, monkeypatch):
    write(data, "valid", 5)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for rank, said in ((1, 0), (0, 1)):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        begin(data, "--max-tokens", "500")
        assert len(warnings(caplog)) == said


def test_no_random_number_is_drawn(data):
    write(data, "valid", 50)
    args, task, model = begin(data, "--max-tokens", "500")
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    warn_of_sentences_left_out(args, task, model)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_what_the_task_had_loaded_stays(data):
    for subset in ("train", "valid"):
        write(data, subset, 50)
    args, task, model = begin(data, "--max-tokens", "500")
    for subset in ("train", "valid"):
        task.load_dataset(subset)
    before = dict(task.datasets)
    warn_of_sentences_left_out(args, task, model)
    assert task.datasets == before
