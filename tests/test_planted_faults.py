"""The tester, tested: every planted fault is rejected, no correct run is, and the script can say otherwise."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rnn_export.oracle import run_oracle
from rnn_export.residual import GATE, step_residual

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(SCRIPTS)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("faults", "planted_faults"):
            del sys.modules[name]


@pytest.fixture
def script() -> ModuleType:
    return import_module("planted_faults")


def test_every_planted_fault_is_rejected_and_no_correct_run(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    code = script.main(["--nets", "12", "--every", "9", "--correct", "60"])
    first, *_, last = (printed := capsys.readouterr().out).splitlines()
    kinds, networks = map(int, re.findall(r"\d+", first))
    planted, rejected, correct, alarms = map(int, re.findall(r"\d+", last))
    assert (rejected, alarms, code) == (planted, 0, 0), printed
    assert kinds >= 20
    assert networks == 12
    assert planted >= 100
    assert correct == 60
    for word in ("refused", "crashed", "timeout", "memory", "broken", "absent"):
        assert f" {word} " not in printed  # a fault of ours, and no fault that was judged


def test_a_fault_that_gets_through_and_a_false_alarm_are_reported(
    script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = [next(script.fault_trials(script.nets(1, 0)[0], 0, 1))]
    honest = list(script.correct_trials(2, 0))
    monkeypatch.setattr(script, "_fault_trials", lambda *_: honest)
    monkeypatch.setattr(script, "correct_trials", lambda *_: faulty)
    assert script.main([]) == 1
    printed = capsys.readouterr().out
    assert "2 faults planted, 0 rejected; 1 correct runs, 1 rejected" in printed
    assert printed.count("\nACCEPTED: ") == 2
    assert printed.count("\nREJECTED: ") == 1


def test_every_kind_changes_something() -> None:
    nets, weights, graph = (import_module(f"faults.{name}") for name in ("nets", "weights", "graph"))
    for net in nets.nets(len(nets.DESIGNS), 0):
        if net.form == "module":  # torch's exporter takes seconds, and the edits of a scan are the same
            continue
        for fault in weights.weight_faults(net, net.case("a case")):
            assert any((fault.truth[name] != fault.planted[name]).any() for name in fault.truth), fault.kind
        correct = net.model()
        for kind, model in graph.graph_faults(net, correct):
            assert model.SerializeToString() != correct.SerializeToString(), kind


@pytest.mark.parametrize("number", [0, 1, 2, 8, 11])
def test_a_fault_of_a_residual_of_8_has_it_without_any_rounding(number: int) -> None:
    nets, weights = import_module("faults.nets"), import_module("faults.weights")
    net = nets.nets(number + 1, 0)[-1]
    case, cell = net.case("a case"), net.weights.cell(0, 0)
    states = run_oracle(net.weights, case.x, case.h_0).output
    before = np.concatenate([case.h_0[:1], states[:-1]])
    sized = [fault for fault in weights.weight_faults(net, case) if fault.size == "residual of 8"]
    assert len(sized) == 3
    for fault in sized:
        found = []
        for x, h in zip(case.x, before, strict=True):  # each step alone, in float64, from the exact state before it
            wrong = run_oracle(fault.planted, x[None], h[None]).output
            found.append(step_residual(cell, x[None], h, wrong).max_q)
        assert GATE < max(found) < 8.1, fault.kind  # the appeal may lower it
