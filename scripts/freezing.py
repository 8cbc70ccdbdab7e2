"""Models and exports that would freeze a length: torch says so for some of them, and is silent for others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from zoo import Inputs, features

NAMED = ({0: "T", 1: "B"},)
AUTO = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},)


@dataclass(frozen=True)
class Trap:
    """One way to freeze a length.

    Attributes:
        name: what is done.
        make: builds the model.
        inputs: the arguments of ``forward`` at any (T, B).
        example: (T, B) of the export.
        shapes: as torch's exporter takes them.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Inputs = lambda T, B: (features(T, B),)
    example: tuple[int, int] = (5, 3)
    shapes: tuple[Any, ...] = NAMED


class CellLoop(nn.Module):
    """A Python loop over an RNNCell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.RNNCell(6, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], 10)
        for t in range(x.shape[0]):
            h = self.cell(x[t], h)
        return self.out(h)


class CellWhile(CellLoop):
    """The same with a ``while``, of which torch says nothing."""

    def forward(self, x: Tensor) -> Tensor:
        h, t = x.new_zeros(x.shape[1], 10), 0
        while t < x.shape[0]:
            h = self.cell(x[t], h)
            t += 1
        return self.out(h)


class DerivedLength(CellLoop):
    """The loop runs over what a convolution with stride leaves of the length."""

    def __init__(self) -> None:
        super().__init__()
        self.halve = nn.Conv1d(6, 6, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.halve(x.permute(1, 2, 0)).permute(2, 0, 1))


class Plain(nn.Module):
    """One nn.RNN and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(6, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


class LengthsAsList(Plain):
    """Lengths that leave the tensors."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.tolist(), enforce_sorted=False)
        return self.out(self.rnn(packed)[1][0])


class ConstantLengths(Plain):
    """Lengths that are no input of the model."""

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((x.shape[1],), x.shape[0]).tolist()
        return self.out(self.rnn(pack_padded_sequence(x, lengths))[1][0])


def _with_lengths(T: int, B: int) -> tuple[Tensor, Tensor]:
    return features(T, B), torch.arange(T, T - B, -1).clamp(min=1)


TRAPS = [
    Trap("a Python loop over an RNNCell", CellLoop),
    Trap("the same, `Dim.AUTO`", CellLoop, shapes=AUTO),
    Trap("a `while` loop over an RNNCell, `Dim.AUTO`", CellWhile, shapes=AUTO),
    Trap("a loop over a length that a stride derives", DerivedLength),
    Trap("nn.RNN, an example of one step", Plain, example=(1, 3)),
    Trap("nn.RNN, an example of one step, `Dim.AUTO`", Plain, example=(1, 3), shapes=AUTO),
    Trap("nn.RNN, `Dim.AUTO`", Plain, shapes=AUTO),
    Trap("lengths as a list", LengthsAsList, _with_lengths, shapes=(*NAMED, {0: "B"})),
    Trap("lengths made of the shape, as a list", ConstantLengths),
]
