"""What is verified: the network that should be, the file that is, and the cases that tell them apart."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from rnn_export.artifact import MANIFEST, Artifact
from rnn_export.cases import Case, case_from_file, default_cases
from rnn_export.checkpoint import save_weights
from rnn_export.errors import ArtifactError
from rnn_export.forms import FORMS
from rnn_export.forms._external import lending_data, write_model
from rnn_export.inspection import (
    LayerOutput,
    Signature,
    instrument,
    load_model,
    read_back,
    recognise_weights,
    signature_of,
)
from rnn_export.oracle import Trajectory, run_oracle
from rnn_export.result import Result, Stage, Status
from rnn_export.weights import Head, Weights


@dataclass(frozen=True)
class Subject:
    """What is verified.

    Attributes:
        name: of the artifact or file, without its folder.
        form: the artifact's form; None for a file that somebody else exported.
        weights: what the network should be.
        head: the Linear after it, where the file has one.
        model: the file.
        signature: which names of the model carry what.
        folder: holds model.onnx and weights.safetensors, copied where nobody else writes.
        instrumented: holds a copy of the model that also outputs every layer, where there is one.
        shown: which outputs of the copy are which layer.
        cases: what is run.
        findings: what the file itself shows, before anything runs.
    """

    name: str
    form: str | None
    weights: Weights
    head: Head | None
    model: onnx.ModelProto
    signature: Signature
    folder: Path
    instrumented: Path | None
    shown: list[LayerOutput]
    cases: list[Case]
    findings: tuple[Result, ...]
    _truth: dict[str, Trajectory] = field(default_factory=dict)

    def truth_of(self, case: Case) -> Trajectory:
        """The float64 oracle's answers to a case, made when first asked for."""
        if case.name not in self._truth:
            self._truth[case.name] = run_oracle(self.weights, case.x, case.h_0, case.lengths)
        return self._truth[case.name]

    @contextmanager
    def showing_layers(self) -> Iterator[Path]:
        """The folder of the instrumented copy, with the weights that lie beside the model lent to it meanwhile."""
        assert self.instrumented is not None
        with lending_data(self.folder, self.instrumented):
            yield self.instrumented


@dataclass(frozen=True)
class Asked:
    """What the user wants to be run: a kind of input, and data of their own."""

    kind: str = "normal"
    inputs: Path | None = None


def subject_of_artifact(path: Path, scratch: Path, asked: Asked = Asked()) -> Subject:
    """An artifact, copied into ``scratch`` and checked there, so that what runs is what was checked.

    Raises:
        ArtifactError: it is no artifact, or not whole.
    """
    Artifact.load(path)
    staged = scratch / "artifact"
    shutil.copytree(path, staged, symlinks=True)
    artifact = Artifact.load(staged)
    checkpoint = artifact.checkpoint()
    weights = checkpoint.weights
    if weights.spec != artifact.spec:
        raise ArtifactError(f"the weights of {path} are those of {weights.spec}, not {artifact.spec}")
    model = load_model(artifact.model_path, in_place=True)
    if artifact.form not in FORMS.names():
        raise ArtifactError(f"{path} has the form {artifact.form!r}", "A newer rnn-export made it; update this one")
    problem = read_back(model, FORMS.get(artifact.form), weights, checkpoint.head, staged)
    status = Status.MISMATCH if problem else Status.PASS
    code = "weights" if problem else ""
    finding = Result("file", "", "weights read back", Stage.COMPARE, status, code, detail=problem)
    return _subject(
        path.resolve().name, artifact.form, weights, checkpoint.head, model, staged, scratch, (finding,), asked
    )


def subject_of_model(
    path: Path, weights: Weights, scratch: Path, asked: Asked = Asked(), head: Head | None = None
) -> Subject:
    """An ONNX file that somebody else exported, held against the weights that it should have.

    Raises:
        ArtifactError: it is not an ONNX file, or its inputs and outputs do not fit the network.
    """
    if (path / MANIFEST).is_file():
        Artifact.load(path)  # says so where it holds a whole model
    model = load_model(path)
    staged = scratch / "model"
    staged.mkdir()
    # In files of our own, whatever it was: torch writes small weights beside the model, and ONNX Runtime follows links.
    write_model(staged, model)
    save_weights(staged / "weights.safetensors", weights, head)
    held = recognise_weights(model, weights, staged)
    status, code = (Status.PASS, "") if held else (Status.DIVERGENCE, "weights-unknown")
    detail = "the file holds the source's weights, bit for bit"
    if not held:
        detail = "the file does not hold the source's weights in any form known here: other weights, or another form"
    finding = Result("file", "", "weights read back", Stage.COMPARE, status, code, detail=detail)
    return _subject(path.name, None, weights, head, model, staged, scratch, (finding,), asked)


def _subject(
    name: str,
    form: str | None,
    weights: Weights,
    head: Head | None,
    model: onnx.ModelProto,
    folder: Path,
    scratch: Path,
    findings: tuple[Result, ...],
    asked: Asked,
) -> Subject:
    signature = signature_of(model, weights.spec)
    if signature.prediction is not None and head is None:
        raise ArtifactError(f"{name} has the output prediction, but its source names no head", "Give --head KEY")
    instrumented: Path | None = None
    shown: list[LayerOutput] = []
    if weights.spec.num_layers > 1 and not signature.one_step and (made := instrument(model, weights.spec)) is not None:
        copy, shown = made
        instrumented = scratch / "instrumented"
        instrumented.mkdir()
        (instrumented / "model.onnx").write_bytes(copy.SerializeToString())
    cases = default_cases(
        weights.spec,
        weights.dtype,
        signature.fixed_T,
        signature.fixed_B,
        has_h_0=signature.h_0 is not None,
        has_h_n=signature.h_n is not None,
        has_lengths=signature.lengths is not None,
        one_step=signature.one_step,
        kind=asked.kind,
    )
    if asked.inputs is not None:
        own = case_from_file(asked.inputs, weights.spec, weights.dtype, signature.lengths is not None)
        cases.insert(0, own)
    return Subject(name, form, weights, head, model, signature, folder, instrumented, shown, cases, findings)
