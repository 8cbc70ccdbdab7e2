"""``ovms``: OpenVINO Model Server, which holds no states since 2026.3: clients do."""

import json
from pathlib import Path

from rnn_export.targets import Shipment, target
from rnn_export.targets._tree import VERSION, write_model

# Without the hint OpenVINO computes float32 networks in bfloat16 where the processor has it.
PLUGIN = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


@target(
    "ovms",
    summary="OpenVINO Model Server",
    engine="openvino",
    serve="ovms --config_path DIR/ovms/config.json --rest_port 8000 --rest_bind_address 127.0.0.1",
)
def bundle(shipment: Shipment, root: Path) -> Path:
    model = write_model(shipment, root / "models" / shipment.name / VERSION)
    config = {
        "name": shipment.name,
        "base_path": f"../models/{shipment.name}",  # relative to this file
        "target_device": "CPU",
        "plugin_config": PLUGIN,
    }
    (root / "ovms").mkdir()
    written = json.dumps({"model_config_list": [{"config": config}]}, indent=2)
    (root / "ovms" / "config.json").write_text(written + "\n")
    return model
