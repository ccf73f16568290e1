"""The fused loss against float64 truth, the dense path, and its bounds on memory and precision."""

import copy
import math

import pytest
import reference
import torch
from helpers import Alive, GivenTerms, Largest, exactly, fused_loss, make_batch

import tsa_fairseq.loss.fused
import tsa_fairseq.loss.projection
from tsa_fairseq.errors import UsageError
from tsa_fairseq.loss.dense import dense_loss
from tsa_fairseq.loss.fused import FusedLoss, default_block_tokens, half_scale
from tsa_fairseq.objectives import KDSettings, Objective, build_objective
from tsa_fairseq.objectives.blocks import LogitBlock, Term
from tsa_fairseq.tree.outputs import TreeOutput

HALF = [torch.float16, torch.bfloat16]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.cuda,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
        ],
    ),
]
# detach_targets, direction
STOPS = [(False, "seek"), (True, "seek"), (True, "cover")]


def tsa(**settings):
    return build_objective("tsa", KDSettings(**settings))


def inputs(leaves=3, tokens=47, width=31, words=123, dtype=torch.float64, own=False, device="cpu"):
    """Features K x N x D, matrix V x D (or K x V x D) and target N, from a fixed seed."""
    draw = torch.Generator().manual_seed(0)
    features = 0.7 * torch.randn(leaves, tokens, width, generator=draw, dtype=torch.float64)
    shape = (leaves, words, width) if own else (words, width)
    matrix = 0.5 * torch.randn(shape, generator=draw, dtype=torch.float64)
    target = torch.randint(words, (tokens,), generator=draw)
    made = [t.to(dtype).to(device).requires_grad_() for t in (features, matrix)]
    return *made, target.to(device)


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


def dense(objective, features, matrix, target, ramp=1.0, smoothing=0.1):
    """The dense path on the same tokens, as one sentence."""
    output = TreeOutput(
        tuple(range(len(features))), tuple(f.unsqueeze(0) for f in features), matrix, None
    )
    everywhere = torch.ones_like(target, dtype=torch.bool).unsqueeze(0)
    return dense_loss(output, target.unsqueeze(0), everywhere, objective, ramp, smoothing)


@pytest.mark.parametrize("ramp", [1.0, 0.4])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("leaves", [2, 3, 4])
def test_value_and_gradients_against_the_reference(leaves, temperature, ramp):
    features, matrix, target = inputs(leaves, tokens=3, width=4, words=6)
    loss, _ = fused_loss(tsa(alpha=0.3, temperature=temperature), ramp, 0.1, 2)(
        features, matrix, target
    )

    def expected(logits):
        return reference.tsa(logits, target.tolist(), 0.3 * ramp, temperature, 0.1)

    logits = (features @ matrix.t()).transpose(0, 1).tolist()  # N x K x V
    assert loss.item() == pytest.approx(expected(logits), rel=1e-10)
    of_logits = torch.tensor(reference.gradient(expected, logits), dtype=torch.float64)
    of_features, of_matrix = gradients(loss, features, matrix)
    close = dict(rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(of_features, (of_logits @ matrix).transpose(0, 1), **close)
    by_hand = torch.einsum("nkv,knd->vd", of_logits, features)
    torch.testing.assert_close(of_matrix, by_hand, **close)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("detach", "direction"), STOPS)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("leaves", [1, 2, 3, 4])
