import copy
import dataclasses
import math
import os

import numpy as np
import pytest
import reference
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from helpers import TREE, GivenTerms, exactly, make_batch, save_stock

from tsa_fairseq.errors import UsageError
from tsa_fairseq.objectives import OBJECTIVES
from tsa_fairseq.objectives.blocks import Term
from tsa_fairseq.plugin.criterion import TSAOnlineKDCriterion, metrics

PAD = 1
NAMES = (
    "tsa, dml, ensemble, okddip, one, cl-ilr, kdcl-naive, kdcl-minlogit, kd, sokd, rdrop, simcut, "
    "none"
)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def run(criterion, model, batch, seed=0):
    """Loss, sample size, logs and gradients of one batch."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss, sample_size, logs = criterion(model, batch)
    loss.backward()
    return loss.item(), sample_size, logs, gradients(model)


def stock_criterion(task, **flags):
    return LabelSmoothedCrossEntropyCriterion(
        task, **{"sentence_avg": False, "label_smoothing": 0.1, **flags}
    )


def leaf_logits(model, batch):
    """N x K x V nested lists and the N gold words, pads left out."""
    outputs = model(**batch["net_input"], leaves="all").features
    logits = torch.stack([model.output_layer(f) for f in outputs], dim=2)  # B x T x K x V
    real = batch["target"].ne(PAD)
    return logits[real].tolist(), batch["target"][real].tolist()


@pytest.mark.parametrize("flags", [{}, dict(sentence_avg=True), dict(ignore_prefix_size=2)])
@pytest.mark.parametrize(
    "variant",
    [{}, dict(decoder_normalize_before=True), dict(dropout=0.3), dict(quant_noise_pq=0.2)],
)
def test_one_leaf_has_loss_and_gradients_of_fairseq(flags, variant, build, task, batch, criterion):
    plain, tree = build("transformer", **variant), build(tree="3", **variant)
    expected = run(stock_criterion(task, **flags), plain, batch)
    actual = run(criterion(kd_loss="dense", **flags), tree, batch)
    assert actual[:2] == expected[:2]
    for name in ("loss", "nll_loss", "ntokens", "nsentences", "sample_size"):
        assert actual[2][name] == expected[2][name]
    assert actual[3].keys() == expected[3].keys()
    assert all(torch.equal(actual[3][name], expected[3][name]) for name in expected[3])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("tree", ["2[1,1]", TREE, "1,2,4"])
def test_loss_against_the_reference(tree, temperature, build, batch, criterion):
    model = build(tree=tree).double()
    loss, sample_size, _ = criterion(kd_alpha=0.3, kd_temperature=temperature)(model, batch)
    logits, gold = leaf_logits(model, batch)
    assert sample_size == len(gold) == 16
    expected = reference.tsa(logits, gold, 0.3, temperature, 0.1)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


class Fixed:
    """A tree whose features are given."""

    def __init__(self, model, batch, change=lambda features: features):
        output = model(**batch["net_input"], leaves="all")
        features = [change(f.detach()).requires_grad_() for f in output.features]
        self.output = dataclasses.replace(output, features=tuple(features))
        self.decoder, self.get_targets = model.decoder, model.get_targets
        self.training = False

    def __call__(self, **_):
        return self.output


def test_gradient_of_the_features_against_the_reference(build, task, criterion):
    batch = make_batch(task, lengths=(3, 1))
    model = build(tree="2[1,1]").double()
    fixed = Fixed(model, batch)
    criterion(kd_alpha=0.3, kd_temperature=2.0)(fixed, batch)[0].backward()
    logits, gold = leaf_logits(model, batch)
    of_logits = reference.gradient(lambda z: reference.tsa(z, gold, 0.3, 2.0, 0.1), logits)
    matrix = model.decoder.output_projection.weight.detach()
    expected = torch.tensor(of_logits, dtype=torch.float64) @ matrix  # N x K x D
    real = batch["target"].ne(PAD)
    actual = torch.stack([f.grad for f in fixed.output.features], dim=2)  # B x T x K x D
    torch.testing.assert_close(actual[real], expected, rtol=1e-6, atol=1e-8)
    assert (actual[~real] == 0).all()


def test_weight_0_is_the_mean_of_the_leaves_plain_losses(build, task, batch, criterion):
    model = build(tree=TREE, dropout=0.0)
    loss, _, _, grads = run(criterion(kd_alpha=0.0), model, batch)
    plain, losses, leaf_grads = stock_criterion(task), [], []
    for leaf in range(3):
        stock = build("transformer")
        stock.encoder = model.encoder
        stock.decoder = model.decoder.leaf_decoder(leaf)
        model.zero_grad()
        value, _, _ = plain(stock, batch)
        value.backward()
        losses.append(value.item())
        leaf_grads.append(gradients(model))
    assert loss == pytest.approx(sum(losses) / 3, rel=1e-6)
    for name, grad in grads.items():
        expected = sum(g.get(name, torch.zeros(())) for g in leaf_grads) / 3
        torch.testing.assert_close(grad, expected + torch.zeros_like(grad), rtol=1e-4, atol=1e-5)


def padded(batch, columns=3):
    """The same sentences with more padding on both sides."""
    wide = copy.deepcopy(batch)
    pad = torch.full((batch["target"].size(0), columns), PAD)
    net = wide["net_input"]
    net["src_tokens"] = torch.cat([pad, net["src_tokens"]], dim=1)
    net["prev_output_tokens"] = torch.cat([net["prev_output_tokens"], pad], dim=1)
    wide["target"] = torch.cat([wide["target"], pad], dim=1)
    return wide


def test_padding_adds_nothing(build, batch, criterion):
    model = build(tree=TREE).double()
    tsa = criterion(kd_temperature=2.0)
    expected, actual = run(tsa, model, batch), run(tsa, model, padded(batch))
    # float32: fairseq takes the softmax of the attention to the encoder in it, whatever the model
    close = dict(rtol=1e-5, atol=1e-6)
    assert actual[0] == pytest.approx(expected[0], rel=1e-8)
    for name, value in expected[2].items():
        wide = torch.as_tensor(actual[2][name])
        torch.testing.assert_close(wide, torch.as_tensor(value), **close)
    for name, grad in expected[3].items():
        torch.testing.assert_close(actual[3][name], grad, **close)


def test_a_model_that_overflows_at_pads_still_has_a_finite_loss(build, batch, criterion):
    model = build(tree=TREE)
    pads = batch["target"].eq(PAD).unsqueeze(-1)
    fixed = Fixed(model, batch, lambda features: features.masked_fill(pads, 3e38))
    assert not model.output_layer(fixed.output.features[0]).isfinite().all()
    loss, _, _ = criterion()(fixed, batch)
    loss.backward()
    assert math.isfinite(loss.item())
    assert model.decoder.output_projection.weight.grad.isfinite().all()
    assert all(f.grad.isfinite().all() for f in fixed.output.features)


def test_two_half_batches_accumulate_to_the_whole(build, task, criterion):
    whole = make_batch(task, lengths=(6, 4, 5, 3))
    halves = []
    for rows in (slice(0, 2), slice(2, 4)):
        half = copy.deepcopy(whole)
        half["target"] = half["target"][rows]
        half["net_input"] = {name: value[rows] for name, value in half["net_input"].items()}
        half["ntokens"] = int(half["target"].ne(PAD).sum())
        halves.append(half)
    model, tsa = build(tree=TREE).double(), criterion(kd_temperature=2.0)
    expected, parts = run(tsa, model, whole), [run(tsa, model, half) for half in halves]
    assert sum(part[0] for part in parts) == pytest.approx(expected[0], rel=1e-12)
    assert sum(part[1] for part in parts) == expected[1]
    for name, grad in expected[3].items():
        torch.testing.assert_close(parts[0][3][name] + parts[1][3][name], grad)
    for name, value in expected[2].items():
        torch.testing.assert_close(
            torch.as_tensor(parts[0][2][name] + parts[1][2][name], dtype=torch.float64),
            torch.as_tensor(value, dtype=torch.float64),
            rtol=1e-6,  # some are float32 numbers, whatever the model's precision
            atol=1e-7,
        )


@pytest.mark.parametrize("flags", [{}, dict(kd_objective="simcut")])
def test_unreduced_loss_sums_to_the_loss(flags, build, batch, criterion):
    model, tested = build(tree=TREE).double(), criterion(**flags)
    torch.manual_seed(3)
    each, _, _ = tested(model, batch, reduce=False)
    assert each.shape == (batch["target"].numel(),)
    assert (each[batch["target"].eq(PAD).view(-1)] == 0).all()
    torch.manual_seed(3)
    torch.testing.assert_close(each.sum(), tested(model, batch)[0])


@pytest.mark.parametrize("flags", [dict(kd_temperature=2.0), dict(kd_objective="simcut")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, flags, build, batch, criterion):
    """The loss is float32 and close to that of the same rounded parameters in float32."""
    half = build(tree=TREE).to(dtype)
    single = copy.deepcopy(half).float()
    tested = criterion(**flags)
    torch.manual_seed(3)
    loss, _, logs = tested(half, batch)
    loss.backward()
    assert loss.dtype == logs["kd_loss"].dtype == torch.float32
    torch.manual_seed(3)
    expected = tested(single, batch)[0].item()
    assert loss.item() == pytest.approx(expected, rel=4 * torch.finfo(dtype).eps)
    for parameter in half.parameters():
        assert parameter.grad.dtype == dtype and parameter.grad.isfinite().all()


def test_every_parameter_gets_a_gradient(build, batch, criterion):
    model = build(tree="1,2,4", decoder_normalize_before=True)
    _, _, _, grads = run(criterion(), model, batch)
    assert grads.keys() == dict(model.named_parameters()).keys()


def test_the_sample_is_not_changed(build, batch, criterion):
    before = copy.deepcopy(batch)
    run(criterion(ignore_prefix_size=1), build(tree=TREE), batch)
    assert batch.keys() == before.keys()
    assert torch.equal(batch["target"], before["target"])
    assert batch["net_input"].keys() == before["net_input"].keys()
    for name, value in before["net_input"].items():
        assert torch.equal(batch["net_input"][name], value)


def test_ramp_follows_the_updates_and_ends_outside_of_training(build, batch, criterion):
    model = build(tree=TREE)
    tsa = criterion(kd_alpha=0.8, kd_rampup_updates=10)
    for num_updates, weight in [(None, 0.8), (0, 0.8 * math.exp(-5)), (5, 0.8 * math.exp(-1.25))]:
        if num_updates is not None:
            model.set_num_updates(num_updates)
        logs = run(tsa, model, batch)[2]
        assert float(logs["kd_weight"]) == pytest.approx(16 * weight)


def test_mean_trunk_gradient_reaches_the_model(build, batch, criterion):
    model = build(tree="2[1,1]").double()
    summed = run(criterion(), model, batch)[3]
    mean = run(criterion(kd_trunk_gradient="mean"), model, batch)[3]
    torch.testing.assert_close(
        mean["encoder.layers.0.fc1.weight"] * 2, summed["encoder.layers.0.fc1.weight"]
    )
    torch.testing.assert_close(
        mean["decoder.layers.2.fc1.weight"], summed["decoder.layers.2.fc1.weight"]
    )


def reduced(logs):
    with metrics.aggregate() as agg:
        TSAOnlineKDCriterion.reduce_metrics(logs)
    return agg.get_smoothed_values()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_figures_in_the_log(temperature, build, batch, criterion):
    model = build(tree=TREE).double().eval()
    loss, _, logs = criterion(kd_alpha=0.25, kd_temperature=temperature)(model, batch)
    shown = reduced([logs])
    logits, gold = leaf_logits(model, batch)
    bits, tokens = math.log(2), len(gold)
    probs = [[reference.softmax(z) for z in token] for token in logits]

    def mean(values):
        return sum(values) / tokens

    nll = [mean(-math.log2(p[k][g]) for p, g in zip(probs, gold, strict=True)) for k in range(3)]
    pairs = [(j, k) for j in range(3) for k in range(3) if j != k]
    expected = {
        "loss": loss.item() / tokens / bits,
        "nll_loss": nll[0],
        "ppl": 2 ** nll[0],
        "nll_leaf0": nll[0],
        "nll_leaf1": nll[1],
        "nll_leaf2": nll[2],
        "nll_ensemble": mean(
            -math.log2(sum(p[k][g] for k in range(3)) / 3) for p, g in zip(probs, gold, strict=True)
        ),
        "kd_weight": 0.25,
        "kd_loss": mean(
            temperature**2 * reference.peer_divergence(z, k, temperature) / 3 / bits
            for z in logits
            for k in range(3)
        ),
        "pairwise_kl": mean(reference.kl(p[j], p[k]) / 6 / bits for p in probs for j, k in pairs),
        "disagreement": mean(
            sum(
                max(range(40), key=p[j].__getitem__) != max(range(40), key=p[k].__getitem__)
                for j, k in pairs
            )
            / 6
            for p in probs
        ),
    }
    assert shown.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = {"ppl": 1e-2}.get(name, 6e-4)
        assert float(shown[name]) == pytest.approx(value, abs=tolerance), name


def test_figures_with_ignored_prefix_and_sentence_average(build, batch, criterion):
    model = build(tree=TREE).double().eval()
    loss, _, logs = criterion(ignore_prefix_size=2, sentence_avg=True)(model, batch)
    shown = reduced([logs])
    assert float(shown["loss"]) == pytest.approx(loss.item() / 3 / math.log(2), abs=6e-4)
    assert float(shown["kd_weight"]) == 0.5  # a mean over the 10 tokens that are left of 16
    assert float(shown["nll_loss"]) == pytest.approx(
        logs["nll_loss"].item() / 10 / math.log(2), abs=6e-4
    )
    assert float(shown["disagreement"]) == pytest.approx(logs["disagreement"].item() / 10, abs=6e-4)


@pytest.mark.parametrize("kd_loss", ["fused", "dense"])
@pytest.mark.parametrize("tree", ["3", TREE])
def test_figures_are_means_over_the_tokens_that_a_prefix_leaves(
    tree, kd_loss, build, task, batch, criterion
):
    """Of a model that knows nothing: log2 40 bits at each of the 10 tokens left of 16."""
    fixed = Fixed(build(tree=tree), batch, torch.zeros_like)
    leaves = len(fixed.output.features)
    given = dict(ignore_prefix_size=2, kd_loss=kd_loss)
    given["kd_objective"] = "tsa" if leaves > 1 else "none"
    loss, sample_size, logs = criterion(**given)(fixed, batch)
    shown = reduced([logs])
    nll = ["nll_loss"]
    if leaves > 1:
        nll += ["nll_leaf0", "nll_leaf1", "nll_leaf2", "nll_ensemble"]
    assert [float(shown[name]) for name in nll] == [5.322] * len(nll)
    assert float(shown["ppl"]) == 40.0
    # the loss, which leaves weigh by 1 - 0.5, has fairseq's sample size: all 16 tokens
    assert sample_size == 16
    weight = 0.5 if leaves > 1 else 1.0
    assert float(shown["loss"]) == round(weight * 10 / 16 * math.log2(40), 3)
    stock = stock_criterion(task, ignore_prefix_size=2)(build("transformer"), batch)
    assert sample_size == stock[1]


def test_meters_weigh_batches_by_the_tokens_left(build, task, criterion):
    """10 tokens of 5.322 bits, and 4 of 0; of a third batch nothing is left."""
    model, prefixed = build(tree="3"), criterion(ignore_prefix_size=2, kd_objective="none")
    batches = [make_batch(task, lengths) for lengths in [(7, 4, 5), (6,), (2, 1)]]
    logs = [prefixed(Fixed(model, batch, torch.zeros_like), batch)[2] for batch in batches]
    logs[1]["nll_loss"] = torch.zeros(())
    with metrics.aggregate() as seen:
        for log in logs:
            TSAOnlineKDCriterion.reduce_metrics([log])
    shown = seen.get_smoothed_values()
    mean = 10 * math.log2(40) / 14
    assert float(shown["nll_loss"]) == pytest.approx(mean, abs=6e-4)
    assert float(shown["ppl"]) == pytest.approx(2**mean, abs=1e-2)
    # the same of three workers' batches together
    assert float(reduced(logs)["nll_loss"]) == pytest.approx(mean, abs=6e-4)


@pytest.mark.parametrize("kd_loss", ["fused", "dense"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_left_of_a_batch_adds_nothing(
    name, kd_loss, build, task, batch, criterion, tmp_path
):
    """In the middle of a training: loss and gradients are 0, figures unknown."""
    of_model = dict(kd_bridge_layers=1, kd_bridge_init=None, kd_objective=name)
    of_loss = dict(kd_objective=name, kd_loss=kd_loss, ignore_prefix_size=2, max_update=9)
    if OBJECTIVES[name].needs_teacher:
        of_model["kd_teacher"] = of_loss["kd_teacher"] = str(tmp_path / "teacher.pt")
        save_stock(tmp_path / "teacher.pt", task)
    model, prefixed = build(tree=TREE, **of_model), criterion(**of_loss)
    run(prefixed, model, batch)  # of the first batch something is left
    loss, sample_size, logs, grads = run(prefixed, model, make_batch(task, lengths=(2, 1)))
    assert (loss, sample_size, int(logs["real_tokens"])) == (0.0, 3, 0)
    assert grads.keys() == dict(model.named_parameters()).keys()
    assert all((grad == 0).all() for grad in grads.values())
    shown = reduced([logs])
    assert float(shown.pop("loss")) == 0.0
    assert all(math.isnan(value) for value in shown.values()), shown


class Pairs:
    """As much of fairseq's pairs of sentences as is asked for their lengths."""

    def __init__(self, *sizes):
        self.tgt_sizes = np.array(sizes)


