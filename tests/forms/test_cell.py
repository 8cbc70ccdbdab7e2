"""The form of one step, run as its user runs it: the loop and the states are the caller's."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from rnn_export import export, verify
from rnn_export.errors import ArtifactError, UsageError
from rnn_export.forms import draw
from rnn_export.oracle import run_oracle
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights

SPECS = ["rnn:3,4", "rnn:3,4,relu,layers=3", "rnn:3,4,layers=2,batch-first", "rnn:3,4,identity,no-bias"]


@pytest.mark.parametrize("spec", SPECS)
def test_every_step_of_every_layer_is_judged_and_right(spec, tmp_path: Path):
    artifact = export(spec, tmp_path / "net", form="cell")
    report = verify(artifact.path, runtimes=["onnxruntime-cpu", "onnx-reference"])
    assert report.exit_code == 0
    rows = [row for row in report.results if row.runtime == "onnxruntime-cpu"]
    assert {"T=400 B=8", "rows T=5 B=3", "state T=5 B=3", "NaN T=5 B=3"} <= {row.case for row in rows}
    assert all(row.residual is not None for row in rows if row.case.startswith("T="))


def test_its_signature_is_one_step(tmp_path: Path):
    model = draw("cell", Weights.random(RNNSpec(3, 4, 2, batch_first=True), 0), 18)
    shapes = {
        value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"input": ["B", 3], "h_0": [2, "B", 4], "h_n": [2, "B", 4]}


def test_a_fault_in_a_lower_layer_is_found_there(tmp_path: Path):
    artifact = export("rnn:3,4,layers=2", tmp_path / "net", form="cell")
    model = onnx.load(artifact.model_path)
    next(node for node in model.graph.node if node.output[0] == "h_next_l0").op_type = "Relu"
    onnx.save(model, tmp_path / "wrong.onnx")
    report = verify(tmp_path / "wrong.onnx", against=artifact.weights(), runtimes=["onnxruntime-cpu"])
    assert report.exit_code == 1
    assert any(row.code == "step-residual" and "layer 0" in row.detail for row in report.results)


def test_a_state_that_is_not_carried_on_is_found(tmp_path: Path):
    """A step that starts from zeros whatever h_0 says."""
    artifact = export("rnn:3,4", tmp_path / "net", form="cell")
    model = onnx.load(artifact.model_path)
    start = next(node for node in model.graph.node if node.output[0] == "start_l0")
    start.output[0] = "unused"
    zero = onnx.helper.make_node("Sub", ["unused", "unused"], ["start_l0"])
    model.graph.node.insert(list(model.graph.node).index(start) + 1, zero)
    onnx.save(model, tmp_path / "wrong.onnx")
    report = verify(tmp_path / "wrong.onnx", against=artifact.weights(), runtimes=["onnxruntime-cpu"])
    assert report.exit_code == 1


@pytest.mark.parametrize("joined", [False, True])
def test_a_head_predicts_from_each_step(joined, tmp_path: Path):
    rng = np.random.default_rng(0)
    weights = Weights.random(RNNSpec(3, 4), 0)
    head = Head(rng.normal(size=(2, 7 if joined else 4)).astype("f"), rng.normal(size=2).astype("f"))
    model = draw("cell", weights, 18, head=head)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x, h = rng.normal(size=(5, 2, 3)).astype("f"), rng.normal(size=(1, 2, 4)).astype("f")
    truth = run_oracle(weights, x, h)
    before = np.concatenate([h, truth.output[:-1]])
    read = np.concatenate([x, before], axis=-1) if joined else truth.output[:]
    for t in range(5):
        h, prediction = session.run(["h_n", "prediction"], {"input": x[t], "h_0": h})
        np.testing.assert_allclose(prediction, read[t] @ head.weight.T + head.bias, atol=1e-5)


def test_a_head_of_the_digits_passes(tmp_path: Path):
    models = Path(__file__).parent.parent.parent / "models"
    artifact = export(models / "digits-rows.safetensors", tmp_path / "net", form="cell", head="head")
    assert (artifact.path / "test_data_set_0" / "output_1.pb").is_file()
    assert not (artifact.path / "test_data_set_0" / "output_2.pb").exists()
    assert verify(artifact.path, runtimes=["onnxruntime-cpu"]).exit_code == 0


def test_its_golden_data_is_one_step_that_onnx_runtime_computes(tmp_path: Path):
    artifact = export("rnn:3,4,layers=2", tmp_path / "net", form="cell")
    session = onnxruntime.InferenceSession(str(artifact.model_path), providers=["CPUExecutionProvider"])
    for folder in sorted(artifact.path.glob("test_data_set_*")):
        arrays = {path.stem: onnx.numpy_helper.to_array(onnx.load_tensor(path)) for path in folder.glob("*.pb")}
        assert sorted(arrays) == ["input_0", "input_1", "output_0"]
        (found,) = session.run(None, {"input": arrays["input_0"], "h_0": arrays["input_1"]})
        np.testing.assert_allclose(found, arrays["output_0"], atol=1e-5)


def test_the_export_of_torchs_own_cell_is_judged(tmp_path: Path):
    """Its state is (B, H), and it comes from somebody else."""
    cell = torch.nn.RNNCell(3, 4).eval()
    batch = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        cell,
        (torch.randn(3, 3), torch.randn(3, 4)),
        dynamo=True,
        dynamic_shapes=({0: batch}, {0: batch}),
        verbose=False,
    )
    program.save(str(tmp_path / "cell.onnx"))
    weights = Weights(RNNSpec(3, 4), {f"{name}_l0": tensor.numpy() for name, tensor in cell.state_dict().items()})
    assert verify(tmp_path / "cell.onnx", against=weights, runtimes=["onnxruntime-cpu"]).exit_code == 0
    other = Weights.random(RNNSpec(3, 4), 1)
    assert verify(tmp_path / "cell.onnx", against=other, runtimes=["onnxruntime-cpu"]).exit_code == 1
    deeper = Weights.random(RNNSpec(3, 4, 2), 1)
    with pytest.raises(ArtifactError, match=r"\(2, B, 4\)"):
        verify(tmp_path / "cell.onnx", against=deeper, runtimes=["onnxruntime-cpu"])


@pytest.mark.parametrize(("spec", "lengths"), [("rnn:3,4,bidirectional", False), ("rnn:3,4", True)])
def test_what_one_step_cannot_be_is_said_and_nothing_is_written(spec, lengths, tmp_path: Path):
    with pytest.raises(UsageError, match="is one step"):
        export(spec, tmp_path / "net", form="cell", lengths=lengths)
    assert not (tmp_path / "net").exists()
