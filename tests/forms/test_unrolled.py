"""The form of fixed length: as many copies of the cell as steps, no loop, and right at that length alone."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from rnn_export import export, verify
from rnn_export.artifact import Artifact
from rnn_export.errors import UsageError
from rnn_export.forms import FORMS, MOST_STEPS, draw
from rnn_export.inspection import instrument, read_back
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

SPECS = ["rnn:3,4", "rnn:3,4,relu,layers=2,bidirectional", "rnn:3,4,layers=3,batch-first", "rnn:3,4,identity,no-bias"]


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("spec", SPECS)
def test_every_step_of_every_layer_is_judged_and_right(spec, lengths, tmp_path: Path):
    artifact = export(spec, tmp_path / "net", form="unrolled", steps=6, lengths=lengths)
    report = verify(artifact.path, runtimes=["onnxruntime-cpu", "onnx-reference"])
    assert report.exit_code == 0
    rows = [row for row in report.results if row.runtime == "onnxruntime-cpu"]
    assert {row.case.split("T=")[1].split()[0] for row in rows if row.case.startswith("T=")} == {"6"}
    assert all(row.residual is not None for row in rows if row.case.startswith("T="))


def test_it_says_its_length_and_has_no_loop(tmp_path: Path):
    weights = Weights.random(RNNSpec(3, 4, 2, bidirectional=True), 0)
    model = draw("unrolled", weights, 18, steps=7)
    operators = [node.op_type for node in model.graph.node]
    assert not {"Loop", "Scan", "RNN", "If"} & set(operators)
    assert operators.count("Gemm") == 7 * len(weights.spec.cells())
    assert [dim.dim_value or dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim] == [7, "B", 3]
    assert read_back(model, FORMS.get("unrolled"), weights) == ""
    made = instrument(model, weights.spec)
    assert made is not None
    assert [(shown.layer, shown.direction) for shown in made[1]] == weights.spec.cells()
    artifact = export(weights, tmp_path / "net", form="unrolled", steps=7)
    assert Artifact.load(artifact.path).steps == 7
    golden = onnx.load_tensor(artifact.path / "test_data_set_1" / "input_0.pb")
    assert list(golden.dims) == [7, 1, 3]


def test_a_fault_in_one_copy_of_the_cell_is_found_at_its_step(tmp_path: Path):
    artifact = export("rnn:3,4,layers=2", tmp_path / "net", form="unrolled", steps=6)
    model = onnx.load(artifact.model_path)
    wrong = next(node for node in model.graph.node if node.output[0] == "h_next_l0_4")
    wrong.op_type = "Relu"
    onnx.save(model, tmp_path / "wrong.onnx")
    report = verify(tmp_path / "wrong.onnx", against=artifact.weights(), runtimes=["onnxruntime-cpu"])
    assert report.exit_code == 1
    details = [row.detail for row in report.results if row.case == "T=6 B=8"]
    assert details
    assert "t=4" in details[0]
    assert "layer 0" in details[0]


@pytest.mark.parametrize(("steps", "message"), [(None, "--steps"), (0, "Choose 1 to"), (MOST_STEPS + 1, "Choose 1 to")])
def test_a_length_that_is_missing_or_absurd_is_refused_and_nothing_is_written(steps, message, tmp_path: Path):
    with pytest.raises(UsageError, match=message):
        export("rnn:3,4", tmp_path / "net", form="unrolled", steps=steps)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("form", [form.name for form in FORMS if form.length != "fixed"])
def test_no_other_form_takes_one(form):
    with pytest.raises(UsageError, match="choose --form unrolled"):
        draw(form, Weights.random(RNNSpec(3, 4), 0), 18, steps=5)


def test_the_users_own_data_of_another_length_is_no_pass(tmp_path: Path):
    artifact = export("rnn:3,4", tmp_path / "net", form="unrolled", steps=6)
    np.savez(tmp_path / "own.npz", input=np.ones((9, 2, 3), np.float32))
    report = verify(artifact.path, inputs=tmp_path / "own.npz", runtimes=["onnxruntime-cpu"])
    assert report.exit_code == 1
