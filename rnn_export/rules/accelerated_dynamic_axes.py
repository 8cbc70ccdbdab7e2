"""T14: an execution accelerator over dynamic axes."""

from rnn_export.rules import Model, Outcome, rule, warning

_NAMES = ("tensorrt", "openvino")


@rule(
    "T14",
    meaning="An execution accelerator is configured for a file with dynamic axes. It compiles for sizes, and wrong "
    "rows were reported (server#2135); it was not run here.",
    remedy="Leave execution_accelerators out, or probe the running server with rnn-export probe before you trust it.",
)
def check(model: Model) -> list[Outcome] | None:
    if model.config is None:
        return None
    accelerators = model.config.optimization.execution_accelerators
    named = [one.name for one in [*accelerators.gpu_execution_accelerator, *accelerators.cpu_execution_accelerator]]
    found = [name for name in named if name.lower() in _NAMES]
    if not found or model.graph is None:
        return None
    dynamic = [value for value in model.graph.inputs if -1 in value.dims]
    return [warning(f"{model.config_file}: {found[0]} over the dynamic axes of {dynamic[0]}")] if dynamic else []
