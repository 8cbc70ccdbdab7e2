"""Choosing a form for the runtimes that a file is for: the first one, fastest first, that all of them get right."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from rnn_export.checkpoint import Checkpoint
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.errors import InstallationError, RnnExportError, UsageError
from rnn_export.forms import FORMS
from rnn_export.pipeline import DEFAULT_OPSET, export, verify
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES


@dataclass(frozen=True)
class Choice:
    """The form, its steps where its length is fixed, and for every form that was tried what became of it."""

    form: str
    reasons: tuple[str, ...]
    steps: int | None = None


def choose_form(
    checkpoint: Checkpoint,
    runtimes: tuple[str, ...],
    *,
    opset: int = DEFAULT_OPSET,
    lengths: bool = False,
    steps: int | None = None,
) -> Choice:
    """Export and verify form after form, and take the first that every runtime computes.

    Args:
        checkpoint: the network.
        runtimes: what the file is for; documented differences, such as a refused length of 0, do not count.
        opset, lengths: see ``export``.
        steps: the length of the form ``unrolled``, which is not tried without it.

    Raises:
        UsageError: an unknown runtime, none at all, or no form that all of them compute; the reasons are in it.
        InstallationError: a runtime is not installed here.
    """
    if not runtimes:
        raise UsageError("a form is chosen for runtimes", "Name them: --for onnxruntime-cpu")
    if idle := [name for name in runtimes if RUNTIMES.get(name).reads != "model.onnx"]:
        raise UsageError(f"{idle[0]} runs the weights and never the file", "Name what the file is for")
    for runtime in map(RUNTIMES.get, runtimes):
        if interpreter_of(runtime) is None:
            raise InstallationError(f"{runtime.name} is not installed", f"Run: {how_to_install(runtime)}")
    reasons = []
    for form in sorted(FORMS, key=lambda form: form.rank):
        own_steps = steps if form.length == "fixed" else None
        problem = _problem(form.name, checkpoint, runtimes, opset, lengths, own_steps)
        what = {"dynamic": "", "fixed": f", {own_steps} steps", "step": ", one step at a time"}[form.length]
        reasons.append(f"form {form.name}: " + (problem or f"right on {', '.join(runtimes)}{what}"))
        if not problem:
            return Choice(form.name, tuple(reasons), own_steps)
    raise UsageError(f"no form is right on {', '.join(runtimes)}: {'; '.join(reasons)}", _next_step(runtimes, steps))


def _next_step(runtimes: tuple[str, ...], steps: int | None) -> str:
    if steps is None:
        return "A fixed length is tried too with --steps N"
    return "Export one file for each" if len(runtimes) > 1 else "docs/compatibility.md has what runs where"


def _problem(
    form: str, checkpoint: Checkpoint, runtimes: tuple[str, ...], opset: int, lengths: bool, steps: int | None
) -> str:
    """Why a form will not do; empty where it will."""
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        try:
            trial = Path(scratch) / "trial"
            artifact = export(checkpoint, trial, form=form, opset=opset, lengths=lengths, steps=steps)
        except RnnExportError as error:
            return f"not drawn: {error.args[0]}"
        report = verify(artifact.path, runtimes=runtimes)
    if report.exit_code == 0:
        return ""
    wrong = [row for row in report.results if row.status not in (Status.PASS, Status.DIVERGENCE)]
    said = {row.runtime: f"{row.status.value} on {row.runtime} [{row.code}]" for row in reversed(wrong)}
    return ", ".join(said[name] for name in runtimes if name in said) or "nothing was checked"
