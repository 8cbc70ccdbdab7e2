"""An ONNX file is described as it is."""

import json

import numpy as np
import onnx
import pytest
from onnx import parser

from rnn_export import describe, export
from rnn_export.errors import ArtifactError
from rnn_export.spec import RNNSpec
from rnn_export.spectrum import spectral_radius
from rnn_export.weights import Weights


@pytest.mark.parametrize("form", ["scan", "rnn", "module"])
def test_every_form_shows_its_recurrent_weights(form, tmp_path):
    weights = Weights.random(RNNSpec(3, 4, 2, "relu", bidirectional=True), 0)
    found = describe(export(weights, tmp_path / "out", form=form).path)
    radii = [item.spectral_radius for node in found.recurrent for item in node.recurrences]
    expected = [spectral_radius(weights.cell(*cell).weight_hh).value for cell in weights.spec.cells()]
    assert sorted(radii) == pytest.approx(sorted(expected))
    assert all("overflow" in item.meaning or "fades" in item.meaning for n in found.recurrent for item in n.recurrences)
    assert found.operators["RNN" if form == "rnn" else "Scan"] == (2 if form == "rnn" else 4)
    assert found.inside.get("Gemm", 0) == (0 if form == "rnn" else 4)
    assert [port.axes for port in found.inputs] == [("T", "B", 3), (4, "B", 4)]
    assert {axis.name: axis.state for axis in found.axes} == {"T": "dynamic", "B": "dynamic"}
    read = json.loads(json.dumps(found.to_dict()))
    assert (read["schema"], read["kind"], read["opsets"]) == (1, "onnx", {"": 18})


def test_what_runtimes_disagree_on_is_named(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[2,5,3] x) => (float[2,5,1,4] y, float[2,1,4] h)
    { y, h = RNN <hidden_size: int = 4, layout: int = 1, activations: strings = ["Relu"]> (x, W, R) }"""
    model = parser.parse_model(text)
    for name, shape in (("W", (1, 4, 3)), ("R", (1, 4, 4))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    onnx.save(model, tmp_path / "batchwise.onnx")
    text = "\n".join(describe(tmp_path / "batchwise.onnx").lines())
    assert "RNN   hidden_size 4, forward, Relu, layout 1, which ONNX Runtime refuses" in text
    assert "R[0]: spectral radius 4, may grow without bound" in text


def test_a_file_without_recurrence_and_a_damaged_one(tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[2,3] x) => (float[2,3] y) { y = Tanh (x) }'
    onnx.save(parser.parse_model(text), tmp_path / "plain.onnx")
    assert any("would be unrolled" in line for line in describe(tmp_path / "plain.onnx").lines())
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ArtifactError, match=r"bad.onnx is not a valid ONNX model"):
        describe(tmp_path / "bad.onnx")


def operator(folder, R, activation, domain=""):
    text = f"""<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
    g (float[2,5,3] x) => (float[2,1,5,4] y)
    {{ y = {domain}RNN <hidden_size: int = 4, activations: strings = ["{activation}"]> (x, W, R) }}"""
    model = parser.parse_model(text)
    for name, array in (("W", np.ones((1, 4, 3), np.float32)), ("R", R)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return describe(folder / "net.onnx")


def test_what_has_no_spectral_radius_says_so(tmp_path):
    diverged = operator(tmp_path, np.full((1, 4, 4), np.nan, np.float32), "Tanh").recurrent[0].recurrences[0]
    assert (diverged.spectral_radius, diverged.meaning[:13]) == (None, "not to be had")
    assert operator(tmp_path, np.ones((1, 4, 5), np.float32), "Tanh").recurrent[0].recurrences[0].exact is False


def test_nothing_is_said_of_activations_that_are_not_known(tmp_path):
    R = np.eye(4, dtype=np.float32)[None] * 3
    assert "not tanh, relu or identity" in operator(tmp_path, R, "Softplus").recurrent[0].recurrences[0].meaning
    assert "not tanh, relu or identity" in operator(tmp_path, R, "Affine").recurrent[0].recurrences[0].meaning


def test_an_operator_of_the_same_name_in_another_domain_is_another(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 18, "my" : 1]> g (float[2,3] x) => (float[2,3] y, float[2,3] z)
    { y = my.RNN (x)  z = my.Scan (x) }"""
    (tmp_path / "net.onnx").write_bytes(parser.parse_model(text).SerializeToString())
    assert describe(tmp_path / "net.onnx").recurrent == ()
