"""The whole flow in three functions: export a checkpoint, verify what was exported, describe either."""

import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_export.errors import SourceError, UsageError
from rnn_export.result import NO_RUNTIMES, Status, without_paths
from rnn_export.runtimes import RUNTIMES

if TYPE_CHECKING:
    from torch import nn

    from rnn_export.artifact import Artifact
    from rnn_export.cells import Engine
    from rnn_export.checkpoint import Checkpoint
    from rnn_export.description import CheckpointDescription
    from rnn_export.model_description import ModelDescription
    from rnn_export.report import Report
    from rnn_export.runtimes import Runtime
    from rnn_export.server_address import ServerAddress
    from rnn_export.subject import Subject
    from rnn_export.verification import Progress, Verified
    from rnn_export.weights import Weights

DEFAULT_OPSET = 18  # the oldest that torch's exporter draws in natively; every current runtime reads it
TORCH_DREW = ("torch", "onnxscript")


def export(
    source: "str | Path | nn.Module | Weights | Checkpoint",
    output: str | Path,
    *,
    form: str = "scan",
    opset: int = DEFAULT_OPSET,
    prefix: str | None = None,
    nonlinearity: str | None = None,
    batch_first: bool | None = None,
    head: str | None = None,
    dtype: str | None = None,
    lengths: bool = False,
    steps: int | None = None,
) -> "Artifact":
    """Make an artifact.

    Args:
        source: a checkpoint file or spec string (see ``load_checkpoint``), a ``torch.nn.RNN`` or a module of
            this package, or Weights.
        output: the folder to make; an artifact that stands there is replaced as a whole.
        form: which way to draw the network, the name of one of ``forms/``.
        opset: the version of ONNX's operators.
        prefix, nonlinearity, batch_first, head: see ``load_checkpoint``; only for files and specs.
        dtype: convert the weights to float32, float64, float16 or bfloat16, each rounded to nearest.
        lengths: the file takes a third input, the length of each sequence (B,).
        steps: T, for the form ``unrolled``, whose length is fixed.

    Returns:
        The artifact, read back and checked. ``missing_kernels`` tells which runtimes will refuse it.

    Raises:
        RnnExportError: the source, the form, the opset or the output is not usable; nothing is written.
    """
    from rnn_export.artifact import write_artifact
    from rnn_export.forms import FORMS, draw

    FORMS.get(form)  # a wrong name is said before a large checkpoint is read
    checkpoint = _checkpoint(source, prefix, nonlinearity, batch_first, head).converted(dtype)
    model = draw(form, checkpoint.weights, opset, lengths=lengths, head=checkpoint.head, steps=steps)
    drawn_with = TORCH_DREW if form == "module" else ()
    return write_artifact(Path(output), checkpoint, model, form, drawn_with, steps)


def missing_kernels(form: str, dtype: str) -> list[str]:
    """Which runtimes will refuse a form in a type, for want of a kernel, and what they run instead; in words."""
    from rnn_export.forms import FORMS

    product = FORMS.get(form).product
    refusing: dict[str, list[str]] = {}
    for runtime in RUNTIMES:
        if (product, dtype) in runtime.lacks:
            dynamic = [other for other in FORMS if other.length == "dynamic" and other.quantised is None]
            others = [other.name for other in dynamic if (other.product, dtype) not in runtime.lacks]
            instead = f"form {' or '.join(others)} runs there" if others else "choose another --dtype for them"
            refusing.setdefault(instead, []).append(runtime.name)
    return [
        f"no {product} kernel for {dtype} in {', '.join(names)}, which will refuse this file: {instead}"
        for instead, names in refusing.items()
    ]


def quantisation_notes(form: str) -> list[str]:
    """What whoever exports a form that changes the network has to know; in words."""
    from rnn_export.forms import FORMS

    if FORMS.get(form).quantised is None:
        return []
    return [
        f"form {form} computes another network, with recurrent weights of 8 bits: rnn-export verify tells its drift "
        "from this one",
        f"form {form} pays at batch 1 from about 512 hidden units; only ONNX Runtime and OpenVINO have its operator",
    ]


