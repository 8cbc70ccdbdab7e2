"""T11: how long a sequence may be idle is not written out."""

from rnn_export.rules import Model, Outcome, rule, warning


@rule(
    "T11",
    meaning="The limit after which an idle sequence is given up is not written out, so that it is Triton's default of "
    "one second. A client that is slower gets INVALID_ARGUMENT, because its next request does not say START.",
    remedy="Write max_sequence_idle_microseconds. Clients have to start again, from zero or from a state that they "
    "kept, when they are told that START is missing.",
)
def check(model: Model) -> list[Outcome] | None:
    if model.sequences is None:
        return None
    if model.sequences.max_sequence_idle_microseconds:
        return []
    return [warning(f"{model.config_file}: sequence_batching does not say max_sequence_idle_microseconds")]