def test_closed_form_is_what_autograd_finds(leaves, temperature, detach, direction, own, device):
    """Every sum and gradient; 10 tokens a block and 3 a slice, where 47 are neither's multiple."""
    settings = dict(alpha=0.3, temperature=temperature, detach_targets=detach, direction=direction)
    words = 300
    found = []
    for by_autograd in (False, True):
        objective = tsa(**settings)
        if by_autograd:
            objective.block_sums_ = lambda block, o=objective: Objective.block_sums_(o, block)
        features, matrix, target = inputs(leaves, words=words, own=own, device=device)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tsa_fairseq.loss.fused, "SLICE_LOGITS", 3 * leaves * words)
            loss, sums = fused_loss(objective, 0.4, 0.1, 10)(features, matrix, target)
        terms = {f"term {term.name}": term.values for term in sums.terms}
        of_features, of_matrix = gradients(loss, features, matrix)
        figures = {"nll": sums.nll, "smooth": sums.smooth, **terms, **sums.compared}
        found.append({"loss": loss, "features": of_features, "matrix": of_matrix, **figures})
    assert found[0].keys() == found[1].keys()
    for name, value in found[1].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-6, atol=1e-11, msg=name)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("detach", "direction"), STOPS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gradcheck(temperature, detach, direction, own):
    """Numerically; with stop-gradients, of the loss whose targets are held fixed."""
    settings = dict(alpha=0.3, temperature=temperature, detach_targets=detach, direction=direction)
    features, matrix, target = inputs(3, tokens=4, width=3, words=5, own=own)
    fused = fused_loss(tsa(**settings), 1.0, 0.1, 3)
    if not detach:
        assert torch.autograd.gradcheck(lambda x, w: fused(x, w, target)[0], (features, matrix))
        return
    fixed = torch.log_softmax(features.detach() @ matrix.detach().mT / temperature, dim=-1)

    def with_fixed_targets(x, w):
        logits = x @ w.mT
        q = torch.log_softmax(logits / temperature, dim=-1)
        p = torch.log_softmax(logits, dim=-1)
        loss = 0
        for k in range(3):
            gold = p[k].gather(-1, target.unsqueeze(-1)).sum()
            ce = -(1 - 0.1 - 0.1 / 4) * gold - 0.1 / 4 * p[k].sum()
            kd = 0
            for j in {0, 1, 2} - {k}:
                one, two = (q[k], fixed[j]) if direction == "seek" else (fixed[j], q[k])
                kd = kd + (one.exp() * (one - two)).sum() / 2
            loss = loss + 0.7 * ce + 0.3 * temperature**2 * kd
        return loss / 3

    expected = gradients(with_fixed_targets(features, matrix), features, matrix)
    actual = gradients(fused(features, matrix, target)[0], features, matrix)
    for one, two in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, two)


# Rounding of the type, relative to the largest gradient, allowed beside the dense path's error.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-4, torch.bfloat16: 1e-3}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    "sizes", [(3, 47, 31, 123), (4, 64, 32, 128), (1, 47, 31, 123), (2, 1, 31, 123)]
)
def test_error_is_no_larger_than_the_dense_paths(sizes, own, temperature, dtype, device):
    """|fused − truth| ≤ |dense − truth| + tolerance; truth in float64 from the rounded inputs."""
    features, matrix, target = inputs(*sizes, dtype=dtype, own=own, device=device)
    objective = tsa(temperature=temperature)
    exact = [t.detach().double().requires_grad_() for t in (features, matrix)]
    truth, _ = dense(objective, *exact, target)
    by_dense, _ = dense(objective, features, matrix, target)
    by_fused, _ = fused_loss(objective, 1.0, 0.1, 10)(features, matrix, target)
    assert by_fused.dtype == torch.float32
    values = [(truth, by_dense, by_fused)]
    values += zip(
        gradients(truth, *exact),
        gradients(by_dense, features, matrix),
        gradients(by_fused, features, matrix),
        strict=True,
    )
    for right, naive, fast in values:
        assert fast.dtype == naive.dtype
        largest = right.abs().max()
        allowed = (naive.double() - right).abs().max() + TOLERANCE[dtype] * largest
        assert (fast.double() - right).abs().max() <= allowed


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("words", [20_000, 250_000])
@pytest.mark.parametrize("backward_scale", [2.0**10, 2.0**17])
def test_tiny_gradients_survive_float16(backward_scale, words, device):
    """Label smoothing over a large vocabulary: ε/(K·V), 1e-7 here, is 2 units of float16 or none.

    The output matrix' rows of words that are improbable everywhere get nothing but that. The loss
    scale is applied at ``backward``, as fairseq does, and is what lets them be float16 in the end.
    """
    features, matrix, target = inputs(4, 2, 8, words, torch.float16, device=device)
    with torch.no_grad():
        features.copy_(0.25 + 0.25 * features.abs())
        matrix[1000:] = -8.0  # p = exp(-20) and less
        target.remainder_(1000)
    fused = fused_loss(tsa(alpha=0.0), 1.0, 0.1)
    (fused(features, matrix, target)[0] * backward_scale).backward()
    exact = [t.detach().double().requires_grad_() for t in (features, matrix)]
    (fused(*exact, target)[0] * backward_scale).backward()
    expected = exact[1].grad[1000:]
    # half a unit of float16 in the result's last place, as any rounding to it, and once more
    unit = torch.finfo(torch.float16).eps
    allowed = unit * expected.abs() + torch.finfo(torch.float16).smallest_normal * unit
    assert ((matrix.grad[1000:].double() - expected).abs() <= allowed).all()
    assert expected.abs().min() > 0


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("own", [False, True])
def test_products_that_the_device_returns_in_float32(own, dtype, monkeypatch):
    """As a GPU has them, with a stand-in that rounds its result unless it is told not to."""

    def product(left, right, *, out_dtype=None):
        assert left.dtype == right.dtype == dtype
        return (left.float() @ right.float()).to(out_dtype or dtype)

    projection = tsa_fairseq.loss.projection
    features, matrix, target = inputs(dtype=dtype, own=own)
    expected, _ = fused_loss(tsa(), 1.0, 0.1, 10)(features, matrix, target)
    of_expected = gradients(expected, features, matrix)
    monkeypatch.setattr(projection, "returns_float32", lambda matrix: True)
    monkeypatch.setattr(torch, "mm", product)
    monkeypatch.setattr(torch, "bmm", product)
    loss, _ = fused_loss(tsa(), 1.0, 0.1, 10)(features, matrix, target)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for actual, right in zip(gradients(loss, features, matrix), of_expected, strict=True):
        torch.testing.assert_close(actual, right, rtol=torch.finfo(dtype).eps, atol=1e-6)


