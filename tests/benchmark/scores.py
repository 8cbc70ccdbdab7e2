"""Benchmarks that several tests render, write and compare."""

from collections.abc import Mapping

from rnn_export.benchmark.limit import Limit
from rnn_export.benchmark.score import Benchmark, Point, Row
from rnn_export.benchmark.spread import Spread
from rnn_export.machine import Environment
from rnn_export.result import Status

MACHINE = Environment("CPython 3.11", "Linux x86_64", "a processor", 2, 1, {"rnn-export": "0.1.0"})
LIMIT = Limit(bytes_per_second=1e11, operations_per_second=1e11, seconds=0.5e-6)


def around(value: float, width: float = 0.02) -> Spread:
    """A spread of so much of the value to either side."""
    return Spread(value, value * (1 - width), value * (1 + width))


def row(form: str, ratio: float, width: float = 0.02, **others) -> Row:
    """A row of ONNX Runtime so many times as fast as a torch that takes 4 microseconds; without a form, torch's own."""
    label, runtime = (f"{form} on onnxruntime-cpu", "onnxruntime-cpu") if form else ("torch", "torch")
    times = around(4.0 / ratio, width)
    measured = {
        "ratio": around(ratio, width),
        "microseconds": times,
        "sequences_per_second": 1e6 / (128 * times.median),
        "share": 0.5 / times.median,
        "peak_bytes": 60 * 2**20,
        "load_seconds": 0.001,
        "difference": 1e-7,
    }
    return Row(label, runtime, form, "1.2.3", **measured | others)


def failed(form: str, status: Status, detail: str, runtime: str = "onnxruntime-cpu", *, named: bool = False) -> Row:
    return Row(f"{form} on {runtime}", runtime, form, status=status, detail=detail, named=named)


def point(*rows: Row, H: int = 64, B: int = 1, limit: Limit | None = LIMIT, problem: str = "") -> Point:
    return Point(f"RNN({H} -> {H}, tanh)", H, H, 128, B, limit, problem, (row("", 1.0), *rows))


def score(*points: Point, threads: int = 1, environment: Environment = MACHINE) -> Benchmark:
    return Benchmark(threads, 9, 0.1, points, environment, "2026-01-31T12:00:00Z")


def with_ratios(ratios: Mapping[str, float], width: float = 0.02, **options) -> Benchmark:
    """One point with a row for each form."""
    return score(point(*(row(form, ratio, width) for form, ratio in ratios.items())), **options)
