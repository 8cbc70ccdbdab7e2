"""tract, Sonos' inference engine in Rust."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime

SNIPPET = """import tract
order = ["input", "h_0", "lengths"]
model = tract.onnx().load("model.onnx").into_model().into_runnable()
answers = model.run([inputs[name] for name in order if name in inputs])
names = [name for name in ("output", "h_n") if name in expected]
found = dict(zip(names, [answer.to_numpy() for answer in answers]))"""


@runtime(
    "tract",
    # onnx reads the names of inputs and outputs, where tract puts those of its own nodes
    requires=("tract==0.23.9", "onnx==1.23.2", "numpy==2.4.6"),
    own_environment=True,
    summary="tract, the ONNX engine in Rust",
    environ={"RUST_BACKTRACE": "0"},  # a message, and not the addresses behind it
    snippet=SNIPPET,
    single_threaded=True,
)
def prepare(folder: Path) -> Run:
    import onnx
    import tract

    file = folder / "model.onnx"
    graph = onnx.load(file, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in constants]
    runnable = tract.onnx().load(str(file)).into_model().into_runnable()

    def run(inputs: Any) -> dict[str, Any]:
        found = runnable.run([inputs[name] for name in names])
        return {value.name: array.to_numpy() for value, array in zip(graph.output, found, strict=True)}

    return run
