"""Golden requests: inputs as a client sends them, and the answers of the float64 oracle, rounded once to the type."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.artifact import GOLDEN as SIZES
from rnn_export.element_types import from_bits, rounded
from rnn_export.oracle import head_input, run_oracle
from rnn_export.serving import Interface
from rnn_export.weights import Head, Weights

PARTS = (1, 3, 2)  # of the sequence that a server with states gets in several requests
_IN_JSON = ("FP32", "FP64")  # Triton's JSON has no FP16 and no BF16


@dataclass(frozen=True)
class Golden:
    """One request, batch first, and its answer.

    Attributes:
        inputs: name -> array, as a client sends them.
        outputs: name -> array, of the whole request.
        chunks: how many steps each request of the sequence has; one request with all of them where it is empty.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    chunks: tuple[int, ...] = ()

    @classmethod
    def read(cls, file: Path) -> "Golden":
        """What ``write_golden`` wrote."""
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: from_bits(stored[name]) for name in stored.files}
        chunks = tuple(int(size) for size in arrays.pop("chunks", ()))
        parts: dict[str, dict[str, NDArray[Any]]] = {"input": {}, "output": {}}
        for name, array in arrays.items():
            kind, _, tensor = name.partition(":")
            parts[kind][tensor] = array
        return cls(parts["input"], parts["output"], chunks)


def make_golden(
    weights: Weights,
    head: Head | None,
    interface: Interface,
    initial_state: NDArray[np.floating],
    steps: int | None,
    max_batch: int,
) -> list[Golden]:
    """Requests of several lengths and batches, and for a server with states one sequence in chunks.

    Args:
        weights, head: of the network.
        interface: what clients send.
        initial_state: (L*D, H), where clients send no state.
        steps: T, where the file has a fixed length.
        max_batch: the most rows of one request.
    """
    names = {tensor.name for tensor in interface.sent}
    most = 1 if interface.state == "server" else max_batch
    sizes = [(steps or T, min(B, most)) for T, B in SIZES]
    requests: list[tuple[int, int, tuple[int, ...]]] = [(T, B, ()) for T, B in dict.fromkeys(sizes)]
    if interface.state != "none" and steps is None:
        requests.append((sum(PARTS), 1, PARTS))
    made = []
    for number, (T, B, chunks) in enumerate(requests):
        generator = np.random.default_rng(number)
        numbers = np.asarray(generator.standard_normal((T, B, weights.spec.input_size)))
        x = rounded(numbers, weights.dtype.name)
        h_0 = np.repeat(initial_state[:, None], B, axis=1)
        if "h_0" in names and not chunks:
            h_0 = rounded(np.asarray(generator.uniform(-1, 1, h_0.shape)), weights.dtype.name)
        lengths = np.arange(T, T - B, -1).clip(1) if "lengths" in names else None
        made.append(_golden(weights, head, names, x, h_0, lengths, chunks))
    return made


def _golden(
    weights: Weights,
    head: Head | None,
    names: set[str],
    x: NDArray[Any],
    h_0: NDArray[Any],
    lengths: NDArray[np.integer] | None,
    chunks: tuple[int, ...],
) -> Golden:
    inputs = {"input": x, "h_0": h_0, "lengths": None if lengths is None else lengths[None]}
    return Golden(
        {name: array.swapaxes(0, 1) for name, array in inputs.items() if name in names and array is not None},
        true_outputs(weights, head, x, h_0, lengths),
        chunks,
    )


def true_outputs(
    weights: Weights, head: Head | None, x: NDArray[Any], h_0: NDArray[Any], lengths: NDArray[np.integer] | None
) -> dict[str, NDArray[Any]]:
    """The oracle's answers, rounded once: output (B, T, D*H), h_n (B, L*D, H), and of a head, prediction (B, T, O).

    Args:
        weights, head: of the network.
        x: (T, B, I).
        h_0: (L*D, B, H).
        lengths: (B,), or None.
    """
    truth = run_oracle(weights, x, h_0, lengths)
    outputs = {"output": truth.output[:], "h_n": truth.h_n}
    if head is not None:
        read = head_input(head, weights.spec, x, h_0, truth.output[:], lengths)
        outputs["prediction"] = np.asarray(read[:] @ head.weight.T.astype(np.float64) + head.bias)
    return {name: rounded(array.swapaxes(0, 1), weights.dtype.name) for name, array in outputs.items()}


def write_golden(golden: Golden, folder: Path, number: int, interface: Interface) -> None:
    """N.npz, and N.json where JSON can hold the network's type: the body of a request, as curl sends it."""
    arrays = {f"input:{name}": array for name, array in golden.inputs.items()}
    arrays |= {f"output:{name}": array for name, array in golden.outputs.items()}
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    np.savez(folder / f"{number}.npz", chunks=np.array(golden.chunks, np.int64), **whole)  # type: ignore[arg-type]  # its stub takes an option for a key
    types = {tensor.name: tensor for tensor in interface.sent}
    if golden.chunks or types["input"].datatype not in _IN_JSON:
        return
    tensors = [
        {"name": name, "datatype": types[name].datatype, "shape": list(array.shape), "data": array.reshape(-1).tolist()}
        for name, array in golden.inputs.items()
    ]
    body: dict[str, Any] = {"inputs": tensors}
    if interface.state == "server":
        body["parameters"] = {"sequence_id": number + 1, "sequence_start": True, "sequence_end": True}
    (folder / f"{number}.json").write_text(json.dumps(body) + "\n")
