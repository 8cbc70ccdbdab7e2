"""The model repository that Triton and what is built on it read: models/NAME/1/model.onnx with a config.pbtxt."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from rnn_export.forms._external import DATA
from rnn_export.model_config import config_from, write_config
from rnn_export.serving import Interface, Tensor
from rnn_export.targets import Shipment

VERSION = "1"
IDLE_MICROSECONDS = 60_000_000  # a minute: after it an abandoned sequence makes room, and its client starts again
QUEUE_MICROSECONDS = 100  # how long a request waits for others: a tenth of what a request over HTTP takes anyway
MOST_SEQUENCES = 1024  # that may be open at once; each is one state, and further ones wait
CORRELATION = "correlation_id"
TYPES = {"FP32": "TYPE_FP32", "FP64": "TYPE_FP64", "FP16": "TYPE_FP16", "BF16": "TYPE_BF16", "INT64": "TYPE_INT64"}


def write_model(shipment: Shipment, folder: Path) -> Path:
    """model.onnx, with the weights that lie beside it."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(shipment.model.SerializeToString(deterministic=True))
    if shipment.data is not None:
        shutil.copyfile(shipment.data, folder / DATA)
    return folder / "model.onnx"


def write_repository(shipment: Shipment, root: Path, backend: str) -> Path:
    """models/NAME with its configuration, for one of Triton's backends."""
    folder = root / "models" / shipment.name
    model = write_model(shipment, folder / VERSION)
    (folder / "config.pbtxt").write_text(write_config(config_from(configuration(shipment, backend))))
    if shipment.interface.state != "server" and any(tensor.name == "lengths" for tensor in shipment.interface.sent):
        (folder / "warmup").mkdir()  # where Triton looks for an input_data_file
        (folder / "warmup" / "lengths").write_bytes(np.ones(1, np.int64).tobytes())
    if shipment.learned and shipment.interface.state == "server" and backend == "onnxruntime":
        (folder / "initial_state").mkdir()  # where Triton looks for a data_file
        write_initial_state(shipment, folder / "initial_state")
    return model


def write_initial_state(shipment: Shipment, folder: Path) -> None:
    """h_0, the bytes of (L*D, H) in C order."""
    (folder / "h_0").write_bytes(shipment.initial_state.tobytes())


def configuration(shipment: Shipment, backend: str) -> dict[str, Any]:
    """The fields of Triton's ModelConfig, all that the server would otherwise guess."""
    interface = shipment.interface
    return {
        "name": shipment.name,
        "backend": backend,
        "max_batch_size": shipment.max_batch,
        "input": [_sizes(tensor) for tensor in interface.sent],
        "output": [_sizes(tensor) for tensor in interface.outputs],
        **(_sequences(shipment, backend) if interface.state == "server" else _batches()),
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": _parameters(backend),
        "model_warmup": [_warm_up(interface)] if interface.state != "server" else [],
    }


def _sizes(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": TYPES[tensor.datatype], "dims": list(tensor.shape)}


def _batches() -> dict[str, Any]:
    return {"dynamic_batching": {"max_queue_delay_microseconds": QUEUE_MICROSECONDS}}


def _sequences(shipment: Shipment, backend: str) -> dict[str, Any]:
    batcher: dict[str, Any] = {
        "max_sequence_idle_microseconds": IDLE_MICROSECONDS,
        "oldest": {"max_candidate_sequences": MOST_SEQUENCES, "max_queue_delay_microseconds": QUEUE_MICROSECONDS},
    }
    if backend == "python":  # which has no states of its own: it is told where a sequence begins, ends, and which it is
        batcher["control_input"] = [
            {"name": kind, "control": [{"kind": f"CONTROL_SEQUENCE_{kind}", "int32_false_true": [0, 1]}]}
            for kind in ("START", "END")
        ]
        identity = {"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_UINT64"}
        batcher["control_input"].append({"name": CORRELATION, "control": [identity]})
        return {"sequence_batching": batcher}
    (state,) = (tensor for tensor in shipment.interface.inputs if tensor.name == "h_0")
    sizes = {"data_type": TYPES[state.datatype], "dims": list(state.shape)}
    start = {"data_file": "h_0"} if shipment.learned else {"zero_data": True}  # said, or it is uninitialised memory
    initial = {"name": "h_0", **sizes, **start}
    batcher["state"] = [{"input_name": "h_0", "output_name": "h_n", **sizes, "initial_state": [initial]}]
    return {"sequence_batching": batcher}


def _parameters(backend: str) -> dict[str, Any]:
    if backend == "python":
        return {"sequence_idle_microseconds": {"string_value": str(IDLE_MICROSECONDS)}}
    return {"intra_op_thread_count": {"string_value": "1"}}  # requests side by side use the other processors


def _warm_up(interface: Interface) -> dict[str, Any]:
    """One small batch at load, so that the first request does not pay for memory that later ones reuse."""
    inputs: dict[str, Any] = {}
    for tensor in interface.sent:
        shape = [2 if size < 0 else size for size in tensor.shape]
        filler: dict[str, Any] = {"random_data": True} if tensor.name == "input" else {"zero_data": True}
        if tensor.name == "lengths":  # none may be 0
            filler = {"input_data_file": "lengths"}
        inputs[tensor.name] = {"data_type": TYPES[tensor.datatype], "dims": shape, **filler}
    return {"name": "two_steps", "batch_size": 1, "inputs": inputs}
