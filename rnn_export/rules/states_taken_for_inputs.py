"""T9: states that are counted as inputs too."""

from rnn_export.rules import Model, Outcome, error, rule


@rule(
    "T9",
    meaning="sequence_batching without lists of inputs and outputs: Triton completes them from the graph, takes the "
    "states for inputs that clients send, and refuses the model because it counts them twice.",
    remedy="List input and output explicitly, without the states.",
)
def check(model: Model) -> list[Outcome] | None:
    if not model.states:
        return None
    if model.completed:
        missing = " and ".join(key for key in ("input", "output") if not getattr(model.config, key))
        return [error(f"{model.config_file} has sequence_batching with states, and lists no {missing}")]
    states = {state.input_name for state in model.states}
    return [
        error(f"{model.config_file} lists the state {one.name!r} as an input too")
        for one in model.config.input
        if one.name in states
    ]
