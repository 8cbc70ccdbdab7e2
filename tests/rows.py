"""Rows and reports that several tests show, and any that hypothesis can think of."""

from dataclasses import replace
from math import sin

from hypothesis import strategies as st

from rnn_export.machine import Environment
from rnn_export.record import Placement, Record, Series
from rnn_export.report import Report
from rnn_export.result import Result, Stage, Status

PLACES = st.one_of(st.none(), st.integers(0, 2**31))
ROWS = st.lists(
    st.builds(
        Result,
        st.sampled_from(["a", "b", "file"]),
        st.just("1.0"),
        st.text(max_size=5),
        st.sampled_from(Stage),
        st.sampled_from(Status),
        st.sampled_from(["", "code"]),
        st.one_of(st.none(), st.floats()),
        st.one_of(st.none(), st.just("float32")),
        st.one_of(st.none(), st.floats()),
        st.one_of(st.none(), st.floats()),
        st.text(max_size=40),
        PLACES,
        PLACES,
        PLACES,
        PLACES,
        PLACES,
    ),
    max_size=8,
)


def row(runtime: str, status: Status, case: str = "T=1", detail: str = "", code: str = "", **more) -> Result:
    code = code or ("" if status is Status.PASS else status.value.lower())
    return Result(runtime, "1.0", case, Stage.COMPARE, status, code, detail=detail, **more)


def report_of(*rows: Result, **more) -> Report:
    required = more.pop("required", frozenset({"a"}))
    return Report("out", "scan", "RNN(3 -> 4, tanh)", rows, required, **more)


HOSTILE = "<script>alert(1)</script>\"'&|`*_[x](http://x) {{7*7}}\n::error::x\r]]>\x00\x1b[2J\ud800é%25,:"


def hostile_report() -> Report:
    """A report in which every name and every word tries to be more than text."""
    nodes = {HOSTILE: (HOSTILE,), "CPU": ("Scan a",)}
    placement = Placement(HOSTILE, (HOSTILE, "CPU"), nodes, tf32=True)
    series = Series(HOSTILE, 3, 1, 4.0, (0.5, float("inf"), 7.0), (0.0, 1e-7, float("inf")))
    packages = {HOSTILE: HOSTILE}
    return Report(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        tuple(
            Result(HOSTILE, HOSTILE, HOSTILE, Stage.RUN, status, HOSTILE, float("nan"), HOSTILE, 1.0, 1.0, HOSTILE, 1)
            for status in Status
        ),
        frozenset({HOSTILE}),
        strict=True,
        runtimes=(Record(HOSTILE, HOSTILE, HOSTILE, placement, series),),
        digest=HOSTILE,
        environment=Environment(HOSTILE, HOSTILE, HOSTILE, 1, 1, packages),
        created=HOSTILE,
    )


def passing_report() -> Report:
    """What a verification of three runtimes may say, with everything that a report can hold."""
    cpu = Placement("CPUExecutionProvider", ("CPUExecutionProvider",), {"CPUExecutionProvider": ("Scan over_time",)})
    cases = ("T=5 B=3", "T=400 B=1", "one-hot T=5 B=3", "NaN T=5 B=3", "state T=5 B=3", "rows T=5 B=3")
    rows = [
        row(name, Status.PASS, case, residual=0.5, precision="float32", max_abs=1e-7, ratio=1.5)
        for name in ("onnxruntime-cpu", "openvino")
        for case in cases
    ]
    waves = tuple(0.5 + 0.4 * sin(step / 9) for step in range(400))
    series = Series("T=400 B=1", 400, 1, 4.0, waves, tuple(1e-7 * wave for wave in waves))
    return Report(
        "digits",
        "scan",
        "RNN(8 -> 64, tanh)",
        (
            replace(row("file", Status.PASS, "weights read back"), version=""),
            *rows,
            row("onnxruntime-cpu", Status.DIVERGENCE, "T=0 B=3", "refuses a sequence of length 0", code="no-steps"),
            replace(row("onnxruntime-cuda", Status.ABSENT, "", "not installed"), stage=Stage.FIND, version=""),
        ),
        frozenset({"onnxruntime-cpu", "openvino"}),
        runtimes=(
            Record("onnxruntime-cpu", "1.0", placement=cpu, series=series),
            Record("onnxruntime-cuda"),
            Record("openvino", "1.0", series=series),
        ),
        digest="0123456789abcdef" * 4,
        environment=Environment("CPython 3.11.7", "Linux x86_64", "a processor", 2, 1, {"rnn-export": "0.1.0"}),
        created="2026-01-31T12:00:00Z",
    )


def failing_report() -> Report:
    """The same, with a step that is wrong on one runtime, and one that fell back."""
    good = passing_report()
    wrong = row(
        "openvino",
        Status.MISMATCH,
        "T=400 B=1",
        "residual 1e+03 > 4, first at t=37 b=0 unit=2 of layer 0",
        code="step-residual",
        residual=1000.0,
        step=37,
        row=0,
        unit=2,
        layer=0,
        direction=0,
    )
    rows = [one for one in good.results if (one.runtime, one.case) != (wrong.runtime, wrong.case)]
    nodes = {"CUDAExecutionProvider": ("Gather a",), "CPUExecutionProvider": ("Scan over_time",)}
    placement = Placement("CUDAExecutionProvider", ("CUDAExecutionProvider", "CPUExecutionProvider"), nodes, tf32=False)
    fallen = row("onnxruntime-cuda", Status.FALLBACK, "", "asked for CUDA, but Scan over_time on CPU (1 nodes)")
    first, _, last = good.runtimes
    assert last.series is not None
    bad = tuple(0.5 if step < 37 else 1000.0 for step in range(400))
    last = replace(last, series=replace(last.series, residual=bad))
    return replace(
        good,
        results=(*rows[:-1], wrong, fallen),
        required=good.required | {"onnxruntime-cuda"},
        runtimes=(first, Record("onnxruntime-cuda", "1.0", placement=placement), last),
    )
