"""What the OpenVINO rows share: a model compiled for the CPU with one precision, read back."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run

REQUIRES = ("openvino==2026.4.1", "numpy==2.4.6")

SNIPPET = """import openvino
compiled = openvino.Core().compile_model("model.onnx", "CPU", HINTS)
answers = compiled(inputs)
found = {name: answers[output] for output in compiled.outputs for name in output.get_names()}"""


def compiled_run(folder: Path, hints: dict[str, str]) -> Run:
    """Compile folder/model.onnx for the CPU with one thread."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1", **hints}
    compiled = openvino.Core().compile_model(str(folder / "model.onnx"), "CPU", settings)
    request = compiled.create_infer_request()

    def run(inputs: Any) -> dict[str, Any]:
        found = request.infer(dict(inputs))
        # Copies: the request's own memory is written again by the next run. A value may go by several names.
        arrays = [found[index].copy() for index in range(len(compiled.outputs))]
        outputs = zip(compiled.outputs, arrays, strict=True)
        return {name: array for output, array in outputs for name in output.get_names()}

    return run
