"""The networks that several tests share: every combination of torch's options, and drawn single layers."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from rnn_export.element_types import BFLOAT16
from rnn_export.spec import RNNSpec
from rnn_export.weights import Cell

KINDS = ("normal", "constant", "positive", "dale", "sparse")


class Layer(NamedTuple):
    """One layer in one direction, and what it reads."""

    cell: Cell
    x: NDArray[np.floating]  # (T, B, I)
    h_0: NDArray[np.floating]  # (B, H)
    reverse: bool


def every_spec() -> list[RNNSpec]:
    """One small network for every combination of ``torch.nn.RNN``'s options."""
    flags = (False, True)
    return [RNNSpec(3, 4, *options) for options in product((1, 2, 3), ("tanh", "relu"), flags, flags, flags)]


def run_torch(layer: Layer) -> NDArray[np.floating]:
    """y (T, B, H): torch's own run of the layer, in the type of its weights."""
    cell, x, h_0, reverse = layer
    hidden_size, input_size = cell.weight_ih.shape
    dtype = getattr(torch, cell.weight_ih.dtype.name)
    rnn = torch.nn.RNN(input_size, hidden_size, nonlinearity=cell.nonlinearity, dtype=dtype)
    rnn.load_state_dict({f"{name}_l0": as_tensor(getattr(cell, name)) for name in Cell._fields[:4]})
    with torch.no_grad():
        y = as_array(rnn(as_tensor(x[::-1].copy() if reverse else x), as_tensor(h_0)[None])[0])
    return y[::-1].copy() if reverse else y


def as_tensor(array: NDArray[np.floating]) -> torch.Tensor:
    """A copy; bfloat16 too, which torch does not take from numpy."""
    if array.dtype == BFLOAT16:
        return torch.tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.tensor(array)


def as_array(tensor: torch.Tensor) -> NDArray[np.floating]:
    """The same the other way round."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(BFLOAT16)
    return tensor.numpy()


def make_layer(
    rng: np.random.Generator,
    input_size: int,
    hidden_size: int,
    length: int,
    *,
    batch: int = 2,
    kind: str = "normal",
    gain: float = 1.0,
    scale: float = 1.0,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    dtype: str = "float32",
) -> Layer:
    """A layer with biases and a state; the sums over a row of its matrices are of the size of ``gain``."""
    arrays = [
        _matrix(rng, kind, gain, (hidden_size, input_size)),
        _matrix(rng, kind, gain, (hidden_size, hidden_size)),
        *rng.normal(0, 0.1, (2, hidden_size)),
    ]
    cell = Cell(*(array.astype(dtype) for array in arrays), nonlinearity)
    x = rng.normal(0, scale, (length, batch, input_size)).astype(dtype)
    return Layer(cell, x, rng.normal(0, 1, (batch, hidden_size)).astype(dtype), reverse)


def _matrix(rng: np.random.Generator, kind: str, gain: float, shape: tuple[int, int]) -> NDArray[np.float64]:
    width = shape[1]
    if kind == "constant":
        return np.full(shape, gain / width)
    if kind == "positive":
        return rng.uniform(0, 2 * gain / width, shape)
    matrix = rng.normal(0, gain * width**-0.5, shape)
    if kind == "dale":  # units that only excite, then units that only inhibit: the partial sums ramp up
        return np.abs(matrix) * np.where(np.arange(width) < width // 2, 1, -1)
    return matrix * (rng.random(shape) < 0.2) if kind == "sparse" else matrix


@st.composite
def layers(
    draw: st.DrawFn,
    *,
    sizes: tuple[int, int] = (1, 40),
    lengths: tuple[int, int] = (1, 300),
    exponents: tuple[int, int] = (0, 0),
    kinds: Sequence[str] = KINDS,
    gains: Sequence[float] = (0.1, 1.0),
    nonlinearities: Sequence[str] = ("tanh", "relu"),
    dtype: str = "float32",
) -> Layer:
    """A layer within these bounds (both inclusive), whose input is of the size of 10**exponent."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layer = make_layer(
        rng,
        draw(st.integers(*sizes)),
        draw(st.integers(*sizes)),
        draw(st.integers(*lengths)),
        batch=draw(st.integers(1, 3)),
        kind=draw(st.sampled_from(kinds)),
        gain=draw(st.sampled_from(gains)),
        scale=10.0 ** draw(st.integers(*exponents)),
        nonlinearity=draw(st.sampled_from(nonlinearities)),
        reverse=draw(st.booleans()),
        dtype=dtype,
    )
    if draw(st.booleans()):
        layer.h_0[...] = 0
    if draw(st.booleans()):
        layer.cell.bias_ih[...], layer.cell.bias_hh[...] = 0, 0
    return layer
