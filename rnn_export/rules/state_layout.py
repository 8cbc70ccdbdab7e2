"""T3: a state whose batch is not axis 0."""

from typing import Any

from rnn_export.rules import Graph, Model, Outcome, Value, error, listed, rule
from rnn_export.rules._model import ONNX, data_type_of


@rule(
    "T3",
    meaning="The state in sequence_batching does not fit the graph's state with the batch as axis 0. Triton does not "
    "check that when it loads the model: with torch's layout (L*D, B, H) a single sequence of one layer is "
    "answered, and the first requests at the same time fail.",
    remedy="Turn the states inside the graph to (B, L*D, H), as rnn-export ship --streaming does; or write "
    "max_batch_size: 0, dims with all axes and direct {}, which is right and not batched.",
)
def check(model: Model) -> list[Outcome] | None:
    if not model.states or model.graph is None or model.backend != ONNX:
        return None
    problems = [_problem(model, model.graph, state) for state in model.states]
    return [error(f"{model.config_file}: state {problem}") for problem in problems if problem]


def _problem(model: Model, graph: Graph, state: Any) -> str:
    """Of a state at the graph's input, or else at its output."""
    for name, values in ((state.input_name, graph.inputs), (state.output_name, graph.outputs)):
        value = next((value for value in values if value.name == name), None)
        if value is None:
            return f"{name!r} is not in the graph, which has {listed(value.name for value in values)}"
        if problem := _misfit(model, state, value):
            return f"{name!r} {problem}"
    return ""


def _misfit(model: Model, state: Any, value: Value) -> str:
    dims, batched = list(state.dims), model.max_batch_size > 0
    whole = [-1, *dims] if batched else dims
    fits = len(whole) == len(value.dims) and all(
        own in (-1, said) for own, said in zip(value.dims[batched:], whole[batched:], strict=True)
    )
    if batched and not value.may_batch:
        return f"has dims {dims} behind the batch, but axis 0 of {value} is no batch: it is fixed"
    if not fits:
        return f"has dims {dims}{' behind the batch' if batched else ''}, but the graph has {value}"
    if (said := data_type_of(state)) != value.data_type:
        return f"has {said}, but the graph {value.data_type or 'a type that Triton lacks'}"
    return ""
