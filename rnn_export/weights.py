"""Weights: a checked, read-only state_dict of one RNN, in numpy."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.blocks import BLOCK, Joined, blocks
from rnn_export.element_types import FLOATS, rounded
from rnn_export.errors import SourceError
from rnn_export.spec import RNNSpec, suffix

RANDOM_LIMIT = 2**28  # 1 GiB in float32: a spec is for trying things out


class Cell(NamedTuple):
    """One layer in one direction: ``h' = act(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)``."""

    weight_ih: NDArray[np.floating]  # (H, I), or (H, D*H) above the first layer
    weight_hh: NDArray[np.floating]  # (H, H)
    bias_ih: NDArray[np.floating]  # (H,), zeros for a network without bias
    bias_hh: NDArray[np.floating]  # (H,)
    nonlinearity: str


class Head(NamedTuple):
    """A Linear at every step: ``prediction = read @ weight.T + bias``.

    It reads the output (T, B, D*H), or like the classic ``i2o`` what the cell reads: [x_t, h_(t-1)] (T, B, I+H).
    """

    weight: NDArray[np.floating]  # (O, D*H) or (O, I+H)
    bias: NDArray[np.floating]  # (O,)

    def converted(self, dtype: str) -> "Head":
        """The Linear in another type; raises SourceError where it is too large for it."""
        return Head(*(_converted(f"the head's {name}", array, dtype) for name, array in self._asdict().items()))

    def as_cell(self) -> Cell:
        """The same product as a layer without recurrence, weight_hh (O, 0), for the judge of steps."""
        nothing = np.zeros((len(self.weight), 0), self.weight.dtype)
        return Cell(self.weight, nothing, self.bias, np.zeros_like(self.bias), "identity")


