"""The torch modules against ``torch.nn.RNN``.

Equality in value means the step residual, in the type's own unit roundoff: every layer and direction is
judged from what the layer below it really put out. ``lower_layers`` gives that: the first k layers as a
network of their own, whose output is bit for bit what the next layer reads.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from rnn_export.errors import SourceError
from rnn_export.module import SingleMatrixRNN, SingleMatrixRNNCell, TwoMatrixRNN, from_torch, to_torch
from rnn_export.residual import GATE, step_residual
from rnn_export.rounding import ARITHMETICS
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights
from tests.strategies import as_array, every_spec

FORMS = (SingleMatrixRNN, TwoMatrixRNN)
T, B = 6, 3

each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
each_spec = pytest.mark.parametrize("spec", every_spec(), ids=str)
each_type = pytest.mark.parametrize("dtype", ARITHMETICS)


def draw(spec: RNNSpec, dtype: str, *, batched: bool = True, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """input in the network's own layout, and h_0."""
    generator = torch.Generator().manual_seed(seed)
    shape = [T, B, spec.input_size] if batched else [T, spec.input_size]
    if batched and spec.batch_first:
        shape[0], shape[1] = shape[1], shape[0]
    states = [len(spec.cells()), B, spec.hidden_size] if batched else [len(spec.cells()), spec.hidden_size]
    kind = getattr(torch, dtype)
    return (
        torch.randn(shape, generator=generator, dtype=kind),
        torch.randn(states, generator=generator, dtype=kind),
    )


def time_major(spec: RNNSpec, sequence: torch.Tensor) -> np.ndarray:
    """(T, B, ...) from the network's own layout."""
    if sequence.dim() == 2:
        sequence = sequence[:, None]
    elif spec.batch_first:
        sequence = sequence.transpose(0, 1)
    return as_array(sequence.detach())


def lower_layers(weights: Weights, count: int) -> Weights:
    spec = replace(weights.spec, num_layers=count)
    return Weights(spec, {name: weights[name] for name in spec.weight_shapes()})


def assert_same_recurrence(
    make: Callable[[Weights], nn.Module], weights: Weights, x: torch.Tensor, h_0: torch.Tensor | None
) -> None:
    """Judge the run of ``make(weights)`` layer by layer, and its h_n bit for bit against its states."""
    spec, D, H = weights.spec, weights.spec.num_directions, weights.spec.hidden_size
    output, h_n = make(weights)(x, h_0)
    batch = () if x.dim() == 2 else (B,)
    states = torch.zeros(len(spec.cells()), *batch, H, dtype=x.dtype) if h_0 is None else h_0
    below = time_major(spec, x)
    for layer in range(spec.num_layers):
        count = (layer + 1) * D
        part, part_h_n = make(lower_layers(weights, layer + 1))(x, None if h_0 is None else h_0[:count])
        assert torch.equal(part_h_n, h_n[:count])
        y = time_major(spec, part)
        for direction in range(D):
            index, own = layer * D + direction, y[..., direction * H : (direction + 1) * H]
            found = step_residual(
                weights.cell(layer, direction),
                below,
                as_array(states[index]).reshape(-1, H),
                own,
                reverse=bool(direction),
                arithmetic=ARITHMETICS[weights.dtype.name],
            )
            assert found.judged == own.size
            assert found.max_q <= GATE, (layer, direction, found)
            np.testing.assert_array_equal(as_array(h_n[index].detach()).reshape(-1, H), own[0 if direction else -1])
        below = y
    assert torch.equal(part, output)


