"""Triton, the genuine server of nvidia-pytriton, on this machine: ONNX Runtime in its python backend, over gRPC.

One server for each process, without models at first; each network that is prepared is loaded into it as it is, with
its own axes and nothing joined.
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
from rnn_export.runtimes._onnxruntime import LACKS
from rnn_export.runtimes._open_inference import Client
from rnn_export.runtimes._served import tensors_of
from rnn_export.runtimes._triton import forget_shared_memory, start_triton

MODEL = Path(__file__).parents[1] / "data" / "triton" / "plain" / "model.py"
START = 50.0  # seconds: it takes 0.4, and what asks this process waits 60
_NUMBERS = count()


@runtime(
    "triton",
    # onnxruntime is what its python backend runs; tritonclient comes with it
    requires=("nvidia-pytriton==0.7.0", "onnxruntime==1.32.0", "numpy==1.26.4"),
    own_environment=True,
    summary="Triton's server, ONNX Runtime in its python backend",
    lacks=LACKS,
    limit_address_space=False,  # of the server's processes, which map files and shared memory
    by_default=False,
)
def prepare(folder: Path) -> Run:
    server, repository, port = _server()
    name = f"network_{next(_NUMBERS)}"
    inputs, outputs = tensors_of(folder / "model.onnx")
    place = repository / name / "1"
    place.mkdir(parents=True)
    shutil.copyfile(MODEL, place / "model.py")
    config = {
        "backend": "python",
        "max_batch_size": 0,  # every axis is the network's own
        "input": [_configured(*tensor) for tensor in inputs],
        "output": [_configured(*tensor) for tensor in outputs],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": {"path": {"string_value": str((folder / "model.onnx").resolve())}},
    }
    server.load(name, json.dumps(config), {})
    forget_shared_memory(port)

    def run(arrays: Any) -> dict[str, Any]:
        return server.infer(name, arrays)

    return run


@cache
def _server() -> tuple[Client, Path, int]:
    """The one server of this process, its model repository, and its port over HTTP."""
    scratch = Path(tempfile.mkdtemp(prefix="triton-"))
    repository = scratch / "repository"
    repository.mkdir()
    http, grpc = free_ports(2)
    log = scratch / "server.log"
    server = start_triton(
        Path(sys.prefix), repository, http=http, grpc=grpc, explicit=True, leads=False, scratch=scratch, log=log
    )
    wait_ready(f"http://{HOST}:{http}", server, START, log)
    return Client(f"grpc://{HOST}:{grpc}"), repository, http


def _configured(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "data_type": f"TYPE_{datatype}", "dims": shape}
