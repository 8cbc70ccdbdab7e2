"""model.py without the server around it: what Triton alone could show after a minute, or with luck."""

import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest

from rnn_export.targets.triton_python import MODEL

ARRAYS = ("input", "lengths")
# Adds to h_0 (B, 1, 2) the row of a table that input (B, T, 1) names in its first step; there are the rows 0 and 1.
NETWORK = """<ir_version: 8, opset_import: ["" : 18]>
graph (float[B,T,1] input, float[B,1,2] h_0LENGTHS) => (float[B,1,2] output, float[B,1,2] h_n)
<float[2,2] table = {1, 2, 30, 40}, int64 first = {0}> {
    step = Gather <axis = 1> (input, first)
    number = Cast <to = 7> (step)
    output = Gather <axis = 0> (table, number)
    h_n = Add (h_0, output)
}"""


class Tensor(NamedTuple):
    name: str
    array: np.ndarray


class Response(NamedTuple):
    output_tensors: tuple[Tensor, ...] = ()
    error: str = ""

    def of(self, name: str) -> Any:
        return next(tensor.array for tensor in self.output_tensors if tensor.name == name).tolist()


@pytest.fixture
def model(monkeypatch) -> ModuleType:
    """The module; its requests are dicts here, of controls and arrays."""
    triton = ModuleType("triton_python_backend_utils")

    def tensor_of(request, name):
        return SimpleNamespace(as_numpy=lambda: np.asarray(request[name] if name in ARRAYS else [[request[name]]]))

    triton.get_input_tensor_by_name = tensor_of
    triton.Tensor, triton.InferenceResponse, triton.TritonError = Tensor, Response, str
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


def test_a_state_keeps_no_batch_alive(model):
    states = model.Sequences(np.zeros((1, 3)), idle=60)
    states.keep(request(7), np.ones((500, 1, 3))[4:5])
    kept, _ = states.states[7]
    assert kept.base is None


def test_a_request_that_failed_leaves_the_state_before_it_unless_it_was_the_last_or_the_first(model):
    states = model.Sequences(np.zeros((1, 3)), idle=60)
    states.keep(request(7, start=True), np.ones((1, 1, 3)))
    states.keep(request(7), None)
    assert states.state_of(request(7)).tolist() == [[[1.0] * 3]]
    states.keep(request(7, end=True), None)
    assert states.states == {}
    states.keep(request(8, start=True), np.ones((1, 1, 3)))
    states.state_of(request(8, start=True))  # begun again, and failed
    assert states.state_of(request(8)) is None


@pytest.fixture
def loaded(model, tmp_path):
    """Makes the model as Triton loads it, around NETWORK."""

    def load(*, lengths: bool = False):
        (tmp_path / "1").mkdir()
        text = NETWORK.replace("LENGTHS", ", int64[B,1] lengths" if lengths else "")
        onnx.save(onnx.parser.parse_model(text), tmp_path / "1" / "model.onnx")
        (tmp_path / "1" / "h_0").write_bytes(np.zeros((1, 2), np.float32).tobytes())
        config = {"input": [{"name": name} for name in ARRAYS[: 1 + lengths]]}
        config["output"] = [{"name": name} for name in ("output", "h_n")]
        config["parameters"] = {"sequence_idle_microseconds": {"string_value": "60000000"}}
        config["sequence_batching"] = {}
        made = model.TritonPythonModel()
        made.initialize({"model_repository": str(tmp_path), "model_version": "1", "model_config": json.dumps(config)})
        return made

    return load


def row(number: float, identity: int = 1, T: int = 1, **controls) -> dict[str, Any]:
    """A request of one row: it asks for that row of the table."""
    return {**request(identity, **controls), "input": np.full((1, T, 1), number, np.float32)}


def test_one_bad_request_fails_alone_among_those_that_it_was_joined_with(loaded):
    found = loaded().execute([row(0, 1, start=True), row(9, 2, start=True), row(1, 3, start=True)])
    assert [found[place].of("output") for place in (0, 2)] == [[[[1, 2]]], [[[30, 40]]]]
    assert "out of data bounds" in found[1].error
    assert not found[1].output_tensors


def test_a_bad_request_that_is_the_last_of_its_sequence_ends_it(loaded):
    served = loaded()
    served.execute([row(0, 1, start=True), row(0, 2, start=True)])
    bad = served.execute([row(9, 1), row(9, 2, end=True)])
    assert all(one.error for one in bad)
    assert set(served.sequences.states) == {1}
    assert served.execute([row(1, 1)])[0].of("h_n") == [[[31, 42]]]  # from where it was before


@pytest.mark.parametrize("wrong", [0, -1, 4])
def test_lengths_that_are_none_are_refused_with_the_row_and_the_limit(loaded, wrong):
    served = loaded(lengths=True)
    served.execute([{**row(0, 1, T=3, start=True), "lengths": np.array([[1]])}])
    bad = {**row(0, 1, T=3, end=True), "lengths": np.array([[wrong]])}
    good = {**row(1, 2, T=3, start=True), "lengths": np.array([[3]])}
    refused, answered = served.execute([bad, good])
    assert refused.error == f"lengths of row 0 is {wrong}, and has to be from 1 to 3, the steps of the input"
    assert answered.of("output") == [[[30, 40]]]
    assert set(served.sequences.states) == {2}
