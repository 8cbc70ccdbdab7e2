"""A whole model as a folder: ``model.onnx``, exported with ``exporting()``, and a manifest."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from rnn_export.artifact import (
    MANIFEST,
    SCHEMA,
    WHOLE_MODEL,
    check_files,
    is_artifact,
    read_manifest,
    sealed,
    sha256_of,
)
from rnn_export.errors import ArtifactError
from rnn_export.folder import replace_folder
from rnn_export.forms._external import write_model
from rnn_export.forms._tidy import tidy
from rnn_export.whole_model.dynamic_axes import inputs_of
from rnn_export.whole_model.exporter import exported
from rnn_export.whole_model.networks import networks_of
from rnn_export.whole_model.truth import evaluating


def export_model(
    model: nn.Module,
    inputs: Any,
    output: str | Path,
    *,
    dynamic_shapes: Any = None,
    form: str = "rnn",
    opset: int = 18,
    source: Mapping[str, str] | None = None,
) -> Path:
    """Make a folder with ``model.onnx`` and a manifest, put in place as a whole.

    Args:
        model: any torch model; it is in evaluation mode for the export only.
        inputs: the arguments of ``forward`` as a tuple, one tensor, or a function of (T, B) that makes them.
        output: the folder to make; what ``export`` made there before is replaced.
        dynamic_shapes: as torch's exporter takes them; None to find out, see ``inputs_of``.
        form: ``rnn`` or ``scan``, see ``exporting``.
        opset: the version of ONNX's operators.
        source: where the model is from, for the manifest.

    Returns:
        The model file.

    Raises:
        RnnExportError: the model, the inputs or the output is not usable; nothing is written.
    """
    networks_of(model)  # raises for a type in which no form can be verified
    with evaluating(model):
        given = inputs_of(model, inputs, dynamic_shapes)
        file = exported(model, given, form, opset)
    tidy(file, one_network=False)
    manifest = {
        "schema": SCHEMA,
        "kind": WHOLE_MODEL,
        "form": form,
        "opset": opset,
        "ir_version": file.ir_version,
        "inputs": {value.name: dict(axes) for value, axes in zip(file.graph.input, given.axes, strict=True)},
        "source": dict(source or {"name": type(model).__name__}),
        "versions": {name: version(name) for name in ("onnx", "onnxscript", "rnn-export", "torch")},
    }

    def fill(folder: Path) -> None:
        write_model(folder, file)
        onnx.checker.check_model(str(folder / "model.onnx"))
        files = {one.name: sha256_of(one) for one in folder.iterdir()}
        (folder / MANIFEST).write_bytes(sealed({**manifest, "files": files}))

    replace_folder(Path(output), fill, is_artifact)
    return Path(output) / "model.onnx"


def model_file(path: Path) -> tuple[Path, str | None]:
    """The ONNX file of a folder that ``export_model`` made, and its form; a file is its own, of no known form.

    Raises:
        ArtifactError: the folder is not one, or not whole.
    """
    if path.is_file():
        return path, None
    manifest = read_manifest(path)
    if manifest.get("kind") != WHOLE_MODEL:
        raise ArtifactError(f"{path} holds no whole model, but one recurrent network", "rnn-export verify judges it")
    check_files(path, manifest)
    return path / "model.onnx", str(manifest.get("form"))
