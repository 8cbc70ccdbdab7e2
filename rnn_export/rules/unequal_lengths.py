"""T7: requests of different lengths are not joined."""

from rnn_export.rules import Model, Outcome, note, rule


@rule(
    "T7",
    meaning="The dynamic batcher joins requests of one shape only: sequences of different lengths are run one by one. "
    "That is right, and slower than it looks.",
    remedy="Where throughput matters, export with --lengths, and let clients pad to a few lengths and send the real "
    "ones.",
)
def check(model: Model) -> list[Outcome] | None:
    dynamic = model.config is not None and model.config.WhichOneof("scheduling") == "dynamic_batching"
    if not model.batches or model.graph is None or not (dynamic or (model.completed and model.sequences is None)):
        return None
    free = [value for value in model.graph.inputs if -1 in value.dims[1:]]
    return (
        [note(f"requests are joined where their shapes are equal: those that differ in {free[0]} run apart")]
        if free
        else []
    )