@pytest.mark.parametrize("with_state", [False, True], ids=["no-h_0", "h_0"])
@pytest.mark.parametrize("batched", [False, True], ids=["unbatched", "batched"])
@each_type
@each_spec
@each_form
def test_every_layer_and_direction_is_torchs_recurrence(form, spec, dtype, batched, with_state):
    reference = nn.RNN(**spec.to_dict(), dtype=getattr(torch, dtype))
    reference.load_state_dict(to_torch(Weights.random(spec, 1, dtype)).state_dict())
    x, h_0 = draw(spec, dtype, batched=batched)
    h_0 = h_0 if with_state else None
    with torch.no_grad():
        assert_same_recurrence(form.from_weights, from_torch(reference), x, h_0)
        ours, torchs = form.from_weights(from_torch(reference))(x, h_0), reference(x, h_0)
    assert [(part.shape, part.dtype) for part in ours] == [(part.shape, part.dtype) for part in torchs]


@each_type
@each_spec
def test_the_judge_accepts_torchs_own_layers(spec, dtype):
    x, h_0 = draw(spec, dtype)
    assert_same_recurrence(to_torch, Weights.random(spec, 1, dtype), x, h_0)


@each_form
def test_the_judge_rejects_a_network_with_another_bias_in_its_upper_layer(form):
    weights = Weights.random(RNNSpec(3, 4, 2, bidirectional=True), 1)
    other = {name: array.copy() for name, array in weights.items()}
    other["bias_hh_l1_reverse"][2] += 1e-4
    wrong = form.from_weights(Weights(weights.spec, other))
    x, h_0 = draw(weights.spec, "float32")
    below = form.from_weights(lower_layers(weights, 1))(x, h_0[:2])[0].detach().numpy()
    y = wrong(x, h_0)[0].detach().numpy()
    found = [
        step_residual(weights.cell(1, d), below, h_0[2 + d].numpy(), y[..., 4 * d : 4 * d + 4], reverse=bool(d))
        for d in (0, 1)
    ]
    assert [result.passed for result in found] == [True, False]
    assert (found[1].first.t, found[1].first.unit) == (T - 1, 2)


@each_spec
@each_form
def test_gradients_are_torchs(form, spec):
    weights = Weights.random(spec, 2, "float64")
    networks = form.from_weights(weights), to_torch(weights)
    inputs = [[tensor.requires_grad_() for tensor in draw(spec, "float64")] for _ in networks]
    for network, (x, h_0) in zip(networks, inputs, strict=True):
        output, h_n = network(x, h_0)
        ((output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum() + h_n.pow(3).sum()).backward()
    for ours, torchs in zip(*inputs, strict=True):
        torch.testing.assert_close(ours.grad, torchs.grad, rtol=1e-12, atol=1e-13)
    torchs = {name: parameter.grad for name, parameter in networks[1].named_parameters()}
    if form is SingleMatrixRNN:
        torchs = {
            name: torchs[f"bias_ih{name.removeprefix('bias')}"]
            if name.startswith("bias")
            else torch.cat([torchs[name.replace("matrix", half)] for half in ("weight_ih", "weight_hh")], dim=1)
            for name, _ in networks[0].named_parameters()
        }
    ours = {name: parameter.grad for name, parameter in networks[0].named_parameters()}
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-13)


@each_type
@each_spec
def test_torchs_weights_there_and_back_are_bit_exact(spec, dtype):
    rnn = nn.RNN(**spec.to_dict(), dtype=getattr(torch, dtype))
    for back in (
        to_torch(from_torch(rnn)),
        to_torch(TwoMatrixRNN.from_weights(from_torch(rnn)).to_weights()),
    ):
        assert_same_state(back, rnn)
    assert from_torch(rnn).spec == spec


@each_type
@each_spec
@each_form
def test_a_network_of_ours_survives_the_way_through_torch_bit_for_bit(form, spec, dtype):
    ours = form(**spec.to_dict(), dtype=getattr(torch, dtype))
    back = form.from_weights(from_torch(to_torch(from_torch(ours))))
    assert back.spec == spec
    assert_same_state(back, ours)


def assert_same_state(left: nn.Module, right: nn.Module) -> None:
    ours, theirs = left.state_dict(), right.state_dict()
    assert list(ours) == list(theirs)
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name]), name


