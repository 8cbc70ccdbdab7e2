"""T5: Triton swaps states by the order of their names."""

from rnn_export.rules import Model, Outcome, error, rule


@rule(
    "T5",
    meaning="The states' input names and output names sort in different orders. Triton's core pairs them by their "
    "place in the sorted names (server#8586), so that from the second step on one state gets another's "
    "values: with the h and c of an LSTM, of one shape, silently.",
    remedy="Rename the graph's states so that both orders agree, such as h_in, c_in -> h_out, c_out. Beware of "
    "prefixes: a, a_len -> a_next, a_len_next swaps too.",
)
def check(model: Model) -> list[Outcome] | None:
    if not model.states:
        return None
    meant = {state.input_name: state.output_name for state in model.states}
    paired = dict(zip(sorted(meant), sorted(meant.values()), strict=True))
    swapped = [name for name in meant if paired[name] != meant[name]]
    if not swapped:
        return []
    name = swapped[0]
    detail = f"state {name!r} is meant to get {meant[name]!r}, and Triton gives it {paired[name]!r}"
    return [error(f"{model.config_file}: {detail}: the sorted names of inputs and outputs pair up otherwise")]
