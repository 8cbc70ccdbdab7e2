"""What the OpenVINO rows share: a model compiled for the CPU with one precision, read back."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, Slimmed, thread_limit

REQUIRES = ("openvino==2026.4.1", "numpy==2.4.6")

SNIPPET = """import openvino
compiled = openvino.Core().compile_model("model.onnx", "CPU", HINTS)
answers = compiled(inputs)
found = {name: answers[output] for output in compiled.outputs for name in output.get_names()}"""


def compiled_run(folder: Path, hints: dict[str, str]) -> Run:
    """Compile folder/model.onnx for the CPU."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": str(thread_limit()), "NUM_STREAMS": "1", **hints}
    compiled = openvino.Core().compile_model(str(folder / "model.onnx"), "CPU", settings)
    request = compiled.create_infer_request()

    def run(inputs: Any) -> dict[str, Any]:
        found = request.infer(dict(inputs))
        # Copies: the request's own memory is written again by the next run. A value may go by several names.
        arrays = [found[index].copy() for index in range(len(compiled.outputs))]
        outputs = zip(compiled.outputs, arrays, strict=True)
        return {name: array for output, array in outputs for name in output.get_names()}

    def lean(inputs: Any) -> Any:
        return request.infer(inputs, share_inputs=True, share_outputs=True)  # from and in the arrays as they lie

    return Slimmed(run, lean)
