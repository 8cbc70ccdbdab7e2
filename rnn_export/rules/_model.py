"""What the rules look at: one model of a repository, read but not yet run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rnn_export.onnxruntime_releases import Release

ONNX, PYTHON, ENSEMBLE = "onnxruntime", "python", "ensemble"
DEFAULT_FILES = {ONNX: "model.onnx", PYTHON: "model.py"}  # what a backend loads where the configuration names nothing
START = 0  # CONTROL_SEQUENCE_START
DEFAULT_MAX_BATCH = 4  # Triton's default-max-batch-size, for a configuration that it completes


class Value(NamedTuple):
    """An input or output of the graph.

    Attributes:
        data_type: as a configuration says it, such as TYPE_FP32; empty where Triton has no such type.
        dims: its shape, -1 where it is dynamic.
        axes: the same as the file calls them, such as ("T", "B", "8").
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    axes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} [{', '.join(self.axes)}]"

    @property
    def may_batch(self) -> bool:
        """Whether axis 0 is dynamic, as Triton asks of every input and output of a model that batches."""
        return bool(self.dims) and self.dims[0] == -1


@dataclass(frozen=True)
class Graph:
    """What an ONNX file declares."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opset: int
    ir_version: int


class Trial(NamedTuple):
    """What running the file showed; each in words, empty where there is nothing to say.

    Attributes:
        unproved: why it could not be run, or shows nothing.
        mixed: how one row of the batch reaches another, or that axis 0 is no batch at all.
        frozen: which size of the traced example is left in it.
        ignored: which end of the inputs has no effect.
    """

    unproved: str = ""
    mixed: str = ""
    frozen: str = ""
    ignored: str = ""


@dataclass(frozen=True)
class Model:
    """One model of a repository.

    Attributes:
        name: of its folder.
        folder: the folder.
        config: its configuration, None where there is no config.pbtxt.
        backend: what runs it: "onnxruntime", "python", "ensemble" or another; empty where nobody can tell.
        version: the name of the folder of the version that is checked; empty where there is none.
        file: the model file of that version, None where there is none.
        graph: what the file declares; None where it is no ONNX file that the server runs as it is.
        release: of Triton, None where none was named.
        problems: what could not be read, and why.
        notes: what is to be known of what was read.
        trial: runs the file, at the first call.
    """

    name: str
    folder: Path
    config: Any
    backend: str
    version: str
    file: Path | None
    graph: Graph | None
    release: Release | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    trial: Callable[[], Trial]

    @property
    def place(self) -> str:
        """For messages: the model, and its version where there is one."""
        return f"{self.name}/{self.version}" if self.version else self.name

    @property
    def config_file(self) -> str:
        """For messages."""
        return f"{self.name}/config.pbtxt"

    @cached_property
    def completed(self) -> bool:
        """Whether Triton completes the configuration from the file: it lists no inputs, or no outputs."""
        if self.backend != ONNX or (self.config is None and self.problems):  # one that could not be read is no model
            return False
        return self.config is None or not (self.config.input and self.config.output)

    @property
    def max_batch_size(self) -> int:
        """What the configuration says, 0 where it says nothing."""
        return 0 if self.config is None else int(self.config.max_batch_size)

    @cached_property
    def batches(self) -> bool:
        """Whether the server takes axis 0 for the batch, told to or because it completes the configuration so."""
        if self.max_batch_size > 0:
            return True
        return self.completed and self.graph is not None and all(value.may_batch for value in self.used)

    @property
    def sequences(self) -> Any:
        """The sequence batcher's part of the configuration, or None."""
        if self.config is None or self.config.WhichOneof("scheduling") != "sequence_batching":
            return None
        return self.config.sequence_batching

    @property
    def states(self) -> tuple[Any, ...]:
        """What Triton's sequence batcher carries from request to request."""
        return () if self.sequences is None else tuple(self.sequences.state)

    @property
    def controls(self) -> dict[str, frozenset[int]]:
        """Input -> the kinds of control that the sequence batcher writes into it."""
        if self.sequences is None:
            return {}
        return {one.name: frozenset(control.kind for control in one.control) for one in self.sequences.control_input}

    @cached_property
    def used(self) -> tuple[Value, ...]:
        """The inputs and outputs of the graph that the server passes on."""
        if self.graph is None:
            return ()
        if self.completed or self.config is None:
            return self.graph.inputs + self.graph.outputs
        wanted = {one.name for one in self.config.output} | {state.output_name for state in self.states}
        return self.graph.inputs + tuple(value for value in self.graph.outputs if value.name in wanted)


def listed(names: Iterable[str]) -> str:
    """For messages."""
    return ", ".join(names) or "none"


def data_type_of(message: Any) -> str:
    """The name of a message's data_type, such as TYPE_FP32."""
    return str(message.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[message.data_type].name)
