"""Which axes are dynamic, and inputs of other sizes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.utils.rnn import pack_padded_sequence

from rnn_export.errors import UsageError
from rnn_export.whole_model.dynamic_axes import inputs_of

X, IDS, LENGTHS = torch.randn(5, 3, 6), torch.randint(20, (5, 3)), torch.tensor([5, 2, 3])
TIME = {0: "T", 1: "B"}


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.rnn(pack_padded_sequence(x, lengths, enforce_sorted=False))[1]


def rnn(**options: Any) -> nn.Module:
    return nn.RNN(6, 4, **options)


def test_a_function_of_the_sizes_is_probed() -> None:
    given = inputs_of(rnn(), lambda T, B: (torch.zeros(B, 2 * T, 6), torch.zeros(T, B), torch.zeros(2)))
    assert given.axes == ({0: "B", 1: "T"}, {0: "T_2", 1: "B"}, {})
    assert given.sizes == {"T": 5, "B": 3}
    assert [tuple(tensor.shape) for tensor in given.at({"T": 7, "B": 2}, 0)] == [(2, 14, 6), (7, 2), (2,)]


def test_lengths_of_two_inputs_have_two_names() -> None:
    given = inputs_of(rnn(), lambda T, B: [torch.zeros(T, B), torch.zeros(T + 1, B)])
    assert given.dynamic_shapes == ({0: "T", 1: "B"}, {0: "T_2", 1: "B"})


@pytest.mark.parametrize(
    ("shapes", "axes"),
    [
        (({0: "T", 1: "B"},), {0: "T", 1: "B"}),
        ((("T", "B", None),), {0: "T", 1: "B"}),
        ({"input": {0: Dim("steps")}}, {0: "steps"}),
        (({0: Dim.AUTO, 1: Dim.DYNAMIC},), {0: "size_5", 1: "size_3"}),
        (({0: "T", 1: 3},), {0: "T"}),
    ],
)
def test_every_way_to_write_dynamic_shapes(shapes: Any, axes: dict[int, str]) -> None:
    assert inputs_of(rnn(), X, shapes).axes == (axes,)


def test_nested_inputs() -> None:
    example = (X, {"state": (X, LENGTHS)})
    given = inputs_of(rnn(), example, (TIME, {"state": (TIME, {0: "B"})}))
    assert given.dynamic_shapes == (TIME, {"state": (TIME, {0: "B"})})
    made = given.at({"T": 9, "B": 2}, 0)
    assert made[1]["state"][0].shape == (9, 2, 6)


@pytest.mark.parametrize(("batch_first", "axes"), [(False, {0: "T", 1: "B"}), (True, {0: "B", 1: "T"})])
def test_without_dynamic_shapes_the_first_nn_rnn_tells(batch_first: bool, axes: dict[int, str]) -> None:
    x = X.transpose(0, 1) if batch_first else X
    assert inputs_of(rnn(batch_first=batch_first), x).axes == (axes,)


def test_without_dynamic_shapes_a_packed_sequence_tells() -> None:
    assert inputs_of(Packed(), (X, LENGTHS)).axes == (TIME, {0: "B"})


def test_watching_leaves_no_hook() -> None:
    model = rnn()
    inputs_of(model, X)
    assert not nn.modules.module._global_forward_pre_hooks


@pytest.mark.parametrize(
    ("model", "inputs", "shapes", "says"),
    [
        (rnn(), torch.zeros(3, 3, 6), None, "do not tell its axes apart"),
        (rnn(), torch.zeros(6, 3, 6), None, "do not tell its axes apart"),
        (nn.Linear(6, 4), X, None, "runs no nn.RNN"),
        (rnn(), X, ({},), "no axis of the inputs is dynamic"),
        (rnn(), X, (TIME, TIME), "gets 1 inputs, but dynamic_shapes has 2"),
        (rnn(), X, ({0: "T", 1: "T"},), "name 'T' have the sizes 5 and 3"),
        (rnn(), X[:1], (TIME,), "one step"),
        (rnn(), lambda T, B: X, (TIME,), "Leave out dynamic_shapes"),
        (rnn(), lambda T, B: X, None, "no axis of the inputs is dynamic"),
    ],
)
def test_what_cannot_be_told_is_asked_for(model: nn.Module, inputs: Any, shapes: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        inputs_of(model, inputs, shapes)


def test_other_sizes_differ_from_the_example_in_every_axis_and_from_each_other() -> None:
    given = inputs_of(rnn(), (X, X), ({0: "T", 1: "B"}, {0: "T", 1: "B"}))
    sizes = list(given.others())
    assert sizes == [{"T": 9, "B": 8}, {"T": 17, "B": 12}, {"T": 3, "B": 1}]
    square = inputs_of(rnn(), torch.zeros(4, 4, 6), (TIME,))
    assert all(len(set(size.values())) == 2 for size in list(square.others())[:2])


def test_values_stay_what_the_example_has() -> None:
    mask = torch.tensor([[True, False, True]] * 5)
    positive = X.abs() + 1
    shapes = (TIME, TIME, TIME, TIME)
    ids, valid, floats, zeros = inputs_of(rnn(), (IDS, mask, positive, torch.zeros(5, 3)), shapes).at(
        {"T": 40, "B": 11}, 0
    )
    assert set(ids.flatten().tolist()) <= set(IDS.flatten().tolist())
    assert (ids.shape, ids.dtype, valid.dtype) == ((40, 11), torch.int64, torch.bool)
    assert floats.min() >= 1
    assert zeros.std() > 0.5  # nothing is learnt from zeros


@pytest.mark.parametrize(("example", "falling"), [([5, 2, 3], False), ([5, 3, 2], True)])
def test_lengths_become_lengths(example: list[int], falling: bool) -> None:
    given = inputs_of(rnn(), (X, torch.tensor(example)), (TIME, {0: "B"}))
    for T in (2, 9, 40):
        lengths = given.at({"T": T, "B": 7}, T)[1]
        assert (int(lengths.min()) >= 1, int(lengths.max())) == (True, T)
        assert bool((lengths[1:] <= lengths[:-1]).all()) is falling
