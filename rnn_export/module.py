"""The network as ``torch.nn.Module``: the single-matrix RNN, the two-matrix form, and the way from and to torch.

Both modules take ``torch.nn.RNN``'s arguments and give its outputs. In eager use they are a plain loop over
time, which trains at eager speed; while a model is being exported the loop becomes torch's ``scan``.
"""

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rnn_export.element_types import BFLOAT16, FLOATS
from rnn_export.errors import SourceError
from rnn_export.recurrence import Step, exporting_now, over_valid_steps
from rnn_export.spec import RNNSpec, suffix
from rnn_export.weights import Weights

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": lambda z: z,
}


class _ElmanRNN(nn.Module):
    """What the two forms share: everything but the cell.

    A subclass names its parameters in ``_parameter_shapes`` and gives the cell in ``_step``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.spec = RNNSpec(input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, bidirectional)
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"dropout must be a probability between 0 and 1, not {dropout}")
        self.dropout = dropout
        for name, shape in self._parameter_shapes(self.spec).items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/sqrt(H), as ``torch.nn.RNN`` does."""
        bound = 1 / math.sqrt(self.spec.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    @staticmethod
    def _parameter_shapes(spec: RNNSpec) -> dict[str, tuple[int, ...]]:
        raise NotImplementedError

    def _step(self, layer: int, direction: int) -> Step:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return str(self.spec)

    def forward(
        self,
        input: Tensor,  # noqa: A002
        h_0: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run over time.

        Args:
            input: (T, B, I), (B, T, I) when ``batch_first``, or unbatched (T, I).
            h_0: (L*D, B, H), unbatched (L*D, H); zeros when absent.
            lengths: (B,) integers, each in 1..T, in any order: the same as torch's packed sequences, with
                output padded by 0 to T. All T when absent.

        Returns:
            output (T, B, D*H) in the input's layout, and h_n in h_0's shape.

        Raises:
            ValueError: a shape that does not fit, or a sequence of length 0.
            RuntimeError: the model is being traced by TorchScript, which would unroll the loop.
        """
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            raise RuntimeError("tracing would freeze the length: use torch.onnx.export(..., dynamo=True)")
        spec = self.spec
        batched = self._check(input, h_0)
        x = input if batched else input.unsqueeze(1)
        if batched and spec.batch_first:
            x = x.transpose(0, 1)
        if h_0 is None:
            h_0 = x.new_zeros(spec.num_layers * spec.num_directions, x.shape[1], spec.hidden_size)
        elif not batched:
            h_0 = h_0.unsqueeze(1)
        inside = None
        if lengths is not None:
            inside = (torch.arange(x.shape[0], device=x.device)[:, None] < lengths).unsqueeze(-1)
        h_n = []
        for layer in range(spec.num_layers):
            outputs = []
            for direction in range(spec.num_directions):
                index = layer * spec.num_directions + direction
                states, last = over_valid_steps(
                    self._step(layer, direction), h_0[index], x, inside, reverse=direction == 1
                )
                outputs.append(states)
                h_n.append(last)
            x = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
            if self.dropout and self.training and layer < spec.num_layers - 1:
                x = functional.dropout(x, self.dropout)
        last_states = torch.stack(h_n)
        if not batched:
            return x.squeeze(1), last_states.squeeze(1)
        return (x.transpose(0, 1) if spec.batch_first else x), last_states

    def _check(self, x: Tensor, h_0: Tensor | None) -> bool:
        """Whether the input is batched.

        Raises:
            ValueError: a shape that does not fit, or a sequence of length 0.
        """
        spec = self.spec
        if x.dim() not in (2, 3) or x.shape[-1] != spec.input_size:
            raise ValueError(f"{spec} takes (T, {spec.input_size}) or 3 axes, not {tuple(x.shape)}")
        batched = x.dim() == 3
        time = 1 if batched and spec.batch_first else 0
        # While exporting, T is symbolic, and a comparison would pin it.
        if not exporting_now() and x.shape[time] == 0:
            raise ValueError("a sequence must have at least one step")
        if h_0 is not None:
            batch = (x.shape[1 - time],) if batched else ()
            expected = (spec.num_layers * spec.num_directions, *batch, spec.hidden_size)
            if h_0.shape != expected:
                raise ValueError(f"h_0 must have shape {tuple(expected)}, not {tuple(h_0.shape)}")
        return batched


class SingleMatrixRNN(_ElmanRNN):
    """One matrix [W_ih | W_hh] and one bias per layer and direction: ``h' = act([x, h] @ matrix.T + bias)``.

    The arguments, the inputs and the outputs are ``torch.nn.RNN``'s. The parameters are ``matrix_l0``
    (H, I+H), ``bias_l0`` (H,), then ``matrix_l0_reverse`` and so on, named as torch names its own.
    """

    @staticmethod
    def _parameter_shapes(spec: RNNSpec) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, direction in spec.cells():
            end, H = suffix(layer, direction), spec.hidden_size
            shapes[f"matrix{end}"] = (H, spec.layer_input_size(layer) + H)
            if spec.bias:
                shapes[f"bias{end}"] = (H,)
        return shapes

    def _step(self, layer: int, direction: int) -> Step:
        end = suffix(layer, direction)
        matrix = self.get_parameter(f"matrix{end}")
        bias = self.get_parameter(f"bias{end}") if self.spec.bias else None
        return single_matrix_step(matrix, bias, self.spec.nonlinearity)

    @classmethod
    def from_weights(cls, weights: Weights) -> Self:
        """The network of these weights; b_ih and b_hh are added in the weights' own type."""
        module = cls(**weights.spec.to_dict(), dtype=_torch_dtype(weights))
        with torch.no_grad():
            for layer, direction in weights.spec.cells():
                end = suffix(layer, direction)
                matrix, bias = weights.single_matrix(layer, direction)
                module.get_parameter(f"matrix{end}").copy_(_tensor(matrix))
                if weights.spec.bias:
                    module.get_parameter(f"bias{end}").copy_(_tensor(bias))
        return module

    def to_weights(self) -> Weights:
        """torch's two matrices; the bias becomes bias_ih, and bias_hh is zero."""
        return Weights.from_single_matrix(self.spec, _arrays(self))


class TwoMatrixRNN(_ElmanRNN):
    """``h' = act(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)``, with ``torch.nn.RNN``'s parameter names."""

    @staticmethod
    def _parameter_shapes(spec: RNNSpec) -> dict[str, tuple[int, ...]]:
        return spec.weight_shapes()

    def _step(self, layer: int, direction: int) -> Step:
        end, activation = suffix(layer, direction), _ACTIVATIONS[self.spec.nonlinearity]
        weight_ih, weight_hh = self.get_parameter(f"weight_ih{end}"), self.get_parameter(f"weight_hh{end}")
        bias_ih = self.get_parameter(f"bias_ih{end}") if self.spec.bias else None
        bias_hh = self.get_parameter(f"bias_hh{end}") if self.spec.bias else None

        def step(h: Tensor, x_t: Tensor) -> Tensor:
            return activation(functional.linear(x_t, weight_ih, bias_ih) + functional.linear(h, weight_hh, bias_hh))

        return step

    @classmethod
    def from_weights(cls, weights: Weights) -> Self:
        """The network of these weights, bit for bit."""
        module = cls(**weights.spec.to_dict(), dtype=_torch_dtype(weights))
        module.load_state_dict(_state_dict(weights))
        return module

    def to_weights(self) -> Weights:
        """The weights, bit for bit."""
        return Weights(self.spec, _arrays(self))


class SingleMatrixRNNCell(nn.Module):
    """One step of the single-matrix RNN, with ``torch.nn.RNNCell``'s arguments.

    Parameters: ``matrix`` (H, I+H) and ``bias`` (H,).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.spec = RNNSpec(input_size, hidden_size, nonlinearity=nonlinearity, bias=bias)
        bound = 1 / math.sqrt(hidden_size)
        matrix = torch.empty(hidden_size, input_size + hidden_size, device=device, dtype=dtype)
        self.matrix = nn.Parameter(nn.init.uniform_(matrix, -bound, bound))
        vector = torch.empty(hidden_size, device=device, dtype=dtype)
        self.bias = nn.Parameter(nn.init.uniform_(vector, -bound, bound)) if bias else None

    def forward(self, input: Tensor, h: Tensor | None = None) -> Tensor:  # noqa: A002
        """input (B, I) or (I,), h (B, H) or (H,), zeros when absent; returns the next state in h's shape."""
        if h is None:
            h = input.new_zeros(*input.shape[:-1], self.spec.hidden_size)
        following: Tensor = single_matrix_step(self.matrix, self.bias, self.spec.nonlinearity)(h, input)
        return following

    @classmethod
    def from_weights(cls, weights: Weights) -> Self:
        """The cell of a network of one layer and one direction.

        Raises:
            SourceError: the network has more of them.
        """
        spec = weights.spec
        if spec.cells() != [(0, 0)]:
            raise SourceError(f"{spec} has more than one cell")
        cell = cls(spec.input_size, spec.hidden_size, spec.bias, spec.nonlinearity, dtype=_torch_dtype(weights))
        matrix, bias = weights.single_matrix(0, 0)
        with torch.no_grad():
            cell.matrix.copy_(_tensor(matrix))
            if cell.bias is not None:
                cell.bias.copy_(_tensor(bias))
        return cell

    def to_weights(self) -> Weights:
        """torch's two matrices as a network of one layer; the bias becomes bias_ih, and bias_hh is zero."""
        return Weights.from_single_matrix(self.spec, {f"{k}_l0": v for k, v in _arrays(self).items()})


def from_torch(module: nn.Module) -> Weights:
    """The weights of a ``torch.nn.RNN`` or ``RNNCell``, or of a module of this package, bit for bit.

    Raises:
        SourceError: the module is none of these; LSTM and GRU are named.
    """
    if isinstance(module, SingleMatrixRNN | TwoMatrixRNN | SingleMatrixRNNCell):
        return module.to_weights()
    if isinstance(module, nn.RNN):
        spec = RNNSpec(
            module.input_size,
            module.hidden_size,
            module.num_layers,
            module.nonlinearity,
            module.bias,
            module.batch_first,
            module.bidirectional,
        )
        # by attribute and not by parameter: weight_norm and its like compute a weight from others
        return Weights(spec, {name: _array(name, getattr(module, name)) for name in spec.weight_shapes()})
    if isinstance(module, nn.RNNCell):
        spec = RNNSpec(module.input_size, module.hidden_size, nonlinearity=module.nonlinearity, bias=module.bias)
        return Weights(spec, {f"{name}_l0": array for name, array in _arrays(module).items()})
    raise SourceError(f"{type(module).__name__} is not an RNN", "Pass torch.nn.RNN, RNNCell or SingleMatrixRNN")


def to_torch(weights: Weights) -> nn.RNN:
    """A ``torch.nn.RNN`` with these weights, bit for bit.

    Raises:
        SourceError: the recurrence is linear, which ``torch.nn.RNN`` does not have.
    """
    if weights.spec.nonlinearity == "identity":
        raise SourceError("torch.nn.RNN has no linear recurrence", "Use SingleMatrixRNN")
    module = nn.RNN(**weights.spec.to_dict(), dtype=_torch_dtype(weights))
    module.load_state_dict(_state_dict(weights))
    return module


def single_matrix_step(matrix: Tensor, bias: Tensor | None, nonlinearity: str) -> Step:
    activation = _ACTIVATIONS[nonlinearity]

    def step(h: Tensor, x_t: Tensor) -> Tensor:
        return activation(functional.linear(torch.cat([x_t, h], dim=-1), matrix, bias))

    return step


def _arrays(module: nn.Module) -> dict[str, Any]:
    return {name: _array(name, parameter) for name, parameter in module.named_parameters()}


def _array(name: str, tensor: Tensor) -> Any:
    if tensor.dtype not in [getattr(torch, kind) for kind in FLOATS]:
        raise SourceError(f"{name} is {tensor.dtype}", "Convert the module: module.float()")
    values = tensor.detach().cpu()
    if values.dtype == torch.bfloat16:  # numpy takes its bits
        return values.view(torch.int16).numpy().view(BFLOAT16)
    return values.numpy()


def _state_dict(weights: Weights) -> dict[str, Tensor]:
    return {name: _tensor(array) for name, array in weights.items()}


def _tensor(array: NDArray[np.floating]) -> Tensor:
    """A copy: an array of Weights cannot be written to."""
    if array.dtype.name == "bfloat16":
        return torch.tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.tensor(array)


def _torch_dtype(weights: Weights) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, weights.dtype.name)
    return dtype
