"""The calibration of the coarse types can be run again, and it can fail."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.delitem(sys.modules, "judge_types", raising=False)
    return import_module("judge_types")


def test_correct_runs_pass_and_faults_beyond_the_rounding_do_not(script, capsys):
    assert script.main(["--nets", "4"]) == 0
    correct, faults = capsys.readouterr().out.split("\n\n")
    rows = [line.split() for line in correct.splitlines()[1:]]
    assert len(rows) == len(script.TYPES) * len(script.RUNTIMES_AND_FORMS)
    assert sum("no kernel" in line for line in correct.splitlines()) == 3
    planted = [line.rsplit(maxsplit=4) for line in faults.splitlines()[1:]]
    assert len(planted) == len(script.TYPES) * len(script.FAULTS)
    assert sum(int(exceeding) for _, _, exceeding, _, _ in planted) > len(planted)
    assert all(exceeding == rejected for _, _, exceeding, rejected, _ in planted)


def test_a_false_alarm_and_a_fault_that_gets_through_are_counted(script, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "residual", lambda asked, y: 9.0)
    assert script.report_correct(1, 0, tmp_path) > 0
    monkeypatch.setattr(script, "residual", lambda asked, y: 9.0 if y.dtype == float else 1.0)
    monkeypatch.setattr(script, "TYPES", ("float16",))
    assert script.report_faults(1, 0, tmp_path) == len(script.FAULTS)