class Heavy(GivenTerms):
    """Cross entropy alone, with a weight."""

    weight = 1.0

    def kd_weight(self, leaves, ramp):
        return 0.0

    def cross_entropy_weight(self, leaves, ramp):
        return self.weight

    def terms(self, block, ramp):
        return []


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("weight", [1e-6, 1.0, 1e4])
def test_half_precision_scales_by_what_there_is(weight, dtype):
    """However large or small an objective's gradients are, they neither overflow nor vanish."""
    features, matrix, target = inputs(2, dtype=dtype)
    heavy = Heavy()
    heavy.weight = weight
    found = []
    for w in (1.0, weight):
        heavy.weight = w
        loss, _ = fused_loss(heavy, 1.0, 0.1, 10)(features, matrix, target)
        found.append(gradients(loss / w * 64, features, matrix))
    for expected, actual in zip(*found, strict=True):
        assert actual.abs().max() > 0
        error = (actual.double() - expected.double()).abs().max()
        assert error <= 4 * torch.finfo(dtype).eps * expected.abs().max()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALF)
def test_a_frequent_word_does_not_overflow(dtype, device):
    """Its row of the matrix' gradient is a sum over all tokens: 30,000 here, times the scale."""
    features, matrix, _ = inputs(1, 2000, 4, 64, dtype, device=device)
    with torch.no_grad():
        features.fill_(16.0)
        matrix.fill_(0.01)
    target = torch.zeros(2000, dtype=torch.long, device=device)
    loss, _ = fused_loss(tsa(), 1.0, 0.0)(features, matrix, target)
    loss.backward()
    by_hand = -2000 * 16 * (1 - 1 / 64)
    assert matrix.grad[0].tolist() == pytest.approx([by_hand] * 4, rel=1e-2)


@pytest.mark.parametrize("dtype", HALF)
def test_matrix_gradient_is_accumulated_in_float32(dtype):
    """4,096 blocks of one token add ½ each: in float16 the sum would stop at 1,024."""
    tokens = 4096
    features = torch.ones(1, tokens, 1, dtype=dtype)
    matrix = torch.zeros(2, 1, dtype=dtype, requires_grad=True)
    target = torch.zeros(tokens, dtype=torch.long)
    loss, _ = fused_loss(tsa(), 1.0, 0.0, 1)(features, matrix, target)
    loss.backward()
    assert matrix.grad.flatten().tolist() == [-2048.0, 2048.0]


