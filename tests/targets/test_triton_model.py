"""The states that model.py keeps, without the server around it: what Triton alone could show after a minute."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from rnn_export.targets.triton_python import MODEL


@pytest.fixture
def model(monkeypatch) -> ModuleType:
    """The module; its requests are dicts of controls here."""
    triton = ModuleType("triton_python_backend_utils")

    def tensor_of(request, name):
        return SimpleNamespace(as_numpy=lambda: np.array([[request[name]]]))

    triton.get_input_tensor_by_name = tensor_of
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
    spec = importlib.util.spec_from_file_location("triton_model", MODEL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def request(identity: int, *, start: bool = False, end: bool = False) -> dict[str, int]:
    return {"correlation_id": identity, "START": int(start), "END": int(end)}


def test_a_sequence_starts_from_the_initial_state_and_goes_on_from_its_own(model):
    states = model.Sequences(np.full((2, 3), 0.5), idle=60)
    assert states.state_of(request(7, start=True)).tolist() == [[[0.5] * 3] * 2]
    states.keep(request(7, start=True), np.ones((1, 2, 3)))
    states.keep(request(8, start=True), np.zeros((1, 2, 3)))
    assert states.state_of(request(7)).tolist() == [[[1.0] * 3] * 2]
    assert states.state_of(request(7, start=True)).tolist() == [[[0.5] * 3] * 2]  # begun again


def test_a_sequence_that_ended_or_never_began_is_not_known(model):
    states = model.Sequences(np.zeros((1, 3)), idle=60)
    states.keep(request(7, start=True), np.ones((1, 1, 3)))
    states.keep(request(7, end=True), np.ones((1, 1, 3)))
    assert states.state_of(request(7)) is None
    assert states.state_of(request(9)) is None
    assert states.states == {}


def test_what_was_idle_for_longer_than_triton_waits_is_forgotten(model, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(model.time, "monotonic", lambda: now[0])
    states = model.Sequences(np.zeros((1, 3)), idle=10)
    states.keep(request(1, start=True), np.ones((1, 1, 3)))
    now[0] += 15
    states.keep(request(2, start=True), np.ones((1, 1, 3)))
    now[0] += 6
    states.state_of(request(3, start=True))
    assert set(states.states) == {2}
