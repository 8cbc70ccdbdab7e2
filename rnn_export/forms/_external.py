"""Weights beside the model: what one protobuf message cannot hold lies in a file of its own, and is read in place."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, helper

from rnn_export.blocks import blocks
from rnn_export.element_types import FLOATS
from rnn_export.errors import ArtifactError
from rnn_export.forms import EXTERNAL_ABOVE
from rnn_export.forms._tidy import graphs

STORED = (*FLOATS, "uint8")  # what weights are held in: whole numbers where a form quantises them
DATA = "model.onnx.data"
ALIGNMENT = 2**16  # bytes: every system can map a tensor that begins at a multiple (pages have 4 to 64 KiB)


def declared_tensor(name: str, array: Any) -> TensorProto:
    """An initializer without its numbers; ``lay_out`` says where they will lie."""
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, dims=array.shape, data_type=kind, data_location=TensorProto.EXTERNAL)


def declared(model: onnx.ModelProto) -> list[TensorProto]:
    """The initializers whose numbers lie beside the model, also those in bodies, in the order of the file."""
    return [tensor for tensor in _initializers(model) if external_data_helper.uses_external_data(tensor)]


def lay_out(model: onnx.ModelProto) -> None:
    """Give every declared tensor its place in the data file."""
    position = 0
    for tensor in declared(model):
        position = _place(tensor, position, math.prod(tensor.dims) * _dtype(tensor).itemsize)


def write_data(folder: Path, model: onnx.ModelProto, arrays: Mapping[str, Any]) -> None:
    """Write the data file of a model that was laid out, a block at a time.

    Args:
        folder: where the model lies.
        model: with declared tensors.
        arrays: their numbers, by name: arrays or Joined ones.
    """
    with (folder / DATA).open("wb") as stream:
        for tensor in declared(model):
            stream.seek(next(int(entry.value) for entry in tensor.external_data if entry.key == "offset"))
            for block in blocks(arrays[tensor.name]):
                stream.write(block.view(np.uint8).data)


def held_bytes(model: onnx.ModelProto) -> int:
    """What the weights inside the model take."""
    return sum(len(tensor.raw_data) for tensor in _initializers(model))


def write_model(folder: Path, model: onnx.ModelProto) -> None:
    """Into ``model.onnx``; what one file could not hold is moved out of the model in memory and lies beside it."""
    if held_bytes(model) > EXTERNAL_ABOVE:
        _move_out(folder, model)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def _move_out(folder: Path, model: onnx.ModelProto) -> None:
    """Move the numbers of a model in memory to its data file; what is small stays."""
    position = 0
    with (folder / DATA).open("wb") as stream:
        for tensor in _initializers(model):
            if len(tensor.raw_data) >= ALIGNMENT:
                stream.seek(position)
                stream.write(tensor.raw_data)
                position = _place(tensor, position, len(tensor.raw_data))
                tensor.ClearField("raw_data")


@contextmanager
def lending_data(owner: Path, borrower: Path) -> Iterator[None]:
    """The data file of the folder ``owner``, where it has one, lies in the folder ``borrower`` meanwhile.

    One copy of large weights is enough; a link would do for none of those who check where such weights lie.
    """
    own, lent = owner / DATA, borrower / DATA
    if own.exists():
        own.rename(lent)
    try:
        yield
    finally:
        if lent.exists():
            lent.rename(own)


def read_in_place(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    """The numbers of a declared tensor, mapped from the data file.

    Raises:
        ArtifactError: the file does not hold them.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    shape, kind = tuple(tensor.dims), _dtype(tensor)
    try:
        if entries["location"] != DATA or int(entries["length"]) != math.prod(shape) * kind.itemsize:
            raise ValueError
        return np.memmap(folder / DATA, kind, "r", int(entries["offset"]), shape)
    except (KeyError, ValueError, OSError, OverflowError):  # numpy's own checks of the place among them
        raise ArtifactError(f"{tensor.name} is not where the model says, in {DATA}", "Export it again") from None


def _initializers(model: onnx.ModelProto) -> Iterator[TensorProto]:
    for graph in graphs(model.graph):
        yield from graph.initializer


def _place(tensor: TensorProto, position: int, size: int) -> int:
    """Say where a tensor lies; returns the next position."""
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", DATA), ("offset", position), ("length", size)):
        tensor.external_data.add(key=key, value=str(value))
    return position + size + -size % ALIGNMENT


def _dtype(tensor: TensorProto) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
