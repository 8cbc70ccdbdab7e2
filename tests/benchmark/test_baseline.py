"""A row is slower where its ratio fell beyond the tolerance and beyond the noise of both; else nothing is said."""

from dataclasses import replace

import pytest

from rnn_export.benchmark.baseline import compare
from rnn_export.errors import UsageError
from rnn_export.result import Status
from tests.benchmark.scores import MACHINE, failed, point, row, score, with_ratios

BEFORE = with_ratios({"rnn": 5.0, "scan": 2.0})


def test_the_same_again_is_no_regression():
    found = compare(BEFORE, BEFORE, 0.15)
    assert (found.regressions, found.notes, found.compared) == ((), (), 2)


def test_what_became_slower_is_named_with_both_ratios():
    found = compare(with_ratios({"rnn": 4.0, "scan": 2.0}), BEFORE, 0.15)
    (said,) = found.regressions
    assert said == (
        "RNN(64 -> 64, tanh) T=128 B=1: rnn on onnxruntime-cpu is 4.00 times as fast as torch (3.92–4.08), "
        "and was 5.00 times (4.90–5.10): 20% less"
    )


@pytest.mark.parametrize(("ratio", "tolerance", "slower"), [(4.3, 0.15, 0), (4.2, 0.15, 1), (4.2, 0.2, 0), (4.6, 0, 1)])
def test_the_tolerance_is_a_share_of_the_older_ratio(ratio, tolerance, slower):
    found = compare(with_ratios({"rnn": ratio}), BEFORE, tolerance)
    assert len(found.regressions) == slower


def test_a_noisy_measurement_proves_nothing():
    assert compare(with_ratios({"rnn": 4.0}, width=0.3), BEFORE, 0.15).regressions == ()
    assert compare(with_ratios({"rnn": 4.0}), with_ratios({"rnn": 5.0}, width=0.3), 0.15).regressions == ()


def test_what_became_faster_is_none():
    assert compare(with_ratios({"rnn": 50.0}), BEFORE, 0.0).regressions == ()


def test_what_does_not_run_any_more_is_a_regression():
    now = score(point(row("rnn", 5.0), failed("scan", Status.CRASHED, "the process ended with SIGSEGV")))
    (said,) = compare(now, BEFORE, 0.15).regressions
    assert said.endswith("scan on onnxruntime-cpu ran before, and now: CRASHED the process ended with SIGSEGV")


def test_what_did_not_run_before_and_what_is_new_are_none():
    before = score(point(row("rnn", 5.0), failed("scan", Status.REFUSED, "...")))
    now = with_ratios({"rnn": 5.0, "scan": 1.0, "hoisted": 1.0})
    found = compare(now, before, 0.15)
    assert (found.regressions, found.compared) == ((), 1)


def test_another_load_or_network_is_no_baseline():
    for other in (point(row("rnn", 5.0), B=2), point(row("rnn", 5.0), H=65)):
        with pytest.raises(UsageError, match="the baseline has no row of this"):
            compare(score(other), BEFORE, 0.15)


def test_other_threads_are_no_baseline():
    with pytest.raises(UsageError, match="measured with 1 threads, this with 2"):
        compare(with_ratios({"rnn": 5.0}, threads=2), BEFORE, 0.15)


def test_another_processor_is_said():
    elsewhere = with_ratios({"rnn": 5.0}, environment=replace(MACHINE, cpu="another one"))
    note, _ = compare(elsewhere, BEFORE, 0.15).notes  # and a row is gone
    assert "of another processor, a processor, this is another one" in note


def test_a_row_that_is_gone_is_noted():
    (note,) = compare(with_ratios({"rnn": 5.0}), BEFORE, 0.15).notes
    assert note == "the baseline has rows that were not measured now: scan on onnxruntime-cpu at T=128 B=1"


def test_where_torch_has_no_time_nothing_can_be_compared_and_that_is_said():
    now = score(point(replace(row("rnn", 5.0), ratio=None)))
    (said,) = compare(now, with_ratios({"rnn": 5.0}), 0.15).regressions
    assert said.endswith("has nothing to be compared with: torch did not run")