@each_form
def test_dropout_acts_between_layers_in_training_and_nowhere_else(form):
    weights = Weights.random(RNNSpec(3, 4, num_layers=2), 3)
    plain = form.from_weights(weights)
    network = form(3, 4, 2, dropout=1.0)
    network.load_state_dict(plain.state_dict())
    x, h_0 = draw(weights.spec, "float32")
    output, h_n = network(x, h_0)
    upper = {name.replace("_l1", "_l0"): array for name, array in weights.items() if "_l1" in name}
    alone = form.from_weights(Weights(RNNSpec(4, 4), upper))
    # Dropout of 1 leaves the upper layer nothing but zeros to read, and must leave all else alone.
    torch.testing.assert_close(output, alone(torch.zeros(T, B, 4), h_0[1:])[0], rtol=0, atol=1e-6)
    assert torch.equal(h_n[0], plain(x, h_0)[1][0])
    assert output.abs().min() > 0
    network.eval()
    for ours, expected in zip(network(x, h_0), plain(x, h_0), strict=True):
        assert torch.equal(ours, expected)


@each_form
def test_dropout_keeps_and_scales_what_it_does_not_drop(form):
    lower = Weights.random(RNNSpec(3, 4, nonlinearity="relu"), 4)
    copier = {"weight_ih_l1": np.eye(4), "weight_hh_l1": np.zeros((4, 4)), "bias_ih_l1": np.zeros(4)}
    copier = {name: array.astype(np.float32) for name, array in copier.items()}
    spec = RNNSpec(3, 4, 2, "relu")
    weights = Weights(spec, {**lower, **copier, "bias_hh_l1": np.zeros(4, np.float32)})
    network = form(**spec.to_dict(), dropout=0.5)
    network.load_state_dict(form.from_weights(weights).state_dict())
    x, _ = draw(spec, "float32")
    states, (output, _) = form.from_weights(lower)(x)[0], network(x)
    kept = output != 0
    torch.testing.assert_close(output[kept], 2 * states[kept])
    assert 0.2 < kept[states > 0].float().mean() < 0.8


@each_form
def test_dropout_of_a_single_layer_does_nothing(form):
    network = form(3, 4, dropout=1.0)
    x, h_0 = draw(network.spec, "float32")
    trained = network.train()(x, h_0)[0]
    assert torch.equal(trained, network.eval()(x, h_0)[0])


@pytest.mark.parametrize("module", [nn.LSTM(3, 4), nn.GRU(3, 4), nn.LSTMCell(3, 4), nn.Linear(3, 4)], ids=repr)
def test_what_is_no_rnn_is_refused_by_name(module):
    with pytest.raises(SourceError, match=f"{type(module).__name__} is not an RNN"):
        from_torch(module)


@pytest.mark.parametrize(
    ("batch_first", "shape", "state"),
    [
        (False, (3,), None),
        (False, (T, B, 2), None),
        (False, (T, 2), None),
        (False, (1, T, B, 3), None),
        (False, (0, B, 3), None),
        (False, (0, 3), None),
        (True, (B, 0, 3), None),
        (False, (T, B, 3), (4, B, 5)),
        (False, (T, B, 3), (3, B, 4)),
        (False, (T, B, 3), (2, B, 4)),
        (False, (T, B, 3), (4, 1, 4)),
        (False, (T, B, 3), (4, T, 4)),
        (False, (T, B, 3), (4, 4)),
        (False, (T, 3), (4, 1, 4)),
        (True, (B, T, 3), (4, T, 4)),
        (True, (B, T, 3), (B, 4, 4)),
    ],
)
@each_form
def test_a_shape_that_does_not_fit_is_a_value_error(form, batch_first, shape, state):
    network = form(3, 4, num_layers=2, bidirectional=True, batch_first=batch_first)
    with pytest.raises(ValueError, match=r"not \(|at least one step"):
        network(torch.zeros(shape), None if state is None else torch.zeros(state))


