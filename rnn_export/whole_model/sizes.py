"""The inputs of a model at the example's sizes, and at others."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from rnn_export.errors import SourceError
from rnn_export.whole_model.users_code import users_code

EXAMPLE_T, EXAMPLE_B = 5, 3  # never T = 1, which torch takes for a constant
Make = Callable[[int, int], Any]  # (T, B) -> the model's inputs


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model, at the example's sizes and at others.

    Attributes:
        example: the arguments of ``forward``.
        axes: of every tensor among them, in order, which axes are dynamic, and their names.
        sizes: the example's size of every name; of a function only T and B, which make all others.
    """

    example: tuple[Any, ...]
    axes: tuple[Mapping[int, str], ...]
    sizes: Mapping[str, int]
    _make: Make | None = None

    @property
    def dynamic_shapes(self) -> tuple[Any, ...]:
        """As torch's exporter takes them, with names."""
        leaves, layout = pytree.tree_flatten(self.example)
        axes = iter(self.axes)
        named = [dict(next(axes)) if isinstance(leaf, Tensor) else None for leaf in leaves]
        shapes: tuple[Any, ...] = pytree.tree_unflatten(named, layout)
        return shapes

    def others(self) -> Iterator[dict[str, int]]:
        """Sizes that differ from the example's in every name: longer ones first, the last one shorter."""
        for factor, more in ((1, 4), (3, 2)):
            yield {name: factor * size + more + k for k, (name, size) in enumerate(self.sizes.items())}
        yield {name: max(1, size - 2) for name, size in self.sizes.items()}

    def at(self, sizes: Mapping[str, int], seed: int) -> tuple[Any, ...]:
        """Inputs of these sizes, with the example's kind of values."""
        if self._make is not None:
            return made(self._make, sizes.get("T", EXAMPLE_T), sizes.get("B", EXAMPLE_B), seed)
        generator = torch.Generator().manual_seed(seed)
        leaves, layout = pytree.tree_flatten(self.example)
        axes = iter(self.axes)
        resized = [
            _resized(leaf, next(axes), self.sizes, sizes, generator) if isinstance(leaf, Tensor) else leaf
            for leaf in leaves
        ]
        inputs: tuple[Any, ...] = pytree.tree_unflatten(resized, layout)
        return inputs


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of nested arguments or results, in the order in which ONNX lists them."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def made(make: Make, T: int, B: int, seed: int = 0) -> tuple[Any, ...]:
    """What a function of (T, B) makes from that seed; the user's own random numbers go on as if nobody had asked."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        with users_code(f"{_named(make)}({T}, {B}) does not work", "inputs is a function of (T, B)"):
            return as_tuple(make(T, B))
    finally:
        torch.set_rng_state(state)


def as_tuple(inputs: Any) -> tuple[Any, ...]:
    """The arguments of ``forward``.

    Raises:
        SourceError: neither a tensor nor a tuple or list.
    """
    if not isinstance(inputs, Tensor | tuple | list):
        raise SourceError(
            f"inputs must return a tensor or a tuple of the arguments of forward, not {type(inputs).__name__}",
            "One argument that is something else is a tuple of one",
        )
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)


def _named(make: Make) -> str:
    """The function with the place where it is defined: a wrong number of arguments is raised in no line of it."""
    code = getattr(make, "__code__", None)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}: inputs" if code else "inputs"


def _resized(
    tensor: Tensor, axes: Mapping[int, str], old: Mapping[str, int], new: Mapping[str, int], generator: torch.Generator
) -> Tensor:
    """A tensor of the new sizes, of values that the example has: indices stay valid, lengths become new lengths."""
    if not axes:
        return tensor
    shape = [new[axes[axis]] if axis in axes else size for axis, size in enumerate(tensor.shape)]
    if (longest := _lengths_axis(tensor, axes, old)) is not None:
        lengths = torch.randint(1, new[longest] + 1, shape, generator=generator, dtype=tensor.dtype)
        lengths[0] = new[longest]
        falling = bool((tensor[1:] <= tensor[:-1]).all())
        return lengths.sort(descending=True).values if falling else lengths.roll(1)
    values = tensor.flatten()
    if values.numel() == 0 or (tensor.is_floating_point() and bool((values == values[0]).all())):
        return torch.randn(shape, generator=generator).to(tensor.dtype)
    return values[torch.randint(len(values), shape, generator=generator)]


def _lengths_axis(tensor: Tensor, axes: Mapping[int, str], sizes: Mapping[str, int]) -> str | None:
    """The axis whose lengths the tensor holds, as ``pack_padded_sequence`` takes them: 1 to T, and T itself."""
    if tensor.dim() != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool or not len(tensor):
        return None
    others = {name: size for name, size in sizes.items() if name not in axes.values()}
    low, high = int(tensor.min()), int(tensor.max())
    return next((name for name, size in others.items() if low >= 1 and high == size), None)
