"""A runtime of our own: the recurrence as a float32 loop in numpy, in another arithmetic or with a wrong step.

The child process loads this file as it loads any runtime's. It reads the weights and not the model, and shows
every layer. The plan beside the weights says which input is computed how; every other one, the canary's
too, is computed in plain float32, correctly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faults.plan import Plan
from rnn_export.checkpoint import load_checkpoint
from rnn_export.precision import keep_bits
from rnn_export.runtimes import Run
from rnn_export.weights import Cell, Weights

Array = NDArray[Any]
Round = Callable[[Array], Array]


def _exact(values: Array) -> Array:
    return values


def _bits(count: int, nearest: bool = True) -> Round:
    rounded = keep_bits(count, nearest)
    return lambda values: rounded(values).astype(np.float32)


def _float16(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


def _int8(values: Array) -> Array:
    scale = np.abs(values).max() / np.float32(127)
    return np.round(values / scale) * scale if scale else values


def _hard(nonlinearity: str, z: Array) -> Array:
    return np.clip(z, -1, 1) if nonlinearity == "tanh" else np.where(z > 0, z, np.float32(0.01) * z)


def _coarse(nonlinearity: str, z: Array) -> Array:
    return _activation(nonlinearity, z) * np.float32(1 + 2.0**-11)


def _activation(nonlinearity: str, z: Array) -> Array:
    return np.tanh(z) if nonlinearity == "tanh" else np.maximum(z, 0)


@dataclass(frozen=True)
class Loop:
    """How the recurrence is computed.

    Attributes:
        operand, weight: how x, h and the matrices are rounded before they are multiplied.
        stored: how the state is rounded before the next step reads it.
        activation: what stands in for tanh and relu.
        forgets, stalls: the state is lost, or not updated, at the step in the middle.
    """

    operand: Round = _exact
    weight: Round = _exact
    stored: Round = _exact
    activation: Callable[[str, Array], Array] = _activation
    forgets: bool = False
    stalls: bool = False

    def states(self, cell: Cell, x: Array, h: Array, reverse: bool) -> Array:
        """(T, B, H) from x (T, B, I) and h (B, H)."""
        weight_ih, weight_hh = self.weight(cell.weight_ih), self.weight(cell.weight_hh)
        y = np.empty((*x.shape[:2], h.shape[1]), np.float32)
        middle = len(x) // 2
        for t in reversed(range(len(x))) if reverse else range(len(x)):
            if self.forgets and t == middle:
                h = np.zeros_like(h)
            z = self.operand(x[t]) @ weight_ih.T + self.operand(h) @ weight_hh.T + (cell.bias_ih + cell.bias_hh)
            if not (self.stalls and t == middle):
                h = self.stored(self.activation(cell.nonlinearity, z))
            y[t] = h
        return y


LOOPS = {
    "TF32 products": Loop(operand=_bits(10), weight=_bits(10)),
    "TF32 products, truncated": Loop(operand=_bits(10, nearest=False), weight=_bits(10, nearest=False)),
    "bfloat16 products": Loop(operand=_bits(7), weight=_bits(7)),
    "bfloat16 weights in the runtime": Loop(weight=_bits(7)),
    "int8 weights in the runtime": Loop(weight=_int8),
    "state stored as float16": Loop(stored=_float16),
    "everything in float16": Loop(operand=_float16, weight=_float16, stored=_float16),
    "activation of 11 bits": Loop(activation=_coarse),
    "hard tanh, leaky relu": Loop(activation=_hard),
    "state lost in the loop": Loop(forgets=True),
    "state not updated in the loop": Loop(stalls=True),
}


def prepare(folder: Path) -> Run:
    weights, plan = load_checkpoint(folder / "weights.safetensors").weights, Plan.read(folder)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        lie = plan.lie_for(inputs)
        return _run(weights, LOOPS[lie.name] if lie else Loop(), inputs["input"], inputs["h_0"])

    return run


def _run(weights: Weights, loop: Loop, x: Array, h_0: Array) -> dict[str, Array]:
    spec, answers, last = weights.spec, {}, []
    sequence = x.swapaxes(0, 1) if spec.batch_first else x
    for layer in range(spec.num_layers):
        parts = []
        for direction in range(spec.num_directions):
            start = h_0[layer * spec.num_directions + direction]
            parts.append(loop.states(weights.cell(layer, direction), sequence, start, direction == 1))
            last.append(parts[-1][0 if direction else -1])
        sequence = answers[f"layer_{layer}"] = np.concatenate(parts, axis=-1)
    output = np.ascontiguousarray(sequence.swapaxes(0, 1)) if spec.batch_first else sequence
    return {"output": output, "h_n": np.stack(last), **answers}