@each_form
def test_a_new_network_starts_like_torchs(form):
    network = form(30, 25, num_layers=2)
    values = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    assert values.abs().max() <= 25**-0.5
    assert values.abs().max() > 0.19
    assert abs(values.mean()) < 0.02


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@each_form
def test_it_trains(form, nonlinearity):
    network = form(2, 8, nonlinearity=nonlinearity, bidirectional=True)
    readout = nn.Linear(16, 1)
    x = torch.randn(10, 32, 2)
    target = x[..., :1].cumsum(0) / 4
    optimizer = torch.optim.SGD([*network.parameters(), *readout.parameters()], lr=0.1)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (readout(network(x)[0]) - target).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@each_form
def test_eager_use_never_enters_scan_and_exporting_does(form, monkeypatch):
    class ScanError(Exception):
        pass

    def trap(*arguments, **options):
        raise ScanError

    monkeypatch.setattr(import_module("torch._higher_order_ops.scan"), "scan", trap)
    network = form(3, 4, num_layers=2, bidirectional=True)
    x, h_0 = draw(network.spec, "float32")
    network.train()(x, h_0)[0].sum().backward()
    with torch.no_grad():
        network.eval()(x)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    with pytest.raises(ScanError):
        network(x, h_0)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@each_form
def test_tracing_is_refused_because_it_would_freeze_the_length(form):
    with pytest.raises(RuntimeError, match="tracing would freeze the length"):
        torch.jit.trace(form(3, 4), torch.zeros(T, B, 3))


def test_an_exported_network_is_right_at_lengths_and_batches_it_was_not_exported_at():
    weights = Weights.random(RNNSpec(3, 4, bidirectional=True), 5)
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    network = SingleMatrixRNN.from_weights(weights).eval()
    program = torch.export.export(network, (torch.zeros(5, 2, 3),), dynamic_shapes=(dynamic,)).module()
    x, _ = draw(weights.spec, "float32")
    output, h_n = program(x)
    for d in (0, 1):
        y = output[..., 4 * d : 4 * d + 4].detach().numpy()
        assert step_residual(weights.cell(0, d), x.numpy(), np.zeros((B, 4)), y, reverse=bool(d)).passed
        np.testing.assert_array_equal(h_n[d].detach().numpy(), y[0 if d else -1])


@pytest.mark.parametrize("with_state", [False, True], ids=["no-h", "h"])
@pytest.mark.parametrize("batched", [False, True], ids=["unbatched", "batched"])
@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@each_type
def test_the_cell_is_torchs_cell(dtype, nonlinearity, bias, batched, with_state):
    reference = nn.RNNCell(3, 4, bias, nonlinearity, dtype=getattr(torch, dtype))
    weights = from_torch(reference)
    x, h_0 = draw(weights.spec, dtype, batched=batched)
    x, h = x[0], h_0[0] if with_state else None
    ours, torchs = SingleMatrixRNNCell.from_weights(weights)(x, h), reference(x, h)
    assert (ours.shape, ours.dtype) == (torchs.shape, torchs.dtype)
    before = as_array(h_0[0] if with_state else torch.zeros_like(h_0[0])).reshape(-1, 4)
    for y in (ours, torchs):
        found = step_residual(
            weights.cell(0, 0),
            as_array(x).reshape(1, -1, 3),
            before,
            as_array(y.detach()).reshape(1, -1, 4),
            arithmetic=ARITHMETICS[dtype],
        )
        assert found.judged == y.numel()
        assert found.max_q <= GATE


@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
@each_type
def test_a_cell_survives_the_way_through_torch_bit_for_bit(dtype, bias):
    ours = SingleMatrixRNNCell(3, 4, bias, dtype=getattr(torch, dtype))
    assert_same_state(SingleMatrixRNNCell.from_weights(from_torch(to_torch(from_torch(ours)))), ours)


@pytest.mark.parametrize("spec", [RNNSpec(3, 4, 2), RNNSpec(3, 4, bidirectional=True)], ids=str)
def test_a_network_of_more_than_one_cell_is_no_cell(spec):
    with pytest.raises(SourceError, match="has more than one cell"):
        SingleMatrixRNNCell.from_weights(Weights.random(spec, 7))
