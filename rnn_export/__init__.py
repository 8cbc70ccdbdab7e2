"""Export PyTorch RNNs to ONNX and prove that every runtime computes the same network.

Importing the package loads neither torch nor onnx nor numpy: each public name is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "Artifact": "artifact",
    "Order": "shipping",
    "RNNSpec": "spec",
    "RnnExportError": "errors",
    "SingleMatrixRNN": "module",
    "SingleMatrixRNNCell": "module",
    "TwoMatrixRNN": "module",
    "Weights": "weights",
    "describe": "pipeline",
    "export": "pipeline",
    "export_model": "whole_model.model_folder",
    "exporting": "conversion.replacement",
    "from_torch": "module",
    "over_time": "recurrence",
    "probe": "live_server.probing",
    "ship": "shipping",
    "to_torch": "module",
    "verify": "pipeline",
    "verify_model": "whole_model.model_verdict",
}
__all__ = ["__version__", *sorted(_HOME)]

if TYPE_CHECKING:
    from rnn_export.artifact import Artifact as Artifact
    from rnn_export.conversion.replacement import exporting as exporting
    from rnn_export.errors import RnnExportError as RnnExportError
    from rnn_export.live_server.probing import probe as probe
    from rnn_export.module import SingleMatrixRNN as SingleMatrixRNN
    from rnn_export.module import SingleMatrixRNNCell as SingleMatrixRNNCell
    from rnn_export.module import TwoMatrixRNN as TwoMatrixRNN
    from rnn_export.module import from_torch as from_torch
    from rnn_export.module import to_torch as to_torch
    from rnn_export.pipeline import describe as describe
    from rnn_export.pipeline import export as export
    from rnn_export.pipeline import verify as verify
    from rnn_export.recurrence import over_time as over_time
    from rnn_export.shipping import Order as Order
    from rnn_export.shipping import ship as ship
    from rnn_export.spec import RNNSpec as RNNSpec
    from rnn_export.weights import Weights as Weights
    from rnn_export.whole_model.model_folder import export_model as export_model
    from rnn_export.whole_model.model_verdict import verify_model as verify_model


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
