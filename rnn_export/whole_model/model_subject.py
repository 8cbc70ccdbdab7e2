"""What is verified of a whole model: its file, what both should compute, and inputs of other sizes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import onnx
from numpy.typing import NDArray
from torch import nn

from rnn_export.errors import ArtifactError, SourceError
from rnn_export.forms._external import lending_data, write_model
from rnn_export.spec import suffix
from rnn_export.weights import Weights
from rnn_export.whole_model.dynamic_axes import inputs_of
from rnn_export.whole_model.networks import networks_of
from rnn_export.whole_model.recognition import ModelCell, cells_of
from rnn_export.whole_model.recurrent_nodes import RecurrentNode, initializers_of, show_nodes
from rnn_export.whole_model.repeatability import check_repeatable
from rnn_export.whole_model.sizes import Inputs, tensors
from rnn_export.whole_model.truth import Expected, Truth, evaluating


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
        shipped, instrumented: folders with model.onnx, where nobody else writes; see ``showing_nodes``.
        nodes: the recurrent nodes of the instrumented copy.
        constants: the values that no run puts out.
        networks: the torch model's recurrent networks by name.
        cells: the cells of all of them by name.
        unproved: the cells that the file need not hold, see ``_need_no_proof``.
        cases: what is run.
        outputs: the names of the file's outputs, in order.
        is_static: whether the file declares every axis of its inputs as a number.
    """

    shipped: Path
    instrumented: Path
    nodes: list[RecurrentNode]
    constants: Mapping[str, NDArray[Any]]
    networks: Mapping[str, Weights]
    cells: Mapping[str, ModelCell]
    unproved: frozenset[str]
    cases: list[ModelCase]
    outputs: list[str]
    is_static: bool

    @classmethod
    def of(cls, model: nn.Module, inputs: Any, dynamic_shapes: Any, file: onnx.ModelProto, scratch: Path) -> Self:
        """Run the model, in its own type and in float64, and write both files into ``scratch``.

        Raises:
            RnnExportError: see ``verify_model``.
        """
        networks = networks_of(model)
        cells = cells_of(networks)
        with evaluating(model):
            given = inputs_of(model, inputs, dynamic_shapes)
            check_repeatable(model, given.example)
            truth = Truth(model)
            cases = list(_cases(truth, given, file))
            unproved = _need_no_proof(cells, truth.parameters, truth.without_effect(given.example))
        shipped, instrumented = scratch / "shipped", scratch / "instrumented"
        for folder in (shipped, instrumented):
            folder.mkdir()
        write_model(shipped, file)  # first of all: what is large lies beside it, and no message must hold it again
        copy, nodes = show_nodes(file)
        write_model(instrumented, copy)
        constants, outputs = initializers_of(copy, shipped), [value.name for value in file.graph.output]
        return cls(shipped, instrumented, nodes, constants, networks, cells, unproved, cases, outputs, _is_static(file))

    @contextmanager
    def showing_nodes(self) -> Iterator[Path]:
        """The folder of the instrumented copy, with the weights that lie beside the file lent to it meanwhile."""
        with lending_data(self.shipped, self.instrumented):
            yield self.instrumented


def _inputs_of(file: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Without the constants, which older files list among the inputs."""
    constants = {tensor.name for tensor in file.graph.initializer}
    return [value for value in file.graph.input if value.name not in constants]


def _is_static(file: onnx.ModelProto) -> bool:
    types = [value.type.tensor_type for value in _inputs_of(file)]
    return all(one.HasField("shape") and all(dim.HasField("dim_value") for dim in one.shape.dim) for one in types)


def _cases(truth: Truth, given: Inputs, file: onnx.ModelProto) -> Iterator[ModelCase]:
    names = [value.name for value in _inputs_of(file)]
    if len(names) != len(given.axes):
        raise ArtifactError(f"the file has the inputs {', '.join(names)}, but the model gets {len(given.axes)} tensors")
    found, refused = 0, ""
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


def _need_no_proof(cells: Mapping[str, ModelCell], parameters: set[str], without_effect: set[str]) -> frozenset[str]:
    """The cells that the file need not hold bit for bit.

    No output depends on them, such as a direction whose states are not used; or their weights are computed from
    others, as weight_norm does, and the runtime rounds that in its own way: the outputs judge it.
    """

    def names(cell: ModelCell) -> list[set[str]]:
        path, end = cell.network and f"{cell.network}.", suffix(cell.layer, cell.direction)
        return [{f"{path}weight_ih{end}", f"{path}weight_hh{end}"}, {f"{path}matrix{end}"}]

    return frozenset(
        name
        for name, cell in cells.items()
        if not any(own <= parameters for own in names(cell)) or any(own & without_effect for own in names(cell))
    )
