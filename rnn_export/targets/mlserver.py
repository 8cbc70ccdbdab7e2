"""``mlserver``: MLServer, with the file of Python that runs ONNX there. Clients hold the state."""

import json
import shutil
from pathlib import Path
from typing import Any

from rnn_export.serving import Tensor
from rnn_export.targets import Shipment, target
from rnn_export.targets._tree import VERSION, write_model

RUNTIME = Path(__file__).parent.parent / "data" / "mlserver" / "ort_runtime.py"


@target("mlserver", summary="MLServer", serve="rnn-export serve DIR")
def bundle(shipment: Shipment, root: Path) -> Path:
    folder = root / "models" / shipment.name
    model = write_model(shipment, folder / VERSION)
    shutil.copyfile(RUNTIME, folder / RUNTIME.name)
    interface = shipment.interface
    settings = {
        "name": shipment.name,
        "implementation": f"{RUNTIME.stem}.OrtRuntime",
        "platform": "onnx",
        "versions": [VERSION],
        "parameters": {"uri": f"./{VERSION}/model.onnx", "version": VERSION},
        "inputs": [_metadata(tensor) for tensor in interface.sent],
        "outputs": [_metadata(tensor) for tensor in interface.outputs],
    }
    (folder / "model-settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    return model


def _metadata(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [-1, *tensor.shape]}
