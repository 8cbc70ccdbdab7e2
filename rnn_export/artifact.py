"""The artifact: a folder with the model, golden data, the weights, and a manifest that binds them.

model.onnx               the network in one form
model.onnx.data          its weights, where they are too large for one file
test_data_set_N/         golden inputs and outputs, in the layout of ONNX's backend tests
data.json                the tolerances that onnx.backend.test applies to them
weights.safetensors      the weights under torch's names, and the spec
manifest.json            spec, form, opset, versions, and the sha256 of every other file
verification.json        the verdicts so far, where there are any; in no manifest, see ``verification_file``
"""

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_export.checkpoint import Checkpoint, load_checkpoint, save_weights
from rnn_export.differences import check_files as check_files
from rnn_export.differences import file_digests, list_folder, may_hold
from rnn_export.errors import ArtifactError, SourceError
from rnn_export.folder import heal, replace_folder
from rnn_export.forms import FORMS, Form, constants_of, network_of
from rnn_export.manifest import BUNDLE, text_of
from rnn_export.manifest import MANIFEST as MANIFEST
from rnn_export.manifest import SCHEMA as SCHEMA
from rnn_export.manifest import WHOLE_MODEL as WHOLE_MODEL
from rnn_export.manifest import digest_of as digest_of
from rnn_export.manifest import read_manifest as read_manifest
from rnn_export.manifest import sealed as sealed
from rnn_export.manifest import sha256_of as sha256_of
from rnn_export.oracle import head_input, run_oracle, state_rounding_error
from rnn_export.rounding import ARITHMETICS
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights

if TYPE_CHECKING:
    import onnx

_AGAIN = "Export it again with rnn-export export"
GOLDEN = ((5, 3), (1, 1), (4, 2))  # (T, B): short, because rounding grows with T on chaotic networks
# A smoke test for other people's runners, in coarse types at least eight roundings; the verdict is verify's.
GOLDEN_RTOL, GOLDEN_ATOL, GOLDEN_ROUNDINGS = 1e-3, 1e-5, 8
# Of what rounding the states to 8 bits changes, where a form leaves that to its runtime: some of them go the other way.
GOLDEN_STATES = 4


