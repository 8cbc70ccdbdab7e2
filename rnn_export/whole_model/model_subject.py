"""What is verified of a whole model: its file, what both should compute, and inputs of other sizes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import onnx
from numpy.typing import NDArray
from torch import nn

from rnn_export.errors import ArtifactError, SourceError
from rnn_export.module import SingleMatrixRNN
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights
from rnn_export.whole_model.parts import Part, cells_of, constants_of, instrument
from rnn_export.whole_model.sizes import Inputs, inputs_of, tensors
from rnn_export.whole_model.truth import Expected, Truth, evaluating, without_effect


@dataclass(frozen=True)
class ModelCase:
    """One input, and what the model answers to it."""

    name: str
    feed: Mapping[str, NDArray[Any]]
    expected: Expected


@dataclass(frozen=True)
class ModelSubject:
    """The file and its instrumented copy, and what both should compute.

    Attributes:
        shipped, instrumented: folders with model.onnx, where nobody else writes.
        parts: the recurrent parts of the instrumented copy.
        constants: the values that no run puts out.
        networks: the torch model's recurrent networks by name.
        idle: the cells that no output depends on.
        cases: what is run.
        outputs: the names of the file's outputs, in order.
    """

    shipped: Path
    instrumented: Path
    parts: list[Part]
    constants: Mapping[str, NDArray[Any]]
    networks: Mapping[str, Weights]
    idle: frozenset[str]
    cases: list[ModelCase]
    outputs: list[str]

    @classmethod
    def of(cls, model: nn.Module, inputs: Any, dynamic_shapes: Any, file: onnx.ModelProto, scratch: Path) -> Self:
        """Run the model, in its own type and in float64, and write both files into ``scratch``.

        Raises:
            RnnExportError: see ``verify_model``.
        """
        networks = networks_of(model)
        with evaluating(model):
            given = inputs_of(model, inputs, dynamic_shapes)
            cases, idle = list(_cases(model, given, file)), _idle(model, networks, given)
        copy, parts = instrument(file)
        shipped, instrumented = scratch / "shipped", scratch / "instrumented"
        for folder, content in ((shipped, file), (instrumented, copy)):
            folder.mkdir()
            # As one file, whatever it was: torch writes the weights beside the model.
            (folder / "model.onnx").write_bytes(content.SerializeToString())
        outputs = [value.name for value in file.graph.output]
        return cls(shipped, instrumented, parts, constants_of(copy), networks, idle, cases, outputs)


def networks_of(model: nn.Module) -> dict[str, Weights]:
    """The weights of every nn.RNN and SingleMatrixRNN of the model, by the name that it has there.

    Raises:
        SourceError: weights that are neither float32 nor float64.
    """
    found: dict[str, Weights] = {}
    for name, module in model.named_modules():
        if isinstance(module, SingleMatrixRNN):
            found[name or type(module).__name__] = module.to_weights()
        elif isinstance(module, nn.RNN):
            names = ("input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first", "bidirectional")
            spec = RNNSpec(**{attribute: getattr(module, attribute) for attribute in names})
            # By attribute and not by parameter: weight_norm and its like compute a weight from others.
            arrays = {weight: getattr(module, weight).detach().cpu().numpy() for weight in spec.weight_shapes()}
            found[name or type(module).__name__] = Weights(spec, arrays)
    return found


def _cases(model: nn.Module, given: Inputs, file: onnx.ModelProto) -> Iterator[ModelCase]:
    constants = {tensor.name for tensor in file.graph.initializer}
    names = [value.name for value in file.graph.input if value.name not in constants]
    if len(names) != len(given.axes):
        raise ArtifactError(f"the file has the inputs {', '.join(names)}, but the model gets {len(given.axes)} tensors")
    truth, found, refused = Truth(model), 0, ""
    for seed, sizes in enumerate(given.others()):
        inputs = given.at(sizes, seed)
        case = " ".join(f"{name}={size}" for name, size in sizes.items())
        try:
            expected = truth.of(inputs)
        except SourceError:
            raise
        except Exception as error:  # whatever the model itself raises: a size that it cannot take is no finding
            refused = f"{case}: {type(error).__name__}: {error}"
            continue
        found += 1
        arrays = [tensor.detach().cpu().numpy() for tensor in tensors(inputs)]
        yield ModelCase(case, dict(zip(names, arrays, strict=True)), expected)
    if found < 2:
        raise SourceError(
            f"the model itself does not run at two other sizes than the example's: {refused}",
            "Give the inputs as a function of (T, B)",
        )


def _idle(model: nn.Module, networks: Mapping[str, Weights], given: Inputs) -> frozenset[str]:
    """The cells that no output depends on, such as a direction whose states are not used."""
    unused = {id(parameter) for parameter in without_effect(model, given.example)}
    modules = {name or type(module).__name__: module for name, module in model.named_modules()}
    return frozenset(
        name
        for name, (network, layer, direction) in cells_of(networks).items()
        if id(getattr(modules[network], f"weight_hh{suffix(layer, direction)}", None)) in unused
    )
