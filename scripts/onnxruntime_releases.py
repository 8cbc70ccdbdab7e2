"""The newest opset and IR version that each ONNX Runtime in Triton loads: every form is tried, here and now.

    rnn-export runtimes install onnxruntime@1.23.1     # and so on, for each version in the table
    python scripts/onnxruntime_releases.py

It prints what it measures, and exits with 1 where ``rnn_export/onnxruntime_releases.py`` says something else. Versions
that are not installed are left out.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from rnn_export.checkpoint import load_checkpoint
from rnn_export.child import Failure
from rnn_export.environments import interpreter_of
from rnn_export.execution import execute
from rnn_export.forms import draw
from rnn_export.onnxruntime_releases import RELEASES, Release
from rnn_export.result import Stage, Status
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.serving import served_model

OLDEST_OPSET, OLDEST_IR, NEWEST_IR = 18, 8, onnx.IR_VERSION + 2
FORMS = ("scan", "rnn", "loop")
T, B = 5, 2


def main() -> int:
    differs = False
    for release in RELEASES.values():
        runtime = RUNTIMES.get(f"onnxruntime@{release.onnxruntime}")
        if interpreter_of(runtime) is None:
            print(f"{release.name} is left out: rnn-export runtimes install {runtime.name}", file=sys.stderr)
            continue
        found = measured(release, runtime)
        differs |= found != release
        line = f"{found.name:6} ONNX Runtime {found.onnxruntime:7} opset {found.opset} IR {found.ir_version}"
        other = "" if found == release else f"   the table has opset {release.opset} IR {release.ir_version}"
        print(line + other)
    return int(differs)


def measured(release: Release, runtime: Runtime) -> Release:
    newest = onnx.defs.onnx_opset_version()
    opset = min(
        _last(OLDEST_OPSET, newest, lambda number, form=form, lengths=lengths: _runs(runtime, form, number, lengths))
        for form in FORMS
        for lengths in (False, True)
    )
    ir_version = _last(OLDEST_IR, NEWEST_IR, lambda number: _runs(runtime, "scan", OLDEST_OPSET, False, number))
    return release._replace(opset=opset, ir_version=ir_version)


def _last(first: int, last: int, works: Callable[[int], bool]) -> int:
    """The newest that works; they are tried one by one, because one in the middle may fail too."""
    found = first - 1
    for number in range(first, last + 1):
        if not works(number):
            break
        found = number
    return found


def _runs(runtime: Runtime, form: str, opset: int, lengths: bool, ir_version: int = OLDEST_IR) -> bool:
    weights = load_checkpoint("rnn:3,4,layers=2").weights
    drawn = draw(form, weights, opset, lengths=lengths)
    model = served_model(drawn, weights.spec, "client", np.zeros((2, 4), np.float32))
    model.ir_version = ir_version
    feed = {"input": np.ones((B, T, 3), np.float32), "h_0": np.ones((B, 2, 4), np.float32)}
    feed |= {"lengths": np.array([[5], [3]])} if lengths else {}
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "model.onnx").write_bytes(model.SerializeToString())
        try:
            execute(runtime, Path(scratch), feed)
        except Failure as failure:
            if failure.status is not Status.REFUSED or failure.stage is Stage.FIND:
                raise
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
