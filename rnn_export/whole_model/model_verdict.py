"""A whole model's ONNX file, judged at other lengths and batches than the example's.

Each recurrent part is judged by its step residual, in the runtime's own arithmetic; the rest end to end, against the
model itself in float64 and in units of torch's own float32 error.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rnn_export.child import MEMORY_LIMIT, Child, Failure
from rnn_export.execution import TIMEOUT, prepared
from rnn_export.inspection import load_model
from rnn_export.report import Report
from rnn_export.result import Result, Stage, Status
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.session import COPIES
from rnn_export.whole_model.factory import Made
from rnn_export.whole_model.model_folder import export_model, form_of
from rnn_export.whole_model.model_subject import ModelCase, ModelSubject
from rnn_export.whole_model.parts import cells_of, judge, recognise
from rnn_export.whole_model.truth import compare

DEFAULT_RUNTIMES = ("onnxruntime-cpu",)
_SHIPPED, _INSTRUMENTED = 1, 2  # the numbers of the prepared networks; the canary is 0


def export_and_verify(made: Made, output: str | Path, *, form: str, opset: int) -> Report:
    """Export what a factory made, and verify it at once.

    Args:
        made: the model, its inputs and dynamic_shapes.
        output: the folder to make.
        form, opset: see ``export_model``.

    Raises:
        RnnExportError: see ``export_model`` and ``verify_model``.
    """
    shapes, source = made.dynamic_shapes, {"factory": made.source}
    export_model(made.model, made.inputs, output, dynamic_shapes=shapes, form=form, opset=opset, source=source)
    return verify_model(made.model, made.inputs, output, dynamic_shapes=shapes)


def verify_model(
    model: nn.Module,
    inputs: Any,
    path: str | Path,
    *,
    dynamic_shapes: Any = None,
    runtimes: Iterable[str] = DEFAULT_RUNTIMES,
    timeout: float = TIMEOUT,
) -> Report:
    """Judge an ONNX file of a whole model, at sizes that the example does not have.

    Args:
        model: what the file should compute; nothing in it changes.
        inputs: the arguments of ``forward`` as a tuple, one tensor, or a function of (T, B) that makes them.
        path: the file, or the folder that ``rnn-export export`` made.
        dynamic_shapes: as torch's exporter takes them; None to find out, see ``inputs_of``.
        runtimes: which run it.
        timeout: seconds per request to a runtime.

    Raises:
        ArtifactError: the file cannot be read, or its inputs are not the model's.
        SourceError: the model itself does not run at two other sizes, or not in float64.
        UsageError: an unknown runtime, or axes that cannot be told apart.
    """
    wanted = [RUNTIMES.get(name) for name in runtimes]
    path = Path(path)
    file = load_model(path / "model.onnx" if path.is_dir() else path)
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        subject = ModelSubject.of(model, inputs, dynamic_shapes, file, Path(scratch))
        rows = [row for runtime in wanted for row in _Run(subject, runtime).rows_of_all_cases(timeout)]
    networks = [f"{name} {weights.spec}" for name, weights in subject.networks.items()]
    words = ", ".join([type(model).__name__, *networks])
    return Report(path.name, form_of(path), words, tuple(rows), frozenset(runtime.name for runtime in wanted))


class _Run:
    """One runtime on one subject."""

    def __init__(self, subject: ModelSubject, runtime: Runtime) -> None:
        self.subject, self.runtime = subject, runtime
        self.version = ""
        self.rows: list[Result] = []
        self.recognised: set[str] = set()

    def rows_of_all_cases(self, timeout: float) -> list[Result]:
        size = (self.subject.shipped / "model.onnx").stat().st_size
        try:
            with prepared(self.runtime, [self.subject.shipped], timeout, MEMORY_LIMIT + COPIES * size) as child:
                self.version = child.version
                shows_parts = self._prepare_instrumented(child)
                for case in self.subject.cases:
                    self._run(child, case, shows_parts)
        except Failure as failure:
            self._failed("", failure)
        else:
            self._not_recognised()
        return self.rows

    def _prepare_instrumented(self, child: Child) -> bool:
        try:
            child.prepare(self.subject.instrumented)
        except Failure as failure:
            self._add("recurrent parts", "not-judged", detail=f"the instrumented copy: {failure.detail}")
            return False
        return True

    def _run(self, child: Child, case: ModelCase, shows_parts: bool) -> None:
        try:
            outputs = child.run(_SHIPPED, case.feed)
            found = [outputs[name] for name in self.subject.outputs]
            said = compare(found, case.expected)
            self._add(case.name, said.code, max_abs=said.max_abs, ratio=said.ratio, detail=said.detail)
            if not shows_parts or said.code in ("wrong-shape", "missing-output"):
                return
            shown = child.run(_INSTRUMENTED, case.feed)
        except Failure as failure:
            if not child.alive:
                raise
            self._failed(case.name, failure)
            return
        if all(np.array_equal(outputs[name], shown[name], equal_nan=True) for name in self.subject.outputs):
            self._judge_parts(case, {**self.subject.constants, **case.feed, **shown})
        else:
            detail = "the instrumented copy computes other bits than the file: its parts prove nothing"
            self._add(f"{case.name}, recurrent parts", "not-judged", detail=detail)

    def _judge_parts(self, case: ModelCase, values: Mapping[str, NDArray[Any]]) -> None:
        uses: Counter[str] = Counter()
        for part in self.subject.parts:
            for name, verdict in judge(part, values, recognise(part, values, self.subject.networks)):
                uses[name] += 1
                again = f" (use {uses[name]})" if uses[name] > 1 else ""
                self.recognised.add(name)
                self._add(
                    f"{case.name}, {name}{again}",
                    "step-residual" if verdict.problem else "",
                    residual=verdict.residual,
                    precision=verdict.precision,
                    detail=verdict.problem,
                )

    def _not_recognised(self) -> None:
        """A cell whose weights no node holds was not judged by its steps: that is no proof."""
        missing = [name for name in cells_of(self.subject.networks) if name not in self.recognised | self.subject.idle]
        if missing and not any(row.code for row in self.rows):
            detail = f"no RNN and no Scan of the file holds the weights of {', '.join(missing)}, bit for bit"
            self._add("weights", "weights", detail=detail)

    def _add(self, case: str, code: str, **found: Any) -> None:
        status = Status.MISMATCH if code else Status.PASS
        self.rows.append(Result(self.runtime.name, self.version, case, Stage.COMPARE, status, code, **found))

    def _failed(self, case: str, failure: Failure) -> None:
        name, code = self.runtime.name, failure.status.value.lower()
        self.rows.append(Result(name, self.version, case, failure.stage, failure.status, code, detail=failure.detail))
