"""T8: the configuration is not the graph's."""

from collections.abc import Iterator, Sequence
from typing import Any

from rnn_export.rules import Model, Outcome, Value, error, listed, rule, warning
from rnn_export.rules._model import PYTHON, data_type_of


@rule(
    "T8",
    meaning="The configuration and the graph disagree about names, types or shapes: Triton refuses the model. Or dims "
    "of an input are fixed where the graph is dynamic: then it refuses every other size.",
    remedy="Copy names, types and dims from the graph, which rnn-export inspect MODEL.onnx shows; -1 is dynamic, and "
    "where max_batch_size is above 0 the batch is left out.",
)
def check(model: Model) -> list[Outcome] | None:
    if model.graph is None or model.config is None:
        return None
    config, graph = model.config, model.graph
    found: list[Outcome] = []
    if model.completed and model.max_batch_size > 0:
        fixed = [value for value in model.used if not value.may_batch]
        found += [
            error(f"{model.config_file}: max_batch_size: {model.max_batch_size}, but axis 0 of {value} is fixed")
            for value in fixed
        ]
    for kind, listed_ones, values in (("input", config.input, graph.inputs), ("output", config.output, graph.outputs)):
        for one in listed_ones:
            found += _compared(model, kind, one, values)
    return [*found, *_unlisted(model)]


def _compared(model: Model, kind: str, one: Any, values: Sequence[Value]) -> Iterator[Outcome]:
    where, batched = f"{model.config_file}: {kind} {one.name!r}", model.max_batch_size > 0
    value = next((value for value in values if value.name == one.name), None)
    if value is None:
        yield error(f"{where} is not in the graph, which has {listed(str(value) for value in values)}")
        return
    if (said := data_type_of(one)) != value.data_type:
        yield error(f"{where} has {said}, but the graph {value.data_type or 'a type that Triton lacks'}")
    if (batched and len(value.dims) == 1) or (kind == "input" and one.allow_ragged_batch):
        return  # which is T6's, and the joined rows of a ragged batch
    dims = list(one.reshape.shape) if one.HasField("reshape") else list(one.dims)
    if batched and not value.may_batch:
        yield error(f"{where}: max_batch_size: {model.max_batch_size}, but axis 0 of {value} is fixed")
        return
    whole = [-1, *dims] if batched else dims
    pairs = list(zip(value.dims, whole, strict=False))
    if len(whole) != len(value.dims) or any(own not in (-1, said) for own, said in pairs):
        yield error(f"{where} has dims {dims}{' behind the batch' if batched else ''}, but the graph has {value}")
    elif pinned := [said for own, said in pairs if own != said]:
        where = f"{where} has dims {dims}, and {value} is dynamic there"
        # of an output Triton wants just what the graph has
        yield error(where) if kind == "output" else warning(f"{where}: only the size {pinned[0]} is taken")


def _unlisted(model: Model) -> Iterator[Outcome]:
    """Inputs that nobody fills."""
    assert model.graph is not None
    filled = (
        {one.name for one in model.config.input} | {state.input_name for state in model.states} | set(model.controls)
    )
    filled |= {name for one in model.config.batch_input for name in one.target_name}
    if model.backend == PYTHON and model.sequences is not None:
        filled.add("h_0")  # model.py keeps it
    if not model.config.input:
        return  # which Triton completes, or T9
    for value in model.graph.inputs:
        if value.name not in filled:
            yield error(f"{model.config_file}: the graph's input {value} is not listed")