@pytest.mark.parametrize("dtype", HALF)
def test_autocast(dtype):
    """float32 inputs, half-precision products, gradients in float32: as --amp has it."""
    features, matrix, target = inputs(dtype=torch.float32)
    fused = fused_loss(tsa(), 1.0, 0.1, 10)
    with torch.autocast("cpu", dtype=dtype):
        loss, _ = fused(features, matrix, target)
    rounded = [t.detach().to(dtype).requires_grad_() for t in (features, matrix)]
    expected, _ = fused(*rounded, target)
    assert loss.item() == expected.item()
    pairs = zip(gradients(loss, features, matrix), gradients(expected, *rounded), strict=True)
    for actual, of_rounded in pairs:
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual.to(dtype), of_rounded)
        assert not torch.equal(actual, of_rounded.float())  # not rounded on the way


class WithHead(GivenTerms):
    """CE and a term that reads one number a token from a head; one value a token."""

    def kd_weight(self, leaves, ramp):
        return 0.5 * ramp

    def cross_entropy_weight(self, leaves, ramp):
        return 1.0

    def terms(self, block, ramp):
        gate = torch.softmax(block.heads["gate"], dim=-1)  # N x K
        mixed = (gate.t().unsqueeze(-1) * block.log_probs).sum(dim=0)  # N x V
        return [Term("kd", self.kd_weight(3, ramp), -torch.log_softmax(mixed, -1).mean(dim=-1))]


