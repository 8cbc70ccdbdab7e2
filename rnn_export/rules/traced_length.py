"""T12: a size of the traced example is left in the file."""

from rnn_export.rules import Model, Outcome, error, rule, warning
from rnn_export.rules._model import ENSEMBLE


@rule(
    "T12",
    meaning="A size of the example that the file was traced with is left in it: an output declares that size and "
    "gives another, or only that size runs. torch's exporter does so with nn.LSTM and nn.GRU. As a warning: "
    "the end of a longer input has no effect, as where a loop was unrolled, or the file could not be run.",
    remedy="Export the network with rnn-export, or inside rnn_export.exporting(); infer the declared shapes anew, "
    "and copy them into config.pbtxt.",
)
def check(model: Model) -> list[Outcome] | None:
    if model.backend == ENSEMBLE or model.file is None:
        return None
    trial = model.trial()
    if trial.frozen:
        return [error(f"{model.place}/{model.file.name}: {trial.frozen}")]
    if trial.ignored:
        return [warning(f"{model.place}/{model.file.name}: {trial.ignored}")]
    if trial.unproved:  # which T1 and T2 say of a model that batches
        return None if model.batches else [warning(f"{model.place}: not run: {trial.unproved}")]
    return []
