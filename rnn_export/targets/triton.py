"""``triton``: a model repository for Triton's ONNX Runtime backend."""

from pathlib import Path

from rnn_export.targets import Shipment, target
from rnn_export.targets._tree import write_repository


@target(
    "triton",
    summary="Triton with its ONNX Runtime backend",
    holds_state=True,
    triton_release=True,
    serve="tritonserver --model-repository=DIR/models",
)
def bundle(shipment: Shipment, root: Path) -> Path:
    return write_repository(shipment, root, "onnxruntime")
