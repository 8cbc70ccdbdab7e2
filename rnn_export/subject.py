"""What is verified: the network that should be, the file that is, and the cases that tell them apart."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from rnn_export.artifact import MANIFEST, Artifact
from rnn_export.bundle import PROOF, Bundle
from rnn_export.cases import EXPORT_B, EXPORT_T, REPEATED, Case, Check, case_from_file, default_cases, repeated_rows
from rnn_export.checkpoint import load_checkpoint, save_weights
from rnn_export.errors import ArtifactError
from rnn_export.forms import FORMS, network_of
from rnn_export.forms._external import DATA, lending_data, write_model
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
from rnn_export.runtimes import Runtime
from rnn_export.serving import INITIAL_STATE
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rnn_export.serving import Interface


@dataclass(frozen=True)
class Subject:
    """What is verified.

    Attributes:
        name: of the artifact or file, without its folder.
        form: the artifact's form; None for a file that somebody else exported.
        weights: what the network should be: the checkpoint's, or what a form that quantises makes of them.
        head: the Linear after it, where the file has one.
        model: the file.
        signature: which names of the model carry what.
        folder: holds model.onnx and weights.safetensors, copied where nobody else writes.
        instrumented: holds a copy of the model that also outputs every layer, where there is one.
        shown: which outputs of the copy are which layer.
        cases: what is run.
        findings: what the file itself shows, before anything runs.
        original: the checkpoint's weights, where ``weights`` are quantised; None elsewhere.
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
    original: Weights | None = None
    _truth: dict[str, Trajectory] = field(default_factory=dict)

    @property
    def asked(self) -> str:
        """The precision that the file asks for; float32 stands for the weights' own type."""
        return "float32" if self.original is None else "int8"

    def asked_of(self, runtime: Runtime) -> str:
        """The precision that its row asks for: the file's, unless it runs the weights or has a precision of its own."""
        own = runtime.reads == "weights.safetensors" or runtime.precision != "float32"
        return runtime.precision if own else self.asked

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
    finding = _held(read_back(model, FORMS.get(artifact.form), weights, checkpoint.head, staged))
    return _subject(
        path.resolve().name, artifact.form, weights, checkpoint.head, model, staged, scratch, (finding,), asked
    )


@dataclass(frozen=True)
class Served:
    """How a shipped graph is used.

    Attributes:
        interface: what it takes and gives.
        initial_state: (L*D, H), what it starts from where no state is sent.
        max_batch: the most rows of one request to its server.
        on_server: it is asked through a server, which may hold the states; otherwise the file itself runs.
    """

    interface: "Interface"
    initial_state: "NDArray[np.floating]"
    max_batch: int
    on_server: bool = False

    @property
    def takes_state(self) -> bool:
        """Whether who asks sends h_0."""
        tensors = self.interface.sent if self.on_server else self.interface.inputs
        return any(tensor.name == "h_0" for tensor in tensors)

    @property
    def most_rows(self) -> int | None:
        """Of one request; a server's sequence is one row."""
        if not self.on_server:
            return None
        return 1 if self.interface.state == "server" else self.max_batch


def subject_of_bundle(path: Path, scratch: Path, asked: Asked = Asked(), *, on_server: bool = False) -> Subject:
    """The graph that a bundle ships, copied into ``scratch`` and checked there.

    Args:
        path: the bundle.
        scratch: a folder where nobody else writes.
        asked: what the user wants to be run.
        on_server: a server is asked, and not the file.

    Raises:
        ArtifactError: it is no bundle, or not whole.
    """
    Bundle.load(path)
    staged = scratch / "bundle"
    shutil.copytree(path, staged, symlinks=True)
    bundle = Bundle.load(staged)
    served = Served(bundle.facts.interface, bundle.initial_state, bundle.facts.max_batch, on_server)
    return subject_of_served(
        path.resolve().name, bundle.facts.form, bundle.model_path, staged / PROOF, served, scratch, asked
    )


def subject_of_served(
    name: str, form: str, file: Path, proof: Path, served: Served, scratch: Path, asked: Asked = Asked()
) -> Subject:
    """A shipped graph held against its weights.

    Args:
        name: of what is verified.
        form: that the graph was made from.
        file: the model, with its data beside it.
        proof: the folder with weights.safetensors.
        served: how it is used.
        scratch: a folder where nobody else writes.
        asked: what the user wants to be run.
    """
    has_head = any(tensor.name == "prediction" for tensor in served.interface.outputs)
    checkpoint = load_checkpoint(proof / "weights.safetensors", head="head" if has_head else None)
    folder = scratch / "served"
    folder.mkdir()
    for source in (file, file.with_name(DATA), proof / "weights.safetensors"):
        if source.exists():
            shutil.copyfile(source, folder / ("model.onnx" if source == file else source.name))
    model = load_model(folder / "model.onnx", in_place=True)
    own = {} if served.interface.state != "none" else {INITIAL_STATE: served.initial_state[:, None]}
    finding = _held(read_back(model, FORMS.get(form), checkpoint.weights, checkpoint.head, folder, own))
    return _subject(
        name, form, checkpoint.weights, checkpoint.head, model, folder, scratch, (finding,), asked, served=served
    )


def _held(problem: str) -> Result:
    """The row of the file itself."""
    status, code = (Status.MISMATCH, "weights") if problem else (Status.PASS, "")
    return Result("file", "", "weights read back", Stage.COMPARE, status, code, detail=problem)


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
    served: Served | None = None,
) -> Subject:
    signature = _signature(model, weights.spec, served)
    if signature.prediction is not None and head is None:
        raise ArtifactError(f"{name} has the output prediction, but its source names no head", "Give --head KEY")
    original: Weights | None = None
    if form is not None and FORMS.get(form).quantised is not None:
        original, weights = weights, network_of(form, weights)
        save_weights(folder / "weights.safetensors", weights, head)  # for torch, which runs the same network
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
        start=served.initial_state if served else None,
        most_B=served.most_rows if served else None,
    )
    if served is not None and (served.most_rows is None or served.most_rows >= len(REPEATED)):
        T = signature.fixed_T or EXPORT_T
        usual = [case for case in cases if case.check is Check.STEPS and (case.T, case.B) == (T, EXPORT_B)]
        cases.append(repeated_rows(usual[0]))
    if asked.inputs is not None:
        own = case_from_file(asked.inputs, weights.spec, weights.dtype, signature.lengths is not None)
        cases.insert(0, own)
    parts = (name, form, weights, head, model, signature, folder, instrumented, shown, cases, findings, original)
    return Subject(*parts)


def _signature(model: onnx.ModelProto, spec: RNNSpec, served: Served | None) -> Signature:
    if served is None:
        return signature_of(model, spec)
    found = replace(signature_of(model, replace(spec, batch_first=True)), served=True)
    return found if served.takes_state else replace(found, h_0=None)
