"""One recurrence over time: a plain loop in eager use, torch's ``scan`` while a model is being exported.

The exporter unrolls a Python loop and freezes its length without a word; ``scan`` becomes one ONNX Scan with a
dynamic length, but trains 3 to 100 times slower. So a model writes ``over_time`` and gets the right one of the two.
"""

import threading
from collections.abc import Callable
from types import CodeType
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Step = Callable[[Any, Any], Any]  # (state, input of one step) -> next state, or (next state, output)
EXPORTER = threading.RLock()  # torch's exporter keeps its state per process: two threads fail in the middle of it
_CONTRACT = "step must return the next state, or the pair (next state, output)"


def exporting_now() -> bool:
    """Whether torch is exporting a model."""
    # torch's own word and never a flag of ours: a forgotten flag would freeze the length silently.
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def over_time(step: Step, h: Any, x: Any, *, reverse: bool = False) -> tuple[Any, Any]:
    """Apply ``step`` to every step of ``x``, carrying a state; trains like a loop, exports as one Scan.

    ``step(h, x_t)`` returns the next state, or the pair (next state, output). It may use the model's parameters and
    any tensor around it, such as the encoder's states that a decoder attends to. While a model is exported it is
    called once, whatever the length, so it must do the same at every step and change nothing outside.

    Args:
        step: the cell, such as ``lambda h, x_t: cell(x_t, h)`` for a ``torch.nn.RNNCell``.
        h: the first state: a tensor such as (B, H), or tuples, lists and dicts of tensors. Shapes and types stay the
            same from step to step.
        x: (T, ...), the steps along the first axis; or tuples, lists and dicts of such tensors, of one length.
        reverse: go from the last step to the first; outputs stay in the order of x.

    Returns:
        The outputs of all steps (T, ...), which are the states where ``step`` returns only the state, and the last
        state.

    Raises:
        ValueError: a length of 0, or a state whose shape or type changes from step to step.
        TypeError: ``step`` returns neither a state nor a pair.
        RuntimeError: the model is being traced by TorchScript, which would unroll the loop.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        raise RuntimeError("tracing would freeze the length: use torch.onnx.export(..., dynamo=True)")
    if exporting_now():
        return _scanned(step, h, x, reverse)
    return _looped(step, h, x, reverse)


def over_valid_steps(
    step: Step, h: Tensor, x: Tensor, inside: Tensor | None, *, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """``over_time`` within sequences of their own lengths: past its end a sequence's state stays, its output is 0.

    Args:
        step: returns the next state (B, H).
        h: (B, H).
        x: (T, B, I).
        inside: (T, B, 1), true within a sequence; None where all are T steps long.
        reverse: as for ``over_time``.

    Returns:
        The states (T, B, H), in the order of x, and the last state of every sequence (B, H).
    """
    if inside is None:
        states, last = over_time(step, h, x, reverse=reverse)
        return states, last

    def masked(state: Tensor, inputs: tuple[Tensor, Tensor]) -> Tensor:
        x_t, inside_t = inputs
        # where, never a product: a NaN in the padding must not reach the state
        return torch.where(inside_t, step(state, x_t), state)

    states, last = over_time(masked, h, (x, inside), reverse=reverse)
    return torch.where(inside, states, 0.0), last


def _scanned(step: Step, h: Any, x: Any, reverse: bool) -> tuple[Any, Any]:
    from torch._C._dynamo.eval_frame import reset_code
    from torch._higher_order_ops.scan import scan

    def body(state: Any, x_t: Any) -> tuple[Any, Any]:
        given = [*pytree.tree_leaves(state), *pytree.tree_leaves(x_t)]
        following, output = _state_and_output(step(state, x_t), state)
        # A body that passes an input through, or lists one value as state and as output, is refused or silently wrong
        # in ONNX Runtime.
        following = pytree.tree_map(lambda leaf: leaf.clone() if any(leaf is one for one in given) else leaf, following)
        return following, pytree.tree_map(torch.clone, output)

    # scan refuses inputs that share memory, such as a first state that is a view of what the step attends to.
    h, x = pytree.tree_map(torch.clone, (h, x))
    # torch compiles every scan, and first compares its sizes with those of the scans before. Where one of those was
    # constant, the comparison makes a constant of this one, in a later export of the same process too.
    for code in scan.__code__.co_consts:
        if isinstance(code, CodeType):
            reset_code(code)
    last, outputs = scan(body, h, x, dim=0, reverse=reverse)
    return outputs, last


def _looped(step: Step, h: Any, x: Any, reverse: bool) -> tuple[Any, Any]:
    if isinstance(x, Tensor):
        inputs: list[Any] = list(x.unbind(0))
    else:
        leaves, layout = pytree.tree_flatten(x)
        slices = zip(*(leaf.unbind(0) for leaf in leaves), strict=True)
        inputs = [pytree.tree_unflatten(parts, layout) for parts in slices]
    if not inputs:
        raise ValueError("a sequence must have at least one step")
    outputs = []
    for number, x_t in enumerate(reversed(inputs) if reverse else inputs):
        following, output = _state_and_output(step(h, x_t), h)
        if number == 0:
            _check_same(h, following)
        outputs.append(output)
        h = following
    if reverse:
        outputs.reverse()
    if isinstance(outputs[0], Tensor):
        return torch.stack(outputs), h
    return pytree.tree_map(lambda *parts: torch.stack(parts), *outputs), h


def _state_and_output(result: Any, h: Any) -> tuple[Any, Any]:
    """What a step returned: a state has the structure of h, and a pair never has."""
    if isinstance(h, Tensor) and isinstance(result, Tensor):
        return result, result
    layout = pytree.tree_structure(h)
    if pytree.tree_structure(result) == layout:
        return result, result
    if isinstance(result, tuple) and len(result) == 2 and pytree.tree_structure(result[0]) == layout:
        return result
    raise TypeError(_CONTRACT)


def _check_same(h: Any, following: Any) -> None:
    """Eager use would broadcast what ``scan`` refuses: what trains must export."""
    for before, after in zip(pytree.tree_leaves(h), pytree.tree_leaves(following), strict=True):
        if not isinstance(after, Tensor):
            raise TypeError(_CONTRACT)
        if before.shape != after.shape or before.dtype != after.dtype:
            was, became = (f"{tuple(leaf.shape)} {leaf.dtype}" for leaf in (before, after))
            raise ValueError(f"the state changes from {was} to {became}: start with what step returns")
