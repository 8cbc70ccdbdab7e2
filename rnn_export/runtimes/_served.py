"""What the rows share that load networks into a server of their own: the server, its models' places, their tensors."""

import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rnn_export.runtimes._launching import HOST, Process, free_ports, wait_ready

START = 50.0  # seconds: Triton takes 0.4, MLServer 3 to 5, and what asks this process waits 60
DATATYPES = {  # as ONNX Runtime names a type -> as the Open Inference Protocol does
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(int64)": "INT64",
    "tensor(int32)": "INT32",
    "tensor(bool)": "BOOL",
}
Tensors = list[tuple[str, str, list[int]]]  # (name, datatype, sizes), -1 where one is dynamic
_NUMBERS = count()


class Start(Protocol):
    """Starts a server of this environment on a folder of models."""

    def __call__(
        self, environment: Path, models: Path, /, *, http: int, grpc: int, leads: bool, scratch: Path, log: Path
    ) -> Process: ...


class OwnServer(NamedTuple):
    """The one server of this process: the folder of its models, and its URLs over HTTP and gRPC."""

    models: Path
    http: str
    grpc: str


def start_own_server(start: Start) -> OwnServer:
    """A server of this process, without models, ready; it ends with the process.

    Raises:
        ServerDied: it ended, or was not ready in time.
    """
    scratch = Path(tempfile.mkdtemp(prefix="server-"))
    models = scratch / "models"
    models.mkdir()
    http, grpc = free_ports(2)
    log = scratch / "server.log"
    process = start(Path(sys.prefix), models, http=http, grpc=grpc, leads=False, scratch=scratch, log=log)
    wait_ready(f"http://{HOST}:{http}", process, START, log)
    return OwnServer(models, f"http://{HOST}:{http}", f"grpc://{HOST}:{grpc}")


def new_place(server: OwnServer) -> Path:
    """An empty folder for one more model, which is called as it is."""
    place = server.models / f"network_{next(_NUMBERS)}"
    place.mkdir()
    return place


def tensors_of(model: Path) -> tuple[Tensors, Tensors]:
    """The inputs and outputs of an ONNX file, all axes included.

    What ONNX Runtime cannot load or run is said by it here, in its own words.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), _quiet(onnxruntime), providers=["CPUExecutionProvider"])
    return [_tensor(value) for value in session.get_inputs()], [_tensor(value) for value in session.get_outputs()]


def _quiet(onnxruntime: Any) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors only
    return settings


def _tensor(value: Any) -> tuple[str, str, list[int]]:
    return value.name, DATATYPES[value.type], [size if isinstance(size, int) else -1 for size in value.shape]
