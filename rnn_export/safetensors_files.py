"""``.safetensors`` files, a tensor at a time: read when somebody asks for it, written block by block."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.blocks import blocks
from rnn_export.element_types import BFLOAT16
from rnn_export.errors import SourceError

_TYPES = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": BFLOAT16.name}
_COPY_AGAIN = "It is damaged or incomplete; copy it again"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that stays in its file until numpy is asked for it."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        array: NDArray[Any] = np.asarray(self)[key]
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """A read-only array of its own.

        Raises:
            SourceError: the file became shorter.
        """
        array = np.fromfile(self.path, self.dtype, self.size, offset=self.offset)
        if array.size < self.size:
            raise SourceError(f"{self.path} was changed while it was read", "Run it again")
        array.flags.writeable = False
        return array.reshape(self.shape).astype(dtype or self.dtype.newbyteorder("="), copy=False)


class SafetensorsFile(NamedTuple):
    """What a file holds: its tensors of the types that networks have here, the type names of the rest, its metadata."""

    tensors: Mapping[str, StoredTensor]
    others: Mapping[str, str]
    metadata: Mapping[str, str]


def read_safetensors(path: Path) -> SafetensorsFile:
    """What is in a file; of the tensors nothing is read yet.

    Raises:
        SourceError: it is missing, damaged or no .safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:  # it checks that the tensors fill the file and nothing overlaps
            metadata = file.metadata() or {}
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
    except (SafetensorError, OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}", _COPY_AGAIN) from None
    header.pop("__metadata__", None)
    tensors = {
        name: StoredTensor(
            path,
            8 + size + entry["data_offsets"][0],
            tuple(entry["shape"]),
            np.dtype(_TYPES[entry["dtype"]]).newbyteorder("<"),
        )
        for name, entry in sorted(header.items())
        if entry["dtype"] in _TYPES
    }
    others = {name: entry["dtype"] for name, entry in sorted(header.items()) if name not in tensors}
    return SafetensorsFile(tensors, others, metadata)


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """The bytes that ``safetensors.numpy.save`` gives, without holding them in memory.

    Args:
        path: the file to make.
        tensors: all of one type, which decides their order.
        metadata: one entry, since safetensors does not keep the order of several.
    """
    types = {kind: name for name, kind in _TYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for name, array in sorted(tensors.items()):
        end = position + array.nbytes
        header[name] = {"dtype": types[array.dtype.name], "shape": array.shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, array in sorted(tensors.items()):
            for block in blocks(array):
                stream.write(block.view(np.uint8).data)
