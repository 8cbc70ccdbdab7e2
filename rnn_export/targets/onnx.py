"""``onnx``: the file alone, for a program of your own or a server that is told the rest elsewhere."""

from pathlib import Path

from rnn_export.targets import Shipment, target
from rnn_export.targets._tree import write_model


@target(
    "onnx",
    summary="one ONNX file and its card",
    open_inference=False,
    serve="open DIR/model/model.onnx in ONNX Runtime",
)
def bundle(shipment: Shipment, root: Path) -> Path:
    return write_model(shipment, root / "model")
