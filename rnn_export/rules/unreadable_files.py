"""What could not be read."""

from rnn_export.rules import Model, Outcome, error, note, rule


@rule(
    "unreadable",
    meaning="A file of the model cannot be read: it is damaged, too large, no plain file, or a link out of the "
    "repository. The server would not load it, or load something else than what was checked.",
    remedy="Write it again, as a plain file inside the repository.",
)
def check(model: Model) -> list[Outcome]:
    if model.problems:
        return [error(problem) for problem in model.problems]
    return [note("; ".join(model.notes))] if model.notes else []
