"""A file verified on given inputs instead of the usual ones, so that all sides of a comparison have the same.

python same_inputs.py MODEL.onnx WEIGHTS.safetensors CASES.npz     # exit code 1 where a case did not pass
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from rnn_export.cases import Case
from rnn_export.checkpoint import load_checkpoint
from rnn_export.runtimes import RUNTIMES
from rnn_export.subject import subject_of_model
from rnn_export.verification import verify_runtime

RUNTIME, TIMEOUT = "onnxruntime-cpu", 60.0


def main(model: str, weights: str, cases: str) -> int:
    with np.load(cases) as stored:
        numbers = sorted({name.partition(".")[0] for name in stored.files})
        asked = [Case(number, stored[f"{number}.input"], stored[f"{number}.h_0"]) for number in numbers]
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        subject = subject_of_model(Path(model), load_checkpoint(weights).weights, Path(scratch))
        rows = verify_runtime(
            replace(subject, cases=asked), RUNTIMES.get(RUNTIME), timeout=TIMEOUT, torch_errors={}
        ).rows
    passed = sum(row.passed for row in rows)
    print(f"{passed} of {len(rows)} passed")
    return 0 if passed == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
