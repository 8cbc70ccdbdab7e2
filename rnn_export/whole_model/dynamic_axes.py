"""Which axes of a model's inputs are dynamic: said, probed with other sizes, or told by the first nn.RNN that runs."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from rnn_export.errors import UsageError
from rnn_export.whole_model.sizes import EXAMPLE_B, EXAMPLE_T, Inputs, Make, as_tuple, made, tensors
from rnn_export.whole_model.users_code import users_code

_ASK = "Give dynamic_shapes, or the inputs as a function of (T, B)"


def inputs_of(model: nn.Module, inputs: Any, dynamic_shapes: Any = None) -> Inputs:
    """What a user gives, made definite.

    Args:
        model: the model; run once where neither a function nor ``dynamic_shapes`` tells the axes apart.
        inputs: the arguments of ``forward`` as a tuple, one tensor, or a function of (T, B) that makes them.
        dynamic_shapes: as torch's exporter takes them; None to find out.

    Raises:
        UsageError: the axes cannot be told apart, or nothing is dynamic.
        SourceError: the function or the model raises, or the inputs are of another kind.
    """
    if callable(inputs):
        if dynamic_shapes is not None:
            raise UsageError("inputs as a function say which axes are dynamic", "Leave out dynamic_shapes")
        found = _probed(inputs)
    else:
        example = as_tuple(inputs)
        shapes = _guessed(model, example) if dynamic_shapes is None else _listed(model, dynamic_shapes)
        found = _named(example, shapes)
    if not found.sizes:
        raise UsageError("no axis of the inputs is dynamic", _ASK)
    if "T" in found.sizes and found.sizes["T"] == 1:
        raise UsageError("the example has one step, and torch takes a size of 1 for a constant", "Give at least 2")
    return found


def _probed(make: Make) -> Inputs:
    """The axes that change with T, and those that change with B; each way of changing has a name of its own."""
    T, B = EXAMPLE_T, EXAMPLE_B
    example, longer, wider = (made(make, *size) for size in ((T, B), (T + 2, B), (T, B + 1)))
    names: dict[tuple[int, ...], str] = {}
    axes = []
    for shapes in zip(*([tensor.shape for tensor in tensors(one)] for one in (example, longer, wider)), strict=True):
        named = {}
        for axis, (size, with_t, with_b) in enumerate(zip(*shapes, strict=True)):
            letter = "T" if with_t != size else "B"
            if (with_t, with_b) != (size, size):
                # Two axes of one name would be one size to a runtime, which may reuse memory by it.
                taken = sum(name.startswith(letter) for name in names.values())
                own = letter if not taken else f"{letter}_{taken + 1}"
                named[axis] = names.setdefault((size, with_t, with_b), own)
        axes.append(named)
    sizes = {letter: size for letter, size in (("T", T), ("B", B)) if letter in names.values()}
    return Inputs(example, tuple(axes), sizes, make)


def _listed(model: nn.Module, dynamic_shapes: Any) -> tuple[Any, ...]:
    """dynamic_shapes in the order of ``forward``'s arguments."""
    if not isinstance(dynamic_shapes, Mapping):
        return tuple(dynamic_shapes)
    return tuple(dynamic_shapes[name] for name in inspect.signature(model.forward).parameters if name in dynamic_shapes)


def _named(example: tuple[Any, ...], shapes: tuple[Any, ...]) -> Inputs:
    if len(shapes) != len(example):
        raise UsageError(f"the model gets {len(example)} inputs, but dynamic_shapes has {len(shapes)} entries")
    axes: list[dict[int, str]] = []
    sizes: dict[str, int] = {}
    for tensor, given in _pairs(example, shapes):
        named = {}
        entries = enumerate(given) if isinstance(given, tuple | list) else (given or {}).items()
        for axis, dimension in entries:
            if dimension is not None and not isinstance(dimension, int):
                size = tensor.shape[axis]
                name = _name_of(dimension, size)
                if sizes.setdefault(name, size) != size:
                    raise UsageError(f"the example's axes of the name {name!r} have the sizes {sizes[name]} and {size}")
                named[axis] = name
        axes.append(named)
    return Inputs(example, tuple(axes), sizes)


def _pairs(example: Any, shapes: Any) -> Iterator[tuple[Tensor, Any]]:
    """Every tensor with its entry; a tensor's entry is a dict or list of axes."""
    if isinstance(example, Tensor):
        yield example, shapes
    elif isinstance(example, Mapping):
        for key, part in example.items():
            yield from _pairs(part, None if shapes is None else shapes[key])
    elif isinstance(example, tuple | list):
        for index, part in enumerate(example):
            yield from _pairs(part, None if shapes is None else shapes[index])


def _name_of(dimension: Any, size: int) -> str:
    """A name, a Dim's name, or for Dim.AUTO and Dim.DYNAMIC one per size: equal sizes are taken for one axis."""
    if isinstance(dimension, str):
        return dimension
    return str(getattr(dimension, "__name__", None) or f"size_{size}")


def _guessed(model: nn.Module, example: tuple[Any, ...]) -> tuple[Any, ...]:
    """The axes of the inputs that have the length and the batch size of the first nn.RNN."""
    with users_code("the model does not run"), _watching_rnns() as seen, torch.no_grad():
        model(*example)
    if not seen:
        raise UsageError("the model runs no nn.RNN", _ASK)
    T, B = seen[0]
    found = []
    for tensor in tensors(example):
        named = {axis: "T" if size == T else "B" for axis, size in enumerate(tensor.shape) if size in (T, B)}
        if T == B or len(set(named.values())) < len(named):
            raise UsageError(f"the example's sizes do not tell its axes apart: {tuple(tensor.shape)}", _ASK)
        found.append(named)
    if not any("T" in named.values() for named in found):
        raise UsageError(f"no input has an axis of the {T} steps that the nn.RNN gets", _ASK)
    axes = iter(found)
    shapes: tuple[Any, ...] = pytree.tree_map(lambda leaf: next(axes) if isinstance(leaf, Tensor) else None, example)
    return shapes


@contextmanager
def _watching_rnns() -> Iterator[list[tuple[int, int]]]:
    """(T, B) of every batched nn.RNN that runs inside."""
    seen: list[tuple[int, int]] = []

    def watch(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, nn.RNN) and arguments:
            x = arguments[0]
            if isinstance(x, PackedSequence):
                seen.append((len(x.batch_sizes), int(x.batch_sizes[0])))
            elif x.dim() == 3:
                seen.append((x.shape[1], x.shape[0]) if module.batch_first else (x.shape[0], x.shape[1]))

    handle = nn.modules.module.register_module_forward_pre_hook(watch)
    try:
        yield seen
    finally:
        handle.remove()
