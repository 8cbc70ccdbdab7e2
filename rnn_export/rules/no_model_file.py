"""T10: nothing to load."""

from rnn_export.rules import Model, Outcome, error, rule
from rnn_export.rules._model import DEFAULT_FILES


@rule(
    "T10",
    meaning="Triton finds no file to load, or cannot tell which backend runs it: the version folder or the file is "
    "missing, the file has another name than model.onnx and the configuration does not name it, or the "
    "configuration's name is not its folder's.",
    remedy='Call it NAME/1/model.onnx; or write backend: "onnxruntime" and default_model_filename.',
)
def check(model: Model) -> list[Outcome] | None:
    found = []
    if model.config is not None and model.config.name not in ("", model.name):
        found.append(error(f"{model.config_file} has the name {model.config.name!r}, but its folder is {model.name!r}"))
    if model.problems or model.backend not in (*DEFAULT_FILES, ""):
        return found
    if not model.version:
        return [*found, error(f"{model.name} has no version folder, such as {model.name}/1")]
    named = "" if model.config is None else model.config.default_model_filename
    if not model.backend:
        why = f"{named} does not tell" if named else "the first of its folders has no model.onnx"
        found.append(error(f"nothing says which backend runs {model.name}: {why}"))
    elif model.file is None:
        found.append(error(f"{model.place} has no {named or DEFAULT_FILES[model.backend]}"))
    return found
