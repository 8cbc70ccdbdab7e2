"""Correct and faulty runs in float16, bfloat16 and float64, judged in the type's own unit roundoff.

    python scripts/judge_types.py [--nets 40] [--seed 0]

prints two tables: the largest residual of the correct runs of every runtime, and the share of planted faults that is
rejected. A fault exceeds the rounding where the same network in float64, without any rounding to the type, has a
residual of 8 or more: each of those must be rejected. The exit code is 1 where one is not, or a correct run is.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnn_export.checkpoint import save_weights
from rnn_export.element_types import BFLOAT16, BITS, from_bits
from rnn_export.forms import FORMS, draw
from rnn_export.oracle import run_oracle
from rnn_export.residual import GATE, step_residual
from rnn_export.rounding import ARITHMETICS
from rnn_export.runtimes import RUNTIMES, Run
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

TYPES = ("float64", "float16", "bfloat16")
RUNTIMES_AND_FORMS = (
    ("torch", "scan"),
    ("onnxruntime-cpu", "scan"),
    ("onnxruntime-cpu", "rnn"),
    ("onnx-reference", "scan"),
    ("onnx-reference", "rnn"),
)
OPSET = 22  # the first in which both forms take bfloat16
EXCEEDS = 8.0
SCALES = {
    "float64": (1e-30, 1.0, 1e30),
    "bfloat16": (1e-30, 1e-3, 1.0, 10.0, 1e30),
    "float16": (1e-6, 1e-3, 1.0, 300.0),
}
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Given:
    """One network of one layer, and what it reads: x (T, B, I), h_0 (1, B, H)."""

    weights: Weights
    x: Array
    h_0: Array


def given(number: int, seed: int, dtype: str, nonlinearity: str) -> Given:
    """A network of any size, calm to chaotic, with inputs of one of the type's scales."""
    generator = np.random.default_rng([seed, number])
    I, H, T = (int(largest ** generator.random() + 0.5) for largest in (256, 256, 60))  # noqa: E741
    B, gain = int(generator.integers(1, 5)), float(generator.choice([0.5, 1.0, 1.5, 3.0]))
    spec = RNNSpec(I, H, nonlinearity=nonlinearity)
    gain = min(gain, 1.0) if nonlinearity == "relu" else gain  # or the states grow until they overflow
    kind = number % 4

    def matrix(shape: tuple[int, ...]) -> Array:
        width = shape[-1]
        if len(shape) == 1:
            return generator.normal(0, 0.2, shape)
        if kind == 3:
            return np.full(shape, gain / width)
        values = generator.normal(0, gain * width**-0.5, shape)
        return values if kind < 2 else np.abs(values) * width**-0.5

    scale = SCALES[dtype][number // 2 % len(SCALES[dtype])]
    arrays = {name: matrix(shape).astype(dtype) for name, shape in spec.weight_shapes().items()}
    h_0 = generator.uniform(-1, 1, (1, B, H)) * (number % 4 != 3)
    x = generator.standard_normal((T, B, I)) * scale
    return Given(Weights(spec, arrays), x.astype(dtype), h_0.astype(dtype))


def prepared(weights: Weights, runtime: str, form: str, scratch: Path) -> Run | None:
    """The network in that runtime, in this process; None where it has no kernel for it."""
    if (FORMS.get(form).product, weights.dtype.name) in RUNTIMES.get(runtime).lacks:
        return None
    (scratch / "model.onnx").write_bytes(draw(form, weights, OPSET).SerializeToString())
    save_weights(scratch / "weights.safetensors", weights)
    return RUNTIMES.get(runtime).prepare(scratch)


def answered(run: Run, x: Array, h_0: Array) -> Array:
    """output (T, B, H)."""
    if x.dtype == BFLOAT16:
        x, h_0 = x.view(BITS), h_0.view(BITS)
    with np.errstate(all="ignore"):
        return from_bits(np.asarray(run({"input": x, "h_0": h_0})["output"]))


def residual(asked: Given, y: Array) -> float:
    """The largest q of an answer, in the type of the network, whatever the type of y."""
    arithmetic = ARITHMETICS[asked.weights.dtype.name]
    return step_residual(asked.weights.cell(0, 0), asked.x, asked.h_0[0], y, arithmetic=arithmetic).max_q


def edited(asked: Given, name: str, change: Callable[[Array], Array]) -> Given:
    arrays = dict(asked.weights.items())
    arrays[name] = np.ascontiguousarray(change(arrays[name])).astype(arrays[name].dtype)
    return replace(asked, weights=Weights(asked.weights.spec, arrays))


def other_activation(asked: Given) -> Given:
    spec = asked.weights.spec
    other = replace(spec, nonlinearity="relu" if spec.nonlinearity == "tanh" else "tanh")
    return replace(asked, weights=Weights(other, asked.weights))


def first_bias(size: float) -> Callable[[Given], Given]:
    def change(bias: Array) -> Array:
        moved = bias.astype(np.float64)
        moved[0] += size
        return moved

    return lambda asked: edited(asked, "bias_ih_l0", change)


FAULTS: dict[str, Callable[[Given], Given]] = {
    "W_hh transposed": lambda asked: edited(asked, "weight_hh_l0", np.transpose),
    "W_hh dropped": lambda asked: edited(asked, "weight_hh_l0", np.zeros_like),
    "rows of W_ih reversed": lambda asked: edited(asked, "weight_ih_l0", np.flipud),
    "b_ih dropped": lambda asked: edited(asked, "bias_ih_l0", np.zeros_like),
    "one bias + 1": first_bias(1.0),
    "one bias + 0.1": first_bias(0.1),
    "one bias + 0.01": first_bias(0.01),
    "activation exchanged": other_activation,
    "h_0 ignored": lambda asked: replace(asked, h_0=np.zeros_like(asked.h_0)),
    "input off by one step": lambda asked: replace(asked, x=np.roll(asked.x, 1, axis=0)),
    "rows mixed": lambda asked: replace(asked, x=np.roll(asked.x, 1, axis=1)),
}


def correct_rows(dtype: str, count: int, seed: int, scratch: Path) -> Iterator[tuple[str, list[float]]]:
    """(runtime and form, the largest q of each correct run)."""
    for runtime, form in RUNTIMES_AND_FORMS:
        # the onnx package's RNN operator has no relu
        kinds = ("tanh",) if (runtime, form) == ("onnx-reference", "rnn") else ("tanh", "relu")
        found = []
        for number in range(count):
            asked = given(number, seed, dtype, kinds[number % len(kinds)])
            if (run := prepared(asked.weights, runtime, form, scratch)) is not None:
                found.append(residual(asked, answered(run, asked.x, asked.h_0)))
        yield f"{runtime}, {form}" if runtime != "torch" else runtime, found


def fault_rows(dtype: str, count: int, seed: int, scratch: Path) -> Iterator[tuple[str, list[tuple[bool, bool]]]]:
    """(fault, whether each run exceeds the type's rounding, and whether it was rejected)."""
    runtime = "torch" if dtype == "bfloat16" else "onnxruntime-cpu"
    for name, fault in FAULTS.items():
        outcomes = []
        for number in range(count):
            asked = given(number, seed, dtype, ("tanh", "relu")[number % 2])
            wrong = fault(asked)
            run = prepared(wrong.weights, runtime, "scan", scratch)
            assert run is not None
            exact = residual(asked, run_oracle(wrong.weights, wrong.x, wrong.h_0).output)
            found = residual(asked, answered(run, wrong.x, wrong.h_0))
            outcomes.append((exact >= EXCEEDS, found > GATE))
        yield name, outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=40, metavar="N", help="networks for every row")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="judge-types-") as folder:
        mistakes = report_correct(options.nets, options.seed, Path(folder))
        mistakes += report_faults(options.nets, options.seed, Path(folder))
    return 1 if mistakes else 0


