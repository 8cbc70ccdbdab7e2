"""Triton, the genuine server of nvidia-pytriton, on this machine: ONNX Runtime in its python backend, over gRPC.

One server for each process, without models at first; each network that is prepared is loaded into it as it is, with
its own axes and nothing joined.
"""

import json
import shutil
from functools import cache, partial
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._onnxruntime import LACKS
from rnn_export.runtimes._open_inference import Client
from rnn_export.runtimes._served import OwnServer, new_place, start_own_server, tensors_of
from rnn_export.runtimes._triton import held_regions, new_regions, start_triton

MODEL = Path(__file__).parents[1] / "data" / "triton" / "plain" / "model.py"


@runtime(
    "triton",
    # onnxruntime is what its python backend runs; tritonclient comes with it
    requires=("nvidia-pytriton==0.7.0", "onnxruntime==1.32.0", "numpy==1.26.4"),
    own_environment=True,
    summary="Triton 2.51.0, ONNX Runtime in its python backend",  # the server's version, not the wheel's
    lacks=LACKS,
    limit_address_space=False,  # of the server's processes, which map files and shared memory
    by_default=False,
    single_threaded=True,
)
def prepare(folder: Path) -> Run:
    server, regions, client = _server()
    inputs, outputs = tensors_of(folder / "model.onnx")
    place = new_place(server)
    (place / "1").mkdir()
    shutil.copyfile(MODEL, place / "1" / "model.py")
    config = {
        "backend": "python",
        "max_batch_size": 0,  # every axis is the network's own
        "input": [_configured(*tensor) for tensor in inputs],
        "output": [_configured(*tensor) for tensor in outputs],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": {"path": {"string_value": str((folder / "model.onnx").resolve())}},
    }
    with held_regions(regions):
        client.load(place.name, json.dumps(config), {})

    def run(arrays: Any) -> dict[str, Any]:
        return client.infer(place.name, arrays)

    return run


@cache
def _server() -> tuple[OwnServer, str, Client]:
    """The one server of this process, how its regions in shared memory are called, and a client over gRPC."""
    regions = new_regions()
    server = start_own_server(partial(start_triton, regions=regions, explicit=True))
    return server, regions, Client(server.grpc)


def _configured(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "data_type": f"TYPE_{datatype}", "dims": shape}
