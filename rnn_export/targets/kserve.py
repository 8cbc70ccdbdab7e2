"""``kserve``: Triton's model repository, and the InferenceService that runs Triton on it."""

from pathlib import Path

from rnn_export.targets import Shipment, target
from rnn_export.targets._kubernetes import STORAGE, kubernetes_name, write_manifest
from rnn_export.targets._tree import write_repository


@target(
    "kserve",
    summary="KServe with Triton",
    holds_state=True,
    triton_release=True,
    serve="upload DIR/models, write its place into DIR/k8s/kserve.yaml, and kubectl apply -f DIR/k8s/kserve.yaml",
)
def bundle(shipment: Shipment, root: Path) -> Path:
    model = {
        "modelFormat": {"name": "onnx"},
        "protocolVersion": "v2",  # without it KServe finds no runtime for ONNX
        "runtime": "kserve-tritonserver",
        "storageUri": f"{STORAGE}/models",
    }
    head = "Upload the folder models, and write its place into storageUri."
    if shipment.interface.state == "server":
        head += "\nThe states are in the server: one replica, or requests of a sequence that always reach the same one."
    replicas = {"minReplicas": 1, "maxReplicas": 1} if shipment.interface.state == "server" else {}
    fields = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": kubernetes_name(shipment.name)},
        "spec": {"predictor": {**replicas, "model": model}},
    }
    write_manifest(root, "kserve.yaml", head, fields)
    return write_repository(shipment, root, "onnxruntime")
