"""``exporting()``: around plain ``torch.onnx.export`` or ``torch.export.export``, every nn.RNN comes out right.

The classes are replaced, not the model: ``nn.RNN.forward`` draws one ONNX RNN per layer, or one Scan per layer and
direction, wherever in a model it is called. torch's packing functions are replaced by their code objects, so that a
model that imported them by name gets the new ones too. All of it acts in the thread that exports and only while
torch exports; one lock lets one thread export at a time, and everything is put back on the way out.
"""

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.fx.experimental.sym_node import SymNode
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnn_export.conversion import layers, packing
from rnn_export.conversion.frozen_sizes import FrozenSizes
from rnn_export.conversion.packed_rows import PackedRows
from rnn_export.conversion.refusal import Refused
from rnn_export.errors import ConversionError, UsageError
from rnn_export.recurrence import EXPORTER, exporting_now

_FROZEN = re.compile(r"static shape of (\d+)")  # torch's words for a dynamic axis that has become a number

_STRICT = "strict export cannot see through exporting()"


class _Conversion:
    """One export that is going on, in the thread that makes it; every other thread goes on as ever."""

    def __init__(self, draw: layers.DrawLayer) -> None:
        self.draw = draw
        self.thread = threading.get_ident()
        self.sizes = FrozenSizes()
        self.rows = PackedRows()

    def acts(self) -> bool:
        return self.thread == threading.get_ident() and exporting_now()

    def explain(self, error: BaseException) -> BaseException:
        """The reason behind torch's error, where it is known; otherwise the error itself."""
        if isinstance(error, Refused):
            return error.reason
        if isinstance(error, Unsupported) and any(word in str(error) for word in (_STRICT, "rnn_export")):
            return ConversionError(_STRICT, "Leave out strict=True")
        for part in _chain(error):
            if (frozen := _FROZEN.search(str(part))) and (reason := self.sizes.loop_of(int(frozen[1]))):
                return reason
        return error


_active: _Conversion | None = None


@contextmanager
def exporting(form: str = "rnn") -> Iterator[None]:
    """Make ``torch.onnx.export(..., dynamo=True)`` or ``torch.export.export`` inside it get every nn.RNN right.

    The length and the batch stay dynamic, for nn.RNN and its subclasses, packed sequences among them. Nothing in the
    model changes. The export runs without gradients. Give the axes names, never an example of one step::

        with rnn_export.exporting():
            program = torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=({0: "T", 1: "B"},))

    Args:
        form: ``rnn``, one ONNX RNN per layer, float32; or ``scan``, one Scan per layer and direction, for every type
            and every runtime that lacks the operator or its sequence lengths.

    Raises:
        UsageError: no such form, or exporting() inside exporting().
        ConversionError: what would freeze a length or a batch, with the line of the model and what to write instead.
    """
    if form not in layers.DRAW_LAYER:
        raise UsageError(f"exporting() has no form {form!r}", f"There are: {', '.join(layers.DRAW_LAYER)}")
    if _active is not None and _active.thread == threading.get_ident():
        raise UsageError("exporting() is already on in this thread", "Leave the inner one out")
    with EXPORTER, torch.no_grad(), ExitStack() as restore:
        conversion = _Conversion(layers.DRAW_LAYER[form])
        _replace_all(conversion, restore)
        restore.enter_context(conversion.rows)
        try:
            yield
        except BaseException as error:
            if (reason := conversion.explain(error)) is error:
                raise
            raise reason from (None if isinstance(error, Refused) else error)
        conversion.sizes.check()


def _replace_all(conversion: _Conversion, restore: ExitStack) -> None:
    """Put everything in place, and into ``restore`` what puts it back."""

    def replace(owner: Any, name: str, value: Any) -> None:
        restore.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    replace(sys.modules[__name__], "_active", conversion)
    for owner, name, stand_in in (
        (nn.RNN, "forward", _rnn_forward),
        (nn.LSTM, "forward", _see_layer),
        (nn.GRU, "forward", _see_layer),
        (nn.RNNCell, "forward", _see_cell),
        (SymNode, "guard_int", _see_number),
    ):
        replace(owner, name, _in_the_exporting_thread(stand_in, getattr(owner, name)))
    for function, code in ((pack_padded_sequence, _pack_code), (pad_packed_sequence, _pad_code)):
        replace(function, "__code__", code.__code__)


def _in_the_exporting_thread(stand_in: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """``stand_in(conversion, original, ...)`` in the thread that exports, the original elsewhere."""

    @wraps(original)  # where the model itself is an nn.RNN, torch names the file's inputs by the signature
    def method(*arguments: Any, **options: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            if stand_in is _see_cell:  # in the step of over_time, which torch compiles: there is no loop round it
                return original(*arguments, **options)
            raise RuntimeError(_STRICT)
        conversion = _active
        if conversion is None or not conversion.acts():
            return original(*arguments, **options)
        try:
            if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
                raise ConversionError("TorchScript tracing freezes the length", "Leave out dynamo=False")
            return stand_in(conversion, original, *arguments, **options)
        except ConversionError as reason:
            raise Refused(reason) from None

    return method


def _rnn_forward(
    conversion: _Conversion,
    _: Any,
    module: nn.RNN,
    input: Any,  # noqa: A002
    hx: Tensor | None = None,
) -> tuple[Any, Tensor]:
    conversion.rows.refuse(input, "nn.RNN")
    with conversion.rows.unwatched():
        output, h_n = layers.forward(conversion.draw, module, input, hx)
    return (conversion.rows.mark(output) if isinstance(output, PackedSequence) else output), h_n


def _see_layer(conversion: _Conversion, original: Any, module: nn.Module, input: Any, hx: Any = None) -> Any:  # noqa: A002
    if isinstance(input, PackedSequence):
        name = type(module).__name__
        raise ConversionError(f"{name} with a packed sequence cannot be exported", "Only nn.RNN can")
    conversion.sizes.see_layer(module)
    return original(module, input, hx)


def _see_cell(conversion: _Conversion, original: Any, cell: nn.RNNCell, input: Tensor, hx: Any = None) -> Any:  # noqa: A002
    conversion.sizes.see_cell(input)
    return original(cell, input, hx)


def _see_number(conversion: _Conversion, original: Any, node: SymNode, file: str, line: int) -> int:
    conversion.sizes.see_number(node)
    return int(original(node, file, line))


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the code that it has now, for when its own code is replaced."""
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)


def _pack_code(input, lengths, batch_first=False, enforce_sorted=True):  # type: ignore[no-untyped-def]  # noqa: A002
    # This code runs with the global names of torch.nn.utils.rnn: it must import what it needs.
    from rnn_export.conversion.replacement import packed

    return packed(input, lengths, batch_first, enforce_sorted)


def _pad_code(sequence, batch_first=False, padding_value=0.0, total_length=None):  # type: ignore[no-untyped-def]
    from rnn_export.conversion.replacement import padded

    return padded(sequence, batch_first, padding_value, total_length)


def _pack(conversion: _Conversion, __: Any, *arguments: Any) -> PackedSequence:
    with conversion.rows.unwatched():
        return conversion.rows.mark(packing.pack(*arguments))


def _pad(conversion: _Conversion, __: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
    with conversion.rows.unwatched():
        return packing.pad(*arguments)


packed = _in_the_exporting_thread(_pack, _copy(pack_padded_sequence))
padded = _in_the_exporting_thread(_pad, _copy(pad_packed_sequence))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
