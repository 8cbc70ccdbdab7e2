"""A whole model's outputs: torch's own in float32, and the truth in float64."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from rnn_export.errors import SourceError
from rnn_export.whole_model.sizes import tensors

Array = NDArray[Any]


@dataclass(frozen=True)
class Expected:
    """What a model answers to one input: every output in float64, and in the model's own type."""

    truth: list[Array]
    own: list[Array]


class Truth:
    """A model and its copy in float64, both as they are in evaluation; the model itself is not changed.

    Raises:
        SourceError: the model cannot be copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        try:
            self._double = copy.deepcopy(model).double()
        except Exception as error:  # whatever a part of the user's raises
            raise SourceError(
                f"the model cannot be copied, and a copy in float64 is the truth that it is held against: {error}",
                "Take weight_norm and its like off: torch.nn.utils.parametrize.remove_parametrizations",
            ) from error

    def of(self, inputs: tuple[Any, ...]) -> Expected:
        """The outputs of one input.

        Raises:
            SourceError: the model runs in its own type, but not in float64.
            Exception: whatever the model itself raises.
        """
        with torch.no_grad():
            own = _arrays(self._model(*inputs))
        with torch.no_grad(), _float64_by_default():
            try:
                return Expected(_arrays(self._double(*_widened(inputs))), own)
            except RuntimeError as error:
                raise SourceError(
                    f"the model does not run in float64, which is the truth that it is held against: {error}",
                    "Make its tensors of the input's type, as x.new_zeros does",
                ) from error

    @property
    def parameters(self) -> set[str]:
        """The names of the model's parameters."""
        return {name for name, _ in self._double.named_parameters(remove_duplicate=False)}

    def without_effect(self, inputs: tuple[Any, ...]) -> set[str]:
        """The names of the parameters that no floating-point output depends on: an exporter may leave them out."""
        pairs = self._double.named_parameters(remove_duplicate=False)
        trained = {name: parameter for name, parameter in pairs if parameter.requires_grad}
        # a model that detaches what it computes has no gradients
        with torch.enable_grad(), _float64_by_default(), suppress(RuntimeError):
            outputs = tensors(self._double(*_widened(inputs)))
            total = sum(output.sum() for output in outputs if output.is_floating_point())
            if isinstance(total, torch.Tensor) and trained:
                gradients = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
                by_name = zip(trained, gradients, strict=True)
                return {name for name, gradient in by_name if gradient is None or not gradient.any()}
        return set()


@contextmanager
def _float64_by_default() -> Iterator[None]:
    """For tensors that a model makes of nothing, such as torch.zeros(8)."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and each of its parts as it was afterwards."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _arrays(outputs: Any) -> list[Array]:
    return [tensor.detach().cpu().numpy() for tensor in tensors(outputs)]


def _widened(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    def wide(value: Any) -> Any:
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    widened: tuple[Any, ...] = pytree.tree_map(wide, inputs)
    return widened
