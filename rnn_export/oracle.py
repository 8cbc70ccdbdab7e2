"""The float64 recurrence, ours, in numpy: the truth that end-to-end errors are measured against."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.memo import Memo
from rnn_export.quantised_state import quantised_state
from rnn_export.sequences import Sequence, empty_sequence, stretches
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights

WIDE_ELEMENTS = 2**22  # a matrix of up to 32 MiB in float64 is widened once
BLOCK_ELEMENTS = 2**18  # 2 MiB in float64, which stays in cache between its making and its use


class Trajectory(NamedTuple):
    """What a network computes from one input, in float64."""

    output: Sequence  # (T, B, D*H), the last layer; an array unless it is long
    h_n: NDArray[np.float64]  # (L*D, B, H)


def activation(nonlinearity: str, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """tanh, relu or identity, with NaN kept as NaN."""
    if nonlinearity == "tanh":
        return np.tanh(z)
    return np.maximum(z, 0.0) if nonlinearity == "relu" else z


class _Wide:
    """A matrix (R, C) in float64; a large one is widened block by block at every product, and in cache stays fast."""

    def __init__(self, matrix: NDArray[np.floating]) -> None:
        rows = max(1, BLOCK_ELEMENTS // matrix.shape[1])
        self._blocks: list[NDArray[np.floating]] = [
            matrix[start : start + rows] for start in range(0, len(matrix), rows)
        ]
        self._turned = matrix.astype(np.float64).T if matrix.size <= WIDE_ELEMENTS else None

    def times(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """x (..., C) @ matrix.T, (..., R)."""
        if self._turned is not None:
            return x @ self._turned
        parts = [x @ block.astype(np.float64, copy=False).T for block in self._blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _widen(arrays: tuple[NDArray[np.floating], ...]) -> tuple[_Wide, _Wide, NDArray[np.float64]]:
    """weight_ih, weight_hh and the sum of both biases (H,)."""
    weight_ih, weight_hh, bias_ih, bias_hh = arrays
    return _Wide(weight_ih), _Wide(weight_hh), bias_ih.astype(np.float64) + bias_hh.astype(np.float64)


_WIDENED = Memo(_widen)


def valid_steps(T: int, B: int, lengths: NDArray[np.integer] | None) -> NDArray[np.bool_]:
    """(T, B): whether a step lies inside its sequence."""
    if lengths is None:
        return np.ones((T, B), np.bool_)
    return np.arange(T)[:, None] < lengths[None, :]


def run_oracle(
    weights: Weights,
    x: NDArray[np.floating],
    h_0: NDArray[np.floating],
    lengths: NDArray[np.integer] | None = None,
    multiplied: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda h: h,
) -> Trajectory:
    """Run the whole network over x.

    Args:
        weights: of any type; they are widened to float64 exactly.
        x: (T, B, I), time-major whatever ``batch_first`` says.
        h_0: (L*D, B, H).
        lengths: (B,), each in 1..T; as torch's packed sequences: output is 0 past a sequence's end, h_n is
            the state at its end, and the reverse direction starts there. All T if absent.
        multiplied: what of a state (B, H) is multiplied by weight_hh, where that is not the state itself.

    It goes through time in stretches, so that a long input takes no more memory than a short one.
    """
    spec = weights.spec
    T, B, H = len(x), x.shape[1], spec.hidden_size
    layer_input: Sequence = x
    width = max(x.shape[2], spec.num_directions * H)
    inside = valid_steps(T, B, lengths)[..., None]  # (T, B, 1)
    h_n = np.empty((spec.num_layers * spec.num_directions, B, H))
    with np.errstate(all="ignore"):  # overflow and NaN are inputs to judge, not accidents
        for layer in range(spec.num_layers):
            states = empty_sequence((T, B, spec.num_directions * H))
            for direction in range(spec.num_directions):
                weight_ih, weight_hh, bias = _WIDENED(weights.cell(layer, direction)[:4])
                index = layer * spec.num_directions + direction
                h = h_0[index].astype(np.float64)
                for steps in stretches(T, B * width)[:: -1 if direction else 1]:
                    # Of each step the projected input first, and then its state.
                    found, valid = weight_ih.times(layer_input[steps].astype(np.float64)) + bias, inside[steps]
                    for t in range(len(found))[:: -1 if direction else 1]:
                        z = found[t]
                        z += weight_hh.times(multiplied(h))
                        following = activation(spec.nonlinearity, z)
                        h = following if lengths is None else np.where(valid[t], following, h)
                        found[t] = h if lengths is None else np.where(valid[t], h, 0.0)
                    stretch = states[steps]
                    stretch[:, :, direction * H : (direction + 1) * H] = found
                    states[steps] = stretch
                h_n[index] = h
            layer_input = states
    return Trajectory(layer_input, h_n)


class _CellInput:
    """[x_t, h_(t-1)] (T, B, I+H), joined a stretch of steps at a time; zeros past a sequence's end."""

    def __init__(
        self, x: Sequence, h_0: NDArray[np.floating], output: NDArray[np.floating], lengths: NDArray[np.integer] | None
    ) -> None:
        T, B, H = output.shape
        self.shape: tuple[int, int, int] = (T, B, x.shape[2] + H)
        self._x, self._h_0, self._output = x, h_0, output
        self._inside = valid_steps(T, B, lengths)[..., None]  # (T, B, 1)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, steps: slice, /) -> NDArray[np.floating]:
        start, stop, stride = steps.indices(len(self))
        if stride != 1:
            raise ValueError("only consecutive steps are read")
        I = self._x.shape[2]  # noqa: E741
        stretch = np.empty((max(0, stop - start), *self.shape[1:]), self._output.dtype)
        stretch[..., :I] = self._x[start:stop]
        stretch[1:, :, I:] = self._output[start : max(start, stop - 1)]
        stretch[:1, :, I:] = self._output[start - 1] if start else self._h_0[0]
        return np.where(self._inside[start:stop], stretch, stretch.dtype.type(0))


