"""Which backend of Triton runs a model."""

from pathlib import Path

from rnn_export.model_config import Config
from rnn_export.repository.versions import folders_in
from rnn_export.rules._model import ENSEMBLE, ONNX, PYTHON

# Where nothing is named, Triton takes the backend of the first of these that it finds. It looks for them in this order.
_FILES = {
    "model.savedmodel": "tensorflow",
    "model.graphdef": "tensorflow",
    "model.plan": "tensorrt",
    "model.onnx": ONNX,
    "model.xml": "openvino",
    "model.pt": "pytorch",
    "model.py": PYTHON,
}
_NO_FOLDERS = ("model.graphdef", "model.plan", "model.pt")  # a folder of that name is passed over
_PLATFORMS = {"ensemble": ENSEMBLE, "onnxruntime_onnx": ONNX}  # as older configurations name them


def backend_of(folder: Path, config: Config | None) -> str:
    """The backend, found as Triton does; empty where nothing tells.

    Args:
        folder: of the model.
        config: its configuration.
    """
    if config is not None:
        if config.backend:
            return str(config.backend)
        if config.platform:
            return _PLATFORMS.get(config.platform, str(config.platform))
        if config.WhichOneof("scheduling") == "ensemble_scheduling":
            return ENSEMBLE
        if config.default_model_filename:
            return _FILES.get(config.default_model_filename, "")
    for first in folders_in(folder)[:1]:  # the first by name, also of several versions
        for file, backend in _FILES.items():
            place = folder / first / file
            if place.exists() and not (file in _NO_FOLDERS and place.is_dir()):
                return backend
    return ""
