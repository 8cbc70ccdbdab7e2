"""Correct runs, which nothing may reject: every form and option, and inputs from 1e-30 to 1e30."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from faults.trials import EMULATED, ONNX_RUNTIME, TORCH, Trial
from rnn_export.cases import Case
from rnn_export.forms import draw
from rnn_export.pipeline import DEFAULT_OPSET
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

CASES = 12  # inputs per network
SCALES = (1e-30, 1e-10, 1.0, 1e10, 1e30)
GAINS = (0.5, 1.0, 1.5, 3.0)  # tanh is chaotic from about 1.5; relu grows from 1.4, until it overflows
WEIGHTS = ("normal", "uniform", "constant", "positive", "sparse")
LONGEST, MOST_ROWS = 2000, 8
LARGEST, LARGEST_WHEN_LONG, LONG = 160, 24, 300  # hidden_size: the oracle is a loop in numpy
MODULE_EVERY = 18  # torch's exporter takes seconds
RUNTIMES = (ONNX_RUNTIME, ONNX_RUNTIME, TORCH, ONNX_RUNTIME, ONNX_RUNTIME, EMULATED)
NAMES = {ONNX_RUNTIME.name: "ONNX Runtime", TORCH.name: "torch", EMULATED.name: "a loop in numpy"}


def correct_trials(count: int, seed: int) -> Iterator[Trial]:
    """Networks with ``CASES`` inputs each until there are ``count`` runs."""
    for number in range((count + CASES - 1) // CASES):
        yield _trial(number, min(CASES, count - number * CASES), np.random.default_rng([seed, number]))


def _trial(number: int, count: int, generator: np.random.Generator) -> Trial:
    runtime, form = RUNTIMES[number % len(RUNTIMES)], ("scan", "rnn")[number // 2 % 2]
    if number % MODULE_EVERY == MODULE_EVERY - len(RUNTIMES):
        form = "module"
    long = bool(generator.integers(2))
    spec = RNNSpec(
        input_size=_size(generator, 64),
        hidden_size=_size(generator, LARGEST_WHEN_LONG if long else LARGEST),
        num_layers=int(generator.integers(1, 4)),
        nonlinearity=str(generator.choice(["tanh", "relu"])),
        bias=bool(generator.integers(4)),
        batch_first=bool(generator.integers(2)),
        bidirectional=bool(generator.integers(2)),
    )
    kind, gain = WEIGHTS[number % len(WEIGHTS)], float(generator.choice(GAINS))
    shapes = spec.weight_shapes().items()
    arrays = {name: _array(name, kind, gain, shape, generator) for name, shape in shapes}
    if number % 3 == 0:
        arrays |= {name: np.zeros_like(array) for name, array in arrays.items() if name.startswith("bias")}
    if form == "rnn" and spec.nonlinearity == "relu":
        # What overflows becomes NaN, which ONNX Runtime's RNN operator swallows in relu: a documented divergence.
        arrays |= {name: _contracting(array) for name, array in arrays.items() if name.startswith("weight_hh")}
    weights = Weights(spec, arrays)
    cases = list(islice(_cases(spec, LONGEST if long else LONG, generator), count))
    words = f"correct, {NAMES[runtime.name]}"
    name = f"correct {number}: {spec}, {kind} weights of gain {gain:g}, form {form}"
    model = draw(form, weights, DEFAULT_OPSET)
    return Trial(name, weights, form, model, runtime, [(words, "", case) for case in cases], {})


def _contracting(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same with no row sum above 1: no state grows."""
    largest = np.abs(matrix).sum(axis=1).max(initial=1)
    return (matrix / largest).astype(np.float32)


def _cases(spec: RNNSpec, longest: int, generator: np.random.Generator) -> Iterator[Case]:
    """The longest first, then any length; the scales in turn; h_0 is zero in one of four."""
    for number in range(CASES):
        T, B = longest if number == 0 else _size(generator, longest), int(generator.integers(1, MOST_ROWS + 1))
        if number == 1:
            T = 2  # a recurrence that acts, whatever else is drawn
        scale = SCALES[number % len(SCALES)]
        x = generator.standard_normal((T, B, spec.input_size)) * scale
        h_0 = generator.uniform(-1, 1, (len(spec.cells()), B, spec.hidden_size)) * (number % 4 != 3)
        yield Case(f"{number} T={T} B={B} x{scale:g}", x.astype(np.float32), h_0.astype(np.float32))


def _size(generator: np.random.Generator, largest: int) -> int:
    """1 to largest, log-uniform."""
    return int(largest ** generator.random() + 0.5)


def _array(
    name: str, kind: str, gain: float, shape: tuple[int, ...], generator: np.random.Generator
) -> NDArray[np.float32]:
    """A bias, or a matrix whose largest eigenvalue is about ``gain``."""
    width = shape[-1]
    if name.startswith("bias"):
        return generator.normal(0, 0.2, shape).astype(np.float32)
    matrix = {
        "normal": lambda: generator.normal(0, gain * width**-0.5, shape),
        "uniform": lambda: generator.uniform(-gain, gain, shape) * (3 / width) ** 0.5,
        "constant": lambda: np.full(shape, gain / width),
        "positive": lambda: generator.uniform(0, 2 * gain / width, shape),
        "sparse": lambda: generator.normal(0, gain * (0.2 * width) ** -0.5, shape) * (generator.random(shape) < 0.2),
    }[kind]()
    return matrix.astype(np.float32)
