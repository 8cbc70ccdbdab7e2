"""The networks that faults are planted in: calm to chaotic, small to large, with every option of torch's."""

from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from rnn_export.cases import Case, Check, input_of_kind
from rnn_export.forms import draw
from rnn_export.pipeline import DEFAULT_OPSET
from rnn_export.spec import RNNSpec, parse_spec
from rnn_export.weights import Weights

BIAS = 0.1  # the size of the biases


@dataclass(frozen=True)
class Net:
    """A network, the form that it is drawn in, and the size of its inputs.

    Attributes:
        gain: the size of the eigenvalues of W_hh; tanh networks are chaotic from about 1.5, relu ones grow from 1.4.
    """

    name: str
    weights: Weights
    form: str
    gain: float
    T: int
    B: int

    @property
    def spec(self) -> RNNSpec:
        return self.weights.spec

    def case(self, name: str, kind: str = "normal") -> Case:
        """An input of that kind, of its own for every name."""
        generator = np.random.default_rng(list(f"{self.name} {name}".encode()))
        x = input_of_kind(kind, (self.T, self.B, self.spec.input_size), generator)
        rows = self.spec.num_layers * self.spec.num_directions
        h_0 = generator.uniform(-1, 1, (rows, self.B, self.spec.hidden_size))
        check = Check.MASKS if kind == "nan" else Check.STEPS
        return Case(name, x.astype(np.float32), h_0.astype(np.float32), check)

    def model(self) -> onnx.ModelProto:
        """The correct file."""
        return draw(self.form, self.weights, DEFAULT_OPSET)


# spec, form, gain, T, B
DESIGNS = [
    ("rnn:4,8", "scan", 0.9, 7, 3),
    ("rnn:1,4,relu", "rnn", 0.9, 12, 2),
    ("rnn:28,256", "scan", 3.0, 100, 2),
    ("rnn:16,32,relu,layers=2", "scan", 1.0, 20, 3),
    ("rnn:64,64,bidirectional", "rnn", 1.0, 25, 2),
    ("rnn:8,16,no-bias", "scan", 1.5, 30, 4),
    ("rnn:12,48,layers=2,bidirectional", "rnn", 2.0, 80, 2),
    ("rnn:5,12,relu,bidirectional,layers=3", "scan", 0.9, 17, 2),
    ("rnn:8,64", "rnn", 3.0, 60, 3),
    ("rnn:2,8,bidirectional,batch-first", "scan", 1.0, 2, 3),
    ("rnn:3,24,layers=3,batch-first", "rnn", 1.5, 40, 2),
    ("rnn:32,128,relu", "rnn", 1.2, 50, 2),
    ("rnn:16,16,batch-first", "module", 1.5, 33, 3),
    ("rnn:7,20,relu,no-bias,layers=2", "rnn", 1.0, 9, 3),
    ("rnn:6,40,layers=3,bidirectional,no-bias", "scan", 1.5, 64, 2),
    ("rnn:10,30,relu,bidirectional", "module", 1.0, 15, 2),
]


def nets(count: int, seed: int) -> list[Net]:
    """The first ``count`` designs, and the same again with other weights where there are not so many."""
    return [_net(number, seed) for number in range(count)]


def _net(number: int, seed: int) -> Net:
    text, form, gain, T, B = DESIGNS[number % len(DESIGNS)]
    spec, _ = parse_spec(text)
    generator = np.random.default_rng([seed, number])
    weights = Weights(
        spec, {name: _array(name, shape, gain, generator) for name, shape in spec.weight_shapes().items()}
    )
    return Net(f"{number} {text}", weights, form, gain, T, B)


def _array(name: str, shape: tuple[int, ...], gain: float, generator: np.random.Generator) -> NDArray[np.float32]:
    if name.startswith("bias"):
        return generator.normal(0, BIAS, shape).astype(np.float32)
    size = (gain if name.startswith("weight_hh") else 1.0) * shape[1] ** -0.5
    return generator.normal(0, size, shape).astype(np.float32)


def first_layers(weights: Weights, count: int) -> Weights:
    """The network without the layers above the first ``count``."""
    spec = replace(weights.spec, num_layers=count)
    return Weights(spec, {name: weights[name] for name in spec.weight_shapes()})