@dataclass(frozen=True)
class Artifact:
    """A folder that was read and found whole.

    Attributes:
        path: the folder.
        manifest: its manifest.
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def model_path(self) -> Path:
        return self.path / "model.onnx"

    @property
    def digest(self) -> str:
        """The sha256 of its manifest file, which binds every other file."""
        return hashlib.sha256(sealed(self.manifest)).hexdigest()

    @property
    def spec(self) -> RNNSpec:
        return RNNSpec.from_dict(self.manifest["spec"])

    @property
    def form(self) -> str:
        return str(self.manifest["form"])

    @property
    def opset(self) -> int:
        return int(self.manifest["opset"])

    @property
    def steps(self) -> int | None:
        """T, where the form has a fixed length."""
        steps = self.manifest.get("steps")
        return None if steps is None else int(steps)

    def checkpoint(self) -> Checkpoint:
        """The weights that the model was made from, and the head where there is one."""
        head = "head" if self.manifest.get("head") else None
        return load_checkpoint(self.path / "weights.safetensors", head=head)

    def weights(self) -> Weights:
        """The weights that the model was made from."""
        return self.checkpoint().weights

    @classmethod
    def load(cls, path: str | Path) -> "Artifact":
        """Read a folder and check every file against the manifest.

        What a verification left there is no part of the artifact, and is checked where it is read: an artifact whose
        record is damaged can be verified again.

        Raises:
            ArtifactError: it is no artifact, or a file is changed, missing, added or not a plain file.
        """
        path = Path(path)
        with suppress(OSError):  # a place that cannot be looked at is not healed, and then not found either
            heal(path, sweep=False)
        manifest = read_manifest(path)
        _check_fields(path, manifest)
        try:
            check_files(path, manifest)
        except FileNotFoundError:
            raise ArtifactError(f"{path} was replaced while it was read", "Run it again") from None
        return cls(path, manifest)


def is_artifact(path: Path) -> bool:
    """Whether a folder is an artifact or a whole model's, whole or damaged, and holds nothing of anybody else's."""
    try:
        known = may_hold(read_manifest(path))
    except ArtifactError:
        return False
    return set(list_folder(path).things) <= known


def write_artifact(
    path: Path,
    checkpoint: Checkpoint,
    model: "onnx.ModelProto",
    form: str,
    drawn_with: tuple[str, ...],
    steps: int | None = None,
) -> Artifact:
    """Write a whole artifact beside ``path`` and put it in place; byte-identical from run to run.

    Args:
        path: the folder to make or to replace.
        checkpoint: the weights and where they are from.
        model: the network in that form.
        form: the form's name.
        drawn_with: the packages whose versions decide the bytes of the model.
        steps: T, for a form of fixed length.

    Raises:
        OutputError: the folder exists and is not an artifact, or cannot be written.
    """
    weights, head = checkpoint.weights, checkpoint.head
    lengths = any(value.name == "lengths" for value in model.graph.input)
    opset = next(item.version for item in model.opset_import if item.domain == "")
    manifest = {
        "schema": SCHEMA,
        "spec": weights.spec.to_dict(),
        "dtype": weights.dtype.name,
        "form": form,
        "lengths": lengths,
        "head": head is not None,
        "steps": steps,
        "opset": opset,
        "ir_version": model.ir_version,
        "source": dict(checkpoint.source),
        "versions": {name: version(name) for name in sorted({"rnn-export", "numpy", "onnx", *drawn_with})},
    }

    def fill(folder: Path) -> None:
        _write_model(folder, model, constants_of(form, weights, head))
        save_weights(folder / "weights.safetensors", weights, head)
        _write_golden(folder, FORMS.get(form), network_of(form, weights), head, lengths, steps)
        (folder / MANIFEST).write_bytes(sealed({**manifest, "files": file_digests(folder)}))

    place = Path(os.path.realpath(path))  # before the rename: it may be the folder that one stands in
    replace_folder(place, fill, lambda folder: is_artifact(folder) and read_manifest(folder).get("kind") != BUNDLE)
    return Artifact.load(place)


def _write_model(folder: Path, model: "onnx.ModelProto", constants: Mapping[str, Any]) -> None:
    import onnx

    from rnn_export.forms._external import declared, write_data

    file = folder / "model.onnx"
    file.write_bytes(model.SerializeToString(deterministic=True))
    if declared(model):
        write_data(folder, model, constants)
        onnx.checker.check_model(str(file), full_check=True)


def _write_golden(
    folder: Path, form: Form, weights: Weights, head: Head | None, takes_lengths: bool, steps: int | None
) -> None:
    from onnx import numpy_helper

    spec, largest, off = weights.spec, 1.0, 0.0
    for number, (any_T, B) in enumerate(GOLDEN):
        T = 1 if form.length == "step" else steps or any_T
        generator = np.random.default_rng(number)
        x = generator.standard_normal((T, B, spec.input_size)).astype(weights.dtype)
        rows = spec.num_layers * spec.num_directions
        h_0 = generator.uniform(-1, 1, (rows, B, spec.hidden_size)).astype(weights.dtype)
        lengths = np.arange(T, T - B, -1).clip(1) if takes_lengths else None
        truth = run_oracle(weights, x, h_0, lengths)
        output, h_n = truth.output[:], truth.h_n
        largest = max(largest, float(np.abs(output).max()))
        if form.quantised is not None:
            off = max(off, state_rounding_error(weights, head, x, h_0, lengths))
        sequences = {"input_0": ("input", x), "output_0": ("output", output)}
        if head is not None:
            read = head_input(head, spec, x, h_0, output, lengths)
            sequences["output_2"] = ("prediction", read[:] @ head.weight.T.astype(np.float64) + head.bias)
        if form.length == "step":
            sequences = {file: (name, array[0]) for file, (name, array) in sequences.items() if name != "output"}
        elif spec.batch_first:
            sequences = {file: (name, array.swapaxes(0, 1)) for file, (name, array) in sequences.items()}
        named = {**sequences, "input_1": ("h_0", h_0), "output_1": ("h_n", h_n)}
        if lengths is not None:
            named["input_2"] = ("lengths", lengths)
        if form.length == "step":  # it has no output, and what stands behind it moves up
            before = [name for name in ("output_1", "output_2") if name in named]
            named |= {f"output_{place}": named.pop(name) for place, name in enumerate(before)}
        place = folder / f"test_data_set_{number}"
        place.mkdir()
        for file, (name, array) in named.items():
            dtype = np.dtype(np.int64) if name == "lengths" else weights.dtype
            tensor = numpy_helper.from_array(np.ascontiguousarray(array, dtype), name)
            (place / f"{file}.pb").write_bytes(tensor.SerializeToString(deterministic=True))
    rounding = GOLDEN_ROUNDINGS * ARITHMETICS[weights.dtype.name].unit_roundoff
    atol = max(max(GOLDEN_ATOL, rounding) * largest, GOLDEN_STATES * off)
    tolerances = {"rtol": max(GOLDEN_RTOL, rounding), "atol": atol}
    (folder / "data.json").write_bytes(text_of(tolerances))


def _check_fields(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises ArtifactError where the manifest is not that of a recurrent network's artifact."""
    if manifest.get("kind") == WHOLE_MODEL:
        source = manifest.get("source")
        named = source.get("factory") if isinstance(source, dict) else None
        plain = isinstance(named, str) and re.fullmatch(r"[\w.]+:\w+", named)
        factory = named if plain else "package.module:factory"
        raise ArtifactError(
            f"{path} holds a whole model, which only its torch model can judge",
            f"Add --against {factory} --trust-code, or call rnn_export.verify_model",
        )
    try:
        RNNSpec.from_dict(manifest["spec"])
        if not (isinstance(manifest["form"], str) and isinstance(manifest["opset"], int)):
            raise ValueError("form or opset is of another kind")
    except (SourceError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"the manifest of {path} is damaged: {error}", _AGAIN) from None