@pytest.mark.parametrize("dtype", [torch.float64, *HALF])
def test_gradients_of_heads(dtype):
    features, matrix, target = inputs(dtype=dtype)
    gate = torch.randn(47, 3, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    objective = WithHead()
    loss, sums = fused_loss(objective, 0.5, 0.1, 10)(features, matrix, target, {"gate": gate})
    output = TreeOutput(
        (0, 1, 2), tuple(f[None] for f in features), matrix, None, {"gate": gate[None]}
    )
    everywhere = torch.ones_like(target, dtype=torch.bool)[None]
    expected, _ = dense_loss(output, target[None], everywhere, objective, 0.5, 0.1)
    assert sums.terms[0].values.shape == (1,)
    tensors = (features, matrix, gate)
    pairs = [(loss, expected)]
    pairs += zip(gradients(loss, *tensors), gradients(expected, *tensors), strict=True)
    tolerance = {torch.float64: 1e-12, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
    for actual, right in pairs:
        assert actual.dtype == right.dtype
        assert (actual - right).abs().max() <= tolerance * right.abs().max()
    if dtype == torch.float64:
        fused = fused_loss(objective, 0.5, 0.1, 10)
        assert torch.autograd.gradcheck(
            lambda g: fused(features, matrix, target, {"gate": g})[0], gate
        )


@pytest.mark.parametrize("objective", [tsa(), Heavy()])
def test_heads_that_an_objective_does_not_read(objective):
    """They get zeros, or DDP would wait for a gradient; numbers and frozen heads get none."""
    features, matrix, target = inputs()
    heads = {
        "gate": torch.ones(47, 3, dtype=torch.float64, requires_grad=True),
        "frozen": torch.ones(47, dtype=torch.float64),
        "numbers": torch.arange(47),
    }
    loss, _ = fused_loss(objective, 1.0, 0.1, 10)(features, matrix, target, heads)
    loss.backward()
    assert heads["gate"].grad.tolist() == [[0.0] * 3] * 47
    assert heads["frozen"].grad is None


def test_a_head_alone_may_learn():
    features, matrix, target = inputs()
    gate = torch.ones(47, 3, dtype=torch.float64, requires_grad=True)
    fused = fused_loss(WithHead(), 1.0, 0.1, 10)
    both = torch.autograd.grad(fused(features, matrix, target, {"gate": gate})[0], gate)[0]
    loss, _ = fused(features.detach(), matrix.detach(), target, {"gate": gate})
    loss.backward()
    assert gate.grad.abs().sum() > 0
    torch.testing.assert_close(gate.grad, both)


def test_heads_reach_the_objective_through_the_criterion(build, batch, criterion):
    """At real tokens only, behind the ignored prefix; fused and dense alike."""
    model = build(tree="1[1[1,1],2]").double()
    output = model(**batch["net_input"], leaves="all")
    found = []
    for kd_loss in ("fused", "dense"):
        gate = torch.linspace(-1, 1, 63, dtype=torch.float64).view(3, 7, 3).requires_grad_()
        made = copy.copy(model)
        object.__setattr__(output, "heads", {"gate": gate})
        made.forward = lambda *_, **__: output
        tested = criterion(kd_loss=kd_loss, ignore_prefix_size=2)
        tested.objective = WithHead()
        loss, _, _ = tested(made, batch)
        found.append((loss, torch.autograd.grad(loss, gate, retain_graph=True)[0]))
    (fused, of_fused), (expected, of_dense) = found
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(of_fused, of_dense)
    skipped = batch["target"].eq(1)
    skipped[:, :2] = True
    assert (of_fused[skipped] == 0).all() and (of_fused[~skipped] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("objective", [tsa(), tsa(temperature=2.0), Heavy()])
def test_what_is_alive_does_not_grow_with_the_tokens(objective, dtype):
    """A block, work on it, and what the docstring adds; eight times the tokens add no block."""
    block = 3 * 10 * 1000 * 4
    most = []
    for tokens in (100, 800):
        features, matrix, target = inputs(3, tokens, 2, 1000, dtype)
        with Alive() as alive:
            loss, _ = fused_loss(objective, 1.0, 0.1, 10)(features, matrix, target)
            loss.backward()
        most.append(alive.most)
    assert most[0] <= 9 * block
    # features and their gradients: K · D values a token
    assert most[1] - most[0] <= 700 * 3 * 2 * 4 * 8 < block * 2


@pytest.mark.parametrize("block_tokens", [1, 7, 30])
@pytest.mark.parametrize("objective", [tsa(), tsa(temperature=2.0), WithHead()])
def test_no_tensor_is_larger_than_a_block(objective, block_tokens):
    features, matrix, target = inputs(3, tokens=101, width=2, words=500)
    heads = {"gate": torch.zeros(101, 3, dtype=torch.float64)}
    with Largest() as largest:
        loss, _ = fused_loss(objective, 1.0, 0.1, block_tokens)(features, matrix, target, heads)
        loss.backward()
    assert largest.elements == max(3 * block_tokens * 500, 500 * 2)


def test_default_block():
    assert default_block_tokens(4, 9712, 5) == 215
    assert default_block_tokens(4, 32768, 5) == 64
    assert default_block_tokens(1, 9712, 11) == 863
    assert default_block_tokens(4, 10**8, 5) == 1


def test_default_block_of_a_gpu():
    """At most 2^28 logits, and with what is made of them 1/16 of the memory."""
    assert default_block_tokens(4, 32768, 5, 2**37) == 2048
    assert default_block_tokens(4, 32768, 11, 80 * 2**30) == 5 * 2**30 // 48 // 2**17
    assert default_block_tokens(4, 9712, 5, 24 * 2**30) == 24 * 2**26 // 24 // (4 * 9712)
    assert default_block_tokens(4, 10**8, 5, 2**30) == 1


def test_scale_of_half_precision():
    """Whatever weights are: the largest to 2^8 or close to it, by a power of two."""
    for unit in (1e-6, 0.004, 0.25, 1 / 3, 1.0, 7.5, 1e6):
        scale = half_scale(unit)
        assert math.frexp(scale)[0] == 0.5
        assert 2**7.5 <= unit * scale <= 2**8.5
    assert half_scale(0.0) == 1.0
    tree, drop = tsa(alpha=0.25, temperature=2.0), build_objective("rdrop", KDSettings())
    assert tree.gradient_unit(4, 1.0) == 0.75 / 4
    assert tree.gradient_unit(4, 0.0) == 1 / 4
    assert drop.gradient_unit(2, 1.0) == 2.5 / 2
    assert tsa(alpha=1.0, temperature=3.0).gradient_unit(2, 1.0) == 1.5


def test_default_block_is_what_is_used(monkeypatch):
    monkeypatch.setitem(tsa_fairseq.loss.fused.BLOCK_LOGITS, "cpu", 3 * 7 * 500 + 1)
    features, matrix, target = inputs(3, tokens=101, width=2, words=500)
    with Largest() as largest:
        fused_loss(tsa(), 1.0, 0.1)(features, matrix, target)
    assert largest.elements == 3 * 7 * 500


@pytest.mark.parametrize("frozen", [0, 1, (0, 1)])
def test_only_gradients_that_are_asked_for_are_computed(frozen, monkeypatch):
    calls = []
    projection = tsa_fairseq.loss.projection.Projection
    for name in ("back", "add_matrix_gradient_"):
        method = getattr(projection, name)
        monkeypatch.setattr(
            projection, name, lambda *a, m=method, n=name: (calls.append(n), m(*a))[1]
        )
    wanted = []
    block_sums = tsa()

    class Watch(type(block_sums)):
        def block_sums_(self, block: LogitBlock):
            wanted.append(block.wants_gradient)
            return super().block_sums_(block)

    features, matrix, target = inputs()
    expected = gradients(fused_loss(tsa(), 1.0, 0.1)(features, matrix, target)[0], features, matrix)
    calls.clear()
    pair = [features, matrix]
    for index in [frozen] if isinstance(frozen, int) else frozen:
        pair[index] = pair[index].detach()
    loss, _ = fused_loss(Watch(KDSettings()), 1.0, 0.1)(*pair, target)
    if frozen == (0, 1):
        assert calls == [] and not any(wanted) and not loss.requires_grad
        return
    free = 1 - frozen
    assert set(calls) == {("back", "add_matrix_gradient_")[free]}
    (actual,) = gradients(loss, pair[free])
    torch.testing.assert_close(actual, expected[free])


def test_without_gradient_there_is_no_graph(monkeypatch):
    features, matrix, target = inputs()
    monkeypatch.setattr(tsa_fairseq.loss.projection.Projection, "back", None)
    monkeypatch.setattr(tsa_fairseq.loss.projection.Projection, "add_matrix_gradient_", None)
    with torch.no_grad():
        loss, _ = fused_loss(tsa(), 1.0, 0.1)(features, matrix, target)
    assert not loss.requires_grad


def test_auxiliary_results_have_no_gradient():
    features, matrix, target = inputs()
    loss, sums = fused_loss(tsa(), 1.0, 0.1)(features, matrix, target)
    assert loss.requires_grad
    figures = [sums.nll, sums.smooth, *(t.values for t in sums.terms), *sums.compared.values()]
    assert len(figures) == 7
    assert not any(figure.requires_grad for figure in figures)


def test_backward_twice_and_no_second_derivative():
    features, matrix, target = inputs()
    loss, _ = fused_loss(tsa(), 1.0, 0.1)(features, matrix, target)
    first = torch.autograd.grad(loss, features, retain_graph=True)[0]
    again = torch.autograd.grad(3 * loss, features, create_graph=True)[0]
    torch.testing.assert_close(again, 3 * first)
    with pytest.raises(RuntimeError, match="does not require grad"):
        again.sum().backward()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("objective", [tsa(), tsa(temperature=2.0), Heavy()])
def test_no_tokens(objective, dtype, own):
    """A batch whose every token is in the ignored prefix costs nothing."""
    features, matrix, target = inputs(tokens=0, words=300, dtype=dtype, own=own)
    loss, sums = fused_loss(objective, 1.0, 0.1)(features, matrix, target)
    loss.backward()
    assert loss.item() == 0 and sums.nll.tolist() == [0, 0, 0]
    assert features.grad.shape == (3, 0, 31) and (matrix.grad == 0).all()


@pytest.mark.parametrize("own", [False, True])
def test_features_token_by_token(own):
    """Contiguous, as the criterion hands them over: the same gradients, in their shape."""
    features, matrix, target = inputs(own=own)
    expected, _ = fused_loss(tsa(), 1.0, 0.1, 10)(features, matrix, target)
    of_expected = gradients(expected, features, matrix)
    by_token = features.detach().transpose(0, 1).contiguous().requires_grad_()
    loss, _ = FusedLoss(tsa(), 1.0, 0.1, 10)(by_token, matrix, target)
    assert loss.item() == expected.item()
    of_features, of_matrix = gradients(loss, by_token, matrix)
    assert of_features.shape == (47, 3, 31)
    assert torch.equal(of_features.transpose(0, 1), of_expected[0])
    assert torch.equal(of_matrix, of_expected[1])


def test_block_of_no_tokens_is_refused():
    message = "--kd-block-tokens: got 0; expected 1 or more"
    with pytest.raises(UsageError, match=exactly(message)):
        fused_loss(tsa(), 1.0, 0.1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(matrix=torch.float32),
            "output matrix: got float32; expected float64, the type of the leaves' features",
        ),
        (dict(width=30), "output matrix: got 123 x 30; expected V x 31, or 3 x V x 31"),
        (dict(own=2), "output matrix: got 2 x 123 x 31; expected V x 31, or 3 x V x 31"),
        (dict(target=46), "target: got 46 tokens; expected 47, as of the features"),
        (dict(gate=45), "gate: got 45 tokens; expected 47, as of the features"),
        (dict(gate=None), "gate: got none tokens; expected 47, as of the features"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    features, matrix, target = inputs()
    matrix = matrix.to(change.get("matrix", torch.float64))[:, : change.get("width", 31)]
    if "own" in change:
        matrix = matrix.expand(change["own"], -1, -1)
    heads = {}
    if "gate" in change:
        heads["gate"] = torch.zeros(change["gate"] or (), dtype=torch.float64)
    with pytest.raises(UsageError, match=exactly(message)):
        fused_loss(tsa(), 1.0, 0.1)(features, matrix, target[: change.get("target", 47)], heads)


def train(model, criterion, batches, steps=30):
    """Losses and weights of a training."""
    adam, losses = torch.optim.Adam(model.parameters(), lr=3e-3), []
    for step in range(steps):
        adam.zero_grad()
        torch.manual_seed(step)  # of dropout
        loss, size, _ = criterion(model, batches[step % len(batches)])
        (loss / size).backward()
        adam.step()
        losses.append(loss.item() / size)
    return losses, dict(model.named_parameters())


@pytest.mark.parametrize(
    "flags",
    [
        dict(kd_temperature=1.0),
        dict(kd_temperature=2.0),
        dict(kd_views=2, kd_view_cut=0.1),
        dict(kd_objective="simcut", kd_view_cut=0.1),
    ],
)
def test_thirty_steps_take_the_dense_paths_way(flags, build, task, criterion):
    """In float64, where an error of one step would not hide in rounding."""
    batches = [make_batch(task, lengths=(7, 4, 5), seed=seed) for seed in range(4)]
    runs = []
    for how in (dict(kd_loss="dense"), dict(kd_block_tokens=5)):
        model = build(tree="1[1[1,1],2]", dropout=0.1).double()
        runs.append(train(model, criterion(**flags, **how), batches))
    (dense_losses, dense_weights), (fused_losses, fused_weights) = runs
    assert dense_losses[-1] < 0.8 * dense_losses[0]
    assert fused_losses == pytest.approx(dense_losses, rel=1e-7)
    for name, weight in dense_weights.items():
        torch.testing.assert_close(fused_weights[name], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "flags",
    [
        {},
        dict(sentence_avg=True),
        dict(ignore_prefix_size=2),
        dict(kd_views=2, kd_view_cut=0.3),
        dict(kd_objective="simcut", kd_view_cut=0.3),
    ],
)
@pytest.mark.parametrize("tree", ["3", "1[1[1,1],2]"])
def test_criterion_gives_what_the_dense_one_gives(tree, flags, build, batch, criterion):
    """Loss, logs and every gradient, with pads."""
    found = []
    for kd_loss in ("dense", "fused"):
        model = build(tree=tree, noise=0.1).double()
        loss, size, logs = criterion(kd_loss=kd_loss, **flags)(model, batch)
        loss.backward()
        grads = {name: p.grad for name, p in model.named_parameters()}
        found.append(({"loss": loss, "size": size, **logs}, grads))
    (expected, of_dense), (actual, of_fused) = found
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            torch.as_tensor(actual[name]), torch.as_tensor(value), rtol=1e-6, atol=1e-9
        )
    for name, grad in of_dense.items():
        torch.testing.assert_close(of_fused[name], grad, rtol=1e-7, atol=1e-10)


def test_all_but_one_position_padded(build, task, batch, criterion):
    batch = copy.deepcopy(batch)
    pad = task.target_dictionary.pad()
    batch["target"][:] = pad
    batch["target"][1, 0] = 7
    batch["ntokens"] = 1
    losses = []
    for kd_loss in ("dense", "fused"):
        model = build(tree="1[1[1,1],2]").double()
        loss, _, logs = criterion(kd_loss=kd_loss)(model, batch)
        loss.backward()
        losses.append(loss.item())
        assert logs["real_tokens"] == 1
        assert all(p.grad.isfinite().all() for p in model.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=1e-12) and math.isfinite(losses[0])
