"""The reference evaluator of the onnx package: a runtime like any other here, and no oracle."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime

SNIPPET = """from onnx.reference import ReferenceEvaluator
evaluator = ReferenceEvaluator("model.onnx")
found = dict(zip(evaluator.output_names, evaluator.run(None, inputs)))"""


@runtime(
    "onnx-reference",
    requires=("onnx",),
    summary="the onnx package's own reference evaluator",
    snippet=SNIPPET,
)
def prepare(folder: Path) -> Run:
    from ml_dtypes import bfloat16
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(folder / "model.onnx"))

    def run(inputs: Any) -> dict[str, Any]:
        given = {name: array.view(bfloat16) if array.dtype == "V2" else array for name, array in inputs.items()}
        return dict(zip(evaluator.output_names, evaluator.run(None, given), strict=True))

    return run
