"""A live server that speaks the Open Inference Protocol: Triton, MLServer, KServe and others.

Which server is said by variables of the process, which `verify --url` and `probe` set. Nothing is started here, and the
server's own packages matter to nobody.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Absent, Run, runtime
from rnn_export.runtimes._open_inference import Client, ServerError
from rnn_export.runtimes._plans import carry_out
from rnn_export.runtimes._server_settings import ENCODING, MODEL, SEQUENCES, URL


@runtime(
    "open-inference",
    requires=("tritonclient[http,grpc]==2.73.0", "numpy==2.4.6"),  # beside us its protobuf would be another than onnx's
    own_environment=True,
    summary="a live server, over the Open Inference Protocol",
    reads="server",
    by_default=False,
)
def prepare(_: Path) -> Run:
    url, model = os.environ.get(URL), os.environ.get(MODEL, "")
    if not url:
        raise Absent("no server is named: add --url http://HOST:PORT or grpc://HOST:PORT, and --model NAME")
    client = Client(url, os.environ.get(ENCODING) or "auto")
    _check_ready(client, url, model)
    whole_sequences = os.environ.get(SEQUENCES) == "1"

    def connect(timeout: float) -> Client:
        return Client(url, client.encoding if client.encoding != "grpc" else "auto", timeout)

    def run(inputs: Any) -> dict[str, Any]:
        if "plan" in inputs:
            arrays = {name: array for name, array in inputs.items() if name != "plan"}
            return carry_out(json.loads(inputs["plan"].tobytes()), arrays, connect, model)
        if not model:
            raise ServerError("no model is named: add --model NAME")
        sequence = 1 + secrets.randbits(48) if whole_sequences else 0
        return client.infer(model, inputs, sequence, start=whole_sequences, end=whole_sequences)

    return run


def _check_ready(client: Client, url: str, model: str) -> None:
    """Raises ServerError where the server or the model is not ready.

    A server alone has only to live: Triton is not ready while any model of it could not be loaded.
    """
    if not client.live():
        raise ServerError(f"{url} is not live")
    if model and not client.ready():
        raise ServerError(f"{url} is not ready")
    if model and not client.model_ready(model):
        raise ServerError(f"the model {model} at {url} is not ready, or there is none of that name")
