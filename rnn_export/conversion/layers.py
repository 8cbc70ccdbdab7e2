"""``nn.RNN.forward`` while a model is exported: a layer as one ONNX RNN, or one Scan per direction."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnn_export.conversion.packing import is_dynamic, valid_steps
from rnn_export.errors import ConversionError
from rnn_export.module import single_matrix_step
from rnn_export.recurrence import over_valid_steps
from rnn_export.spec import suffix

# (module, layer, x (T, B, I), h_0 (D, B, H), lengths (B,)) -> states (T, B, D*H), last states (D, B, H);
# zeros where there is no h_0, sequences of full length where there are no lengths
DrawLayer = Callable[[nn.RNN, int, Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor]]


def forward(draw: DrawLayer, module: nn.RNN, given: Any, hx: Tensor | None) -> tuple[Any, Tensor]:
    """What ``nn.RNN.forward`` computes, drawn layer by layer.

    Args:
        draw: one of ``DRAW_LAYER``.
        module: the nn.RNN.
        given: (T, B, I) in the module's own layout, (T, I), or a PackedSequence that ``packing.pack`` made.
        hx: (L*D, B, H), for (T, I) also (L*D, H); zeros where None.

    Raises:
        ConversionError: the module cannot be exported as it is, or its input would be frozen.
        ValueError: shapes that do not fit, as torch says it.
    """
    if module.training and module.dropout and module.num_layers > 1:
        raise ConversionError(
            f"{module} is in training mode with dropout between its layers", "Call model.eval() before the export"
        )
    x, lengths, batched = _time_major(module, given)
    if x.dim() != 3 or x.shape[2] != module.input_size:
        raise ValueError(f"{module} takes an input of {module.input_size} features, not {tuple(given.shape)}")
    if is_dynamic(x.shape[0]) and x.shape[0].node.hint == 1:  # type: ignore[attr-defined]
        raise ConversionError(
            "the example has one step, and torch takes a size of 1 for a constant",
            "Give an example of at least 2 steps; 5 steps and 3 rows are a good one",
        )
    h_0 = _initial_state(module, x, hx, batched)
    D, last = 2 if module.bidirectional else 1, []
    for layer in range(module.num_layers):
        x, h_n = draw(module, layer, x, None if h_0 is None else h_0[layer * D : (layer + 1) * D], lengths)
        last.append(h_n)
    states = torch.cat(last) if len(last) > 1 else last[0]
    if isinstance(given, PackedSequence):
        return given._replace(data=x), states
    if not batched:
        return x.squeeze(1), states.squeeze(1)
    return (x.transpose(0, 1) if module.batch_first else x), states


def _time_major(module: nn.RNN, given: Any) -> tuple[Tensor, Tensor | None, bool]:
    """(T, B, I), the lengths, and whether there was a batch axis."""
    if isinstance(given, PackedSequence):
        if given.data.dim() != 3:
            raise ConversionError(
                "the sequence was packed before the export began, and its lengths would be frozen",
                "Call pack_padded_sequence inside the model, with the lengths as an input of the model",
            )
        return given.data, given.batch_sizes, True
    if given.dim() == 2:
        return given.unsqueeze(1), None, False
    return (given.transpose(0, 1) if module.batch_first and given.dim() == 3 else given), None, True


def _initial_state(module: nn.RNN, x: Tensor, hx: Tensor | None, batched: bool) -> Tensor | None:
    if hx is None:
        return None
    rows = module.num_layers * (2 if module.bidirectional else 1)
    h_0 = hx if batched else hx.unsqueeze(1)
    if h_0.dim() != 3 or h_0.shape[0] != rows or h_0.shape[2] != module.hidden_size:
        raise ValueError(f"{module} takes h_0 ({rows}, B, {module.hidden_size}), not {tuple(hx.shape)}")
    if is_dynamic(x.shape[1]) and not is_dynamic(h_0.shape[1]):
        raise ConversionError(
            f"h_0 has a fixed batch of {h_0.shape[1]}, while the input's is dynamic",
            "Make it of x.shape, or give its axis the name of the batch in dynamic_shapes",
        )
    torch._check(h_0.shape[1] == x.shape[1])  # type: ignore[no-untyped-call]
    return h_0


def _draw_rnn(
    module: nn.RNN, layer: int, x: Tensor, h_0: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One ONNX RNN for all directions of a layer."""
    if x.dtype != torch.float32:
        # A Scan would take float16 too, but no whole model in it can be verified.
        scan = "--form scan, in Python form='scan', or " if x.dtype == torch.float64 else ""
        raise ConversionError(
            f"the ONNX operator RNN is float32 in ONNX Runtime, and the model is {x.dtype}", f"Use {scan}model.float()"
        )
    ends = [suffix(layer, direction) for direction in range(2 if module.bidirectional else 1)]

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(module, name + end) for end in ends])

    bias = torch.cat([stacked("bias_ih"), stacked("bias_hh")], dim=1) if module.bias else None
    T, B, D, H = x.shape[0], x.shape[1], len(ends), module.hidden_size
    attributes: dict[str, Any] = {"hidden_size": H}
    attributes["activations"] = ["Tanh" if module.nonlinearity == "tanh" else "Relu"] * D
    if module.bidirectional:
        attributes["direction"] = "bidirectional"
    states, last = torch.onnx.ops.symbolic_multi_out(
        "RNN",
        (
            x,
            stacked("weight_ih"),
            stacked("weight_hh"),
            bias,
            None if lengths is None else lengths.to(torch.int32),
            h_0,
        ),
        attributes,
        dtypes=(x.dtype, x.dtype),
        shapes=((T, D, B, H), (D, B, H)),
    )
    return (states.transpose(1, 2).flatten(2) if module.bidirectional else states.squeeze(1)), last


def _draw_scan(
    module: nn.RNN, layer: int, x: Tensor, h_0: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One Scan of the single-matrix cell per direction; past a sequence's end its state stands still."""
    inside = None if lengths is None else valid_steps(lengths, x.shape[0]).unsqueeze(2)  # (T, B, 1)
    if h_0 is None:
        h_0 = x.new_zeros(2 if module.bidirectional else 1, x.shape[1], module.hidden_size)
    states, last = [], []
    for direction in range(2 if module.bidirectional else 1):
        end = suffix(layer, direction)
        matrix = torch.cat([getattr(module, f"weight_ih{end}"), getattr(module, f"weight_hh{end}")], dim=1)
        bias = getattr(module, f"bias_ih{end}") + getattr(module, f"bias_hh{end}") if module.bias else None
        step = single_matrix_step(matrix, bias, module.nonlinearity)
        outputs, h_n = over_valid_steps(step, h_0[direction], x, inside, reverse=direction == 1)
        states.append(outputs)
        last.append(h_n)
    return torch.cat(states, dim=-1) if len(states) > 1 else states[0], torch.stack(last)


DRAW_LAYER: dict[str, DrawLayer] = {"rnn": _draw_rnn, "scan": _draw_scan}
