"""MLServer on this machine: ONNX Runtime in a runtime of ours for it, over gRPC.

One server for each process, without models at first; each network that is prepared is loaded into it.
"""

import json
import shutil
import sys
import tempfile
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._launching import HOST, free_ports, wait_ready
from rnn_export.runtimes._mlserver import start_mlserver
from rnn_export.runtimes._onnxruntime import LACKS
from rnn_export.runtimes._open_inference import Client
from rnn_export.runtimes._served import tensors_of

MODEL = Path(__file__).parents[1] / "data" / "mlserver" / "ort_runtime.py"
START = 50.0  # seconds: it takes 3 to 5, and what asks this process waits 60
_NUMBERS = count()


@runtime(
    "mlserver",
    requires=("mlserver==1.7.1", "onnxruntime==1.32.0", "tritonclient[http,grpc]==2.73.0", "numpy==2.4.6"),
    own_environment=True,
    summary="MLServer, with ONNX Runtime in it",
    lacks=LACKS,
    limit_address_space=False,  # of the server's process, which is not this one
    by_default=False,
)
def prepare(folder: Path) -> Run:
    http, grpc, models = _server()
    name = f"network_{next(_NUMBERS)}"
    inputs, outputs = tensors_of(folder / "model.onnx")
    place = models / name
    place.mkdir()
    shutil.copyfile(MODEL, place / MODEL.name)
    settings = {
        "name": name,
        "implementation": f"{MODEL.stem}.OrtRuntime",
        "platform": "onnx",
        "parameters": {"uri": str((folder / "model.onnx").resolve())},
        "inputs": [_declared(*tensor) for tensor in inputs],
        "outputs": [_declared(*tensor) for tensor in outputs],
    }
    (place / "model-settings.json").write_text(json.dumps(settings))
    http.load(name, "", {})

    def run(arrays: Any) -> dict[str, Any]:
        return grpc.infer(name, arrays)

    return run


@cache
def _server() -> tuple[Client, Client, Path]:
    """The one server of this process: over HTTP, over gRPC, and the folder of its models."""
    scratch = Path(tempfile.mkdtemp(prefix="mlserver-"))
    models = scratch / "models"
    models.mkdir()
    http, grpc = free_ports(2)
    log = scratch / "server.log"
    server = start_mlserver(Path(sys.prefix), models, http=http, grpc=grpc, leads=False, scratch=scratch, log=log)
    wait_ready(f"http://{HOST}:{http}", server, START, log)
    return Client(f"http://{HOST}:{http}", "json"), Client(f"grpc://{HOST}:{grpc}"), models


def _declared(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}
