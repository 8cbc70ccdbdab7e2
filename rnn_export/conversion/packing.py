"""Packed sequences while a model is exported: padded data with its lengths, in the same PackedSequence.

torch packs by sorting and concatenating, which no exporter draws with dynamic lengths. While exporting, ``data`` is the
padded (T, B, ...) itself and ``batch_sizes`` the lengths (B,), in the batch's own order: nothing is sorted, so
``sorted_indices`` are the identity. What works on ``data`` element by element, such as dropout, works on it as it is.
"""

from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn.utils.rnn import PackedSequence

from rnn_export.errors import ConversionError


def pack(input: Any, lengths: Any, batch_first: bool, enforce_sorted: bool) -> PackedSequence:  # noqa: A002
    """``pack_padded_sequence`` while exporting.

    Args:
        input: (T, B, ...), or (B, T, ...) when ``batch_first``.
        lengths: (B,), from 1 to T.
        batch_first: the layout of ``input``.
        enforce_sorted: in torch, that the lengths fall; then there are no indices.

    Raises:
        ConversionError: the lengths are Python numbers, or a constant tensor, and would be frozen.
    """
    if not isinstance(lengths, Tensor):
        raise ConversionError(
            "pack_padded_sequence gets its lengths as a list, whose numbers would be frozen into the file",
            "Make lengths an input of the model, a tensor (B,), and pass it as it is, without .tolist()",
        )
    data = input.transpose(0, 1) if batch_first else input
    if is_dynamic(data.shape[1]) and not is_dynamic(lengths.shape[0]):
        raise ConversionError(
            f"the lengths are a constant of size {lengths.shape[0]}, while the batch is dynamic",
            "Make lengths an input of the model, and give its axis the name of the batch",
        )
    torch._check(lengths.shape[0] == data.shape[1])  # type: ignore[no-untyped-call]
    indices = None if enforce_sorted else torch.arange(data.shape[1])
    return PackedSequence(data, lengths.to(torch.int64), indices, indices)


def pad(sequence: PackedSequence, batch_first: bool, padding_value: float, total_length: Any) -> tuple[Tensor, Tensor]:
    """``pad_packed_sequence`` while exporting: (T, B, ...) or (B, T, ...), and the lengths (B,).

    Without ``total_length`` the result is as long as the longest sequence, as in torch.
    """
    x, lengths = sequence.data, sequence.batch_sizes
    if total_length is None:
        length = lengths.max().item()
        torch._check(length >= 1)  # type: ignore[no-untyped-call]
        torch._check(length <= x.shape[0])  # type: ignore[no-untyped-call]
        x = x[:length]
    elif not statically_known_true(total_length == x.shape[0]):
        x = torch.cat([x, x.new_zeros(total_length, *x.shape[1:])])[:total_length]
    mask = valid_steps(lengths, x.shape[0])
    # where, and no product: padding may hold NaN
    x = torch.where(mask.view(*mask.shape, *[1] * (x.dim() - 2)), x, padding_value)
    # a copy: an output that is an input itself would take the input's name
    return (x.transpose(0, 1) if batch_first else x), lengths.clone()


def valid_steps(lengths: Tensor, steps: Any) -> Tensor:
    """(T, B): whether a step is before the end of its sequence."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths.unsqueeze(0)


def is_dynamic(size: object) -> bool:
    """Whether torch exports the size as a symbol and no number."""
    return isinstance(size, torch.SymInt)
