"""tract, Sonos' inference engine in Rust."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime


@runtime(
    "tract", requires=("tract==0.23.9", "numpy==2.4.6"), own_environment=True, summary="tract, the ONNX engine in Rust"
)
def prepare(folder: Path) -> Run:
    import tract

    model = tract.onnx().load(str(folder / "model.onnx"))
    names = [model.input_name(index) for index in range(model.input_count())]
    outputs = [model.output_name(index) for index in range(model.output_count())]
    runnable = model.into_model().into_runnable()

    def run(inputs: Any) -> dict[str, Any]:
        found = runnable.run([inputs[name] for name in names])
        return {name: value.to_numpy() for name, value in zip(outputs, found, strict=True)}

    return run
