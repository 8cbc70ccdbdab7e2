"""Apache TVM on the CPU: the model through Relax, compiled by LLVM."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime

SNIPPET = """import onnx, tvm
from tvm.relax.frontend.onnx import from_onnx
model = onnx.load("model.onnx")
machine = tvm.relax.VirtualMachine(tvm.compile(from_onnx(model), target="llvm"), tvm.cpu())
machine.set_input("main", *(tvm.runtime.tensor(inputs[value.name]) for value in model.graph.input))
machine.invoke_stateful("main")
answers = machine.get_outputs("main")
answers = [answers] if len(expected) == 1 else answers
found = {output.name: answer.numpy() for output, answer in zip(model.graph.output, answers)}"""


@runtime(
    "tvm",
    requires=("apache-tvm==0.27.0.post1", "apache-tvm-ffi==0.1.15.post2", "onnx==1.23.2", "numpy==2.4.6"),
    own_environment=True,
    summary="Apache TVM, Relax compiled by LLVM",
    snippet=SNIPPET,
)
def prepare(folder: Path) -> Run:
    import onnx
    import tvm
    from tvm.relax.frontend.onnx import from_onnx

    model = onnx.load(folder / "model.onnx")
    constants = {tensor.name for tensor in model.graph.initializer}
    given = [value.name for value in model.graph.input if value.name not in constants]
    names = [value.name for value in model.graph.output]
    machine = tvm.relax.VirtualMachine(tvm.compile(from_onnx(model), target="llvm"), tvm.cpu())

    def run(inputs: Any) -> dict[str, Any]:
        machine.set_input("main", *(tvm.runtime.tensor(inputs[name]) for name in given))
        machine.invoke_stateful("main")
        found = machine.get_outputs("main")
        arrays = [found] if len(names) == 1 else found
        return {name: array.numpy() for name, array in zip(names, arrays, strict=True)}

    return run
