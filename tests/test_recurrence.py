"""``over_time``: the same numbers and gradients as a loop, and one Scan of dynamic length in the file."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import rnn_export

T, B = 6, 3
# torch says so of every axis that shares its name with another input's
SHARED_NAMES = pytest.mark.filterwarnings("ignore:# The axis name")


class Decoder(nn.Module):
    """Attends to encoded states (S, B, 8) at every step of y (T, B, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.query, self.out = nn.RNNCell(4, 8), nn.Linear(8, 8), nn.Linear(16, 5)

    def step(self, encoded: Tensor, h: Tensor, y_t: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h = self.cell(y_t, h)
        weights = torch.softmax((encoded * self.query(h)).sum(-1), 0)  # (S, B)
        context = (weights.unsqueeze(-1) * encoded).sum(0)
        return h, (self.out(torch.cat([h, context], -1)), weights.transpose(0, 1))

    def forward(self, encoded: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # The first state is a view of what the step attends to, which torch's scan refuses unless it is copied.
        outputs, h = rnn_export.over_time(lambda h, y_t: self.step(encoded, h, y_t), encoded[-1], y)
        return *outputs, h


class Nested(nn.Module):
    """Two cells, a mask, and a state that no step changes, in reverse."""

    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper = nn.RNNCell(4, 8), nn.RNNCell(8, 8)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def step(h: dict[str, Tensor], inputs: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            x_t, valid = inputs
            lower = torch.where(valid, self.lower(x_t, h["lower"]), h["lower"])
            return {"lower": lower, "upper": self.upper(lower, h["upper"]), "kept": h["kept"]}

        zeros = x.new_zeros(x.shape[1], 8)
        first = {"lower": zeros, "upper": zeros.clone(), "kept": zeros + 1}
        states, last = rnn_export.over_time(step, first, (x, mask), reverse=True)
        return states["upper"], last["lower"], last["kept"]


class Greedy(nn.Module):
    """A decoder that feeds back its own choice: the state holds integers. As many steps as ``steps`` has."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.out = nn.Embedding(7, 4), nn.RNNCell(4, 8), nn.Linear(8, 7)

    def forward(self, h: Tensor, steps: Tensor) -> Tensor:
        def step(state: tuple[Tensor, Tensor], _: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
            h, token = state
            h = self.cell(self.embed(token), h)
            token = self.out(h).argmax(-1)
            return (h, token), token

        return rnn_export.over_time(step, (h, torch.zeros_like(h[:, 0], dtype=torch.int64)), steps)[0]


def test_states_outputs_and_order() -> None:
    x = torch.arange(1.0, 4.0).view(3, 1)
    states, last = rnn_export.over_time(lambda h, x_t: 10 * h + x_t, torch.zeros(1), x)
    assert (states.flatten().tolist(), last.tolist()) == ([1, 12, 123], [123])
    states, last = rnn_export.over_time(lambda h, x_t: 10 * h + x_t, torch.zeros(1), x, reverse=True)
    assert (states.flatten().tolist(), last.tolist()) == ([321, 32, 3], [321])
    outputs, last = rnn_export.over_time(lambda h, x_t: (h + x_t, h), torch.zeros(1), x)
    assert (outputs.flatten().tolist(), last.tolist()) == ([0, 1, 3], [6])


def test_a_pair_of_states_is_no_state_and_output() -> None:
    def step(h: tuple[Tensor, Tensor], x_t: Tensor) -> tuple[Tensor, Tensor]:
        return h[0] + x_t, h[1] - x_t

    (up, down), last = rnn_export.over_time(step, (torch.zeros(1), torch.zeros(1)), torch.ones(3, 1))
    assert torch.equal(up, -down)
    assert torch.equal(last[0], up[-1])


def test_it_is_torchs_rnn_and_trains_like_it() -> None:
    torch.manual_seed(0)
    rnn, cell = nn.RNN(4, 8, dtype=torch.float64), nn.RNNCell(4, 8, dtype=torch.float64)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in rnn.state_dict().items()})
    x, h_0 = torch.randn(T, B, 4, dtype=torch.float64), torch.randn(B, 8, dtype=torch.float64)
    expected, h_n = rnn(x, h_0[None])
    states, last = rnn_export.over_time(lambda h, x_t: cell(x_t, h), h_0, x)
    torch.testing.assert_close((states, last), (expected, h_n[0]), rtol=1e-13, atol=1e-14)
    states.pow(3).sum().backward()
    expected.pow(3).sum().backward()
    for name, parameter in cell.named_parameters():
        torch.testing.assert_close(parameter.grad, rnn.get_parameter(f"{name}_l0").grad, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("step", "error", "says"),
    [
        (lambda h, x_t: None, TypeError, "next state, or the pair"),
        (lambda h, x_t: (h, h, h), TypeError, "next state, or the pair"),
        (lambda h, x_t: h + x_t.new_zeros(5, 2), ValueError, r"changes from \(1, 2\) torch.float32 to \(5, 2\)"),
        (lambda h, x_t: h.double(), ValueError, "to .* torch.float64"),
    ],
)
def test_a_step_that_would_not_export_is_refused_in_training(step, error, says) -> None:
    with pytest.raises(error, match=says):
        rnn_export.over_time(step, torch.zeros(1, 2), torch.zeros(T, 1, 2))


def test_a_sequence_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        rnn_export.over_time(lambda h, x_t: h, torch.zeros(2), torch.zeros(0, 2))


@SHARED_NAMES
@pytest.mark.parametrize(
    ("model", "shapes", "inputs"),
    [
        (Decoder, ({0: "S", 1: "B"}, {0: "T", 1: "B"}), lambda T, B: (torch.randn(T + 2, B, 8), torch.randn(T, B, 4))),
        (Nested, ({0: "T", 1: "B"},) * 2, lambda T, B: (torch.randn(T, B, 4), torch.rand(T, B, 1) > 0.5)),
        (Greedy, ({0: "B"}, {0: "T"}), lambda T, B: (torch.randn(B, 8), torch.zeros(T))),
    ],
    ids=["decoder", "nested", "greedy"],
)
def test_it_exports_as_one_scan_of_any_length(model, shapes, inputs) -> None:
    torch.manual_seed(0)
    network = model().eval()
    with torch.no_grad():
        program = torch.onnx.export(network, inputs(5, B), dynamo=True, dynamic_shapes=shapes, verbose=False)
    graph = program.model_proto.graph
    assert [node.op_type for node in graph.node].count("Scan") == 1
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for size in ((9, 2), (1, 1), (33, 5)):
        given = inputs(*size)
        expected = network(*given)
        expected = expected if isinstance(expected, tuple) else (expected,)
        found = session.run(None, {v.name: t.numpy() for v, t in zip(graph.input, given, strict=True)})
        for ours, torchs in zip(found, expected, strict=True):
            assert ours.shape == torchs.shape
            np.testing.assert_allclose(ours, torchs.detach().numpy(), rtol=0, atol=2e-6)
