"""Files -> named tensors: .safetensors, .pt, .pth and .npz, read without running their code."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rnn_export.element_types import FLOATS
from rnn_export.errors import SourceError
from rnn_export.numpy_files import read_npz
from rnn_export.safetensors_files import read_safetensors
from rnn_export.spec import SPEC_SYNTAX
from rnn_export.torch_files import SAVE_AGAIN, read_torch_file
from rnn_export.torch_tree import RecurrentModule

_NOT_FLOAT = f"is not {', '.join(FLOATS[:-1])} or {FLOATS[-1]}"


class Contents(NamedTuple):
    """What a file holds: what can be exported, and why the rest of its tensors cannot.

    ``format`` is the file's, and ``names`` what an unpickler would have imported to read it.
    """

    format: str
    tensors: Mapping[str, Any]
    refused: Mapping[str, str] = MappingProxyType({})
    metadata: Mapping[str, str] = MappingProxyType({})
    modules: Mapping[str, RecurrentModule] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def read_contents(path: Path) -> Contents:
    if not os.path.exists(path):  # noqa: PTH110  # pathlib raises for a name that is too long
        hint = "A random network is written " + SPEC_SYNTAX if ":" in str(path) else "Check the path"
        raise SourceError(f"{path} does not exist", hint)
    if path.is_dir():
        raise SourceError(f"{path} is a folder", "Name the checkpoint file inside it")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty", "Save the checkpoint again")
    if path.suffix == ".onnx":
        raise SourceError(f"{path} is an ONNX file, no checkpoint", "rnn-export verify FILE --against SOURCE takes it")
    if path.suffix not in KINDS:
        raise SourceError(
            f"{path} is not a .safetensors, .pt, .pth or .npz file", f"A random network is written {SPEC_SYNTAX}"
        )
    return KINDS[path.suffix](path)


def _read_safetensors(path: Path) -> Contents:
    file = read_safetensors(path)
    return Contents("safetensors", file.tensors, dict.fromkeys(file.others, _NOT_FLOAT), file.metadata)


def _read_torch(path: Path) -> Contents:
    file = read_torch_file(path)
    if not file.tensors and not file.remarks:
        raise SourceError(f"{path} holds no tensors", SAVE_AGAIN)
    contents = _floats(file.format, file.tensors)
    refused = {**contents.refused, **file.remarks}
    return Contents(file.format, contents.tensors, refused, modules=file.modules, notes=file.notes, names=file.names)


def _read_npz(path: Path) -> Contents:
    return _floats("npz", read_npz(path))


def _floats(layout: str, arrays: Mapping[str, Any]) -> Contents:
    tensors = {name: array for name, array in arrays.items() if array is not None and array.dtype.name in FLOATS}
    return Contents(layout, tensors, {name: _NOT_FLOAT for name in arrays if name not in tensors})


KINDS = {".safetensors": _read_safetensors, ".pt": _read_torch, ".pth": _read_torch, ".npz": _read_npz}
