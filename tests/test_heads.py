import copy
import json

import pytest
import torch
from helpers import exactly, save_stock

from tsa_fairseq.errors import UsageError
from tsa_fairseq.plugin.heads import Gate, PeerAttention
from tsa_fairseq.plugin.teacher import Teacher
from tsa_fairseq.tree.views import Views

HEADS = {"okddip": "peer_attention", "one": "gate", "sokd": "bridge"}


@pytest.fixture
def teacher_file(task, tmp_path):
    path = str(tmp_path / "teacher.pt")
    save_stock(path, task, decoder_layers=4, decoder_embed_dim=8, encoder_embed_dim=8)
    return path


def with_head(build, objective, teacher_file, **flags):
    given = dict(kd_objective=objective, kd_bridge_layers=None, kd_bridge_init=None)
    given["kd_teacher"] = teacher_file if objective in ("kd", "sokd") else None
    return build(tree="1,2,4", **{**given, **flags})


def test_gate_by_hand():
    gate = Gate(2, 3).double()
    with torch.no_grad():
        gate.project.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        gate.scale.copy_(torch.tensor([1.0, 2.0, 1.0]))
        gate.shift.copy_(torch.tensor([0.5, 0.0, 0.0]))
    scores = gate(torch.tensor([3.0, -4.0], dtype=torch.float64))  # 3, -4, -1
    size = (26 / 3) ** 0.5
    assert scores.tolist() == pytest.approx([3 / size + 0.5, 0.0, 0.0], rel=1e-6)


def test_two_scores_of_a_gate_are_more_than_a_sign():
    gate = Gate(2, 2).double()
    with torch.no_grad():
        gate.project.weight.copy_(torch.eye(2))
    one, other = (gate(torch.tensor([3.0, x], dtype=torch.float64)) for x in (1.0, 2.0))
    assert (one - other).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_heads_compute_scores_in_float32(dtype):
    gate, attention = Gate(16, 3).to(dtype), PeerAttention(16).to(dtype)
    features = [torch.randn(2, 4, 16).to(dtype) for _ in range(3)]
    assert gate(features[0]).dtype == attention(features).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_heads_compute_scores_in_float32_under_autocast(dtype):
    gate, attention = Gate(16, 3), PeerAttention(16)
    features = [300 * torch.randn(2, 4, 16) for _ in range(3)]
    with torch.autocast("cpu", dtype=dtype):
        scores = attention(features)
        assert gate(features[0]).dtype == scores.dtype == torch.float32
    assert scores.isfinite().all()


def test_peer_attention_by_hand():
    attention = PeerAttention(16).double()  # 16 / 8 = 2
    features = [torch.randn(1, 1, 16, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    scores = attention(features)
    assert scores.shape == (1, 1, 3, 3) and attention.query.weight.shape == (2, 16)
    for a in range(3):
        for b in range(3):
            query, key = attention.query(features[a]), attention.key(features[b])
            assert scores[0, 0, a, b].item() == pytest.approx((query * key).sum().item())
    scores.sum().backward()
    assert all(f.grad is None for f in features), "features are detached"
    assert attention.query.weight.grad.abs().sum() > 0 and attention.key.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("objective", ["tsa", "kd", "rdrop", "none", *HEADS])
def test_heads_are_built_for_their_objective_only(objective, build, teacher_file):
    model = with_head(build, objective, teacher_file)
    assert list(model.heads) == ([HEADS[objective]] if objective in HEADS else [])


@pytest.mark.parametrize("objective", HEADS)
def test_one_seed_draws_the_same_tree_for_every_objective(objective, build, teacher_file):
    model, plain = with_head(build, objective, teacher_file), build(tree="1,2,4")
    for name, parameter in plain.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name


@pytest.mark.parametrize("views", [{}, dict(kd_views=2), dict(kd_views=2, kd_views_leaves="deal")])
@pytest.mark.parametrize("objective", ["tsa", "ensemble", "cl-ilr", "kdcl-naive", "kd", *HEADS])
def test_every_parameter_gets_a_gradient(objective, views, build, batch, criterion, teacher_file):
    """At the first update too; the teacher gets none."""
    flags = {} if objective not in ("kd", "sokd") else dict(kd_teacher=teacher_file)
    tested = criterion(kd_objective=objective, max_update=100, **flags, **views)
    model = with_head(build, objective, teacher_file, dropout=0.1)
    model.set_num_updates(0)
    loss, _, _ = tested(model, batch)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("k_proj.bias"):  # a softmax does not change with it
            assert parameter.grad.abs().sum() > 0, name
    if tested.teacher is not None:
        assert all(p.grad is None for p in tested.teacher.model.parameters())
        assert not list(tested.parameters()), "nothing for the optimizer or a checkpoint"


def test_gate_reads_what_the_leaves_share(build, batch, teacher_file):
    """The state after the last layer of the trunk; with dealt views that of the leaf's view."""
    model = with_head(build, "one", teacher_file)
    shared = []
    model.decoder.node(0, 0).register_forward_hook(lambda _, __, out: shared.append(out[0]))
    gate = model(**batch["net_input"], leaves="all").heads["gate"]
    assert gate.shape == (3, 7, 4)
    torch.testing.assert_close(gate, model.heads["gate"](shared[0].transpose(0, 1)))


def test_gate_reads_the_view_that_its_leaf_reads(build, batch, teacher_file):
    """With dropout, under which the two views of the trunk's state differ."""
    model = with_head(build, "one", teacher_file, dropout=0.3)
    shared = []
    model.decoder.node(0, 0).register_forward_hook(lambda _, __, out: shared.append(out[0]))
    for dealt in (False, True):
        views = Views(2, dealt=dealt)
        gate = model(**batch["net_input"], leaves="all", views=views).heads["gate"]
        scores = model.heads["gate"](shared[-1].transpose(0, 1))
        one, other = scores.chunk(2)
        assert (one - other).abs().max() > 0.1
        columns = [other if k % 2 else one for k in range(4)]
        dealt_out = torch.stack([c[..., k] for k, c in enumerate(columns)], dim=-1)
        expected = dealt_out if dealt else torch.cat([one, other], dim=-1)
        torch.testing.assert_close(gate, expected)


def test_peers_are_all_leaves_but_leaf_0(build, batch, teacher_file):
    model = with_head(build, "okddip", teacher_file)
    output = model(**batch["net_input"], leaves="all")
    expected = model.heads["peer_attention"](output.features[1:])
    torch.testing.assert_close(output.heads["peer_attention"], expected)
    twice = model(**batch["net_input"], leaves="all", views=Views(2))
    assert twice.heads["peer_attention"].shape == (3, 7, 6, 6)


@pytest.mark.parametrize("normalize_before", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_bridge_starts_as_the_teacher(layers, normalize_before, build, task, batch, tmp_path):
    path = str(tmp_path / "teacher.pt")
    stock = save_stock(path, task, decoder_normalize_before=normalize_before,
                       share_decoder_input_output_embed=True)  # fmt: skip
    model = with_head(build, "sokd", path, kd_bridge_layers=layers).eval()
    teacher = Teacher(path, task)
    output = teacher(batch["net_input"], next(model.parameters()), layers)
    features, matrix = model.heads["bridge"](output)
    expected = stock.eval()(**batch["net_input"])[0]
    torch.testing.assert_close(features @ matrix.t(), expected)
    torch.testing.assert_close(output.prediction.features @ output.prediction.matrix.t(), expected)
    assert matrix.requires_grad and not output.prediction.matrix.requires_grad


@pytest.mark.parametrize(
    "variant",
    [
        dict(decoder_layerdrop=0.2),
        dict(decoder_normalize_before=True, no_decoder_final_norm=True),
        dict(activation_fn="gelu", decoder_attention_heads=4),
    ],
)
def test_bridge_of_an_unusual_teacher(variant, build, task, batch, tmp_path):
    path = str(tmp_path / "teacher.pt")
    stock = save_stock(path, task, **variant)
    bridge = with_head(build, "sokd", path).eval().heads["bridge"]
    features, matrix = bridge(Teacher(path, task)(batch["net_input"], torch.zeros(1), 2))
    expected = stock.eval()(**batch["net_input"])[0]
    torch.testing.assert_close(features @ matrix.t(), expected)


@pytest.mark.parametrize("shared", [False, True])
def test_bridge_makes_a_better_teacher(shared, build, task, batch, teacher_file):
    """What it has learned goes back into the teacher's top layers, for an export."""
    save_stock(teacher_file, task, share_decoder_input_output_embed=shared)
    bridge = with_head(build, "sokd", teacher_file).eval().heads["bridge"]
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    teacher = Teacher(teacher_file, task)
    before = teacher(batch["net_input"], torch.zeros(1), bridge.below)
    features, matrix = bridge(before)
    bridge.improve(teacher)
    after = teacher.model(**batch["net_input"])[0]
    torch.testing.assert_close(after, features @ matrix.t())
    lower = teacher(batch["net_input"], torch.zeros(1), bridge.below).state
    assert torch.equal(lower, before.state), "embeddings and lower layers stay"


def test_bridge_from_random(build, task, teacher_file):
    drawn = with_head(build, "sokd", teacher_file, kd_bridge_init="random").heads["bridge"]
    teacher = Teacher(teacher_file, task)
    assert len(drawn.layers) == 2 and drawn.layers[0].embed_dim == 8
    theirs = teacher.model.decoder.layers[-1].fc1.weight
    assert not torch.equal(drawn.layers[-1].fc1.weight, theirs)
    assert not torch.equal(drawn.output_projection.weight, teacher.output_matrix)


def test_bridge_is_built_without_the_teachers_file(build, task, teacher_file, tmp_path):
    """As it must be where a checkpoint is loaded to translate."""
    model = with_head(build, "sokd", teacher_file)
    layout = json.dumps(Teacher(teacher_file, task).layout)
    again = with_head(build, "sokd", str(tmp_path / "gone.pt"), kd_teacher_layout=layout,
                      kd_bridge_layers=2)  # fmt: skip
    again.load_state_dict(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_more_layers_than_the_teacher_has(build, teacher_file):
    message = f"--kd-bridge-layers: got 5; '{teacher_file}' has 4 decoder layers: expected 1 to 4"
    with pytest.raises(UsageError, match=exactly(message)):
        with_head(build, "sokd", teacher_file, kd_bridge_layers=5)


def test_a_teacher_with_an_output_dimension_of_its_own(build, task, tmp_path):
    path = str(tmp_path / "narrow.pt")
    save_stock(path, task, decoder_output_dim=12)
    message = (
        f"--kd-teacher: '{path}' has a --decoder-output-dim of its own, "
        "which a bridge cannot have; expected that of its layers"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        with_head(build, "sokd", path)


def test_parameters_of_another_objective_are_a_start(build, teacher_file):
    """Its heads are left out, one's own stay as they were drawn; nothing else may differ."""
    one, okddip = (with_head(build, name, teacher_file) for name in ("one", "okddip"))
    drawn = copy.deepcopy(okddip.heads.state_dict())
    with torch.no_grad():
        one.decoder.layers[0].fc1.weight.fill_(3.0)
    okddip.load_state_dict(one.state_dict(), strict=True)
    assert (okddip.decoder.layers[0].fc1.weight == 3.0).all()
    assert all(torch.equal(okddip.heads.state_dict()[n], t) for n, t in drawn.items())
    broken = one.state_dict()
    del broken["decoder.layers.0.fc1.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*decoder.layers.0.fc1.weight"):
        okddip.load_state_dict(broken, strict=True)


def test_a_head_of_another_size_is_no_start(build, teacher_file, caplog):
    """Nor one with a layer more or less: its layers would stand for others of the teacher's."""
    three = with_head(build, "sokd", teacher_file, kd_bridge_layers=3)
    two = with_head(build, "sokd", teacher_file, kd_bridge_layers=2)
    for model, other in [(two, three), (three, two)]:
        drawn = copy.deepcopy(model.heads.state_dict())
        caplog.clear()
        model.load_state_dict(other.state_dict(), strict=True)
        assert all(torch.equal(model.heads.state_dict()[n], t) for n, t in drawn.items())
        assert "the checkpoint has no bridge like this model's, which starts afresh" in caplog.text


@pytest.mark.parametrize("objective", HEADS)
def test_what_translates_has_no_heads(objective, build, teacher_file, inference_config):
    model = with_head(build, objective, teacher_file)
    model.prepare_for_inference_(inference_config)
    plain = build("transformer")
    assert list(model.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("objective", HEADS)
def test_a_model_built_without_the_head(objective, build, batch, criterion, teacher_file):
    flags = dict(kd_teacher=teacher_file) if objective == "sokd" else {}
    message = (
        f"error: --kd-objective: got '{objective}', but the model was built without its "
        f"{HEADS[objective]}; expected the objective that it was trained with"
    )
    with pytest.raises(SystemExit, match=exactly(message)):
        criterion(kd_objective=objective, max_update=9, **flags)(build(tree="1,2,4"), batch)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", ["kd", *HEADS])
def test_half_precision(objective, dtype, build, batch, criterion, teacher_file):
    """The teacher takes the model's type; the loss is that of the same parameters in float32."""
    flags = dict(kd_teacher=teacher_file) if objective in ("kd", "sokd") else {}
    half = with_head(build, objective, teacher_file).to(dtype)
    losses = []
    for model in (half, copy.deepcopy(half).float()):
        tested = criterion(kd_objective=objective, max_update=9, **flags)
        loss, _, logs = tested(model, batch)
        losses.append(loss)
    losses[0].backward()
    assert losses[0].dtype == torch.float32
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=8 * torch.finfo(dtype).eps)
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in half.parameters())


def test_warm_start_leaves_heads_as_they_were_drawn(build, task, tmp_path):
    path = str(tmp_path / "stock.pt")
    stock = save_stock(path, task)
    model = build(tree="1,2,4", kd_objective="one", tree_init_from=path)
    assert torch.equal(model.decoder.layers[0].fc1.weight, stock.decoder.layers[0].fc1.weight)
    drawn = build(tree="1,2,4", kd_objective="one").heads.state_dict()
    assert all(torch.equal(model.heads.state_dict()[n], t) for n, t in drawn.items())
