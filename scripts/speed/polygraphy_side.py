"""What runs in Polygraphy's own environment: its files made from arrays, and its rate once it is warm.

    python polygraphy_side.py convert CASES.npz INPUTS.json EXPECTED.json
    python polygraphy_side.py rate MODEL.onnx INPUTS.json EXPECTED.json     # prints cases per second

It imports Polygraphy, numpy and the standard library, and nothing of ours.
"""

import sys
import time

import numpy as np
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.comparator import Comparator, IterationResult, RunResults
from polygraphy.json import load_json, save_json
from polygraphy.logger import G_LOGGER

ROUNDS = 5  # of which the best counts, once the first has loaded what is loaded late


def convert(cases: str, inputs: str, expected: str) -> None:
    """INPUTS.json for --load-inputs and EXPECTED.json for --load-outputs."""
    with np.load(cases) as stored:
        numbers = sorted({name.partition(".")[0] for name in stored.files})
        feeds = [{name: stored[f"{number}.{name}"] for name in ("input", "h_0")} for number in numbers]
        answers = [{name: stored[f"{number}.{name}"] for name in ("output", "h_n")} for number in numbers]
    save_json(feeds, inputs, description="inputs")
    results = RunResults()
    results.append(("torch", [IterationResult(outputs=answer, runner_name="torch") for answer in answers]))
    results.save(expected)


def rate(model: str, inputs: str, expected: str) -> float:
    """Cases per second of running and comparing, with all its talk turned off."""
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    feeds, durations = load_json(inputs), []
    for _ in range(ROUNDS):
        results = RunResults.load(expected)
        started = time.perf_counter()
        found = Comparator.run([OnnxrtRunner(SessionFromOnnx(model), name="onnxruntime")], data_loader=feeds)
        found.extend(results)
        Comparator.compare_accuracy(found)
        durations.append(time.perf_counter() - started)
    return len(feeds) / min(durations)


if __name__ == "__main__":
    if sys.argv[1] == "convert":
        convert(*sys.argv[2:])
    else:
        print(rate(*sys.argv[2:]))
