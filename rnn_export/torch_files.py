"""The files of ``torch.save``, read without torch and without running anything: zip, legacy stream, legacy tar."""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rnn_export.archives import open_zip, stored_members, tar_members
from rnn_export.errors import SourceError
from rnn_export.torch_storages import Storage, item_size, storage_type
from rnn_export.torch_tensors import Place, TensorReader
from rnn_export.torch_tree import RecurrentModule, TreeReader
from rnn_export.unpickling import Pickle, read_pickle

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # torch.serialization: MAGIC_NUMBER, PROTOCOL_VERSION
SAVE_AGAIN = "Save its state_dict: torch.save(model.state_dict(), FILE)"
COPY_AGAIN = "It is damaged or incomplete; copy it again"
_NO_CHECKSUMS = "no checksums in this file: what changed since it was saved may go unnoticed"


@dataclass(frozen=True)
class TorchFile:
    """What a file of ``torch.save`` holds.

    ``tensors`` are read-only views of the file's bytes, named as ``state_dict`` names them. ``modules`` is what
    pickled recurrent modules say, by the name of the module. ``remarks`` says why a tensor was not read and is
    missing from ``tensors``. ``notes`` are about the file. ``format`` is which of torch's it is, and ``names`` what an
    unpickler would have imported to read it.
    """

    format: str
    names: tuple[str, ...]
    tensors: Mapping[str, NDArray[Any]]
    modules: Mapping[str, RecurrentModule]
    notes: tuple[str, ...]
    remarks: Mapping[str, str]


def read_torch_file(path: Path) -> TorchFile:
    """Read a ``.pt`` or ``.pth`` file: a tensor, a state_dict, a training checkpoint or a pickled module.

    Raises:
        SourceError: the file is missing, damaged, or no file of ``torch.save``; the reason is in the message.
    """
    try:
        data = path.read_bytes()
        if data.startswith(b"PK"):
            return _read_zip(data)
        return _read_tar(data) if data[257:262] == b"ustar" else _read_legacy(data)
    except SourceError as error:
        raise SourceError(f"{path} cannot be read: {error.args[0]}", error.hint or COPY_AGAIN) from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, LookupError, OverflowError, struct.error) as error:
        # A file may hold anything where torch writes a number, and each such place fails in its own way.
        raise SourceError(
            f"{path} cannot be read: torch lays it out otherwise: {str(error)[:200]}", COPY_AGAIN
        ) from None