@pytest.mark.parametrize("data", ["known", "unknown", "batch of the shortest"])
def test_a_prefix_that_leaves_nothing_of_any_sentence(data, build, task, batch, criterion):
    """Refused at the first batch of a training, not for a batch of short sentences alone."""
    if data != "unknown":
        task.datasets = {"train": Pairs(5, 7 if data == "known" else 8, 4), "valid": Pairs(30)}
    model, prefixed = build(tree=TREE), criterion(ignore_prefix_size=7)
    assert int(prefixed(model.eval(), batch)[2]["real_tokens"]) == 0  # validation goes on
    model.train()
    if data != "known":  # others may be longer
        assert int(prefixed(model, batch)[2]["real_tokens"]) == 0
        return
    message = (
        "error: --ignore-prefix-size: got 7, which leaves nothing of any sentence; "
        "expected less than 7, the tokens of the longest target with its end"
    )
    with pytest.raises(SystemExit, match=exactly(message)):
        prefixed(model, batch)
    assert int(criterion(ignore_prefix_size=6)(model, batch)[2]["real_tokens"]) == 1


def test_the_log_holds_no_graph(build, batch, criterion):
    logs = criterion()(build(tree=TREE), batch)[2]
    assert not any(v.requires_grad for v in logs.values() if torch.is_tensor(v))


