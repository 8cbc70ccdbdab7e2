"""Faults of the weights in the file: the graph is right, the numbers in it are not the checkpoint's."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from faults.nets import Net
from faults.sizes import GROSS, RESIDUALS, SIZES, Steps, smallest
from rnn_export.cases import Case
from rnn_export.precision import keep_bits
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights

Arrays = dict[str, NDArray[np.floating]]
Edit = Callable[[Arrays, str], None]  # (arrays to change in place, the end of one cell's names, such as "_l0")
OUT_OF_REACH = -1e4  # a bias that keeps a relu unit at 0 and a tanh unit at -1 whatever comes


class WeightFault(NamedTuple):
    """Weights that a file holds by mistake.

    Attributes:
        size: how large the fault is, empty where that is no question.
        truth: what the file should hold.
        planted: what it holds.
    """

    kind: str
    size: str
    truth: Weights
    planted: Weights


class _Kind(NamedTuple):
    edit: Edit
    applies: Callable[[RNNSpec], bool]


KINDS: dict[str, _Kind] = {}
ELEMENTS = ("one bias", "one input weight", "one recurrent weight")
UNSEEN = (
    "bias of a unit out of reach",
    "recurrent weight into a unit out of reach",
    "input weight into a unit out of reach",
)


def kind(name: str, applies: Callable[[RNNSpec], bool] = lambda _: True) -> Callable[[Edit], Edit]:
    """Register the function under it as a fault of every network that ``applies`` accepts."""

    def register(edit: Edit) -> Edit:
        KINDS[name] = _Kind(edit, applies)
        return edit

    return register


def _has_bias(spec: RNNSpec) -> bool:
    return spec.bias


@kind("W_hh transposed")
def _transpose_hh(arrays: Arrays, end: str) -> None:
    arrays[f"weight_hh{end}"] = arrays[f"weight_hh{end}"].T


@kind("W_ih transposed", lambda spec: spec.input_size == spec.hidden_size)
def _transpose_ih(arrays: Arrays, _end: str) -> None:
    arrays["weight_ih_l0"] = arrays["weight_ih_l0"].T


@kind("halves [W_ih | W_hh] swapped")
def _swap_halves(arrays: Arrays, end: str) -> None:
    width = arrays[f"weight_ih{end}"].shape[1]
    matrix = np.concatenate([arrays[f"weight_hh{end}"], arrays[f"weight_ih{end}"]], axis=1)
    arrays[f"weight_ih{end}"], arrays[f"weight_hh{end}"] = matrix[:, :width], matrix[:, width:]


@kind("W_hh dropped")
def _drop_hh(arrays: Arrays, end: str) -> None:
    arrays[f"weight_hh{end}"][...] = 0


@kind("b_hh dropped", _has_bias)
def _drop_b_hh(arrays: Arrays, end: str) -> None:
    arrays[f"bias_hh{end}"][...] = 0


@kind("b_ih dropped", _has_bias)
def _drop_b_ih(arrays: Arrays, end: str) -> None:
    arrays[f"bias_ih{end}"][...] = 0


@kind("b_hh added twice", _has_bias)
def _double_b_hh(arrays: Arrays, end: str) -> None:
    arrays[f"bias_hh{end}"] *= 2


@kind("units permuted")
def _permute_units(arrays: Arrays, end: str) -> None:
    order = np.roll(np.arange(len(arrays[f"weight_hh{end}"])), 1)
    for name in (name for name in arrays if name.endswith(end)):
        arrays[name] = arrays[name][order]
    arrays[f"weight_hh{end}"] = arrays[f"weight_hh{end}"][:, order]


@kind("rows of W_ih permuted")
def _permute_rows(arrays: Arrays, end: str) -> None:
    arrays[f"weight_ih{end}"] = np.roll(arrays[f"weight_ih{end}"], 1, axis=0)


@kind("W_hh negated")
def _negate_hh(arrays: Arrays, end: str) -> None:
    arrays[f"weight_hh{end}"] *= -1


@kind("directions exchanged", lambda spec: spec.bidirectional)
def _exchange_directions(arrays: Arrays, _end: str) -> None:
    _exchange(arrays, "_l0", "_l0_reverse")


@kind("layers exchanged", lambda spec: spec.num_layers > 2)
def _exchange_layers(arrays: Arrays, _end: str) -> None:
    _exchange(arrays, "_l1", "_l2")


@kind("bfloat16 weights in the file")
def _to_bfloat16(arrays: Arrays, _end: str) -> None:
    for name, array in arrays.items():
        arrays[name] = keep_bits(7)(array)


@kind("float16 weights in the file")
def _to_float16(arrays: Arrays, _end: str) -> None:
    for name, array in arrays.items():
        arrays[name] = array.astype(np.float16)


def _exchange(arrays: Arrays, end: str, other: str) -> None:
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        if name + end in arrays:
            arrays[name + end], arrays[name + other] = arrays[name + other], arrays[name + end]


def weight_faults(net: Net, case: Case) -> Iterator[WeightFault]:
    """Every fault that this network can have; the sized ones are measured on the case."""
    generator = np.random.default_rng(list(net.name.encode()))
    for name, (edit, applies) in KINDS.items():
        if applies(net.spec):
            arrays = _copied(net.weights)
            edit(arrays, suffix(*_any_cell(net.spec, generator)))
            yield WeightFault(name, "", net.weights, _weights(net.spec, arrays))
    for name in ELEMENTS:
        yield from _element_faults(net, case, name, generator)
    for name in UNSEEN:
        yield from _unseen_fault(net, name)


def _element_faults(net: Net, case: Case, name: str, generator: np.random.Generator) -> Iterator[WeightFault]:
    """One element of one array, from gross down to a residual of 8."""
    if name == "one bias" and not net.spec.bias:
        return
    layer, direction = _any_cell(net.spec, generator)
    steps = Steps.exact(net.weights, case, layer, direction)
    array = {"one bias": "bias_ih", "one input weight": "weight_ih", "one recurrent weight": "weight_hh"}[name]
    full = array + suffix(layer, direction)
    shape = net.weights[full].shape
    for _ in range(100):  # a unit that is dead or saturated, or reads nothing but zeros, cannot show this fault
        place = tuple(int(generator.integers(size)) for size in shape)
        effect = _effect(steps, net.weights[full], place, array)
        if effect(GROSS) >= 2 * max(RESIDUALS):
            for words, residual in SIZES.items():
                size = smallest(effect, residual) if residual else GROSS
                assert size is not None  # GROSS has more than the largest residual
                yield WeightFault(name, words, net.weights, _with_element(net.weights, full, place, size))
            return
    raise AssertionError(f"no live element of {full} in {net.name}")


def _effect(steps: Steps, array: NDArray[np.floating], place: tuple[int, ...], name: str) -> Callable[[float], float]:
    """size -> the residual of that fault by itself, after the planted number is rounded to float32."""
    operand = {"bias_ih": None, "weight_ih": steps.x, "weight_hh": steps.h}[name]
    factor = 1.0 if operand is None else operand[..., place[1]]
    before = float(array[place])

    def effect(size: float) -> float:
        return steps.moved_unit(place[0], (float(np.float32(before + size)) - before) * factor)

    return effect


def _unseen_fault(net: Net, name: str) -> Iterator[WeightFault]:
    """A wrong number that no output can show: only reading the file back finds it."""
    if not net.spec.bias:
        return
    unit, arrays = net.spec.hidden_size - 1, _copied(net.weights)
    arrays["bias_ih_l0"][unit] = OUT_OF_REACH
    truth = _weights(net.spec, arrays)
    array = {"bias": "bias_ih_l0", "recurrent": "weight_hh_l0", "input": "weight_ih_l0"}[name.split()[0]]
    yield WeightFault(name, "", truth, _with_element(truth, array, (unit, 0)[: truth[array].ndim], GROSS))


def _with_element(weights: Weights, name: str, place: tuple[int, ...], size: float) -> Weights:
    arrays = _copied(weights)
    arrays[name][place] = np.float32(float(arrays[name][place]) + size)
    return _weights(weights.spec, arrays)


def _any_cell(spec: RNNSpec, generator: np.random.Generator) -> tuple[int, int]:
    cells = spec.cells()
    return cells[int(generator.integers(len(cells)))]


def _copied(weights: Weights) -> Arrays:
    return {name: array.copy() for name, array in weights.items()}


def _weights(spec: RNNSpec, arrays: Arrays) -> Weights:
    return Weights(spec, {name: array.astype(np.float32) for name, array in arrays.items()})
