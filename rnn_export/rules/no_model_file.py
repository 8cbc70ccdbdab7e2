"""T10: nothing to load."""

from rnn_export.rules import Model, Outcome, error, rule
from rnn_export.rules._model import ONNX, PYTHON

_DEFAULT = {ONNX: "model.onnx", PYTHON: "model.py"}


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
    if model.backend not in (*_DEFAULT, ""):
        return found
    if not model.version:
        return [*found, error(f"{model.name} has no version folder, such as {model.name}/1")]
    named = "" if model.config is None else model.config.default_model_filename
    file = named or _DEFAULT.get(model.backend, "model.onnx")
    if not model.backend:
        found.append(error(f"{model.name}/{model.version} has no {file}, and nothing says which backend runs it"))
    elif model.file is None and not model.problems:
        found.append(error(f"{model.name}/{model.version} has no {file}"))
    return found
