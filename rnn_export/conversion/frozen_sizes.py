"""Where a dynamic size becomes a plain number while a model is exported, in the user's own file and line.

``range(x.shape[0])``, ``for x_t in x`` and ``int(x.shape[1])`` make torch.export take the example's number for every
size there will ever be. It says so for some models and is silent for others: with ``Dim.AUTO``, with an example of
size 1, and for a length that is computed from another axis.
"""

import linecache
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from rnn_export.errors import ConversionError

_INSTEAD = "Write a loop over time with rnn_export.over_time(step, h, x) or as nn.RNN; leave out int() and .tolist()"
_TORCH, _OURS = f"{Path(torch.__file__).parent}/", f"{Path(__file__).parent.parent}/"
# Beyond these, torch works on the captured graph, and the next line of the user is the call of the exporter itself.
_EXPORTER = ("export/_trace.py", "export/exported_program.py", "onnx/", "_dynamo/symbolic_convert.py")

_GENERATED = ("<frozen ", "<eval_with_key>")  # Python's own import system, and torch's code of captured graphs


@dataclass(frozen=True)
class Place:
    """A line of the user's code.

    Attributes:
        file, line: where.
        cells: the recurrent cells of the module whose method it is in, such as ``cell (RNNCell)``.
        layer: torch's own layer that the line calls, such as LSTM; empty where there is none.
    """

    file: str
    line: int
    cells: tuple[str, ...] = ()
    layer: str = ""

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.line).strip()  # empty for what was typed into a plain shell
        return f"{Path(self.file).name}:{self.line}" + (f": `{text}`" if text else "")


class FrozenSizes:
    """What one export has done to dynamic sizes so far."""

    def __init__(self) -> None:
        self._in_torch: int | None = None  # the number at which torch froze a size on its own account
        self._layer: Place | None = None  # the first line that calls an LSTM or a GRU
        self._cells: Counter[Place] = Counter()  # how often an RNNCell was called, by the line that calls it
        self._shape_envs: list[Any] = []  # what torch knows of the sizes, of every export that called an RNNCell

    def see_number(self, node: Any) -> None:
        """A size, as torch's ``SymNode``, is about to become a number.

        Raises:
            ConversionError: it depends on dynamic axes, and the line is the user's.
        """
        if not getattr(node.expr, "free_symbols", None) or node.hint is None:
            return
        place = users_place()
        if place is not None:
            raise _refusal(place, int(node.hint))
        if not node.shape_env.bound_sympy(node.expr).is_singleton():  # else it is the same for all sizes
            self._in_torch = int(node.hint)

    def see_cell(self, x: Tensor) -> None:
        """An RNNCell is called with x (B, I)."""
        place, mode = users_place(), getattr(x, "fake_mode", None)
        if place is not None and mode is not None:
            self._cells[place] += 1
            if all(mode.shape_env is not known for known in self._shape_envs):
                self._shape_envs.append(mode.shape_env)

    def see_layer(self, layer: nn.Module) -> None:
        """An LSTM or a GRU is called, which torch unrolls after the model has run, when no line is the user's."""
        if self._layer is None and (place := users_place()) is not None:
            self._layer = replace(place, layer=type(layer).__name__)

    def check(self) -> None:
        """To be called when the export has come through.

        Raises:
            ConversionError: torch froze a size on its own account, or an RNNCell was called as often as the number
                that has taken the place of a size: a ``while`` loop over time, which torch says nothing of.
        """
        if self._in_torch is not None:
            raise _refusal(self._layer, self._in_torch)
        for shape_env in self._shape_envs:
            numbers = {int(value) for value in shape_env.replacements.values() if value.is_Integer}
            ranges = shape_env.var_to_range.values()
            for number in numbers | {int(sizes.lower) for sizes in ranges if sizes.is_singleton()}:
                if reason := self.loop_of(number):
                    raise reason

    def loop_of(self, steps: int) -> ConversionError | None:
        """The Python loop that calls an RNNCell that often, if there is one."""
        place = next((place for place, calls in self._cells.items() if calls == steps), None)
        return None if place is None else _refusal(place, steps)


def users_place() -> Place | None:
    """The innermost line that is neither torch's nor ours, or None where torch is not in the user's code."""
    frame: FrameType | None = sys._getframe(1)
    layer = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_TORCH):
            if file.removeprefix(_TORCH).startswith(_EXPORTER):
                return None
            if file.endswith("nn/modules/rnn.py"):
                layer = type(frame.f_locals.get("self")).__name__
        elif not (file.startswith((_OURS, *_GENERATED)) or _belongs_to_torch(frame)):
            return Place(file, frame.f_lineno, _cells_of(frame.f_locals.get("self")), layer)
        frame = frame.f_back
    return None


def _belongs_to_torch(frame: FrameType) -> bool:
    """Whether code without a file was generated for a module of torch's, such as the ``__init__`` of a dataclass.

    What a user types into a shell or a notebook, or passes to ``exec``, has no file either.
    """
    module = str(frame.f_globals.get("__name__", ""))
    return frame.f_code.co_filename.startswith("<") and module.partition(".")[0] in ("torch", "rnn_export")


def _cells_of(module: object) -> tuple[str, ...]:
    if not isinstance(module, nn.Module):
        return ()
    found = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.RNNCellBase)]
    return tuple(f"{name or 'self'} ({type(part).__name__})" for name, part in found)


def _refusal(place: Place | None, number: int) -> ConversionError:
    """What to say of a size that becomes ``number``; ``place`` is None where it does so in torch itself."""
    if place is None or place.layer in ("LSTM", "GRU"):
        where = f"torch's {place.layer} at {place}" if place else "torch itself"
        return ConversionError(
            f"{where} freezes a dynamic size at the example's {number}: the file would be right for that one only",
            "torch 2.13 unrolls nn.LSTM and nn.GRU; exporting() draws nn.RNN",
        )
    copies = f": the loop is unrolled, one copy of {' and '.join(place.cells)} per step" if place.cells else ""
    return ConversionError(
        f"{place} makes a dynamic size the example's {number}, whatever comes in later{copies}", _INSTEAD
    )
