"""A model with its sizes written into it, compiled once for each: here by the onnx package's reference evaluator."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from rnn_export.forms import FORMS, draw
from rnn_export.runtimes._static import static_model, static_run
from tests.subjects import random_weights

# The reference evaluator, which compiles here, is wrong about a Loop's steps and has ONNX's own operators alone.
COMPILED = [form.name for form in FORMS if form.length == "dynamic" and form.name != "loop" and not form.quantised]


@pytest.fixture(params=COMPILED)
def model(request) -> onnx.ModelProto:
    return draw(request.param, random_weights("rnn:3,4"), 18)


def shapes(T: int, B: int, width: int = 3) -> dict[str, tuple[int, ...]]:
    return {"input": (T, B, width), "h_0": (1, B, 4)}


def feed(T: int, B: int) -> dict[str, np.ndarray]:
    return {name: np.ones(shape, np.float32) for name, shape in shapes(T, B).items()}


def sizes(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    assert all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim), value
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


class TestStaticModel:
    # A length that is filled up to whole blocks is no number that the onnx package's inference follows.
    @pytest.mark.parametrize("name", [name for name in COMPILED if FORMS.get(name).block == 1])
    def test_inputs_have_the_sizes_and_outputs_follow(self, name):
        static = static_model(draw(name, random_weights("rnn:3,4"), 18), shapes(6, 2))
        onnx.checker.check_model(static, full_check=True)
        assert [sizes(value) for value in static.graph.input] == [(6, 2, 3), (1, 2, 4)]
        h_n = next(value for value in static.graph.output if value.name == "h_n")
        assert sizes(h_n) == (1, 2, 4)

    def test_a_single_step_and_a_fixed_length_have_the_sizes_too(self):
        weights = random_weights("rnn:3,4")
        step = static_model(draw("cell", weights, 18), {"input": (2, 3), "h_0": (1, 2, 4)})
        assert sizes(step.graph.output[0]) == (1, 2, 4)
        fixed = draw("unrolled", weights, 18, steps=6)
        assert sizes(static_model(fixed, shapes(6, 2)).graph.output[0]) == (6, 2, 4)
        with pytest.raises(ValueError, match="input is declared as"):
            static_model(fixed, shapes(5, 2))

    def test_the_model_that_it_is_made_of_stays_as_it_was(self, model):
        before = model.SerializeToString(deterministic=True)
        static_model(model, shapes(6, 2))
        assert model.SerializeToString(deterministic=True) == before

    @pytest.mark.parametrize(
        "given",
        [shapes(6, 2, width=7), {"input": (6, 3), "h_0": (1, 2, 4)}, {"h_0": (1, 2, 4)}],
        ids=["another width", "another rank", "missing"],
    )
    def test_what_the_file_does_not_declare_is_refused_by_name(self, model, given):
        with pytest.raises(ValueError, match="input is declared as"):
            static_model(model, given)


class TestStaticRun:
    def test_it_compiles_once_for_each_set_of_shapes(self, model, tmp_path):
        onnx.save(model, tmp_path / "model.onnx")
        compiled = []

        def compile_for(static):
            compiled.append([sizes(value) for value in static.graph.input])
            names, evaluator = [value.name for value in static.graph.output], ReferenceEvaluator(static)
            return lambda inputs: dict(zip(names, evaluator.run(None, inputs), strict=True))

        run = static_run(tmp_path, compile_for)
        for T, B in ((6, 2), (5, 2), (6, 2)):
            assert run(feed(T, B))["output"].shape == (T, B, 4)
        assert compiled == [[(6, 2, 3), (1, 2, 4)], [(5, 2, 3), (1, 2, 4)]]

    def test_a_refusal_is_remembered_for_its_shapes_alone(self, model, tmp_path):
        onnx.save(model, tmp_path / "model.onnx")
        asked = []

        def refuse_six(static):
            asked.append(sizes(static.graph.input[0])[0])
            if asked[-1] == 6:
                raise NotImplementedError("six steps")
            return lambda inputs: {"steps": len(inputs["input"])}

        run = static_run(tmp_path, refuse_six)
        for _ in range(2):
            with pytest.raises(NotImplementedError, match="six steps"):
                run(feed(6, 2))
            assert run(feed(5, 2)) == {"steps": 5}
        assert asked == [6, 5]

    def test_what_is_no_model_is_refused_before_any_shape_is_known(self, tmp_path):
        (tmp_path / "model.onnx").write_bytes(b"nothing that anybody reads")
        with pytest.raises(Exception, match=r"parsing|protobuf|wire"):
            static_run(tmp_path, lambda static: dict)