class Weights(Mapping[str, NDArray[np.floating]]):
    """torch's parameter names -> arrays, with the shapes that the spec asks for.

    Args:
        spec: the network.
        arrays: one array per name of ``spec.weight_shapes()``, all of one type of ``FLOATS``.

    Raises:
        SourceError: a name is missing or unknown, a shape or type is wrong, or a value is not finite.
    """

    def __init__(self, spec: RNNSpec, arrays: Mapping[str, NDArray[np.floating]]) -> None:
        shapes = spec.weight_shapes()
        if missing := [name for name in shapes if name not in arrays]:
            raise SourceError(f"{spec} needs {missing[0]}, which is missing")
        if unknown := [name for name in arrays if name not in shapes]:
            raise SourceError(f"{spec} has no parameter {unknown[0]}")
        if len(types := {arrays[name].dtype.name for name in shapes}) > 1:
            raise SourceError(f"the weights mix {' and '.join(sorted(types))}", "Convert them to one type")
        if (found := types.pop()) not in FLOATS:
            raise SourceError(f"the weights are {found}", f"Convert them to one of {', '.join(FLOATS)}")
        self.spec = spec
        self._arrays: dict[str, NDArray[np.floating]] = {}
        for name, shape in shapes.items():
            array = np.asarray(arrays[name])
            array = array if _can_be_kept(array) else np.array(array, order="C")
            array = array.astype(array.dtype.newbyteorder("="), copy=False)
            if array.shape != shape:
                raise SourceError(f"{name} has shape {array.shape}, but {spec} needs {shape}")
            if not all(np.isfinite(block).all() for block in blocks(array)):
                raise SourceError(f"{name} holds NaN or infinity", "A network that diverged is not exported")
            array.flags.writeable = False
            self._arrays[name] = array
        self._no_bias = np.zeros(spec.hidden_size, self.dtype)
        self._no_bias.flags.writeable = False

    def __getitem__(self, name: str) -> NDArray[np.floating]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return self["weight_ih_l0"].dtype

    def converted(self, dtype: str) -> "Weights":
        """The network in another type, every weight rounded to nearest.

        Raises:
            SourceError: a weight is too large for the type.
        """
        return Weights(self.spec, {name: _converted(name, array, dtype) for name, array in self.items()})

    def cell(self, layer: int, direction: int) -> Cell:
        """The four arrays of one layer and direction; zeros where the network has no bias."""
        end = suffix(layer, direction)
        return Cell(
            self[f"weight_ih{end}"],
            self[f"weight_hh{end}"],
            self._arrays.get(f"bias_ih{end}", self._no_bias),
            self._arrays.get(f"bias_hh{end}", self._no_bias),
            self.spec.nonlinearity,
        )

    def single_matrix(self, layer: int, direction: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """matrix (H, I+H) = [W_ih | W_hh] and bias (H,) = b_ih + b_hh, added in the weights' own type.

        The cell is then ``h' = act([x, h] @ matrix.T + bias)``.
        """
        matrix, bias = self.joined_matrix(layer, direction)
        return np.asarray(matrix), bias

    def joined_matrix(self, layer: int, direction: int) -> tuple[Joined, NDArray[np.floating]]:
        """The same, with the matrix in its two parts: together they may be all that fits into memory."""
        cell = self.cell(layer, direction)
        return Joined((cell.weight_ih, cell.weight_hh), axis=1), cell.bias_ih + cell.bias_hh

    @classmethod
    def from_single_matrix(cls, spec: RNNSpec, arrays: Mapping[str, NDArray[np.floating]]) -> "Weights":
        """From ``matrix_l0`` (H, I+H) and ``bias_l0`` (H,), ...: the bias becomes bias_ih, bias_hh is zero.

        Raises:
            SourceError: a name is missing or unknown, or a shape does not fit the spec.
        """
        split: dict[str, NDArray[np.floating]] = {}
        expected = {f"{kind}{suffix(*cell)}" for cell in spec.cells() for kind in ("matrix", "bias")}
        unknown = sorted(set(arrays) - {name for name in expected if spec.bias or name.startswith("matrix")})
        if unknown:
            raise SourceError(f"{spec} in single-matrix form has no parameter {unknown[0]}")
        for layer, direction in spec.cells():
            end, width = suffix(layer, direction), spec.layer_input_size(layer)
            names = [f"matrix{end}"] + ([f"bias{end}"] if spec.bias else [])
            if missing := [name for name in names if name not in arrays]:
                raise SourceError(f"{spec} in single-matrix form needs {missing[0]}, which is missing")
            matrix = np.asarray(arrays[f"matrix{end}"])
            if matrix.shape != (spec.hidden_size, width + spec.hidden_size):
                needed = (spec.hidden_size, width + spec.hidden_size)
                raise SourceError(f"matrix{end} has shape {matrix.shape}, but {spec} needs {needed}")
            split[f"weight_ih{end}"], split[f"weight_hh{end}"] = matrix[:, :width], matrix[:, width:]
            if spec.bias:
                split[f"bias_ih{end}"] = arrays[f"bias{end}"]
                split[f"bias_hh{end}"] = np.zeros_like(arrays[f"bias{end}"])
        return cls(spec, split)

    @classmethod
    def random(cls, spec: RNNSpec, seed: int, dtype: str = "float32") -> "Weights":
        """Uniform in ±1/sqrt(H), as ``torch.nn.RNN`` starts, from numpy's generator instead of torch's."""
        values = sum(math.prod(shape) for shape in spec.weight_shapes().values())
        if values > RANDOM_LIMIT:
            raise SourceError(f"{spec} has {values:,} weights", f"Random ones are made up to {RANDOM_LIMIT:,}")
        generator = np.random.default_rng(seed)
        bound = spec.hidden_size**-0.5
        return cls(
            spec,
            {
                name: rounded(generator.uniform(-bound, bound, shape), dtype)
                for name, shape in spec.weight_shapes().items()
            },
        )


def _converted(name: str, array: NDArray[np.floating], dtype: str) -> NDArray[np.floating]:
    result = rounded(array, dtype)
    if not all(np.isfinite(block).all() for block in blocks(result)):
        raise SourceError(f"{name} reaches {np.abs(array).max():g}, which {dtype} cannot hold", "Choose a wider type")
    result.flags.writeable = False  # a large one is kept as it is then
    return result


def _can_be_kept(array: NDArray[np.floating]) -> bool:
    """Whether a large array needs no copy: nobody can write to it, and its rows are in order.

    A small one is copied always, so that it does not keep a whole file in memory.
    """
    if array.nbytes < BLOCK or array.ndim != 2 or not array.flags.aligned:
        return False
    if array.strides[1] != array.itemsize or array.strides[0] < array.shape[1] * array.itemsize:
        return False
    owner: object = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return True