def verify(
    artifact: str | Path,
    *,
    against: "str | Path | nn.Module | Weights | Checkpoint | None" = None,
    prefix: str | None = None,
    nonlinearity: str | None = None,
    batch_first: bool | None = None,
    head: str | None = None,
    dtype: str | None = None,
    inputs: str | Path | None = None,
    expect: str | Path | None = None,
    input_kind: str = "normal",
    runtimes: Iterable[str] = (),
    require: Iterable[str] = (),
    timeout: float = 60.0,
    strict: bool = False,
    jobs: int = 1,
    ray: str | None = None,
    server: "ServerAddress | None" = None,
    progress: "Progress | None" = None,
) -> "Report":
    """Prove that runtimes compute the network.

    Args:
        artifact: a folder made by ``export`` or ``ship``, or with ``against`` an ONNX file that somebody else exported.
        against: where the truth comes from, for such a file.
        prefix, nonlinearity, batch_first, head: see ``load_checkpoint``; only with ``against``.
        dtype: the type that the file should have the weights of ``against`` in.
        inputs: an .npz file with ``input``, and where they matter ``h_0`` and ``lengths``: the user's own data.
        expect: an .npz file with ``output``, and perhaps ``h_n``, that were computed elsewhere from ``inputs``.
        input_kind: of the inputs of the usual cases: normal, one-hot or uniform.
        runtimes: which to run; all that are present if none is named.
        require: which must be present and pass.
        timeout: seconds per request to a runtime.
        strict: documented differences of a runtime count as wrong.
        jobs: how many runtimes at once. Above 1, processes are started that import your ``__main__``, which then
            needs the usual ``if __name__ == "__main__":``. Your own ``inputs`` run one runtime after the other.
        ray: the address of a Ray cluster to run on instead, HOST:PORT, ``auto`` or ``ray://HOST:PORT``.
        server: the live server that the runtime ``open-inference`` asks.
        progress: told (runtime, cases done, cases in all), after every case where they run here.

    Raises:
        RnnExportError: an unknown runtime, an artifact or file that cannot be read, or no such cluster.
    """
    from rnn_export.artifact import digest_of
    from rnn_export.bundle import Bundle, is_bundle
    from rnn_export.child import THREADS
    from rnn_export.machine import this_environment, utc_now
    from rnn_export.report import Report
    from rnn_export.subject import Asked, subject_of_artifact, subject_of_bundle, subject_of_model
    from rnn_export.verification_file import record_verification

    if expect is not None and inputs is None:
        raise UsageError("expected outputs belong to an input", "Give it with --inputs FILE.npz")
    asked = Asked(input_kind, None if inputs is None else Path(inputs))
    saved = None if expect is None else Path(expect)

    if against is None and (prefix, nonlinearity, batch_first, head, dtype) != (None, None, None, None, None):
        raise UsageError("prefix, nonlinearity, batch_first, head and dtype are about a source", "Give it as against")
    if jobs < 1:
        raise UsageError(f"{jobs} processes can do nothing", "Give --jobs 1 or more")
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise UsageError(f"the time limit {timeout} is no number of seconds", "Give one above 0, such as 60")
    named = {runtimes} if isinstance(runtimes, str) else set(runtimes)
    demanded = frozenset({require} if isinstance(require, str) else require)
    chosen = named or {runtime.name for runtime in RUNTIMES if runtime.by_default}
    wanted = [RUNTIMES.get(name) for name in sorted(chosen)]
    wanted += [RUNTIMES.get(name) for name in sorted(demanded - {runtime.name for runtime in wanted})]
    servers = [runtime.name for runtime in wanted if runtime.reads == "server"]
    if server is not None and not servers:
        raise UsageError("a URL is for a live server", "Add --runtime open-inference")
    if servers and len(wanted) > len(servers):
        raise UsageError("a live server is verified apart: its clients may see less than the file has", "Name it alone")
    path = Path(artifact)
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        if against is not None:
            checkpoint = _checkpoint(against, prefix, nonlinearity, batch_first, head).converted(dtype)
            subject = subject_of_model(path, checkpoint.weights, Path(scratch), asked, checkpoint.head)
        elif path.is_file():
            raise UsageError(f"{path} is a file, not an artifact", "Say what it should compute: --against SOURCE")
        elif is_bundle(path):
            subject = subject_of_bundle(path, Path(scratch), asked, on_server=bool(servers))
            if server is not None:
                server = replace(server, holds_state=Bundle.load(path).facts.interface.state == "server")
        elif servers:
            raise UsageError(
                f"{path} is no bundle: what a server serves is turned, the batch first",
                "Verify the bundle, or run rnn-export probe URL --artifact " + str(path),
            )
        else:
            subject = subject_of_artifact(path, Path(scratch), asked)
        engine = _engine(subject, jobs if inputs is None else 1, ray)
        runs = _runs(subject, wanted, timeout, progress, saved, engine, {} if server is None else server.environ)
        digest = digest_of(subject.folder)
    results = [*subject.findings, *(without_paths(row, scratch) for run in runs for row in run.rows)]
    present = {row.runtime for row in results if row.status is not Status.ABSENT} - NO_RUNTIMES
    required = frozenset(named | demanded) or frozenset(present)
    references = frozenset(runtime.name for runtime in RUNTIMES if runtime.reads == "weights.safetensors")
    network, dtype_name = [str(subject.weights.spec)], subject.weights.dtype.name
    network += [dtype_name] if dtype_name != "float32" else []
    network += ["lengths"] if subject.signature.lengths else []
    network += [f"head of {len(subject.head.weight)}"] if subject.head is not None else []
    words, said = "   ".join(network), bool(named | demanded)
    report = Report(
        subject.name,
        subject.form,
        words,
        tuple(results),
        required,
        demanded,
        strict,
        references,
        said,
        runtimes=tuple(run.record for run in runs),
        digest=digest,
        environment=this_environment(THREADS),
        created=utc_now(),
    )
    if against is None:
        record_verification(path, report)  # where the folder can be written: `ship` asks for it, or for the report
    return report


