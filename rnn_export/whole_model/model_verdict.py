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

from rnn_export.artifact import digest_of
from rnn_export.child import MEMORY_LIMIT, THREADS, Child, Failure
from rnn_export.errors import UsageError
from rnn_export.execution import TIMEOUT, prepared
from rnn_export.inspection import load_model
from rnn_export.judgement import Judgement
from rnn_export.machine import this_environment, utc_now
from rnn_export.record import Placement, Record, Series, series_of
from rnn_export.report import Report
from rnn_export.residual import GATE
from rnn_export.result import Result, Stage, Status, without_paths
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.session import COPIES, INSTRUMENTED, SHIPPED
from rnn_export.verification import Progress
from rnn_export.whole_model.comparison import compare
from rnn_export.whole_model.dynamic_axes import inputs_of
from rnn_export.whole_model.factory import Made
from rnn_export.whole_model.model_folder import export_model, model_file
from rnn_export.whole_model.model_subject import ModelCase, ModelSubject
from rnn_export.whole_model.recognition import recognise, same_cell
from rnn_export.whole_model.recurrent_nodes import judge_node
from rnn_export.whole_model.repeatability import check_repeatable
from rnn_export.whole_model.truth import evaluating

DEFAULT_RUNTIMES = ("onnxruntime-cpu",)
_STATIC = "every axis of this file is fixed: give dynamic_shapes to torch.onnx.export"


