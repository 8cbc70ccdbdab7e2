"""What a model does with the data of a packed sequence while it is exported: row by row, or it is refused.

In torch the data are N rows, the valid steps alone; while exporting they are (T, B, ...), padding among them, see
``packing``. What works on each row by itself comes out the same in both. A mean over the rows, an index or the number
of them does not, and nothing in the file would show it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from rnn_export.conversion.frozen_sizes import users_place
from rnn_export.conversion.refusal import Refused
from rnn_export.errors import ConversionError

_MARK = "_rnn_export_rows"
# Beside what torch itself tags as pointwise: these keep the rows apart, and change a type or a place only.
_BY_ROW = {"linear", "layer_norm", "rms_norm", "embedding", "dropout", "hardswish", "softsign"}
_CONVERSIONS = {"to", "type", "type_as", "float", "double", "half", "bfloat16", "long", "int", "bool", "cpu", "cuda"}
_SAME = {"contiguous", "clone", "detach", "requires_grad"}
_ALONG_AN_AXIS = {"softmax", "log_softmax", "cat", "concat", "mean", "sum", "amax", "amin", "glu", "unsqueeze"}
_WHAT_DIFFERS = {"shape", "T", "mT", "H", "mH"}  # of attributes; the type and the device are the same in both


class PackedRows(TorchFunctionMode):
    """Watches every torch function that gets rows which ``mark`` has marked."""

    def __init__(self) -> None:
        super().__init__()
        self._watching = True

    def mark(self, sequence: PackedSequence) -> PackedSequence:
        """The sequence, with its data watched from now on; they must be nobody else's tensor."""
        setattr(sequence.data, _MARK, True)
        return sequence

    def refuse(self, given: object, name: str) -> None:
        """Raises Refused where ``given`` are such rows, for a function that torch does not show to us."""
        if getattr(given, _MARK, False) is True:
            raise Refused(_refusal(name))

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """For our own code, which knows that the rows are (T, B, ...)."""
        self._watching = False
        try:
            yield
        finally:
            self._watching = True

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """
        Raises:
            Refused: the function does not work on each row by itself.
        """
        kwargs = kwargs or {}
        if torch.compiler.is_dynamo_compiling() or not self._watching:  # a step of over_time gets no rows
            return func(*args, **kwargs)
        rows = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if getattr(leaf, _MARK, False) is True]
        if not rows:
            return func(*args, **kwargs)
        name = _name_of(func)
        if not _keeps_rows(name, func, args, kwargs, rows):
            raise Refused(_refusal(name))
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            setattr(result, _MARK, True)
        return result


def _keeps_rows(name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any], rows: list[Tensor]) -> bool:
    if getattr(func, "__name__", "") == "__get__":
        return name not in _WHAT_DIFFERS
    if name == "matmul":
        return len(rows) == 1 and bool(args) and args[0] is rows[0]
    if name in _ALONG_AN_AXIS:  # the last axis is the last one in both, unless the rows are numbers
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        with torch._C.DisableTorchFunction():
            return axis == -1 and all(row.dim() > 2 for row in rows)
    return name in _BY_ROW | _CONVERSIONS | _SAME or _is_pointwise(name)


def _is_pointwise(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )


def _name_of(func: Any) -> str:
    """``add`` of ``__add__`` and ``add_``; of an attribute its own name, such as ``shape``."""
    name = getattr(func, "__name__", str(func))
    return str(func.__self__.__name__ if name == "__get__" else name.strip("_"))


def _refusal(name: str) -> ConversionError:
    place = users_place()
    where = f"{place}: " if place else ""
    return ConversionError(
        f"{where}{name} on the data of a packed sequence would count the padding in, which torch leaves out",
        "Call pad_packed_sequence first; what works on each step by itself, such as relu or Linear, may stay",
    )
