"""Write the canary: one Gemm, and one step of a tiny RNN for the runtimes that read weights.

Its numbers are small integers, so every arithmetic answers exactly; a runtime that fails here is not blamed
for the network: its adapter is broken.

    python scripts/make_canary.py
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import parser

from rnn_export.canary import FOLDER
from rnn_export.checkpoint import save_weights
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

GEMM = """
<ir_version: 7, opset_import: ["": 13], producer_name: "rnn-export">
canary (float[2,2] input) => (float[2,2] output) <float[2,2] matrix = {1, 2, 3, 4}>
{ output = Gemm (input, matrix) }
"""


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = parser.parse_model(GEMM)
    onnx.checker.check_model(model, full_check=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    matrix = np.array([[1, 3], [2, 4]], np.float32)  # input @ matrix.T is the Gemm above
    spec = RNNSpec(2, 2, nonlinearity="relu", bias=False)
    weights = Weights(spec, {"weight_ih_l0": matrix, "weight_hh_l0": np.zeros((2, 2), np.float32)})
    save_weights(folder / "weights.safetensors", weights)


if __name__ == "__main__":
    main()
