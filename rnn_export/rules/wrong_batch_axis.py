"""T2: what the server takes for the batch is something else."""

from rnn_export.rules import Model, Outcome, error, rule, warning
from rnn_export.rules._model import ENSEMBLE, ONNX, PYTHON


@rule(
    "T2",
    meaning="max_batch_size is above 0, and axis 0 is not the batch, or that could not be proved. Triton joins "
    "requests along axis 0 and cuts the answers along it: where it is time, or where rows reach each other, a "
    "client's answer depends on strangers' requests. The proof is to run the file: a change of one row may "
    "change no other row, and rows in another order, twice or alone have to give the same. Dynamic "
    "quantisation fails too: its scale is the batch's.",
    remedy="Serve a file with the batch first, as rnn-export ship makes it; or write max_batch_size: 0 with all axes "
    "in dims and without dynamic_batching, which is right and slower.",
)
def check(model: Model) -> list[Outcome] | None:
    if model.max_batch_size <= 0 or model.backend == ENSEMBLE:
        return None
    if model.file is None and model.backend in (ONNX, PYTHON, ""):
        return None  # which T10 says, or what could not be read
    said = f"{model.config_file}: max_batch_size: {model.max_batch_size}"
    if model.graph is not None:
        fixed = [value for value in model.used if not value.may_batch]
        if fixed:  # of what the configuration lists T8 says so, of its states T3
            known = {one.name for one in [*model.config.input, *model.config.output]}
            known |= {name for state in model.states for name in (state.input_name, state.output_name)}
            others = [value for value in fixed if value.name not in known and not model.completed]
            return [error(f"{said}, but axis 0 of {value} is fixed") for value in others] or None
    trial = model.trial()
    if trial.mixed:
        return [error(f"{said}, but axis 0 is not the batch: {trial.mixed}")]
    if trial.unproved:
        return [warning(f"{said}, and that axis 0 is the batch is not proved: {trial.unproved}")]
    return []
