"""MLServer on this machine: ONNX Runtime in a runtime of ours for it, over gRPC.

One server for each process, without models at first; each network that is prepared is loaded into it.
"""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._mlserver import start_mlserver
from rnn_export.runtimes._onnxruntime import LACKS
from rnn_export.runtimes._open_inference import Client
from rnn_export.runtimes._served import OwnServer, new_place, start_own_server, tensors_of

MODEL = Path(__file__).parents[1] / "data" / "mlserver" / "ort_runtime.py"


@runtime(
    "mlserver",
    requires=("mlserver==1.7.1", "onnxruntime==1.32.0", "tritonclient[http,grpc]==2.73.0", "numpy==2.4.6"),
    own_environment=True,
    summary="MLServer, with ONNX Runtime in it",
    lacks=LACKS,
    limit_address_space=False,  # of the server's process, which is not this one
    by_default=False,
    single_threaded=True,
)
def prepare(folder: Path) -> Run:
    server, http, grpc = _server()
    inputs, outputs = tensors_of(folder / "model.onnx")
    place = new_place(server)
    shutil.copyfile(MODEL, place / MODEL.name)
    settings = {
        "name": place.name,
        "implementation": f"{MODEL.stem}.OrtRuntime",
        "platform": "onnx",
        "parameters": {"uri": str((folder / "model.onnx").resolve())},
        "inputs": [_declared(*tensor) for tensor in inputs],
        "outputs": [_declared(*tensor) for tensor in outputs],
    }
    (place / "model-settings.json").write_text(json.dumps(settings))
    http.load(place.name, "", {})

    def run(arrays: Any) -> dict[str, Any]:
        return grpc.infer(place.name, arrays)

    return run


@cache
def _server() -> tuple[OwnServer, Client, Client]:
    """The one server of this process, and clients over HTTP, which loads models, and gRPC."""
    server = start_own_server(start_mlserver)
    return server, Client(server.http, "json"), Client(server.grpc)


def _declared(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}