class PerToken(GivenTerms):
    """An objective whose only term is one value a token."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def kd_weight(self, leaves, ramp):
        return 2.0

    def cross_entropy_weight(self, leaves, ramp):
        return 0.0

    def terms(self, block, ramp):
        return [Term(self.name, 2.0, -block.log_probs.mean(dim=(0, 2)))]


@pytest.mark.parametrize("name", ["kd", "other"])
def test_another_objective(name, build, batch, criterion):
    model, other = build(tree=TREE).double(), criterion()
    other.objective = PerToken(name)
    loss, _, logs = other(model, batch)
    logits, _ = leaf_logits(model, batch)
    mean = sum(
        -math.log(p) / 40 / 3 for token in logits for z in token for p in reference.softmax(z)
    )
    assert loss.item() == pytest.approx(2 * mean / 3)
    assert logs["kd_loss"].item() == pytest.approx(mean if name == "kd" else 0.0)


class NotFinite(PerToken):
    """An objective that fails for one leaf, or with a term for all of them."""

    def terms(self, block, ramp):
        values = torch.zeros_like(block.log_probs[:, :, 0])
        if self.name == "all":
            return [Term("all", 1.0, values[0] + math.inf)]
        values[int(self.name), 3] = math.nan
        return [Term("other", 0.0, values), Term("kd", 1.0, values)]


@pytest.mark.parametrize("kd_loss", ["fused", "dense"])
@pytest.mark.parametrize(
    ("name", "updates", "message"),
    [
        ("2", 7, "error: at update 7, leaf 2: other is nan"),
        ("0", None, "error: in validation, leaf 0: other is nan"),
        ("all", 0, "error: at update 0, all leaves: all is inf"),
    ],
)
def test_a_loss_that_is_not_finite_stops(name, updates, message, kd_loss, build, batch, criterion):
    model, broken = build(tree=TREE), criterion(kd_loss=kd_loss)
    model.num_updates = updates
    broken.objective = NotFinite(name)
    whole = f"{message}; no good checkpoint has been written"
    with pytest.raises(SystemExit, match=exactly(whole)):
        broken(model, batch)


def test_pads_that_are_not_finite_hide_nothing(build, batch, criterion):
    model, broken = build(tree=TREE), criterion()
    pads = batch["target"].eq(PAD).unsqueeze(-1)
    broken.objective = NotFinite("1")
    fixed = Fixed(model, batch, lambda features: features.masked_fill(pads, math.inf))
    with pytest.raises(SystemExit, match="leaf 1: other is nan"):
        broken(fixed, batch)


@pytest.mark.parametrize(
    ("parameter", "module"),
    [
        ("encoder.layers.0.fc1.weight", "encoder.layers.0.fc1"),
        ("decoder.peers.2.2.fc2.bias", "decoder.peers.2.2.fc2"),
    ],
)
def test_features_that_are_not_finite_stop_with_their_layer(
    parameter, module, build, batch, criterion
):
    """The first in the order of computation, and not the ones that read its output."""
    model = build(tree=TREE)
    model.num_updates = 3
    with torch.no_grad():
        model.get_parameter(parameter).flatten()[0] = math.nan
    message = (
        f"error: at update 3, the output of {module} is not finite; "
        "no good checkpoint has been written"
    )
    with pytest.raises(SystemExit, match=exactly(message)):
        criterion()(model, batch)
    assert not any(m._forward_hooks for m in model.modules())


def test_the_last_good_checkpoint_is_named(build, batch, criterion, tmp_path):
    """The newest whose parameters are numbers, and which is whole."""
    model = build(tree=TREE)
    states = {"checkpoint1.pt": 0.0, "checkpoint2.pt": 0.5, "checkpoint_last.pt": math.nan}
    for age, (name, value) in enumerate(states.items()):
        torch.save({"model": {"w": torch.tensor([1.0, value])}}, tmp_path / name)
        os.utime(tmp_path / name, (age, age))
    torn = tmp_path / "checkpoint3.pt"
    torn.write_bytes((tmp_path / "checkpoint1.pt").read_bytes()[:-100])
    model.decoder.layers[0].fc1.weight.data.fill_(math.nan)
    message = (
        "error: in validation, the output of decoder.layers.0.fc1 is not finite; "
        f"the last good checkpoint is '{tmp_path / 'checkpoint2.pt'}'"
    )
    with pytest.raises(SystemExit, match=exactly(message)):
        criterion(save_dir=str(tmp_path))(model, batch)


@pytest.mark.parametrize("other", ["checkpoint_1_4.pt", "checkpoint_best.pt", "checkpoint_z.pt"])
def test_of_copies_of_one_age_the_last_is_named(build, batch, criterion, tmp_path, other):
    model = build(tree=TREE)
    for name in (other, "checkpoint_last.pt"):
        torch.save({"model": {"w": torch.ones(1)}}, tmp_path / name)
        os.utime(tmp_path / name, (1, 1))
    model.decoder.layers[0].fc1.weight.data.fill_(math.nan)
    with pytest.raises(SystemExit, match="checkpoint_last.pt'"):
        criterion(save_dir=str(tmp_path))(model, batch)


def test_features_that_overflow_in_half_precision_are_left_to_fairseq(build, batch, criterion):
    """It leaves the batch out and lowers the loss scale; unless a parameter is no number."""
    model = build(tree=TREE).half()
    model.decoder.layers[2].final_layer_norm.weight.data.fill_(6e4)
    loss, _, _ = criterion()(model, batch)
    assert not loss.isfinite()
    model.decoder.layers[2].final_layer_norm.weight.data.fill_(math.inf)
    with pytest.raises(SystemExit, match="the output of decoder.layers.2.final_layer_norm is not"):
        criterion()(model, batch)


def test_logs_of_several_workers_are_summed(build, task, criterion):
    model, tsa = build(tree=TREE).double().eval(), criterion()
    batches = [make_batch(task, lengths, seed=3) for lengths in [(5, 3), (2, 6, 4)]]
    logs = [tsa(model, batch)[2] for batch in batches]
    both = {name: logs[0][name] + logs[1][name] for name in logs[0]}
    assert reduced(logs) == reduced([both])
    assert TSAOnlineKDCriterion.logging_outputs_can_be_summed() is True


def test_one_leaf_logs_what_fairseq_logs(build, batch, criterion):
    logs = run(criterion(), build(tree="3"), batch)[2]
    assert reduced([logs]).keys() == {"loss", "nll_loss", "ppl"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(kd_alpha=2.0), "--kd-alpha: got 2; expected a number from 0 to 1"),
        (dict(kd_temperature=0.0), "--kd-temperature: got 0; expected a number from 0.01 to 10000"),
        (dict(kd_objective="x"), f"--kd-objective: got 'x'; expected one of {NAMES}"),
        (dict(kd_direction="x"), "--kd-direction: got 'x'; expected one of seek, cover"),
        (dict(kd_rampup_updates=-3), "--kd-rampup-updates: got -3; expected 0 or more"),
        (dict(kd_loss="x"), "--kd-loss: got 'x'; expected one of fused, dense"),
        (dict(kd_block_tokens=0), "--kd-block-tokens: got 0; expected 1 or more"),
        (
            dict(kd_loss="dense", kd_block_tokens=8),
            "--kd-block-tokens: got 8 with --kd-loss dense, which takes all tokens at once; "
            "expected --kd-loss fused",
        ),
        (dict(kd_trunk_gradient="x"), "--kd-trunk-gradient: got 'x'; expected one of sum, mean"),
        (
            dict(label_smoothing=1.0),
            "--label-smoothing: got 1; expected a number from 0 to below 1",
        ),
        (dict(ignore_prefix_size=-1), "--ignore-prefix-size: got -1; expected 0 or more"),
    ],
)
def test_bad_flags(flags, message, criterion):
    with pytest.raises(UsageError, match=exactly(message)):
        criterion(**flags)


def test_a_model_without_a_tree_is_refused(build, batch, criterion):
    message = (
        "error: --criterion: got 'tsa_online_kd', which needs a tree: "
        "expected --arch tsa_transformer or a named one, not TransformerModel"
    )
    with pytest.raises(SystemExit, match=exactly(message)):
        criterion()(build("transformer"), batch)
