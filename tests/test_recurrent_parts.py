"""Recurrent parts are found by names and shapes, and a hand-written cell is one of them."""

import numpy as np
import pytest
import torch
from torch import nn

from rnn_export.checkpoint import load_checkpoint
from rnn_export.errors import SourceError
from rnn_export.oracle import run_oracle
from rnn_export.recurrent_parts import cell_of_linear, choose_part, find_parts


def arrays(**modules: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in nn.ModuleDict(modules).state_dict().items()}


def test_every_kind_is_found_with_its_name():
    tensors = arrays(
        encoder=nn.ModuleDict({"rnn": nn.RNN(3, 4, num_layers=2)}),
        gate=nn.LSTM(3, 4),
        other=nn.GRU(3, 4),
        step=nn.RNNCell(3, 4),
        cell=nn.ModuleDict({"i2h": nn.Linear(7, 4), "h2o": nn.Linear(4, 2)}),
        head=nn.Linear(9, 4),
    )
    kinds = {name: part.kind for name, part in find_parts(tensors).items()}
    assert kinds == {"encoder.rnn": "RNN", "gate": "LSTM", "other": "GRU", "step": "RNN", "cell.i2h": "RNN"}
    assert set(find_parts(tensors)["step"].tensors) == {
        *("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"),
    }


def test_a_linear_of_any_name_is_a_cell_when_asked_for():
    tensors = arrays(mine=nn.Linear(9, 4), head=nn.Linear(4, 9))
    assert find_parts(tensors) == {}
    assert choose_part("f", tensors, "mine").nonlinearity == "identity"
    assert cell_of_linear(tensors, "head") is None
    with pytest.raises(SourceError, match="has no recurrent part 'head'"):
        choose_part("f", tensors, "head")


@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)])
def test_the_cell_with_a_linear_of_its_own_for_h(tmp_path, biases):
    i2h, h2h = nn.Linear(3, 4, bias=biases[0]), nn.Linear(4, 4, bias=biases[1])
    torch.save(nn.ModuleDict({"i2h": i2h, "h2h": h2h, "h2o": nn.Linear(4, 2)}).state_dict(), tmp_path / "net.pt")
    found = load_checkpoint(tmp_path / "net.pt", head="h2o")
    assert found.notes[0] == "recurrent part 'i2h': h' = i2h(x) + h2h(h)"
    assert "assumed tanh" in found.notes[1]
    assert found.weights.spec.bias is any(biases)
    x, h = torch.randn(5, 2, 3), torch.zeros(2, 4)
    expected = []
    for x_t in x:
        h = torch.tanh(i2h(x_t) + h2h(h))
        expected.append(h.detach().numpy())
    output = run_oracle(found.weights, x.numpy(), np.zeros((1, 2, 4))).output
    np.testing.assert_allclose(output, np.stack(expected), atol=1e-6)


def test_the_state_may_not_be_larger_than_what_a_single_linear_reads():
    assert cell_of_linear({"i2h.weight": np.zeros((4, 4))}, "i2h") is None
    assert cell_of_linear({"i2h.weight": np.zeros(4)}, "i2h") is None
    assert cell_of_linear({}, "i2h") is None
