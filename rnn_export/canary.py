"""The canary: one product with an exact answer. A runtime that fails it is BROKEN, whatever the network."""

from pathlib import Path

import numpy as np

from rnn_export.child import Child, Failure
from rnn_export.result import Stage, Status

FOLDER = Path(__file__).parent / "data" / "canary"
_INPUT = np.array([[1, 2], [3, 4]], np.float32)
_OUTPUT = np.array([[7, 10], [15, 22]], np.float32)  # _INPUT @ [[1, 2], [3, 4]]
_NOT_THE_ADAPTER = {Status.ABSENT, Status.FALLBACK}


def sing(child: Child, reads: str) -> None:
    """Prepare and run the canary as the child's first network.

    Args:
        child: a child process that is ready.
        reads: what its runtime reads: "model.onnx", "weights.safetensors" or "server". A server has no network but
            its own and is not asked to compute another: that it is ready is all that can be said of it here.

    Raises:
        Failure: BROKEN, or ABSENT and FALLBACK as the runtime itself says; of a server, all as it says.
    """
    if reads == "server":
        child.prepare(FOLDER)
        return
    inputs, name = {"input": _INPUT}, "output"
    expected = _OUTPUT
    if reads == "weights.safetensors":
        inputs = {"input": _INPUT[None], "h_0": np.zeros((1, 2, 2), np.float32)}
        expected = _OUTPUT[None]
    try:
        child.prepare(FOLDER)
        outputs = child.run(0, inputs)
    except Failure as failure:
        if failure.status in _NOT_THE_ADAPTER:
            raise
        raise Failure(failure.stage, Status.BROKEN, f"fails the canary too: {failure.detail}") from None
    if name not in outputs or not np.array_equal(outputs[name], expected):
        raise Failure(Stage.RUN, Status.BROKEN, "computes the canary, one small product, wrongly")
