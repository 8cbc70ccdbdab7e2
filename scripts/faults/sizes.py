"""How small a fault is when its own residual, without any rounding, is a given number.

Computed in float64 on the exact trajectory: r is what the fault moves one step by, s the bound of
``rnn_export.residual``. Nothing here is read off a verdict, so that the verdict can be tested with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faults.nets import first_layers
from rnn_export.cases import Case
from rnn_export.oracle import activation, run_oracle
from rnn_export.rounding import FLOAT32, Chunk, Terms
from rnn_export.weights import Weights

GROSS = 0.1
RESIDUALS = (800, 80, 8)  # of a fault by itself; the gate is 4, and a correct run's own rounding takes up to 2
SIZES: dict[str, int | None] = {f"+ {GROSS}": None, **{f"residual of {residual}": residual for residual in RESIDUALS}}
HALVINGS = 50


@dataclass(frozen=True)
class Steps:
    """One layer in one direction on the exact trajectory, in float64.

    Attributes:
        x: (T, B, I), the layer's input.
        h: (T, B, H), the state one step before.
        z: (T, B, H), the argument of the activation.
        s: (T, B, H), the bound of one step's rounding.
        start: the index of the step that reads h_0.
    """

    nonlinearity: str
    weight_hh: NDArray[np.float64]
    x: NDArray[np.float64]
    h: NDArray[np.float64]
    z: NDArray[np.float64]
    s: NDArray[np.float64]
    start: int

    @classmethod
    def exact(cls, weights: Weights, case: Case, layer: int, direction: int) -> "Steps":
        spec, H = weights.spec, weights.spec.hidden_size
        rows = spec.num_directions * layer
        x = case.x.astype(np.float64)
        if layer:
            x = run_oracle(first_layers(weights, layer), case.x, case.h_0[:rows]).output
        above = rows + spec.num_directions
        states = run_oracle(first_layers(weights, layer + 1), case.x, case.h_0[:above]).output
        y = states[:, :, direction * H : (direction + 1) * H]
        h_0 = case.h_0[rows + direction][None].astype(np.float64)
        h = np.concatenate([y[1:], h_0] if direction else [h_0, y[:-1]])
        terms = Terms.of(weights.cell(layer, direction), FLOAT32)
        chunk = Chunk.of(terms, x, h, y)
        _, s, _ = terms.compare(chunk.z, chunk.w, y)
        return cls(spec.nonlinearity, terms.weight_hh, x, h, chunk.z, s, len(x) - 1 if direction else 0)

    def moved_unit(self, unit: int, dz: NDArray[np.float64] | float) -> float:
        """The largest r / s where the argument of one unit is off by dz (T, B)."""
        return self._moved(self.z[..., unit], dz, self.s[..., unit])

    def moved_state(self, row: int, unit: int, dh: float) -> float:
        """The largest r / s where one element of h_0 is off by dh."""
        return self._moved(self.z[self.start, row], dh * self.weight_hh[:, unit], self.s[self.start, row])

    def most_read_unit(self) -> int:
        """The unit of h whose weights into the others are largest."""
        return int(np.abs(self.weight_hh).sum(axis=0).argmax())

    def _moved(self, z: NDArray[np.float64], dz: NDArray[np.float64] | float, s: NDArray[np.float64]) -> float:
        r = np.abs(activation(self.nonlinearity, z + dz) - activation(self.nonlinearity, z))
        return float((r / s).max())


def smallest(effect: Callable[[float], float], residual: float, largest: float = GROSS) -> float | None:
    """The smallest size up to ``largest`` whose effect is at least that residual, or None where there is none."""
    if effect(largest) < residual:
        return None
    low, high = largest * 2.0**-HALVINGS, largest
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if effect(middle) >= residual else (middle, high)
    return high
