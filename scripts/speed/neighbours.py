"""The same files checked by ``rnn-export verify``, by NVIDIA's Polygraphy and by torch's own ``verify=True``."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnn_export.environments import installed_version
from rnn_export.runtimes import RUNTIMES
from speed import torch_side
from speed.planted import (
    BATCHES,
    EXAMPLE_B,
    EXAMPLE_T,
    LENGTHS,
    RIGHT,
    RIGHT_CHAOTIC,
    RUNTIME,
    SPEC,
    Planted,
    plant,
)

HERE = Path(__file__).parent
PACKAGES = ("polygraphy", "onnxruntime", "numpy", "onnx")
ROUNDS = 3  # of the right file, for the seconds
VERIFY, SAME, POLYGRAPHY, TORCH = "verify", "same inputs", "polygraphy", "torch"
WORDS = {
    VERIFY: "`rnn-export verify FILE --against CHECKPOINT`, its own inputs",
    SAME: "the same verdict, on the inputs of the next row",
    POLYGRAPHY: "`polygraphy run FILE --onnxrt --load-inputs --load-outputs`, with torch's outputs saved before",
    TORCH: "`torch.onnx.export(verify=True)`, beyond the export itself",
}
# What each prints once it has judged: an exit code of 1 alone may be its own accident.
SAID = {VERIFY: '"results"', SAME: "passed", POLYGRAPHY: "Accuracy Summary"}


def measure() -> dict[str, Any]:
    """Seconds, cases and verdicts of every side; cases per second of Polygraphy once it is warm."""
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        folder = Path(scratch)
        python = _install(folder / "environment")
        files = list(plant(folder))
        right, lines = files[0], {file.name: _lines(file, python) for file in files}
        for file in files:
            _run([str(python), str(HERE / "polygraphy_side.py"), "convert", str(file.cases), *map(str, file.converted)])
        sides: dict[str, Any] = {side: {"seconds": [], "accepts": {}} for side in WORDS}
        for file in files:
            for side, line in lines[file.name].items():
                sides[side]["accepts"][file.name] = _accepts(side, line)
            sides[TORCH]["accepts"][file.name] = torch_side.accepts(file, folder)
        for _ in range(ROUNDS):
            for side, line in lines[right.name].items():
                sides[side]["seconds"].append(_seconds(line))
            sides[TORCH]["seconds"].append(torch_side.added_seconds(folder))
        rows = json.loads(_run(lines[right.name][VERIFY]).stdout)["results"]
        with np.load(right.cases) as stored:
            given = len({name.partition(".")[0] for name in stored.files})
        own = sum(row["runtime"] == RUNTIME for row in rows)
        for side, count in {VERIFY: own, SAME: given, POLYGRAPHY: given, TORCH: 1}.items():
            sides[side]["cases"] = count
        warm = [str(python), str(HERE / "polygraphy_side.py"), "rate", str(right.model), *map(str, right.converted)]
        return {"sides": sides, "polygraphy_warm": float(_run(warm).stdout.split()[-1]), "versions": _versions(python)}


def _install(folder: Path) -> Path:
    """An environment of Polygraphy's own; its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    _run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES])
    return python


def _versions(python: Path) -> dict[str, str]:
    script = f"from importlib.metadata import version\nfor name in {PACKAGES}: print(name, version(name))"
    found = dict(line.split() for line in _run([str(python), "-c", script]).stdout.splitlines())
    return {**found, "torch": installed_version(RUNTIMES.get("torch"))}


def _lines(file: Planted, python: Path) -> dict[str, list[str]]:
    """The command of every side that takes a file."""
    ours, theirs = Path(sys.executable).with_name("rnn-export"), python.with_name("polygraphy")
    inputs, expected = map(str, file.converted)
    model, weights, cases = map(str, (file.model, file.weights, file.cases))
    return {
        VERIFY: [str(ours), "verify", model, "--against", weights, "--runtime", RUNTIME, "--format", "json"],
        SAME: [sys.executable, str(HERE / "same_inputs.py"), model, weights, cases],
        POLYGRAPHY: [str(theirs), "run", model, "--onnxrt", "--load-inputs", inputs, "--load-outputs", expected],
    }


def _run(line: Sequence[str], may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    """The finished process.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode and not may_fail:
        raise RuntimeError(f"{line} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done


def _accepts(side: str, line: Sequence[str]) -> bool:
    done = _run(line, may_fail=True)
    if SAID[side] not in done.stdout:
        raise RuntimeError(f"{line} gave no verdict: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.returncode == 0


def _seconds(line: Sequence[str]) -> float:
    started = time.perf_counter()
    _run(line)
    return time.perf_counter() - started


def section(data: Mapping[str, Any]) -> str:
    names = list(data["sides"][VERIFY]["accepts"])
    lines = [
        f"{SPEC}, checked at {len(LENGTHS)} lengths in {len(BATCHES)} batch sizes; then the same file with a fault. "
        f"Seconds are of a whole process on one core with the right file, median of {ROUNDS}. torch checks its own "
        f"export at the one size of its example, here T = {EXAMPLE_T} and B = {EXAMPLE_B}, and warns where an output "
        "is off by 0.005 or by a tenth.",
        "",
        f"| who | cases | seconds | a second | {' | '.join(names)} |",
        "|---|---|---|---|" + "---|" * len(names),
    ]
    for side, found in data["sides"].items():
        seconds = statistics.median(found["seconds"])
        verdicts = [_verdict(name, accepted) for name, accepted in found["accepts"].items()]
        cells = [str(found["cases"]), f"{seconds:.2f}", f"{found['cases'] / seconds:.0f}", *verdicts]
        lines.append(f"| {WORDS[side]} | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    warm = f"{data['polygraphy_warm']:.0f} cases a second"
    words = f"Warm, in one process and without its log, Polygraphy runs and compares {warm}. {versions}."
    return "\n".join([*lines, "", words])


def _verdict(name: str, accepted: bool) -> str:
    if accepted:
        return "passes"
    return "**false alarm**" if name in (RIGHT, RIGHT_CHAOTIC) else "caught"