def report_correct(count: int, seed: int, scratch: Path) -> int:
    """Print the first table; the number of correct runs that were rejected."""
    print(f"{'correct runs':<36} {'runs':>5} {'rejected':>9} {'median q':>9} {'largest q':>10}")
    mistakes = 0
    for dtype in TYPES:
        for name, found in correct_rows(dtype, count, seed, scratch):
            rejected = sum(not q <= GATE for q in found)
            mistakes += rejected
            numbers = f"{np.median(found):>9.2f} {max(found):>10.2f}" if found else "   no kernel"
            print(f"{f'{dtype}, {name}':<36} {len(found):>5} {rejected:>9} {numbers}", flush=True)
    return mistakes


def report_faults(count: int, seed: int, scratch: Path) -> int:
    """Print the second table; the number of faults beyond the rounding that were accepted."""
    print(f"\n{'planted faults':<36} {'runs':>5} {'exceed':>7} {'of them rejected':>17} {'others rejected':>16}")
    mistakes = 0
    for dtype in TYPES:
        for name, outcomes in fault_rows(dtype, count, seed, scratch):
            exceeding = [rejected for exceeds, rejected in outcomes if exceeds]
            others = sum(rejected for exceeds, rejected in outcomes if not exceeds)
            mistakes += len(exceeding) - sum(exceeding)
            numbers = f"{len(outcomes):>5} {len(exceeding):>7} {sum(exceeding):>17} {others:>16}"
            print(f"{f'{dtype}, {name}':<36} {numbers}", flush=True)
    return mistakes


if __name__ == "__main__":
    sys.exit(main())
