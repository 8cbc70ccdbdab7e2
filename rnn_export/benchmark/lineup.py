"""Which rows a benchmark has: torch, forms on runtimes, and what the user names."""

from collections.abc import Sequence
from dataclasses import dataclass

from rnn_export.benchmark.score import REFERENCE
from rnn_export.environments import interpreter_of
from rnn_export.errors import UsageError
from rnn_export.forms import FORMS, Form, usual_forms
from rnn_export.runtimes import RUNTIMES, Runtime

USUAL = ("onnxruntime-cpu", "openvino")  # of the runtimes that read the file; the second where it is installed
OPERATOR_FORM = "rnn"  # what every runtime has a kernel of its own for


@dataclass(frozen=True)
class Candidate:
    """A row that is to be measured.

    Attributes:
        runtime: where it runs.
        form: what is run; None where the runtime reads the weights.
        named: whether the user named it.
    """

    runtime: Runtime
    form: Form | None
    named: bool

    @property
    def label(self) -> str:
        return self.runtime.name if self.form is None else f"{self.form.name} on {self.runtime.name}"


def line_up(forms: Sequence[str], runtimes: Sequence[str], threads: int = 1) -> list[Candidate]:
    """The rows, torch first, forms in the order of their rank.

    Without names: every form of dynamic length on ONNX Runtime, and the RNN operator on OpenVINO where that is
    installed. Forms that are named take their place. Runtimes that are named do too: each kind of ONNX Runtime runs all
    forms, any other the operator, or the forms that are named.

    Args:
        forms: names.
        runtimes: names.
        threads: how many each may compute with.

    Raises:
        UsageError: an unknown name, a form of one step, a live server, or a runtime that cannot use that many threads.
    """
    chosen = [FORMS.get(name) for name in dict.fromkeys(forms)] or usual_forms()
    if stepping := [form.name for form in chosen if form.length == "step"]:
        raise UsageError(f"form {stepping[0]!r} is one step, and the loop its user's", "Choose another form")
    others = [RUNTIMES.get(name) for name in dict.fromkeys(runtimes) if name != REFERENCE]
    for runtime in others:
        _check(runtime, threads)
    installed = [runtime for runtime in map(RUNTIMES.get, USUAL) if interpreter_of(runtime) or runtime.name == USUAL[0]]
    found = [Candidate(RUNTIMES.get(REFERENCE), None, REFERENCE in runtimes)]
    for runtime in others if runtimes else installed:
        if runtime.reads == "weights.safetensors":
            found.append(Candidate(runtime, None, named=True))
            continue
        runs_all = runtime.distribution.startswith("onnxruntime") or bool(forms and runtimes)
        found += [
            Candidate(runtime, form, bool(forms or runtimes))
            for form in chosen
            if runs_all or form.name == OPERATOR_FORM
        ]
    return found


def _check(runtime: Runtime, threads: int) -> None:
    if runtime.reads == "server":
        raise UsageError(f"{runtime.name} asks a live server, which has its own load", "rnn-export probe times it")
    if threads > 1 and runtime.single_threaded:
        raise UsageError(f"{runtime.name} computes with one thread, whatever it is given", "Leave --threads out")
