"""Storages: the bytes that the tensors of one file share, where they lie."""

from typing import NamedTuple

import numpy as np

from rnn_export.errors import SourceError
from rnn_export.unpickling import Global

# torch's storage classes -> the type of their bytes; UntypedStorage and the quantized ones are raw integers.
STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
    "QUInt4x2Storage": "uint8",
    "QUInt2x4Storage": "uint8",
}


class Storage(NamedTuple):
    """The bytes of one storage as they lie in the file, or of a part of it."""

    key: str
    raw: memoryview
    type: str  # numpy's name, or bfloat16
    start: int = 0  # of a part: its first element in the whole

    def part(self, offset: int, count: int) -> "Storage":
        """Some of its elements, as the legacy formats share them.

        Raises:
            SourceError: they would lie outside the storage.
        """
        width = item_size(self.type)
        if not 0 <= offset <= offset + count <= len(self.raw) // width:
            raise SourceError(f"it has a view beyond the end of storage {self.key[:80]!r}")
        raw = self.raw[offset * width : (offset + count) * width]
        return Storage(self.key, raw, self.type, self.start + offset)


def storage_type(kind: object) -> str:
    """The type of a storage class such as ``torch.cuda.FloatStorage``.

    Raises:
        SourceError: no storage of torch has that name.
    """
    name = kind.name if isinstance(kind, Global) else ""
    short = name.rpartition(".")[2]
    if not name.startswith("torch.") or short not in STORAGE_TYPES:
        raise SourceError(f"it has a storage of an unknown type {name[:80]!r}")
    return STORAGE_TYPES[short]


def item_size(kind: str) -> int:
    """Bytes of one element; bfloat16 has 2."""
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize
