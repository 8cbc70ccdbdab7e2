"""From a verified artifact to a bundle: the graph is turned for a server, verified again itself, and put in place."""

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rnn_export.artifact import Artifact, digest_of
from rnn_export.bundle import NAME, PROOF, Bundle, Content, Facts, Proof, write_bundle
from rnn_export.card import card_of
from rnn_export.checkpoint import Checkpoint, initial_state_of
from rnn_export.element_types import FLOATS
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.errors import ArtifactError, SourceError, UsageError
from rnn_export.forms import draw, network_of
from rnn_export.forms._external import DATA
from rnn_export.golden import make_golden
from rnn_export.inspection import load_model
from rnn_export.onnxruntime_releases import RELEASES, Release, release_of
from rnn_export.report import read_report
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.serving import check_shippable, interface_of, served_model
from rnn_export.subject import Served, subject_of_served
from rnn_export.summary import findings_of, verdict_of
from rnn_export.targets import TARGETS, Shipment, Target
from rnn_export.verification import Progress, verify_runtime
from rnn_export.verification_file import Verification, verification_from_report, verification_of

MAX_BATCH = 32  # rows in one run, where the user does not say
TIMEOUT = 60.0
MODES = {"stateless": "none", "client-state": "client", "streaming": "server"}


@dataclass(frozen=True)
class Order:
    """How to ship.

    Attributes:
        target: the name of one of ``targets/``.
        name: of the model on the server; that of the artifact's folder if None.
        mode: "stateless": every request is a whole sequence; "client-state": the client sends h_0 and gets h_n;
            "streaming": the server carries the state, and where it cannot, the client does.
        max_batch: the most rows in one run.
        initial_state: a checkpoint file with a learned h_0 (L*D, H); zeros if None.
        release: of the server, such as 25.10.
    """

    target: str
    name: str | None = None
    mode: str = "stateless"
    max_batch: int = MAX_BATCH
    initial_state: Path | None = None
    release: str | None = None


def ship(
    artifact: str | Path,
    output: str | Path,
    order: Order,
    *,
    unverified: bool = False,
    report: str | Path | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Make a bundle.

    Args:
        artifact: a folder made by ``export``, verified on the engine of the target's server.
        output: the folder to make; a bundle that stands there is replaced as a whole.
        order: how to ship.
        unverified: take an artifact that was never verified; the card says so.
        report: a result of ``verify --report FILE.json``, for an artifact whose folder could not be written.
        progress: told after every case of the verification of the shipped graph.

    Raises:
        RnnExportError: something cannot be shipped that way, was not verified, or is wrong on the engine; nothing is
            written.
    """
    target = TARGETS.get(order.target)
    found = Artifact.load(artifact)
    name = order.name or found.path.resolve().name
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!r} is no name for a model", "Give letters, digits, '.', '_' and '-' with --name")
    if order.max_batch < 1:
        raise UsageError(f"{order.max_batch} rows in a run are none", "Give --max-batch 1 or more")
    engine = _engine(target, order.release)
    record = verification_from_report(read_report(Path(report)), found) if report else verification_of(found)
    verified_on = _verified_on(found, record, target, unverified)
    state = MODES[order.mode] if target.holds_state or order.mode == "stateless" else "client"
    check_shippable(found.form, found.spec, state)
    checkpoint = found.checkpoint()
    initial_state = _initial_state(order.initial_state, checkpoint)
    form_model = _model(found, checkpoint, _limit(target, order.release))
    model = served_model(form_model, found.spec, state, initial_state)
    interface = interface_of(model, state)
    data = found.path / DATA
    shipment = Shipment(name, model, data if data.exists() else None, interface, order.max_batch, initial_state)
    weights, head = checkpoint.weights, checkpoint.head
    golden = make_golden(network_of(found.form, weights), head, interface, initial_state, found.steps, order.max_batch)
    facts = Facts(
        target=target.name,
        name=name,
        model="",
        form=found.form,
        opset=next(item.version for item in model.opset_import if item.domain == ""),
        ir_version=model.ir_version,
        dtype=weights.dtype.name,
        network=str(found.spec),
        steps=found.steps,
        interface=interface,
        max_batch=order.max_batch,
        learned_state=shipment.learned,
        release=order.release,
        proof=Proof("", "", 0, None, str(digest_of(found.path)), verified_on),
    )

    def prove(folder: Path, file: Path) -> Facts:
        proof = _proved(facts, folder / PROOF, file, initial_state, engine, progress)
        return replace(facts, model=file.relative_to(folder).as_posix(), proof=proof)

    content = Content(weights, head, initial_state, interface, golden)
    return write_bundle(
        Path(output), content, lambda root: target.bundle(shipment, root), prove, lambda done: card_of(done, target)
    )


def _engine(target: Target, release: str | None) -> Runtime:
    """The runtime that the server has inside: for a release of Triton in just its version."""
    runtime = RUNTIMES.get(target.engine)
    if release is not None:
        if not target.triton_release:
            raise UsageError(f"target {target.name!r} has no releases of Triton", "Leave --triton-release out")
        runtime = RUNTIMES.get(f"onnxruntime@{release_of(release).onnxruntime}")
    if interpreter_of(runtime) is None:
        raise UsageError(
            f"{runtime.name}, on which what is shipped has to be verified, is not installed",
            f"Run: {how_to_install(runtime)}",
        )
    return runtime


def _verified_on(artifact: Artifact, record: Verification | None, target: Target, unverified: bool) -> dict[str, str]:
    """Runtime -> version of those that computed the artifact rightly.

    Raises:
        ArtifactError: the engine of the target's server is not among them, and nobody said that it need not be.
    """
    passed = {} if record is None else {name: row.version for name, row in record.passed_on.items()}
    package = RUNTIMES.get(target.engine).distribution  # the same engine in another version is called by it
    engines = [name for name in passed if name == target.engine or name.partition("@")[0] == package]
    if engines or unverified:
        return passed
    why = "was never verified" if not passed else f"was verified on {', '.join(passed)} and not on {target.engine}"
    raise ArtifactError(
        f"{artifact.path} {why}",
        f"Run rnn-export verify {artifact.path} --runtime {target.engine}; where its folder cannot be written, name "
        "the result with --verified-by; --unverified ships it, and the card says so",
    )


def _initial_state(file: Path | None, checkpoint: Checkpoint) -> NDArray[Any]:
    """(L*D, H) in the weights' type, zeros where no file is given."""
    spec, dtype = checkpoint.weights.spec, checkpoint.weights.dtype
    if file is None:
        return np.zeros((spec.num_layers * spec.num_directions, spec.hidden_size), dtype)
    state = initial_state_of(file, spec)
    if state.dtype.name not in FLOATS or not np.isfinite(state.astype(np.float64)).all():
        raise SourceError(f"the initial state in {file.name} is {state.dtype}, or not finite", f"It has to be {dtype}")
    return state.astype(dtype)


def _limit(target: Target, release: str | None) -> Release | None:
    """What the file may be at most: what the named release loads, or else the oldest that is known."""
    if not target.triton_release:
        return None
    return next(iter(RELEASES.values())) if release is None else release_of(release)


def _model(artifact: Artifact, checkpoint: Checkpoint, limit: Release | None) -> onnx.ModelProto:
    """The artifact's model, drawn again where its operators are too new for the server."""
    model = load_model(artifact.model_path, in_place=True)
    if limit is None or limit.takes(artifact.opset, model.ir_version):
        return model
    if (artifact.path / DATA).exists():
        raise UsageError(
            f"opset {artifact.opset} is too new for Triton {limit.name}", f"Export again with --opset {limit.opset}"
        )
    lengths = bool(artifact.manifest["lengths"])
    return draw(
        artifact.form, checkpoint.weights, limit.opset, lengths=lengths, head=checkpoint.head, steps=artifact.steps
    )


def _proved(
    facts: Facts, proof: Path, file: Path, initial_state: NDArray[Any], engine: Runtime, progress: Progress | None
) -> Proof:
    """Raises ArtifactError where the shipped graph is not the network on the engine of its server."""
    served = Served(facts.interface, initial_state, facts.max_batch)
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        subject = subject_of_served(facts.name, facts.form, file, proof, served, Path(scratch))
        rows = verify_runtime(subject, engine, timeout=TIMEOUT, torch_errors={}, progress=progress).rows
    results = [*subject.findings, *rows]
    if verdict_of(rows) is not Status.PASS or verdict_of(subject.findings) is not Status.PASS:
        worst = findings_of(results)[0]
        raise ArtifactError(
            f"the graph for the server is {worst.status.value} on {worst.where}: {worst.detail}",
            "Nothing was shipped. Try another --form, or rnn-export explain " + (worst.code or "refused"),
        )
    residuals = [row.residual for row in rows if row.residual is not None]
    cases = sum(row.passed for row in rows)
    return replace(
        facts.proof, runtime=engine.name, version=rows[0].version, cases=cases, residual=max(residuals, default=None)
    )
