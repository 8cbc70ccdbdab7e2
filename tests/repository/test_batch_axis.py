"""Axis 0 is the batch where no row reaches another, and not because a file says so."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from rnn_export.checkpoint import load_checkpoint
from rnn_export.forms import draw
from rnn_export.repository.model_files import graph_of
from rnn_export.repository.traced_sizes import try_file
from rnn_export.repository.trial_run import Question
from rnn_export.rules import Graph, Trial
from rnn_export.serving import served_model
from scripts.wrong.repositories import H_C, network


def tried(folder: Path, model: onnx.ModelProto, *, batched: bool = True, file: str = "model.onnx", **more) -> Trial:
    onnx.save(model, folder / file)
    graph: Graph = graph_of(onnx.load(folder / file, load_external_data=False))
    return try_file(Question(folder / file, graph, graph.outputs, batched, **{"pinned": {}, **more}))


def drawn(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')


@pytest.mark.parametrize("states", [None, H_C])
@pytest.mark.parametrize("lengths", ["", "[B]", "[B,1]"])
def test_a_batch_first_lstm_is_proved(states, lengths, tmp_path):
    assert tried(tmp_path, network(states=states, lengths=lengths)) == Trial()


@pytest.mark.parametrize("lengths", ["", "[B]", "[B,1]"])
def test_time_as_axis_0_is_found(lengths, tmp_path):
    trial = tried(tmp_path, network(batch_first=False, lengths=lengths))
    assert trial.mixed.startswith("a change of row 0 of x [T, B, 4]")
    assert (trial.unproved, trial.frozen) == ("", "")


def test_a_recurrence_that_is_almost_nothing_is_found_too(tmp_path):
    """No tolerance has to be guessed: a millionth of a state reaches the next step, and is seen."""
    model = network(batch_first=False)
    for tensor in model.graph.initializer:
        if tensor.name == "R":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e-6), "R"))
    assert "changes row 1 of y" in tried(tmp_path, model).mixed


def test_a_saturated_recurrence_is_found_by_small_inputs(tmp_path):
    model = network(batch_first=False)
    for tensor in model.graph.initializer:
        if tensor.name == "W":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e3), "W"))
    assert tried(tmp_path, model).mixed


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("form", ["scan", "loop"])
def test_what_is_shipped_is_proved_in_every_type(form, dtype, tmp_path):
    weights = load_checkpoint("rnn:3,4,layers=2").converted(dtype).weights
    h_0 = np.zeros((2, 4), weights.dtype)
    model = served_model(draw(form, weights, 18, lengths=True), weights.spec, "client", h_0)
    assert tried(tmp_path, model) == Trial()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(float[B,4] x) => (float[B,4] y) { m = ReduceMean <keepdims = 1> (x, zero) y = Sub (x, m) }", "changes row"),
        ("(float[B,4] x) => (float[B,4] y) { y = CumSum (x, zero_scalar) }", "changes row 1"),
        ("(float[B,4] x) => (float[N] y) { y = ReduceSum <keepdims = 0> (x, zero) }", "comes back as [4] of 5 rows"),
        ("(float[B,4] x) => (float[B,4] y) { s = Shape (x) n = Gather (s, zero) c = Squeeze (n) r = Range (zero_scalar,"
         " c, one_scalar) f = Cast <to = 1> (r) col = Unsqueeze (f, one) y = Add (x, col) }", "y of the rows [4, 3"),
        ("(float[B,4] x) => (float[B,4] y) { s = Shape (x) n = Gather (s, zero) f = Cast <to = 1> (n) y = Mul (x, f) }",
         "y of the rows [0, 0, 4]"),
    ],
    ids=["mean", "running sum", "sum", "row number", "number of rows"],
)  # fmt: skip
def test_rows_that_reach_each_other_or_know_their_place_are_found(text, found, tmp_path):
    model = drawn(text)
    constants = {"zero": [0], "one": [1], "zero_scalar": 0, "one_scalar": 1}
    used = {name for node in model.graph.node for name in node.input}
    for name, value in constants.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    assert found in tried(tmp_path, model).mixed


def test_what_depends_on_nothing_or_on_chance_is_not_proved(tmp_path):
    constant = drawn("(float[B,4] x) => (float[B,4] y) { n = Mul (x, x) y = Sub (n, n) }")
    assert tried(tmp_path, constant).unproved == "no output depends on what is put in"
    noise = drawn("(float[B,4] x) => (float[B,4] y) { n = RandomNormalLike (x) y = Add (x, n) }")
    assert tried(tmp_path, noise).unproved == "two runs of the same input differ"


def test_integers_are_changed_where_there_is_nothing_else(tmp_path):
    table = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "table")
    model = drawn("(int64[B,T] ids) => (float[B,T,2] y) { y = Gather (table, ids) }")
    model.graph.initializer.append(table)
    assert tried(tmp_path, model) == Trial()
    running = drawn("(int64[B,T] ids) => (int64[B,T] y) { y = CumSum (ids, axis) }")
    running.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "axis"))
    assert "changes row 1 of y" in tried(tmp_path, running).mixed


def test_a_declared_size_of_the_example_is_found(tmp_path):
    frozen = tried(tmp_path, network(output_steps="5")).frozen
    assert frozen == "y [B, 5, 8] comes back as [5, 3, 8] of x [5, 3, 4]"


@pytest.mark.parametrize("steps", [3, 20])
@pytest.mark.parametrize("batched", [True, False])
def test_a_length_that_is_a_constant_of_the_graph_is_found(steps, batched, tmp_path):
    """20 is none of the sizes that are tried, and is read from the file."""
    trial = tried(tmp_path, network(traced_steps=steps), batched=batched)
    assert f"runs at x [5, {steps}, 4] and refuses x [" in trial.frozen
    assert (trial.unproved, trial.mixed) == ("", "")


def test_a_length_that_is_cut_off_is_seen_by_its_want_of_an_effect(tmp_path):
    """As torch's exporter unrolls a loop: the rest is left out, and nothing that is declared is wrong."""
    text = "(float[B,T,4] x) => (float[B,2,4] y) { y = Slice (x, zero, two, one) }"
    model = drawn(text)
    for name, value in (("zero", 0), ("one", 1), ("two", 2)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    trial = tried(tmp_path, model)
    assert trial == Trial(ignored="what stands at the end of axis T has no effect at x [7, 9, 4]")
    assert tried(tmp_path, model, pinned={"x": [-1, 2, 4]}) == Trial()


def test_sizes_of_the_configuration_are_kept(tmp_path):
    model = network(traced_steps=20)
    assert "and refuses x [5, 3, 4]" in tried(tmp_path, model).frozen
    assert tried(tmp_path, model, pinned={"x": [-1, 20, 4]}) == Trial()


def test_weights_that_lie_beside_a_file_of_another_name_come_along(tmp_path):
    model = network()
    onnx.save(model, tmp_path / "lstm.onnx", save_as_external_data=True, location="lstm.bin", size_threshold=200)
    graph = graph_of(onnx.load(tmp_path / "lstm.onnx", load_external_data=False))
    assert try_file(Question(tmp_path / "lstm.onnx", graph, graph.outputs, True, {})) == Trial()


def test_what_cannot_be_fed_or_run_is_said(tmp_path):
    words = drawn("(string[B] x) => (string[B] y) { y = Identity (x) }")
    assert "TYPE_STRING" in tried(tmp_path, words).unproved
    large = drawn("(float[B,16777216] x) => (float[B,16777216] y) { y = Identity (x) }")
    assert "more than 16,777,216 numbers" in tried(tmp_path, large).unproved
    unknown = helper.make_model(
        helper.make_graph(
            [helper.make_node("Nothing", ["x"], ["y"], domain="nobody")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 4])],
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("nobody", 1)],
        ir_version=8,
    )
    said = tried(tmp_path, unknown).unproved
    assert said.startswith("onnxruntime-cpu REFUSED: ")
    assert str(tmp_path) not in said
