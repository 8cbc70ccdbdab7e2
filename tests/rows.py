"""Rows and reports that several tests show, and any that hypothesis can think of."""

from hypothesis import strategies as st

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


def row(runtime: str, status: Status, case: str = "T=1", detail: str = "", **more) -> Result:
    return Result(runtime, "1.0", case, Stage.COMPARE, status, status.value.lower(), detail=detail, **more)


def report_of(*rows: Result, **more) -> Report:
    required = more.pop("required", frozenset({"a"}))
    return Report("out", "scan", "RNN(3 -> 4, tanh)", rows, required, **more)
