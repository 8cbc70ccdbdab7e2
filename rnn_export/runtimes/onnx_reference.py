"""The reference evaluator of the onnx package: a runtime like any other here, and no oracle."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime


@runtime("onnx-reference", requires=("onnx",), summary="the onnx package's own reference evaluator")
def prepare(folder: Path) -> Run:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(folder / "model.onnx"))

    def run(inputs: Any) -> dict[str, Any]:
        return dict(zip(evaluator.output_names, evaluator.run(None, dict(inputs)), strict=True))

    return run
