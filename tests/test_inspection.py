"""What a file itself shows: its signature, its weights to the last bit, its layers, and what freezes its length."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper, parser

from rnn_export.errors import ArtifactError
from rnn_export.forms import FORMS, draw
from rnn_export.forms._tidy import graphs
from rnn_export.inspection import (
    Signature,
    frozen_length,
    instrument,
    load_model,
    read_back,
    recognise_weights,
    signature_of,
    weight_tensors,
)
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights
from tests.strategies import every_spec

DIRECT = ("scan", "loop", "rnn")
DEEP = RNNSpec(3, 4, 2, bidirectional=True)


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def weight_holders(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    tensors = [tensor for graph in graphs(model.graph) for tensor in graph.initializer]
    return [tensor for tensor in tensors if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8)]


def run(model: onnx.ModelProto, T: int, B: int, spec: RNNSpec, names: list[str] | None = None) -> list[np.ndarray]:
    import onnxruntime

    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, T, spec.input_size) if spec.batch_first else (T, B, spec.input_size))
    h_0 = rng.normal(size=(len(spec.cells()), B, spec.hidden_size))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, {"input": x.astype(np.float32), "h_0": h_0.astype(np.float32)})


class TestLoading:
    @given(st.data())
    def test_a_file_that_stops_anywhere_is_damaged(self, tmp_path_factory, data):
        whole = draw("scan", Weights.random(RNNSpec(2, 3), 0), 18).SerializeToString()
        path = tmp_path_factory.getbasetemp() / "cut.onnx"
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(ArtifactError, match=r"cut\.onnx is not a valid ONNX model"):
            load_model(path)

    @given(st.binary(max_size=100))
    def test_noise_is_no_model(self, tmp_path_factory, noise):
        path = tmp_path_factory.getbasetemp() / "noise.onnx"
        path.write_bytes(noise)
        with pytest.raises(ArtifactError):
            load_model(path)

    def test_a_missing_file_and_a_folder_are_told_apart(self, tmp_path):
        with pytest.raises(ArtifactError, match="does not exist"):
            load_model(tmp_path / "nothing.onnx")
        with pytest.raises(ArtifactError, match="is a folder"):
            load_model(tmp_path)

    def test_a_model_that_the_checker_refuses_is_refused(self, tmp_path):
        model = draw("scan", Weights.random(RNNSpec(2, 3), 0), 18)
        model.graph.node[0].op_type = "NoSuchOperator"
        onnx.save(model, tmp_path / "odd.onnx")
        with pytest.raises(ArtifactError, match="NoSuchOperator"):
            load_model(tmp_path / "odd.onnx")

    def test_a_whole_file_is_loaded(self, tmp_path):
        model = draw("scan", Weights.random(RNNSpec(2, 3), 0), 18)
        onnx.save(model, tmp_path / "good.onnx")
        assert load_model(tmp_path / "good.onnx") == model


class TestSignature:
    @pytest.mark.parametrize("spec", every_spec(), ids=str)
    @pytest.mark.parametrize("form", DIRECT)
    def test_of_our_own_forms(self, form, spec):
        model = draw(form, Weights.random(spec, 0), 18)
        assert signature_of(model, spec) == Signature("input", "h_0", "output", "h_n", spec.batch_first)

    @pytest.mark.parametrize("batch_first", [False, True])
    def test_fixed_sizes_are_seen(self, batch_first):
        spec = RNNSpec(3, 4, batch_first=batch_first)
        model = draw("scan", Weights.random(spec, 0), 18)
        for axis, size in ((0, 7), (1, 2)):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
        found = signature_of(model, spec)
        assert (found.fixed_T, found.fixed_B) == ((2, 7) if batch_first else (7, 2))

    @pytest.mark.parametrize("batch_first", [False, True])
    @pytest.mark.parametrize(
        ("sizes", "words"),
        [
            ({0: 2**40}, r"the fixed \w+( size)? 1,099,511,627,776: more than 16,777,216 numbers in every case"),
            ({0: 2**62, 1: 2**62}, r"the fixed length 4,.* and the fixed batch size 4,.*: more than"),
            ({0: 2**12, 1: 2**11}, r"the fixed \w+( size)? \S+ and .*: more than"),
            ({1: -1}, r"the fixed \w+( size)? -1\. Export it with dynamic axes"),
            ({0: 0}, r"the fixed \w+( size)? 0\."),
        ],
        ids=str,
    )
    def test_absurd_sizes_are_refused_before_anything_is_made_of_them(self, sizes, words, batch_first):
        spec = RNNSpec(3, 4, batch_first=batch_first)
        model = draw("scan", Weights.random(spec, 0), 18)
        for axis, size in sizes.items():
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
        with pytest.raises(ArtifactError, match=f"the input input has {words}"):
            signature_of(model, spec)

    def test_a_file_may_start_from_a_state_of_its_own_and_keep_the_last_one(self):
        model = draw("scan", Weights.random(RNNSpec(3, 4), 0), 18)
        del model.graph.input[1:], model.graph.output[1:]
        found = signature_of(model, RNNSpec(3, 4))
        assert (found.h_0, found.h_n) == (None, None)

    def test_weights_that_are_listed_as_inputs_are_no_inputs(self):
        weights = Weights.random(RNNSpec(3, 4), 0)
        model = draw("rnn", weights, 18)
        for tensor in model.graph.initializer:
            model.graph.input.insert(0, helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        assert signature_of(model, weights.spec).input == "input"

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            (RNNSpec(5, 4), "the input input has shape"),
            (RNNSpec(3, 6), "h_0 has shape"),
            (RNNSpec(3, 4, bidirectional=True), "output has shape"),
        ],
    )
    def test_another_networks_sizes_do_not_fit(self, other, words):
        with pytest.raises(ArtifactError, match=words):
            signature_of(draw("scan", Weights.random(RNNSpec(3, 4), 0), 18), other)

    @pytest.mark.parametrize(("count", "taken"), [(0, "nothing"), (3, "x0, x1, x2")])
    def test_no_network_has_that_many_inputs(self, count, taken):
        model = draw("scan", Weights.random(RNNSpec(3, 4), 0), 18)
        first = model.graph.input[0]
        del model.graph.input[:]
        model.graph.input.extend(helper.make_tensor_value_info(f"x{i}", 1, [None, None, 3]) for i in range(count))
        assert first.name == "input"
        with pytest.raises(ArtifactError, match=f"the file takes {taken} and gives output, h_n, but"):
            signature_of(model, RNNSpec(3, 4))


class TestWeights:
    @pytest.mark.parametrize("spec", every_spec(), ids=str)
    @pytest.mark.parametrize("form", DIRECT)
    def test_what_was_drawn_is_read_back_and_recognised(self, form, spec):
        weights = Weights.random(spec, 1)
        model = draw(form, weights, 18)
        assert read_back(model, FORMS.get(form), weights) == ""
        # scan and module hold the same matrices: either name is right
        assert FORMS.get(recognise_weights(model, weights)).constants is FORMS.get(form).constants

    @given(st.sampled_from([*DIRECT, "int8"]), st.data())
    def test_any_flipped_bit_of_any_weight_is_found(self, form, data):
        weights = Weights.random(DEEP, 1)
        model = draw(form, weights, 18)
        tensor = data.draw(st.sampled_from(weight_holders(model)), label="tensor")
        raw = bytearray(tensor.raw_data)
        raw[data.draw(st.integers(0, len(raw) - 1), label="byte")] ^= 1 << data.draw(st.integers(0, 7), label="bit")
        tensor.raw_data = bytes(raw)
        assert read_back(model, FORMS.get(form), weights).startswith(tensor.name)
        assert recognise_weights(model, weights) == ""

    def test_the_first_difference_is_named_with_both_values(self):
        weights = Weights.random(RNNSpec(2, 3), 0)
        model = draw("rnn", weights, 18)
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "R_0")
        array = numpy_helper.to_array(tensor).copy()
        array[0, 1, 2] = 7.5
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        place = "R_0 differs from the checkpoint in 1 values, first at [0, 1, 2]"
        assert read_back(model, FORMS.get("rnn"), weights) == f"{place}: 7.5 for {weights['weight_hh_l0'][1, 2]!s}"

    def test_the_sign_of_a_zero_is_a_difference(self):
        spec = RNNSpec(2, 3, bias=False)
        weights = Weights(spec, {name: np.zeros(shape, np.float32) for name, shape in spec.weight_shapes().items()})
        model = draw("rnn", weights, 18)
        array = np.zeros((1, 3, 2), np.float32)
        array[0, 0, 0] = -0.0
        next(t for t in model.graph.initializer if t.name == "W_0").CopyFrom(numpy_helper.from_array(array, "W_0"))
        assert read_back(model, FORMS.get("rnn"), weights) == "W_0 differs in the sign of a zero"

    def test_a_transposed_weight_a_missing_one_and_one_too_many_are_found(self):
        weights = Weights.random(RNNSpec(4, 4), 0)
        form, model = FORMS.get("rnn"), draw("rnn", weights, 18)
        turned = copy_of(model)
        tensor = next(tensor for tensor in turned.graph.initializer if tensor.name == "R_0")
        array = numpy_helper.to_array(tensor).swapaxes(1, 2)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), "R_0"))
        assert read_back(turned, form, weights).startswith("R_0 differs from the checkpoint")
        short = copy_of(model)
        next(tensor for tensor in short.graph.initializer if tensor.name == "W_0").name = "V_0"
        assert read_back(short, form, weights) == "W_0 is not in the file"
        long = copy_of(model)
        long.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "stray"))
        assert read_back(long, form, weights) == "the file holds stray, which the form rnn does not have"

    def test_another_type_is_found(self):
        weights = Weights.random(RNNSpec(2, 3), 0)
        double = Weights(weights.spec, {name: array.astype(np.float64) for name, array in weights.items()})
        found = read_back(draw("rnn", double, 18), FORMS.get("rnn"), weights)
        assert found == "W_0 is float64[1, 3, 2], not float32[1, 3, 2]"

    def test_constants_in_bodies_and_in_nodes_count_and_a_repeated_name_is_kept(self):
        inner = "(float[2] h, float[2] x) => (float[2] a, float[2] b) { a = Add (x, w) b = Identity (a) }"
        model = parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18]> g (float[T,2] x, float[2] h) => (float[2] l, float[T,2] y) '
            "<float[2] w = {1, 2}> {"
            " k = Constant <value: tensor = float[1] {3}> ()"
            f" l, y = Scan <num_scan_inputs: int = 1, body: graph = body {inner}> (h, x) }}"
        )
        body = next(attribute.g for attribute in model.graph.node[1].attribute if attribute.name == "body")
        body.initializer.append(numpy_helper.from_array(np.array([5, 6], np.float32), "w"))
        found = {name: array.tolist() for name, array in weight_tensors(model).items()}
        assert found == {"w": [1, 2], "k": [3], "w (again)": [5, 6]}

    def test_a_file_of_quantised_weights_does_not_hold_those_that_it_was_made_from(self):
        weights = Weights.random(RNNSpec(3, 40), 1)
        assert recognise_weights(draw("int8", weights, 18), weights) == ""

    def test_a_foreign_network_is_not_recognised(self):
        model = draw("rnn", Weights.random(RNNSpec(2, 3), 0), 18)
        assert recognise_weights(model, Weights.random(RNNSpec(2, 3), 1)) == ""


class TestLayers:
    @pytest.mark.parametrize("spec", [spec for spec in every_spec() if spec.num_layers > 1], ids=str)
    @pytest.mark.parametrize("form", [*DIRECT, "int8"])
    def test_the_instrumented_copy_answers_bit_for_bit_the_same_and_shows_every_layer(self, form, spec):
        model = draw(form, Weights.random(spec, 1), 18)
        before = model.SerializeToString(deterministic=True)
        made = instrument(model, spec)
        assert made is not None
        assert model.SerializeToString(deterministic=True) == before
        copy, shown = made
        shipped, all_outputs = run(model, 6, 2, spec), run(copy, 6, 2, spec)
        assert [array.tobytes() for array in shipped] == [array.tobytes() for array in all_outputs[:2]]
        assert {value.layer for value in shown} == set(range(spec.num_layers))
        names = [value.name for value in copy.graph.output]
        assert all(value.name in names for value in shown)

    def test_layers_that_cannot_be_told_apart_are_not_shown(self):
        model = draw("scan", Weights.random(DEEP, 0), 18)
        assert instrument(model, RNNSpec(3, 4, 3, bidirectional=True)) is None
        assert instrument(model, RNNSpec(3, 4, 2)) is None

    def test_an_rnn_node_that_keeps_its_states_to_itself_is_not_shown(self):
        spec = RNNSpec(3, 4)
        model = parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18]> g (float[T,B,3] x) => (float[1,B,4] h_n) '
            "<float[1,4,3] W, float[1,4,4] R> { , h_n = RNN <hidden_size: int = 4> (x, W, R) }"
        )
        assert instrument(model, spec) is None


class TestFrozenLength:
    def test_an_unrolled_loop_is_called_one(self):
        lines = "".join(f" h{t + 1} = Tanh (h{t})" for t in range(5))
        model = parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 18]> g (float[B,4] h0) => (float[B,4] h5) {{{lines} }}'
        )
        assert frozen_length(model, 5) == "the loop is unrolled into 5 nodes (5 Tanh), one copy of the cell per step"

    def test_a_graph_without_nodes_has_a_length_too(self):
        model = parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18]> g (float[T,B,3] x) => (float[T,B,4] y) { }'
        )
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 2, 4), np.float32), "y"))
        assert frozen_length(model, 2)

    def test_the_constant_that_freezes_is_named_with_its_node(self):
        model = draw("scan", Weights.random(RNNSpec(3, 4), 0), 18)
        model.graph.initializer.append(numpy_helper.from_array(np.array([20, 1, 4], np.int64), "shape_of_the_example"))
        last = next(node for node in model.graph.node if node.output[0] == "output")
        last.CopyFrom(helper.make_node("Reshape", [last.input[0], "shape_of_the_example"], ["output"], "the_end"))
        assert frozen_length(model, 20) == "the constant shape_of_the_example = [20, 1, 4] of Reshape the_end"
        assert frozen_length(model, 21) == "no constant of that size was found"