def describe(path: str | Path) -> "CheckpointDescription | ModelDescription":
    """What is inside a checkpoint, an ONNX file or an artifact, without running anything that a checkpoint names.

    Raises:
        SourceError: the checkpoint is missing or damaged, or is no file of that kind.
        ArtifactError: the ONNX file is missing or damaged.
    """
    if isinstance(path, str) and path.startswith("rnn:") and not os.path.exists(path):  # noqa: PTH110  # any length
        raise UsageError(f"{path} is a spec, of random weights", "Export it, and inspect what was made")
    path = Path(path)
    if os.path.isdir(path):  # noqa: PTH112  # pathlib raises for a long name
        path = _model_in(path)
    if path.suffix == ".onnx":
        from rnn_export.model_description import describe_model

        return describe_model(path)
    from rnn_export.contents import KINDS
    from rnn_export.description import describe_checkpoint

    if os.path.isfile(path) and path.suffix not in KINDS:  # noqa: PTH113
        raise SourceError(
            f"{path} is none of what can be inspected", f"That is {', '.join(KINDS)}, .onnx, or an artifact"
        )
    return describe_checkpoint(path)


def _model_in(folder: Path) -> Path:
    """The model file of a folder, which is checked where it is one of ours; the folder where it holds none."""
    from rnn_export.bundle import Bundle, is_bundle
    from rnn_export.differences import check_files
    from rnn_export.manifest import MANIFEST, read_manifest

    if is_bundle(folder):
        return Bundle.load(folder).model_path
    model = folder / "model.onnx"
    if model.is_file() and (folder / MANIFEST).is_file():
        check_files(folder, read_manifest(folder))
    return model if model.is_file() else folder


def _runs(
    subject: "Subject",
    wanted: "list[Runtime]",
    timeout: float,
    progress: "Progress | None",
    expect: Path | None,
    engine: "Engine",
    environ: Mapping[str, str],
) -> "list[Verified]":
    """What the wanted runtimes showed, in their order; torch always runs, as the denominator of ratios."""
    from rnn_export.cases import read_arrays
    from rnn_export.cells import Cell, run_here
    from rnn_export.verification import judge_saved

    (reference,) = run_here([Cell(subject, "torch", timeout, {})], progress)
    errors = {row.case: row.max_abs for row in reference.rows if row.max_abs is not None}
    runs: list[Verified] = []
    if expect is not None:
        own = subject.cases[0]  # the user's own data comes first
        runs.append(judge_saved(subject, own, read_arrays(expect), expect.name, errors.get(own.name)))
    names = [runtime.name for runtime in wanted]
    cells = [Cell(subject, name, timeout, errors, environ) for name in names if name != "torch"]
    others = iter(engine(cells, progress))
    return [*runs, *(reference if name == "torch" else next(others) for name in names)]


def _engine(subject: "Subject", jobs: int, ray: str | None) -> "Engine":
    """Where cells run: on a cluster, in processes, or here, where a copy of everything would be too much."""
    from rnn_export.cells import MOST_COPIED, copied_bytes, run_here

    if ray is not None:
        from rnn_export.cluster import run_on_ray

        return partial(run_on_ray, address=ray)
    if jobs > 1 and copied_bytes(subject) <= MOST_COPIED:
        from rnn_export.processes import run_in_processes

        return partial(run_in_processes, jobs=jobs)
    return run_here


def _checkpoint(
    source: "str | Path | nn.Module | Weights | Checkpoint",
    prefix: str | None,
    nonlinearity: str | None,
    batch_first: bool | None,
    head: str | None,
) -> "Checkpoint":
    from rnn_export.checkpoint import Checkpoint, load_checkpoint
    from rnn_export.weights import Weights

    if isinstance(source, str | Path):
        return load_checkpoint(source, prefix=prefix, nonlinearity=nonlinearity, batch_first=batch_first, head=head)
    if (prefix, nonlinearity, batch_first, head) != (None, None, None, None):
        raise UsageError("prefix, nonlinearity, batch_first and head are for files", "A module says them itself")
    if isinstance(source, Checkpoint):
        return source
    if not isinstance(source, Weights):
        from rnn_export.module import from_torch

        return Checkpoint(from_torch(source), (), {"name": type(source).__name__})
    return Checkpoint(source, (), {"name": str(source.spec)})
