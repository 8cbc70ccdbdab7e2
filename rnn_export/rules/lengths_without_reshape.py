"""T6: the batch is the only axis."""

from rnn_export.rules import Model, Outcome, error, rule


@rule(
    "T6",
    meaning="The model batches, and an input or output of the graph has the batch as its only axis, such as lengths "
    "(B,). Triton has nothing without an axis of its own for each row, and refuses the model.",
    remedy="Write dims: [ 1 ] reshape: { shape: [ ] } for it; clients then send (B, 1). Or let the graph take (B, 1).",
)
def check(model: Model) -> list[Outcome] | None:
    if model.max_batch_size <= 0 or model.graph is None or model.config is None:
        return None
    alone = {value.name for value in model.used if len(value.dims) == 1}
    asked = [one for one in [*model.config.input, *model.config.output] if one.name in alone]
    if not asked:
        return None
    return [
        error(
            f"{model.config_file}: {one.name!r} has the batch as its only axis in the graph, and dims {list(one.dims)} "
            "without reshape"
        )
        for one in asked
        if not (one.HasField("reshape") and not one.reshape.shape)
    ]
