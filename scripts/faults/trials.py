"""Trials: what the verdict, numpy.allclose and torch's own verify say of the same answers."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.onnx._internal.exporter._verification import VerificationInfo

from faults import emulated_runtime, lying_runtime
from faults.plan import Lie, Plan, fingerprint
from rnn_export.artifact import write_artifact
from rnn_export.cases import Case
from rnn_export.checkpoint import Checkpoint
from rnn_export.judgement import Answers, judge
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.subject import Subject, subject_of_artifact
from rnn_export.verification import verify_runtime
from rnn_export.weights import Weights

Arrays = Mapping[str, NDArray[Any]]
TIMEOUT = 60.0  # seconds per request
TOLERANCE = 1e-5  # of numpy.allclose, relative and absolute
TORCH_MAX_ABS, TORCH_MAX_REL = 5e-3, 1e-1  # torch/onnx/_internal/exporter/_core.py, step 6 of verify=True

ONNX_RUNTIME, TORCH = RUNTIMES.get("onnxruntime-cpu"), RUNTIMES.get("torch")
_IMPORTABLE = {"PYTHONPATH": str(Path(__file__).parents[1])}  # where the child finds faults.plan
LYING = Runtime("lying", "ONNX Runtime that lies", ("onnxruntime",), lying_runtime.prepare, environ=_IMPORTABLE)
EMULATED = Runtime(
    "emulated",
    "a loop in numpy",
    ("numpy",),
    emulated_runtime.prepare,
    reads="weights.safetensors",
    environ=_IMPORTABLE,
)


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        kind: the fault that was planted, or what else was run.
        size: how large it is, empty where that is no question.
        code: the verdict's word on the run, empty where it passed.
        residual: the largest q; None where none was measured.
        read_back: whether reading the file back found its weights wrong.
        allclose, torch_verify: whether they accept the same answers.
    """

    kind: str
    size: str
    net: str
    code: str
    residual: float | None
    read_back: bool
    allclose: bool
    torch_verify: bool

    @property
    def accepted(self) -> bool:
        return not self.code and not self.read_back


@dataclass(frozen=True)
class Trial:
    """One file on one runtime, with a number of inputs.

    Attributes:
        truth: what the file should compute.
        model: the file.
        cases: the inputs, each with the words (kind, size) under which its outcome is counted.
        lies: how the runtime answers each case, by the case's name, where it does not answer honestly.
    """

    net: str
    truth: Weights
    form: str
    model: onnx.ModelProto
    runtime: Runtime
    cases: Sequence[tuple[str, str, Case]]
    lies: Mapping[str, Lie]

    def outcomes(self) -> list[Outcome]:
        """Let everybody judge."""
        with tempfile.TemporaryDirectory(prefix="planted-") as folder:
            return self._judged(Path(folder))

    def _judged(self, scratch: Path) -> list[Outcome]:
        checkpoint = Checkpoint(self.truth, (), {"name": self.net})
        write_artifact(scratch / self.form, checkpoint, self.model, self.form, ())
        subject = subject_of_artifact(scratch / self.form, scratch)
        subject = replace(subject, cases=[case for _, _, case in self.cases])
        self._plant_lies(subject)
        read_back = not all(finding.passed for finding in subject.findings)
        run, torch_run = self.runtime.prepare(subject.folder), TORCH.prepare(subject.folder)
        expected = {case.name: torch_run(self._feed(case)) for case in subject.cases}
        errors = {case.name: self._error(subject, case, expected[case.name]) for case in subject.cases}
        results = verify_runtime(subject, self.runtime, timeout=TIMEOUT, torch_errors=errors).rows
        rows = {result.case: result for result in results}
        outcomes = []
        for kind, size, case in self.cases:
            row, right, found = rows[case.name], expected[case.name], _answers(run, self._feed(case))
            code = "" if row.passed else row.code
            others = accepted_by_allclose(right, found), accepted_by_torch(right, found)
            outcomes.append(Outcome(kind, size, self.net, code, row.residual, read_back, *others))
        return outcomes

    def _plant_lies(self, subject: Subject) -> None:
        cases = [case for _, _, case in self.cases if case.name in self.lies]
        lies = {fingerprint(self._feed(case)): self.lies[case.name] for case in cases}
        for folder in filter(None, (subject.folder, subject.instrumented)):
            Plan(self.truth.spec.batch_first, lies).write(folder)

    def _feed(self, case: Case) -> dict[str, NDArray[Any]]:
        x = case.x.swapaxes(0, 1) if self.truth.spec.batch_first else case.x
        return {"input": np.ascontiguousarray(x), "h_0": case.h_0}

    def _error(self, subject: Subject, case: Case, found: Arrays) -> float:
        """torch float32's own error, the denominator of the verdict's ratio."""
        output = found["output"].swapaxes(0, 1) if self.truth.spec.batch_first else found["output"]
        answers = Answers(output, found["h_n"], None)
        return judge(self.truth, case.x, case.h_0, answers, subject.truth_of(case)).max_abs or 0.0


def _answers(run: Any, feed: Arrays) -> Arrays:
    """What the runtime answers, again; nothing where it refuses."""
    try:
        with np.errstate(all="ignore"):  # overflow is among what is planted
            return dict(run(feed))
    except Exception:  # a refusal, which every judge rejects
        return {}


def accepted_by_allclose(expected: Arrays, found: Arrays) -> bool:
    """numpy.allclose, relative and absolute 1e-5, output by output; a NaN where torch has one is right."""
    pairs = ((found.get(name), expected[name]) for name in ("output", "h_n"))
    try:
        return all(a is not None and np.allclose(a, b, TOLERANCE, TOLERANCE, equal_nan=True) for a, b in pairs)
    except ValueError:  # shapes that do not even broadcast
        return False


def accepted_by_torch(expected: Arrays, found: Arrays) -> bool:
    """The rule of ``torch.onnx.export(verify=True)``, with torch's own numbers: outputs pair up by position."""
    if not found:
        return False
    try:
        infos = [
            VerificationInfo.from_tensors(name, torch.from_numpy(expected[name]), torch.from_numpy(array))
            for name, array in zip(("output", "h_n"), found.values(), strict=False)
        ]
    except RuntimeError:  # shapes that do not even broadcast
        return False
    return not any(info.max_abs_diff >= TORCH_MAX_ABS or info.max_rel_diff >= TORCH_MAX_REL for info in infos)
