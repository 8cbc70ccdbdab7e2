"""A whole benchmark of small networks: every row is measured, compared with torch, and held against the limit."""

from dataclasses import replace

import numpy as np
import pytest

from rnn_export.benchmark import grid
from rnn_export.benchmark.grid import measure
from rnn_export.benchmark.point import Terms, _difference
from rnn_export.benchmark.race import Laps
from rnn_export.benchmark.score import OPERATOR, REFERENCE
from rnn_export.checkpoint import load_checkpoint
from rnn_export.errors import UsageError
from rnn_export.result import Status
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head
from tests.benchmark.scores import point

QUICK = Terms(length=6, rounds=2, seconds=0.002)
CPU = ("onnxruntime-cpu",)


@pytest.fixture(scope="module")
def measured():
    seen = []
    checkpoint = load_checkpoint("rnn:3,4,layers=2,bidirectional,batch-first")
    terms = replace(QUICK, rounds=3)
    rows = {"forms": ("rnn", "unrolled"), "runtimes": CPU, "batches": (2,)}
    return measure(checkpoint, terms, **rows, progress=lambda *said: seen.append(said)), seen


def test_every_row_is_measured_and_computes_the_network(measured):
    (only,) = measured[0].points
    assert only.network == "RNN(3 -> 4, tanh, 2 layers, bidirectional, batch first)"
    assert (only.input_size, only.hidden_size) == (3, 4)
    assert (only.length, only.batch, only.limit_problem) == (6, 2, "")
    assert [row.label for row in only.rows] == ["torch", "rnn on onnxruntime-cpu", "unrolled on onnxruntime-cpu"]
    for row in only.rows:
        assert (row.status, row.detail) == (Status.PASS, "")
        assert row.difference < 1e-6
        assert row.share > 0
        assert row.load_seconds > 0
        assert row.peak_bytes > 2**20
        assert row.sequences_per_second == pytest.approx(2 / (6e-6 * row.microseconds.median))


def test_ratios_are_to_torch_and_to_the_operator(measured):
    rows = {row.label: row for row in measured[0].points[0].rows}
    assert rows[REFERENCE].ratio.median == rows[OPERATOR].operator_ratio.median == 1.0
    assert rows[OPERATOR].ratio.median == pytest.approx(1 / rows[REFERENCE].operator_ratio.median)


def test_who_waits_is_told_how_far_it_is(measured):
    assert measured[1] == [("I=3 H=4 B=2", done, 3) for done in range(4)]


def test_it_says_what_it_ran_on(measured):
    assert (measured[0].threads, measured[0].environment.threads, measured[0].rounds) == (1, 1, 3)
    assert measured[0].exit_code == 0


def test_every_width_is_drawn_once_and_measured_at_every_batch(monkeypatch):
    drawn, points = [], []

    def draw(candidates, network, scratch, T):
        drawn.append(network.weights.spec)
        return {"": scratch}

    def measure_point(candidates, drawings, weights, B, terms, progress):
        assert drawings[""].is_dir()
        points.append((weights.spec.input_size, weights.spec.hidden_size, B, weights.dtype.name))
        return point(H=weights.spec.hidden_size, B=B)

    monkeypatch.setattr(grid, "draw_all", draw)
    monkeypatch.setattr(grid, "measure_point", measure_point)
    checkpoint = load_checkpoint("rnn:3,4,relu").converted("float64")
    benchmark = measure(checkpoint, QUICK, widths=(5, 7, 5), batches=(1, 2, 1))
    assert points == [(H, H, B, "float64") for H in (5, 7) for B in (1, 2)]
    assert drawn == [RNNSpec(5, 5, nonlinearity="relu"), RNNSpec(7, 7, nonlinearity="relu")]
    assert [(one.hidden_size, one.batch) for one in benchmark.points] == [(5, 1), (5, 2), (7, 1), (7, 2)]


def test_a_runtime_without_the_kernel_is_a_row_in_its_words():
    checkpoint = load_checkpoint("rnn:3,4").converted("float64")
    benchmark = measure(checkpoint, QUICK, forms=("rnn",), runtimes=CPU)
    (only,) = benchmark.points
    torch, rnn = only.rows
    assert only.network == "RNN(3 -> 4, tanh), float64"
    assert (torch.status, rnn.status) == (Status.PASS, Status.REFUSED)
    assert "Could not find an implementation for RNN" in rnn.detail
    assert benchmark.exit_code == 1


def test_a_form_that_cannot_draw_the_network_is_a_row_too():
    benchmark = measure(load_checkpoint("rnn:3,4"), replace(QUICK, length=20_000), forms=("unrolled",), runtimes=CPU)
    torch, unrolled = benchmark.points[0].rows
    assert (torch.status, unrolled.status) == (Status.PASS, Status.REFUSED)
    assert "20000 steps cannot be drawn one by one" in unrolled.detail


class TestWrongCalls:
    def test_a_head_is_not_timed(self):
        checkpoint = load_checkpoint("rnn:3,4")
        head = Head(np.ones((2, 4), np.float32), np.zeros(2, np.float32))
        with pytest.raises(UsageError, match="a head is not timed"):
            measure(replace(checkpoint, head=head), QUICK)

    def test_more_threads_than_processors_would_wait(self):
        with pytest.raises(UsageError, match="4096 threads on"):
            measure(load_checkpoint("rnn:3,4"), replace(QUICK, threads=4096))


class TestDifference:
    def test_it_is_the_largest_of_the_output(self):
        one, two = (Laps("", answers={"output": np.array(values, np.float32)}) for values in ([1, 2, 3], [1, 2.5, 3]))
        assert _difference(one, two) == 0.5
        assert _difference(one, one) == 0.0

    @pytest.mark.parametrize("answers", [{}, {"output": np.ones(3)}])
    def test_what_cannot_be_compared_has_none(self, answers):
        whole = Laps("", answers={"output": np.ones((2, 3))})
        assert _difference(Laps("", answers=answers), whole) is None
        assert _difference(whole, Laps("", answers=answers)) is None
