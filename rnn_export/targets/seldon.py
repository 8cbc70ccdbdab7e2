"""``seldon``: Triton's model repository, and the Model of Seldon Core 2 that runs on its Triton."""

from pathlib import Path

from rnn_export.targets import Shipment, target
from rnn_export.targets._kubernetes import STORAGE, kubernetes_name, write_manifest
from rnn_export.targets._tree import write_repository

ROOM = 2**26  # bytes for the session and its runs: an estimate, to be corrected by whoever watches the pod


@target(
    "seldon",
    summary="Seldon Core 2 with Triton",
    holds_state=True,
    triton_release=True,
    serve="upload DIR/models, write its place into DIR/k8s/seldon-model.yaml, and kubectl apply -f it",
)
def bundle(shipment: Shipment, root: Path) -> Path:
    model = write_repository(shipment, root, "onnxruntime")
    size = sum(file.stat().st_size for file in model.parent.iterdir())
    memory = -(-(ROOM + 3 * size) // 2**20)  # the file, the parsed model and prepacked weights
    fields = {
        "apiVersion": "mlops.seldon.io/v1alpha1",
        "kind": "Model",
        "metadata": {"name": kubernetes_name(shipment.name)},
        "spec": {
            "storageUri": f"{STORAGE}/models/{shipment.name}",
            "requirements": ["onnx"],
            "memory": f"{memory}Mi",
        },
    }
    write_manifest(root, "seldon-model.yaml", "Upload the folder models, and write its place into storageUri.", fields)
    return model
