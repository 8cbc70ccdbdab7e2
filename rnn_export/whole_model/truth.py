"""A whole model's outputs: torch's own in float32, the truth in float64, and how far a runtime is from it."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rnn_export.errors import SourceError
from rnn_export.judgement import RATIO_GATE
from rnn_export.whole_model.sizes import tensors

Array = NDArray[Any]


@dataclass(frozen=True)
class Expected:
    """What a model answers to one input: every output in float64, and in the model's own type."""

    truth: list[Array]
    own: list[Array]


@dataclass(frozen=True)
class Comparison:
    """How far a runtime's outputs are from the truth; an empty ``code`` means that nothing is wrong."""

    code: str = ""
    detail: str = ""
    max_abs: float | None = None
    ratio: float | None = None


class Truth:
    """A model and its copy in float64, both as they are in evaluation; the model itself is not changed."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._double = copy.deepcopy(model).double()

    def of(self, inputs: tuple[Any, ...]) -> Expected:
        """The outputs of one input.

        Raises:
            SourceError: the model runs in its own type, but not in float64.
            Exception: whatever the model itself raises.
        """
        own = _outputs(self._model, inputs)
        wide = torch.utils._pytree.tree_map(_widened, inputs)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return Expected(_outputs(self._double, wide), own)
        except RuntimeError as error:
            raise SourceError(
                f"the model does not run in float64, which is the truth that it is held against: {error}",
                "Make its tensors of the input's type, as x.new_zeros does",
            ) from error
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


def without_effect(model: nn.Module, inputs: tuple[Any, ...]) -> list[nn.Parameter]:
    """Parameters that no floating-point output depends on, so that an exporter may leave them out."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad(), suppress(RuntimeError):  # a model that detaches what it computes has no gradients
        total = sum(output.sum() for output in tensors(model(*inputs)) if output.is_floating_point())
        if isinstance(total, torch.Tensor) and trained:
            gradients = torch.autograd.grad(total, trained, allow_unused=True)
            pairs = zip(trained, gradients, strict=True)
            return [parameter for parameter, gradient in pairs if gradient is None or not gradient.any()]
    return []


def compare(found: Sequence[Array], expected: Expected) -> Comparison:
    """Every output: shape and type, integers exactly, floats by the ratio to torch's own error."""
    if len(found) != len(expected.own):
        return Comparison("missing-output", f"the file has {len(found)} outputs, the model {len(expected.own)}")
    max_abs, ratio = 0.0, 0.0
    for number, (ours, own, truth) in enumerate(zip(found, expected.own, expected.truth, strict=True)):
        if ours.shape != own.shape or ours.dtype != own.dtype:
            said = f"{ours.dtype}{list(ours.shape)}, not {own.dtype}{list(own.shape)}"
            return Comparison("wrong-shape", f"output {number} is {said}")
        if not np.issubdtype(own.dtype, np.floating):
            # Where rounding decides, as between two equal logits, torch and its float64 may differ.
            if not (np.array_equal(ours, own) or np.array_equal(ours, truth)):
                wrong = int((ours != truth).sum())
                return Comparison("end-to-end", f"output {number} differs in {wrong} of {truth.size} integers")
            continue
        error, torchs = _distance(ours, truth), _distance(own, truth)
        finite = np.abs(truth[np.isfinite(truth)])
        floor = max(torchs, float(np.finfo(own.dtype).eps) / 2 * float(finite.max(initial=0.0)))
        max_abs = max(max_abs, error)
        ratio = max(ratio, error / floor if floor > 0 else (0.0 if error == 0 else np.inf))
    if not ratio <= RATIO_GATE:
        return Comparison("end-to-end", f"{ratio:.3g} times torch's own error against float64", max_abs, ratio)
    return Comparison(max_abs=max_abs, ratio=ratio)


def _outputs(model: nn.Module, inputs: tuple[Any, ...]) -> list[Array]:
    with torch.no_grad():
        return [tensor.detach().cpu().numpy() for tensor in tensors(model(*inputs))]


def _widened(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _distance(found: Array, truth: Array) -> float:
    """The largest absolute error; inf where one is NaN or infinite and the other is not."""
    same = (found == truth) | (np.isnan(found) & np.isnan(truth))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(found.astype(np.float64) - truth))
    return float(np.nan_to_num(error, nan=np.inf, posinf=np.inf).max(initial=0.0))
