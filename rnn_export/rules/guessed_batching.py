"""T1: Triton completes the configuration, and batches."""

from rnn_export.rules import Model, Outcome, error, note, rule, warning
from rnn_export.rules._model import DEFAULT_MAX_BATCH


@rule(
    "T1",
    meaning="There is no config.pbtxt, or it lists no inputs or no outputs: Triton completes it. Where every axis 0 "
    "is dynamic it writes max_batch_size 4 and turns dynamic batching on, and requests of strangers are "
    "joined along axis 0 even where that is time: wrong answers with HTTP 200.",
    remedy="Write config.pbtxt out. For a file whose axis 0 is no batch, max_batch_size: 0 with all axes in dims is "
    "right; rnn-export ship makes a file that has the batch first.",
)
def check(model: Model) -> list[Outcome] | None:
    if not model.completed or model.max_batch_size > 0:
        return None
    what = "there is no config.pbtxt" if model.config is None else f"{model.config_file} lists no inputs or no outputs"
    if model.graph is None:
        return None  # there is no file, which T10 says, or it could not be read
    if not model.batches:
        fixed = next(value for value in model.used if not value.may_batch)
        return [note(f"{what}; the axis 0 of {fixed} is fixed, so that Triton will not batch")]
    completed = f"{what}: Triton writes max_batch_size: {DEFAULT_MAX_BATCH} and dynamic_batching"
    trial = model.trial()
    if trial.mixed:
        return [error(f"{completed}, but axis 0 is not the batch: {trial.mixed}")]
    if trial.unproved:
        return [warning(f"{completed}, and that axis 0 is the batch is not proved: {trial.unproved}")]
    return [note(f"{completed}; axis 0 is the batch, so that is right. Write it out all the same")]
