"""The float64 recurrence, ours, in numpy: the truth that end-to-end errors are measured against."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.weights import Weights


class Trajectory(NamedTuple):
    """What a network computes from one input, in float64."""

    output: NDArray[np.float64]  # (T, B, D*H), the last layer
    h_n: NDArray[np.float64]  # (L*D, B, H)


def activation(nonlinearity: str, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """tanh, relu or identity, with NaN kept as NaN."""
    if nonlinearity == "tanh":
        return np.tanh(z)
    return np.maximum(z, 0.0) if nonlinearity == "relu" else z


def run_oracle(weights: Weights, x: NDArray[np.floating], h_0: NDArray[np.floating]) -> Trajectory:
    """Run the whole network over x.

    Args:
        weights: of any type; they are widened to float64 exactly.
        x: (T, B, I), time-major whatever ``batch_first`` says.
        h_0: (L*D, B, H).
    """
    spec = weights.spec
    T, B, H = len(x), x.shape[1], spec.hidden_size
    layer_input = x.astype(np.float64)
    h_n = np.empty((spec.num_layers * spec.num_directions, B, H))
    with np.errstate(all="ignore"):  # overflow and NaN are inputs to judge, not accidents
        for layer in range(spec.num_layers):
            states = np.empty((T, B, spec.num_directions, H))
            for direction in range(spec.num_directions):
                cell = weights.cell(layer, direction)
                weight_ih, weight_hh = cell.weight_ih.astype(np.float64), cell.weight_hh.astype(np.float64)
                projected = layer_input @ weight_ih.T + (
                    cell.bias_ih.astype(np.float64) + cell.bias_hh.astype(np.float64)
                )
                index = layer * spec.num_directions + direction
                h = h_0[index].astype(np.float64)
                for t in reversed(range(T)) if direction else range(T):
                    h = activation(spec.nonlinearity, projected[t] + h @ weight_hh.T)
                    states[t, :, direction] = h
                h_n[index] = h
            layer_input = states.reshape(T, B, spec.num_directions * H)
    return Trajectory(layer_input, h_n)
