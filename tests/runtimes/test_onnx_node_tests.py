"""ONNX's own node tests of the RNN operator, through this project's runtimes and by its verdict.

They are what a runtime is certified with. None of them passes an initial state or another activation than tanh, and
most have one step: passing them says little, failing them much.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.backend.test.case.node.rnn  # its import makes the cases
import pytest
from onnx import helper
from onnx.backend.test.case import node as node_cases
from onnx.backend.test.case.test_case import TestCase

from rnn_export.child import Failure
from rnn_export.execution import execute
from rnn_export.residual import GATE, step_residual
from rnn_export.result import Stage, Status
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.weights import Cell
from tests.runtimes.test_runtimes import PROVED, SCRIPTED, VOUCHED, why_absent

CASES = {case.name: case for case in node_cases._NodeTestCases if case.model.graph.node[0].op_type == "RNN"}
BATCHWISE = "Batchwise recurrent operations (layout == 1)"
REFUSALS = {(name, "test_simple_rnn_batchwise"): BATCHWISE for name in ("onnxruntime-cpu", *SCRIPTED)}
Arrays = Mapping[str, np.ndarray]


class Operator(NamedTuple):
    """One RNN node as the recurrences that it is made of."""

    cells: list[Cell]  # one for each direction
    reverse: list[bool]
    x: np.ndarray  # (T, B, I)
    batch_first: bool


def operator_of(case: TestCase) -> Operator:
    """The node's inputs and attributes; an attribute or input that is new here fails, so that it is thought about."""
    (node,) = case.model.graph.node
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    assert set(attributes) <= {"hidden_size", "direction", "layout"}, attributes
    given = inputs_of(case)
    assert set(given) <= {"X", "W", "R", "B"}, list(given)
    batch_first = attributes.get("layout", 0) == 1
    H = attributes["hidden_size"]
    bias = given.get("B", np.zeros((len(given["W"]), 2 * H), np.float32))
    parts = zip(given["W"], given["R"], bias[:, :H], bias[:, H:], strict=True)
    reverse = {b"forward": [False], b"reverse": [True], b"bidirectional": [False, True]}
    return Operator(
        [Cell(*part, "tanh") for part in parts],
        reverse[attributes.get("direction", b"forward")],
        given["X"].swapaxes(0, 1) if batch_first else given["X"],
        batch_first,
    )


def inputs_of(case: TestCase) -> Arrays:
    return dict(zip((value.name for value in case.model.graph.input), case.data_sets[0][0], strict=True))


def expected_of(case: TestCase) -> Arrays:
    return dict(zip((value.name for value in case.model.graph.output), case.data_sets[0][1], strict=True))


def showing_every_step(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose node also gives Y, which most of the cases leave out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not copy.graph.node[0].output[0]:
        copy.graph.node[0].output[0] = "Y"
        copy.graph.output.append(helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, [None] * 4))
    return copy


def answers_of(runtime: Runtime, model: onnx.ModelProto, inputs: Arrays, folder: Path) -> Arrays:
    onnx.save(model, folder / "model.onnx")
    return execute(runtime, folder, inputs)


def parameter(name: str) -> Any:
    """A browser is started for every model: together that takes a minute."""
    return pytest.param(name, marks=[pytest.mark.slow] if name == "onnxruntime-web" else [])


@pytest.fixture(params=[parameter(name) for name in VOUCHED if "torch" not in name])
def runtime(request) -> Runtime:
    if request.param not in PROVED and (reason := why_absent(request.param)):
        pytest.skip(f"{request.param}: {reason}")
    return RUNTIMES.get(request.param)


def test_there_are_such_cases():
    assert {"test_simple_rnn_defaults", "test_simple_rnn_batchwise", "test_rnn_seq_length"} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_answers_are_onnxs_own_and_every_step_is_the_recurrences(runtime, name, tmp_path):
    case, inputs = CASES[name], inputs_of(CASES[name])
    if (reason := REFUSALS.get((runtime.name, name))) is not None:
        with pytest.raises(Failure) as caught:
            answers_of(runtime, case.model, inputs, tmp_path)
        assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.REFUSED)
        assert reason in caught.value.detail
        return
    shipped = answers_of(runtime, case.model, inputs, tmp_path)
    for output, expected in expected_of(case).items():
        assert shipped[output].dtype == expected.dtype
        np.testing.assert_allclose(shipped[output], expected, case.rtol, case.atol)
    shown = answers_of(runtime, showing_every_step(case.model), inputs, tmp_path)
    assert all(np.array_equal(shown[output], shipped[output]) for output in shipped)
    judge_steps(operator_of(case), shown, expected_of(case)["Y_h"])


def judge_steps(operator: Operator, shown: Arrays, expected_last: np.ndarray) -> None:
    """Every step of every direction, Y_h, and the last state that ONNX expects, by the step residual."""
    y, last = shown["Y"], shown["Y_h"]
    if operator.batch_first:  # (B, T, D, H) and (B, D, H)
        y, last, expected_last = y.transpose(1, 2, 0, 3), last.swapaxes(0, 1), expected_last.swapaxes(0, 1)
    T, D, B, H = y.shape
    assert (*operator.x.shape[:2], len(operator.cells)) == (T, B, D)
    for direction, (cell, reverse) in enumerate(zip(operator.cells, operator.reverse, strict=True)):
        states, start = y[:, direction], np.zeros((B, H), np.float32)
        found = step_residual(cell, operator.x, start, states, reverse=reverse)
        assert (found.judged, found.max_q <= GATE) == (T * B * H, True), found
        end = 0 if reverse else T - 1
        assert np.array_equal(last[direction], states[end])
        before = start if T == 1 else states[1 if reverse else T - 2]
        assert step_residual(cell, operator.x[end][None], before, expected_last[direction][None]).passed


@pytest.mark.parametrize("name", CASES)
def test_the_cases_can_fail(runtime, name, tmp_path):
    """The same node with one recurrent or input weight moved is not accepted."""
    case, inputs = CASES[name], inputs_of(CASES[name])
    if (runtime.name, name) in REFUSALS:
        pytest.skip(f"{runtime.name} refuses it, whatever its weights")
    wrong = {**inputs, "W": inputs["W"] + np.float32(1e-3) * (inputs["W"] == inputs["W"].flat[0])}
    shown = answers_of(runtime, showing_every_step(case.model), wrong, tmp_path)
    with pytest.raises(AssertionError):
        judge_steps(operator_of(case), shown, expected_of(case)["Y_h"])