def head_input(
    head: Head,
    spec: RNNSpec,
    x: NDArray[np.floating],
    h_0: NDArray[np.floating],
    output: NDArray[np.floating],
    lengths: NDArray[np.integer] | None = None,
) -> Sequence:
    """What a head reads: the output (T, B, D*H), or [x_t, h_(t-1)] (T, B, I+H), zeros past a sequence's end.

    The second is joined where it is read, a stretch at a time: a long sequence is never held twice.

    Args:
        head: the Linear.
        spec: the network that it belongs to.
        x: (T, B, I).
        h_0: (L*D, B, H).
        output: (T, B, D*H), already zeros past a sequence's end.
        lengths: (B,), each in 1..T; all T if absent.
    """
    if head.weight.shape[1] == spec.num_directions * spec.hidden_size:
        return output
    return _CellInput(x, h_0, output, lengths)


def state_rounding_error(
    weights: Weights,
    head: Head | None,
    x: NDArray[np.floating],
    h_0: NDArray[np.floating],
    lengths: NDArray[np.integer] | None = None,
) -> float:
    """How far output, h_n and prediction are off, at most, where each state is rounded to 8 bits to be multiplied.

    Args:
        weights, head: of the network.
        x, h_0, lengths: see ``run_oracle``.
    """
    exact = run_oracle(weights, x, h_0, lengths)
    rounded = run_oracle(weights, x, h_0, lengths, lambda h: quantised_state(h).values)
    pairs = [(exact.output[:], rounded.output[:]), (exact.h_n, rounded.h_n)]
    if head is not None:
        read = [head_input(head, weights.spec, x, h_0, run.output[:], lengths)[:] for run in (exact, rounded)]
        pairs.append((read[0] @ head.weight.T, read[1] @ head.weight.T))
    return max(float(np.abs(one - other).max(initial=0.0)) for one, other in pairs)
