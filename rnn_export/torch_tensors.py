"""Records of an inert pickle -> arrays: a tensor is a view of bytes that the file really holds, or it is refused."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.element_types import BFLOAT16
from rnn_export.errors import SourceError
from rnn_export.torch_storages import STORAGE_TYPES, Storage, item_size, storage_type
from rnn_export.unpickling import Global, Made, Persistent

# What torch keeps as untyped bytes beside a dtype; float8 and the shell types have no numpy type.
_UNTYPED = {f"torch.{name}": name for name in (*STORAGE_TYPES.values(), "uint16", "uint32", "uint64")}
_WRAPPERS = {  # what holds a tensor as its first part
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter",
    "torch.autograd.variable.Variable",
}
_SUBCLASSES = {
    "torch._tensor._rebuild_from_type_v2",
    "torch._tensor._rebuild_from_type",
    "torch.tensor._rebuild_from_type",
}
_AXES = 64  # what numpy can have
_NESTING = 8  # a Parameter of a Variable of a tensor; more is a ring
_REPEATS = 16  # how many bytes of tensors a file may hold per byte of its own: models share storages, bombs repeat them


class Tensor(NamedTuple):
    """An array, and what is particular about it; where the array is None, why it was not read."""

    array: NDArray[Any] | None
    remark: str = ""


class Place(NamedTuple):
    """Where a tensor lies in a storage; offset and stride count elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class TensorReader:
    """Finds the tensors among the records of one file.

    Args:
        storages: key -> bytes.
        size: bytes of the file, which bound what its tensors may claim.
        byte_order: of the storages, little or big.

    ``listed`` is for the legacy tar format, whose pickle refers to tensors by number.
    """

    def __init__(self, storages: Mapping[str, Storage], size: int, byte_order: Literal["<", ">"] = "<") -> None:
        self.storages = storages
        self.listed: dict[str, Place] = {}
        self._places: list[Place] = []
        self._byte_order = byte_order
        self._left = _REPEATS * size
        self._arrays: dict[tuple[str, str, int, int], NDArray[Any]] = {}
        self._known: dict[int, Tensor | None] = {}

    def tensor(self, value: object) -> Tensor | None:
        """The tensor that a record stands for; None if it stands for none.

        Raises:
            SourceError: the tensor does not fit its storage, or all of them claim more than the file can hold.
        """
        if not isinstance(value, Made | Persistent):
            return None
        if id(value) not in self._known:  # the tree keeps every record alive, so no id is used twice
            self._known[id(value)] = self._rebuilt(value)
        return self._known[id(value)]

    def _rebuilt(self, value: Any) -> Tensor | None:
        for _ in range(_NESTING):
            if isinstance(value, Persistent) and isinstance(value.id, str):
                if value.id not in self.listed:
                    raise SourceError(f"it refers to a tensor {value.id[:80]!r} that is not there")
                return self.view(*self.listed[value.id])
            if not isinstance(value, Made):
                return None
            match value.maker, value.args:
                case maker, args if maker in _WRAPPERS:
                    parts = args or value.state  # torch 0.1 made it empty and filled it by BUILD
                    value = parts[0] if isinstance(parts, tuple) and parts else None
                case maker, (Global(name=inner), _, tuple(args), *_) if maker in _SUBCLASSES:
                    value = Made(inner, args)
                case "torch._utils._rebuild_tensor", (storage, offset, size, stride):
                    return self.view(self._storage(storage), offset, size, stride)
                case "torch._utils._rebuild_tensor_v2", (storage, offset, size, stride, _, _, *metadata):
                    if metadata and metadata[0]:  # the numbers are to be negated or conjugated when they are read
                        return Tensor(None, "is kept negated or conjugated, and was not read")
                    return self.view(self._storage(storage), offset, size, stride)
                case "torch._utils._rebuild_tensor_v3", (storage, offset, size, stride, _, _, Global(name=dtype), *_):
                    if dtype not in _UNTYPED:
                        return Tensor(None, f"is {dtype[:80]}, and was not read")
                    typed = self._storage(storage)._replace(type=_UNTYPED[dtype])
                    return self.view(typed, offset, size, stride)
                case maker, _ if maker.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
                    return Tensor(None, f"is made by {maker[:80]}, and was not read")
                case _:
                    return None
        return None

    def _storage(self, reference: object) -> Storage:
        """("storage", type, key, location, numel) or, in the legacy stream, with a view of it as a sixth part."""
        match reference:
            case Persistent(id=("storage", kind, str(key), _, int(numel), *views)):
                pass
            case _:
                raise SourceError("it has a tensor without a storage")
        if key not in self.storages:
            raise SourceError(f"it lacks the bytes of storage {key[:80]!r}")
        storage = self.storages[key]._replace(type=storage_type(kind))
        if numel * item_size(storage.type) != len(storage.raw):
            raise SourceError(f"the {len(storage.raw)} bytes of its storage {key[:80]!r} are not what its tensors need")
        if views and views[0] is not None:
            _, offset, count = views[0]
            return storage.part(offset, count)
        return storage

    def view(self, storage: Storage, offset: object, size: object, stride: object) -> Tensor:
        """A strided view; offset and strides count elements.

        Raises:
            SourceError: an element would lie outside the storage.
        """
        lengths, steps = _sizes(size), _sizes(stride)
        (start,) = _sizes((offset,))
        if len(lengths) != len(steps):
            raise SourceError("it has a tensor whose size and stride do not fit together")
        flat = self._array(storage)
        if 0 in lengths:
            return Tensor(np.empty(lengths, flat.dtype))
        last = start + sum((length - 1) * step for length, step in zip(lengths, steps, strict=True))
        if last >= len(flat):
            raise SourceError(f"it has a tensor that reaches element {last} of a storage of {len(flat)}")
        if (count := math.prod(lengths)) > len(flat):
            return Tensor(None, f"claims {count} numbers where its storage has {len(flat)}, and was not read")
        self._left -= count * flat.itemsize
        if self._left < 0:
            raise SourceError(f"its tensors claim more than {_REPEATS} times the bytes of the file")
        self._places.append(Place(storage, start, lengths, steps))
        return Tensor(_strided(flat, start, lengths, steps))

    def unreached(self) -> dict[str, tuple[int, int]]:
        """storage -> (how many of its elements belong to no tensor that was found, of how many)."""
        sizes: dict[str, int] = {}  # in bytes, of whole storages
        counts: dict[str, tuple[int, int]] = {}
        for storage in self.storages.values():
            width = item_size(storage.type)
            sizes[storage.key] = max(sizes.get(storage.key, 0), storage.start * width + len(storage.raw))
            counts[storage.key] = (sizes[storage.key] // width, sizes[storage.key] // width)
        masks: dict[str, NDArray[np.bool_]] = {}
        for storage, offset, size, stride in self._places:
            count = sizes[storage.key] // item_size(storage.type)
            mask = masks.setdefault(storage.key, np.zeros(count, bool))
            if len(mask) == count:  # of two types for one storage the first is enough
                _strided(mask, storage.start + offset, size, stride)[...] = True
        counts |= {key: (len(mask) - int(mask.sum()), len(mask)) for key, mask in masks.items()}
        return {key: count for key, count in counts.items() if count[0]}

    def _array(self, storage: Storage) -> NDArray[Any]:
        """All elements of a storage (numel,), in this machine's byte order; copied only where that has to change."""
        place = (storage.key, storage.type, storage.start, len(storage.raw))
        if place not in self._arrays:
            kind = "uint16" if storage.type == "bfloat16" else storage.type
            stored = np.frombuffer(storage.raw, np.dtype(kind).newbyteorder(self._byte_order))
            array: NDArray[Any] = stored.astype(kind, copy=False)
            if storage.type == "bfloat16":
                array = array.view(BFLOAT16)
            self._arrays[place] = array
        return self._arrays[place]


def _sizes(value: object) -> tuple[int, ...]:
    """A size or stride: a tuple, or torch.Size of one."""
    if isinstance(value, Made) and value.maker == "torch.Size" and len(value.args) == 1:
        value = value.args[0]
    if not isinstance(value, tuple | list) or len(value) > _AXES:
        raise SourceError("it has a tensor whose size or stride is no tuple of numbers")
    if not all(type(n) is int and 0 <= n < 2**63 for n in value):  # torch keeps them in int64
        raise SourceError("it has a tensor whose size, stride or offset is no number that torch would write")
    return tuple(value)


def _strided(flat: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> NDArray[Any]:
    # numpy checks once more that the view stays inside its buffer; the stride of an axis of one element is never used.
    steps = [step * flat.itemsize if length > 1 else 0 for length, step in zip(size, stride, strict=True)]
    return np.ndarray(size, flat.dtype, flat, offset * flat.itemsize, steps)
