"""Whether a model answers one input twice alike: one that does not would set the yardstick that it is judged by."""

import sys
import traceback
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rnn_export.errors import SourceError
from rnn_export.whole_model.sizes import tensors
from rnn_export.whole_model.users_code import last_place, users_code


def check_repeatable(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Run the model twice; bit for bit, as torch on a CPU does the same operations on equally aligned memory.

    Raises:
        SourceError: it does not run, or the two runs differ.
    """
    with users_code("the model does not run"), torch.no_grad(), torch.random.fork_rng(devices=[]):
        first, second = ([output.clone() for output in tensors(model(*inputs))] for _ in range(2))
        if len(first) == len(second) and all(map(_same, first, second)):
            return
        with _Draws() as draws:
            model(*inputs)
    if draws.found:
        raise SourceError(
            f"two runs of the model on one input differ: {draws.found[0]} is random, in evaluation mode too",
            "Take it out, or let it act in training only, as dropout does with training=self.training",
        )
    raise SourceError(
        "two runs of the model on one input differ, with no random number of torch's",
        "Take out what else is random, and what the model keeps from one run to the next",
    )


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The random operations that run inside, each with the user's line that calls it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            inside = takewhile(_is_below_the_check, traceback.walk_stack(sys._getframe(1)))
            place = last_place(reversed([(frame.f_code.co_filename, line) for frame, line in inside]))
            self.found.append(": ".join(part for part in (place, f"torch's {func.overloadpacket.__name__}") if part))
        return func(*args, **(kwargs or {}))


def _is_below_the_check(item: tuple[Any, int]) -> bool:
    return item[0].f_code is not check_repeatable.__code__


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())
