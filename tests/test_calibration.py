"""Calibration measures real sessions: what is wide takes longer, and what a runtime refuses is left out."""

import pytest

from rnn_export.calibration import BATCHES, SHORT, calibrate, run_and_step
from rnn_export.cost_model import Load, expected_microseconds
from rnn_export.errors import InstallationError, UsageError
from rnn_export.forms import FORMS
from rnn_export.spec import RNNSpec
from tests.subjects import fake


def test_two_times_give_what_a_run_and_a_step_take():
    run, step = run_and_step(10 + 2 * SHORT, 10 + 2 * 64, 64)
    assert (run, step) == pytest.approx((10, 2))


@pytest.mark.parametrize("short", [0.0, 50.0, 200.0, 1000.0])
def test_noise_makes_no_step_of_nothing_and_no_run_of_less(short):
    run, step = run_and_step(short, 100.0, 64)
    assert 0 < step <= 100 / 64
    assert run >= 0
    assert run + 64 * step == pytest.approx(100.0)


@pytest.mark.slow
def test_a_calibration_has_every_form_and_grows_with_the_network():
    told = []
    table = calibrate("onnxruntime-cpu", (1,), (16, 256), lambda *progress: told.append(progress))
    assert told[-1] == ("onnxruntime-cpu", 4, 4)
    assert [(costs.threads, costs.nonlinearity) for costs in table.costs] == [(1, "tanh"), (1, "relu")]
    usual = {form.name for form in FORMS if form.length == "dynamic" and form.quantised is None} - {"module"}
    for costs in table.costs:
        assert set(costs.forms) == usual
        assert all(len(form.step) == 2 * len(BATCHES) for form in costs.forms.values())
    for form in usual:
        small, large = (expected_microseconds(table, form, RNNSpec(H, H), Load(32, 100)) for H in (16, 256))
        assert small is not None
        assert large is not None
        assert large > 5 * small  # of 256 times the operations


@pytest.mark.slow
def test_a_runtime_that_takes_only_some_forms_has_costs_for_those():
    """The reference evaluator has no relu in its RNN operator."""
    table = calibrate("onnx-reference", (1,), (8, 16))
    tanh, relu = (set(costs.forms) for costs in table.costs)
    assert {"rnn", "scan"} <= tanh
    assert "scan" in relu
    assert "rnn" not in relu


def test_what_cannot_be_calibrated_is_said():
    with pytest.raises(UsageError, match="runs no file"):
        calibrate("torch", (1,))
    with pytest.raises(UsageError, match="one thread"):
        calibrate("tract", (1, 2))
    with pytest.raises(InstallationError, match=r"runtimes install onnxruntime@0\.0\.1"):
        calibrate("onnxruntime@0.0.1", (1,))


def test_a_runtime_that_does_not_answer_is_said(monkeypatch):
    runtime = fake("deaths", STAGE="PREPARE", DEATH="SIGSEGV")
    monkeypatch.setattr("rnn_export.calibration.RUNTIMES", {"fake": runtime})
    with pytest.raises(InstallationError, match="fake cannot be calibrated"):
        calibrate("fake", (1,), (8, 16))
