"""One run of a long input in a process of its own, so that the most memory that it ever had is that of the run.

python scripts/speed/one_run.py FORM T H LAYERS
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from rnn_export.forms import draw
from rnn_export.pipeline import DEFAULT_OPSET
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights


def memory(what: str) -> int:
    """Bytes of this process: VmRSS, resident now, or VmHWM, the most that ever were."""
    found = re.search(what + r":\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    form, (T, H, L) = sys.argv[1], map(int, sys.argv[2:])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = draw(form, Weights.random(RNNSpec(H, H, L), 0), DEFAULT_OPSET).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((T, 1, H), dtype=np.float32)
    h_0 = np.zeros((L, 1, H), np.float32)
    session.run(None, {"input": x[:32], "h_0": h_0})  # what is made once
    before, started = memory("VmRSS"), time.perf_counter()
    output, _ = session.run(None, {"input": x, "h_0": h_0})
    seconds = time.perf_counter() - started
    beside = memory("VmHWM") - before - output.nbytes
    print(json.dumps({"T": T, "H": H, "L": L, "form": form, "seconds": seconds, "bytes_beside": beside}))


if __name__ == "__main__":
    main()
