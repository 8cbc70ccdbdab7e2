"""The recurrent networks that a model holds."""

from torch import nn

from rnn_export.errors import SourceError
from rnn_export.module import SingleMatrixRNN, TwoMatrixRNN, from_torch
from rnn_export.weights import Weights


def networks_of(model: nn.Module) -> dict[str, Weights]:
    """The weights of every recurrent network of the model, by its name in ``named_modules``.

    Raises:
        SourceError: weights that are neither float32 nor float64.
    """
    kinds = (nn.RNN, SingleMatrixRNN, TwoMatrixRNN)
    networks = {name: from_torch(module) for name, module in model.named_modules() if isinstance(module, kinds)}
    for name, weights in networks.items():
        if weights.dtype.name not in ("float32", "float64"):
            hint = "A whole model is exported in float32 or float64: model.float()"
            raise SourceError(f"{name or 'the model'} is {weights.dtype}", hint)
    return networks
