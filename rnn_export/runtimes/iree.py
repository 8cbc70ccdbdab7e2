"""IREE on the CPU: the model compiled by LLVM for the shapes that it is given."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._static import STATIC, inputs_of, static_run

FLAGS = [
    "--iree-llvmcpu-target-cpu=host",  # what one deploys; without it, the processor of 2003
    "--iree-llvmcpu-reassociate-fp-reductions=false",  # IREE's default is true
]

SNIPPET = """from iree.compiler import compile_str
from iree.compiler.extras.onnx_importer import ModelInfo, NodeImporter
from iree.compiler.ir import Context
from iree.runtime import load_vm_flatbuffer
info = ModelInfo(model)
module = info.create_module(context=Context()).operation
NodeImporter.define_function(info.main_graph, module).import_all()
binary = compile_str(str(module), target_backends=["llvm-cpu"], input_type="onnx", extra_args=FLAGS)
function = load_vm_flatbuffer(binary, driver="local-sync")[model.graph.name]
answers = function(*(inputs[value.name] for value in model.graph.input))
answers = answers if isinstance(answers, tuple) else (answers,)
found = {name: answer.to_host() for name, answer in zip(names, answers)}"""


@runtime(
    "iree",
    requires=("iree-base-compiler[onnx]==3.13.0", "iree-base-runtime==3.13.0", "onnx==1.23.2", "numpy==2.4.6"),
    own_environment=True,
    summary="IREE, llvm-cpu, compiled for the shapes at hand",
    snippet=STATIC + SNIPPET.replace("FLAGS", repr(FLAGS)),
    slow_to_compile=True,
    single_threaded=True,  # local-sync
)
def prepare(folder: Path) -> Run:
    return static_run(folder, _compiled)


def _compiled(model: Any) -> Run:
    from iree.compiler import compile_str
    from iree.compiler.extras.onnx_importer import ModelInfo, NodeImporter
    from iree.compiler.ir import Context
    from iree.runtime import load_vm_flatbuffer

    model.graph.name = "main"  # the function's name, whatever the file calls it
    info = ModelInfo(model)
    module = info.create_module(context=Context()).operation
    NodeImporter.define_function(info.main_graph, module).import_all()
    module.verify()
    binary = compile_str(str(module), target_backends=["llvm-cpu"], input_type="onnx", extra_args=FLAGS)
    main = load_vm_flatbuffer(binary, driver="local-sync")["main"]
    given, names = [value.name for value in inputs_of(model)], [value.name for value in model.graph.output]

    def run(inputs: Any) -> dict[str, Any]:
        found = main(*(inputs[name] for name in given))
        arrays = found if isinstance(found, tuple) else (found,)
        return {name: array.to_host() for name, array in zip(names, arrays, strict=True)}

    return run