def export_and_verify(
    made: Made,
    output: str | Path,
    *,
    form: str,
    opset: int,
    runtimes: Iterable[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Export what a factory made, and verify it at once.

    Args:
        made: the model, its inputs and dynamic_shapes.
        output: the folder to make.
        form, opset: see ``export_model``.
        runtimes, progress: see ``verify_model``.

    Raises:
        RnnExportError: see ``export_model`` and ``verify_model``.
    """
    names = _checked(runtimes)  # before a minute is spent on the export
    shapes, source = made.dynamic_shapes, {"factory": made.source}
    with evaluating(made.model):
        check_repeatable(made.model, inputs_of(made.model, made.inputs, shapes).example)  # before anything is written
    export_model(made.model, made.inputs, output, dynamic_shapes=shapes, form=form, opset=opset, source=source)
    return verify_model(made.model, made.inputs, output, dynamic_shapes=shapes, runtimes=names, progress=progress)


def verify_model(
    model: nn.Module,
    inputs: Any,
    path: str | Path,
    *,
    dynamic_shapes: Any = None,
    runtimes: Iterable[str] = (),
    require: Iterable[str] = (),
    timeout: float = TIMEOUT,
    strict: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Judge an ONNX file of a whole model, at sizes that the example does not have.

    Args:
        model: what the file should compute; nothing in it changes.
        inputs: the arguments of ``forward`` as a tuple, one tensor, or a function of (T, B) that makes them.
        path: the file, or the folder that ``export_model`` made.
        dynamic_shapes: as torch's exporter takes them; None to find out, see ``inputs_of``.
        runtimes: which run it; ``onnxruntime-cpu`` if none is named.
        require: which must be present and pass.
        timeout: seconds per request to a runtime.
        strict: documented differences of a runtime count as wrong.
        progress: told (runtime, cases done, cases in all) after every case.

    Raises:
        ArtifactError: the file cannot be read, or its inputs are not the model's.
        SourceError: the model itself does not run at two other sizes, or not in float64.
        UsageError: a runtime that is unknown or runs no ONNX file, or axes that cannot be told apart.
    """
    demanded = _checked(require)
    required = _checked(runtimes) | demanded or frozenset(DEFAULT_RUNTIMES)
    wanted = [RUNTIMES.get(name) for name in sorted(required)]
    path = Path(path)
    file, form = model_file(path)
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        subject = ModelSubject.of(model, inputs, dynamic_shapes, load_model(file), Path(scratch))
        runs = [_Run(subject, runtime, progress) for runtime in wanted]
        rows = [row for run in runs for row in run.rows_of_all_cases(timeout)]
    networks = [f"{name} {weights.spec}".lstrip() for name, weights in subject.networks.items()]
    words = ", ".join([type(model).__name__, *networks])
    return Report(
        path.resolve().name,
        form,
        words,
        tuple(without_paths(row, scratch) for row in rows),
        required,
        demanded,
        strict,
        runtimes=tuple(run.record for run in runs),
        digest=digest_of(path),
        environment=this_environment(THREADS),
        created=utc_now(),
    )


def _checked(names: Iterable[str]) -> frozenset[str]:
    """Raises UsageError where there is no such runtime, or it runs no ONNX file."""
    found = frozenset({names} if isinstance(names, str) else names)
    for name in found:
        if RUNTIMES.get(name).reads != "model.onnx":
            raise UsageError(f"{name} runs the weights of one network, no whole model", "Name a runtime of ONNX files")
    return found


class _Run:
    """One runtime on one subject."""

    def __init__(self, subject: ModelSubject, runtime: Runtime, progress: Progress | None) -> None:
        self.subject, self.runtime, self.progress = subject, runtime, progress
        self.version = ""
        self.case = ""
        self.rows: list[Result] = []
        self.shown = False  # whether the instrumented copy has shown any node
        self.recognised: set[str] = set()
        self.placement: Placement | None = None
        self.series: Series | None = None

    def rows_of_all_cases(self, timeout: float) -> list[Result]:
        size = sum(file.stat().st_size for file in self.subject.shipped.iterdir())
        try:
            with prepared(self.runtime, [self.subject.shipped], timeout, MEMORY_LIMIT + COPIES * size) as child:
                self.version, self.placement = child.version, child.placement
                if self.subject.is_static:
                    self._add("", Judgement("fixed-axes", _STATIC))
                    return self.rows
                shows_nodes = self._prepare_instrumented(child)
                for done, case in enumerate(self.subject.cases, 1):
                    self.case = case.name
                    self._run(child, case, shows_nodes)
                    if self.progress is not None:
                        self.progress(self.runtime.name, done, len(self.subject.cases))
        except Failure as failure:
            self.placement = self.placement or failure.placement
            self._failed(failure)
        else:
            self._not_recognised()
        return self.rows

    @property
    def record(self) -> Record:
        return Record(self.runtime.name, self.version, self.runtime.precision, self.placement, self.series)

    def _prepare_instrumented(self, child: Child) -> bool:
        try:
            with self.subject.showing_nodes() as folder:
                child.prepare(folder)
        except Failure as failure:
            if not child.alive:
                raise
            self._add("recurrent parts", Judgement("not-judged", f"the instrumented copy: {failure.detail}"))
            return False
        return True

    def _run(self, child: Child, case: ModelCase, shows_nodes: bool) -> None:
        try:
            outputs = child.run(SHIPPED, case.feed)
            judgement, ratio = compare([outputs[name] for name in self.subject.outputs], case.expected)
            self._add(case.name, judgement, ratio)
            if not shows_nodes or judgement.code in ("wrong-shape", "missing-output"):
                return
            shown = child.run(INSTRUMENTED, case.feed)
        except Failure as failure:
            if not child.alive:
                raise
            self._failed(failure)
            return
        if all(np.array_equal(outputs[name], shown[name], equal_nan=True) for name in self.subject.outputs):
            self._judge_nodes(case, {**self.subject.constants, **case.feed, **shown})
        else:
            detail = "the instrumented copy computes other bits than the file: its parts prove nothing"
            self._add(f"{case.name}, recurrent parts", Judgement("not-judged", detail))

    def _judge_nodes(self, case: ModelCase, values: Mapping[str, NDArray[Any]]) -> None:
        self.shown = True
        uses: Counter[str] = Counter()
        for node in self.subject.nodes:
            names = recognise(node, values, self.subject.cells)
            self.recognised |= set(names)
            cells = [self.subject.cells[name].cell for name in names]
            for name, judgement in zip(names, judge_node(node, values, cells, self.runtime.precision), strict=True):
                uses[name] += 1
                again = f" (use {uses[name]})" if uses[name] > 1 else ""
                self._add(f"{case.name}, {name}{again}", judgement)
                self._tell(f"{case.name}, {name}{again}", judgement)

    def _tell(self, case: str, judgement: Judgement) -> None:
        """Keep the part that tells most over time: the first one that is wrong, else the longest."""
        series = series_of(case, GATE, judgement.residuals, None)
        kept = self.series
        wrong = kept is not None and any(q > GATE for q in kept.residual or ())
        if series is not None and not wrong and (judgement.code or kept is None or series.length > kept.length):
            self.series = series

    def _not_recognised(self) -> None:
        """A cell whose weights no node holds was not judged by its steps: that is no proof."""
        cells = {name: place.cell for name, place in self.subject.cells.items() if name not in self.subject.unproved}
        proved = [self.subject.cells[name].cell for name in self.recognised]
        missing = [name for name, cell in cells.items() if not any(same_cell(cell, one) for one in proved)]
        if missing and self.shown:
            held = f"no RNN and no Scan of the file holds the weights of {', '.join(missing)}, bit for bit"
            self._add("weights", Judgement("weights", f"{held}: it was exported from other weights, or another model"))

    def _add(self, case: str, judgement: Judgement, ratio: float | None = None) -> None:
        status = Status.MISMATCH if judgement.code else Status.PASS
        self.rows.append(
            Result(
                self.runtime.name,
                self.version,
                case,
                Stage.COMPARE,
                Status.DIVERGENCE if judgement.diverges else status,
                judgement.code,
                judgement.residual,
                judgement.precision,
                judgement.max_abs,
                ratio,
                "; ".join(part for part in (judgement.detail, *judgement.notes) if part),
                *(judgement.element or ()),
            )
        )

    def _failed(self, failure: Failure) -> None:
        name, code = self.runtime.name, failure.status.value.lower()
        row = Result(name, self.version, self.case, failure.stage, failure.status, code, detail=failure.detail)
        self.rows.append(row)