def _read_zip(data: bytes) -> TorchFile:
    """torch 1.6 and newer: ``NAME/data.pkl``, ``NAME/data/KEY`` for every storage, ``NAME/byteorder``."""
    entries = open_zip(data).infolist()
    names = {entry.filename for entry in entries}
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise SourceError("it is a TorchScript archive, which is a program", SAVE_AGAIN)
    if any("serialized_exported_program" in name or name.endswith("archive_format") for name in names):
        raise SourceError("it is a program of torch.export (.pt2)", SAVE_AGAIN)
    roots = [name.removesuffix("data.pkl") for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise SourceError("it is a zip archive without the data.pkl of torch.save", SAVE_AGAIN)
    members, checked = stored_members(data, entries)
    order = bytes(members.get(f"{roots[0]}byteorder", b"little"))
    if order not in (b"little", b"big"):
        raise SourceError(f"its byte order is {order[:20]!r}")
    prefix = f"{roots[0]}data/"
    storages = {
        name.removeprefix(prefix): Storage(name.removeprefix(prefix), raw, "uint8")
        for name, raw in members.items()
        if name.startswith(prefix)
    }
    pickle = read_pickle(io.BytesIO(members[f"{roots[0]}data.pkl"]))
    reader = TensorReader(storages, len(data), "<" if order == b"little" else ">")
    return _torch_file("torch zip", [pickle], reader, len(data), [] if checked else [_NO_CHECKSUMS])


def _read_legacy(data: bytes) -> TorchFile:
    """torch 0.2 to 1.5: five pickles (magic, protocol, system, object, storage keys), then the storages."""
    stream = io.BytesIO(data)
    if read_pickle(stream).root != MAGIC:
        raise SourceError("it is a pickle, but none of torch.save", SAVE_AGAIN)
    if read_pickle(stream).root != PROTOCOL:
        raise SourceError(f"its legacy protocol is not {PROTOCOL}", SAVE_AGAIN)
    system = read_pickle(stream)  # byte order and type sizes of the machine; storages are little-endian on all of them
    pickle = read_pickle(stream)
    types: dict[str, str] = {}
    for reference in pickle.references:
        match reference.id:
            case ("storage", kind, str(key), *_):
                types.setdefault(key, storage_type(kind))  # the first one decides, as it does in torch
    storages: dict[str, Storage] = {}
    keys = read_pickle(stream)
    for key in keys.root:
        if not isinstance(key, str) or key in storages or key not in types:
            raise SourceError("its list of storages has one twice or one that nothing uses")
        storages[key] = Storage(key, _counted(data, stream, types[key]), types[key])
    if stream.read(1):
        raise SourceError("bytes are left over behind its last storage")
    pickles, reader = [pickle, system, keys], TensorReader(storages, len(data))
    return _torch_file("torch legacy stream", pickles, reader, len(data), [_NO_CHECKSUMS], audit=True)


def _read_tar(data: bytes) -> TorchFile:
    """torch 0.1: members ``storages``, ``tensors`` and ``pickle``, which refers to the tensors by number."""
    members, size = tar_members(data), len(data)
    if missing := [name for name in ("storages", "tensors", "pickle") if name not in members]:
        raise SourceError(f"it is a tar archive without the member {missing[0]!r} of torch.save", SAVE_AGAIN)
    data, stream = bytes(members["storages"]), io.BytesIO(members["storages"])
    storages: dict[str, Storage] = {}
    for _ in range(read_pickle(stream).root):
        key, _, kind = read_pickle(stream).root
        storages[f"{key:d}"] = Storage(f"{key:d}", _counted(data, stream, storage_type(kind)), storage_type(kind))
    for target, source, offset, count in read_pickle(stream).root:
        storages[f"{target:d}"] = storages[f"{source:d}"].part(offset, count)
    if stream.read(1):
        raise SourceError("bytes are left over behind its last storage")
    reader = TensorReader(storages, size)
    stream = io.BytesIO(members["tensors"])
    for _ in range(read_pickle(stream).root):
        key, storage, _ = read_pickle(stream).root
        (axes,) = struct.unpack("<i4x", stream.read(8))
        lengths, strides = (struct.unpack(f"<{axes}q", stream.read(8 * axes)) for _ in range(2))
        (offset,) = struct.unpack("<q", stream.read(8))
        reader.listed[f"{key:d}"] = Place(storages[f"{storage:d}"], offset, lengths, strides)
    if stream.read(1):
        raise SourceError("bytes are left over behind its last tensor")
    pickle = read_pickle(io.BytesIO(members["pickle"]))
    return _torch_file("torch legacy tar", [pickle], reader, size, [_NO_CHECKSUMS], audit=True)


def _counted(data: bytes, stream: io.BytesIO, kind: str) -> memoryview:
    """The next storage of a stream over ``data``: a count of elements in eight bytes, then the elements."""
    (count,) = struct.unpack("<q", stream.read(8))
    begin = stream.tell()
    end = begin + count * item_size(kind)
    if not begin <= end <= len(data):
        raise SourceError(f"its storage at byte {begin} should have {count} elements: the file is cut off or damaged")
    stream.seek(end)
    return memoryview(data)[begin:end]


def _torch_file(
    layout: str, pickles: list[Pickle], reader: TensorReader, size: int, notes: list[str], audit: bool = False
) -> TorchFile:
    """From the pickle of what was saved, the first of the list, and those beside it."""
    pickle = pickles[0]
    tree = TreeReader(reader, size)
    tree.read(pickle.root)
    if tree.too_deep:
        notes.append("parts that are nested deeper than 100 levels were not read")
    if audit:  # the one trace that a damaged name, size or stride leaves where there are no checksums
        for made in pickle.made:
            reader.tensor(made)  # an optimizer's too
        for key, (unreached, length) in reader.unreached().items():
            notes.append(
                f"{unreached} of {length} numbers in storage {key[:40]!r} belong to no tensor: sliced, or damaged"
            )
    tensors = {name: tensor.array for name, tensor in tree.tensors.items() if tensor.array is not None}
    remarks = {name: tensor.remark for name, tensor in tree.tensors.items() if tensor.remark}
    names = tuple(dict.fromkeys(name for each in pickles for name in each.names))
    return TorchFile(layout, names, tensors, tree.modules, tuple(notes), remarks)
