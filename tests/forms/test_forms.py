"""Every form in the folder, on a grid of the options: one signature, right answers, and nothing else in the file."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, parser

from rnn_export.errors import UsageError
from rnn_export.forms import FORMS, draw, network_of
from rnn_export.forms import Drawing as FormDrawing
from rnn_export.forms._tidy import body_of, graphs, tidy
from rnn_export.inspection import LayerOutput, instrument, read_back
from rnn_export.judgement import Answers, judge
from rnn_export.oracle import run_oracle
from rnn_export.residual import GATE
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights
from tests.strategies import every_spec

ROOT = Path(__file__).parent.parent.parent
OPSET, NEWEST = 18, onnx.defs.onnx_opset_version()
DYNAMIC = [form.name for form in FORMS if form.length == "dynamic"]
DIRECT = [name for name in FORMS.names() if name != "module"]  # drawn without torch, in milliseconds
LOOPS = ("blocked", "hoisted", "int8", "loop", "rnn", "scan", "stacked")  # the direct ones that are of any length
QUANTISED = {form.name for form in FORMS if form.quantised}  # of float32 networks only; an operator of their own
ANY_TYPE = [name for name in FORMS.names() if name not in QUANTISED]
STEPS = {form.name: 6 for form in FORMS if form.length == "fixed"}
EXPORTED = (5, 3)  # the lengths and batches below are others
DEEP = RNNSpec(3, 4, 2, bidirectional=True)


def pairwise(*options: tuple) -> Iterator[tuple]:
    """Few combinations in which every two values of two options meet (greedy)."""
    everything = list(product(*options))

    def pairs(row: tuple) -> set:
        return {(i, j, row[i], row[j]) for i, j in combinations(range(len(row)), 2)}

    missing = set().union(*map(pairs, everything))
    while missing:
        best = max(everything, key=lambda row: len(pairs(row) & missing))
        missing -= pairs(best)
        yield best


FLAGS = (False, True)
GRID = [RNNSpec(3, 4, *row) for row in pairwise((1, 2, 3), ("tanh", "relu"), FLAGS, FLAGS, FLAGS)]


class Drawing(NamedTuple):
    form: str
    weights: Weights
    model: onnx.ModelProto


@cache
def drawing_of(form: str, spec: RNNSpec, opset: int = OPSET, dtype: str = "float32") -> Drawing:
    weights = Weights.random(spec, 1, dtype)
    return Drawing(form, weights, draw(form, weights, opset, steps=STEPS.get(form)))


@pytest.fixture(
    scope="module",
    params=[(form, spec) for form in DYNAMIC for spec in GRID],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def drawing(request) -> Drawing:
    return drawing_of(*request.param)


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


class Runner:
    """A drawing in ONNX Runtime, with the states of every layer."""

    def __init__(self, drawing: Drawing) -> None:
        self.weights, spec = network_of(drawing.form, drawing.weights), drawing.weights.spec
        self.asked = "int8" if drawing.form in QUANTISED else "float32"
        made = instrument(drawing.model, spec)
        assert made is not None
        copy, self.shown = made
        self.session = session_of(copy)

    def answer(self, x: np.ndarray, h_0: np.ndarray) -> Answers:
        spec = self.weights.spec
        feed = {"input": np.ascontiguousarray(x.swapaxes(0, 1)) if spec.batch_first else x, "h_0": h_0}
        names = [value.name for value in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, feed), strict=True))
        output = found["output"].swapaxes(0, 1) if spec.batch_first else found["output"]
        layers = [
            np.concatenate([self.states(found, value) for value in self.shown if value.layer == layer], -1)
            for layer in range(spec.num_layers)
        ]
        return Answers(output, found["h_n"], layers)

    @staticmethod
    def states(found: dict[str, np.ndarray], value: LayerOutput) -> np.ndarray:
        states = found[value.name]
        if value.direction is None:
            return np.concatenate(list(states.swapaxes(0, 1)), -1)
        return states[::-1] if value.reversed_time else states

    def input_of(self, T: int, B: int) -> tuple[np.ndarray, np.ndarray]:
        spec, rng = self.weights.spec, np.random.default_rng([T, B])
        x, h_0 = rng.normal(size=(T, B, 3)), rng.uniform(-1, 1, (len(spec.cells()), B, 4))
        return x.astype(self.weights.dtype), h_0.astype(self.weights.dtype)

    def verdict(self, T: int, B: int):
        x, h_0 = self.input_of(T, B)
        return judge(self.weights, x, h_0, self.answer(x, h_0), run_oracle(self.weights, x, h_0), self.asked)


def dims_of(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def scans_in(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Scan"]


def test_the_grid_lets_every_two_options_meet_and_is_small():
    assert len(GRID) <= 12
    names = ("num_layers", "nonlinearity", "bias", "batch_first", "bidirectional")
    for first, second in combinations(names, 2):
        met = {(getattr(spec, first), getattr(spec, second)) for spec in GRID}
        assert len(met) == len({pair[0] for pair in met}) * len({pair[1] for pair in met})


class TestContract:
    @pytest.mark.parametrize(("T", "B"), [(1, 1), (7, 2), (40, 1)])
    def test_every_step_is_what_the_recurrence_says_at_sizes_other_than_the_exported(self, drawing, T, B):
        assert EXPORTED not in ((T, B), (B, T))
        found = Runner(drawing).verdict(T, B)
        assert (found.code, found.detail) == ("", "")
        assert found.residual <= GATE
        assert found.judged == T * B * 4 * len(drawing.weights.spec.cells())

    def test_it_has_the_one_signature(self, drawing):
        spec, graph = drawing.weights.spec, drawing.model.graph
        axes = ["B", "T"] if spec.batch_first else ["T", "B"]
        rows, D = len(spec.cells()), spec.num_directions
        assert [(value.name, dims_of(value)) for value in graph.input] == [
            ("input", [*axes, 3]),
            ("h_0", [rows, "B", 4]),
        ]
        assert [(value.name, dims_of(value)) for value in graph.output] == [
            ("output", [*axes, D * 4]),
            ("h_n", [rows, "B", 4]),
        ]
        assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {1}

    def test_its_only_symbols_are_t_and_b(self, drawing):
        values = [
            value for graph in graphs(drawing.model.graph) for value in (*graph.input, *graph.output, *graph.value_info)
        ]
        assert {dim for value in values for dim in dims_of(value) if isinstance(dim, str)} <= {"T", "B"}

    def test_its_opset_is_the_one_that_was_asked_for_and_its_ir_version_the_least(self, drawing):
        model, own = drawing.model, [("com.microsoft", 1)] if drawing.form in QUANTISED else []
        assert [(item.domain, item.version) for item in model.opset_import] == [("", OPSET), *own]
        assert model.ir_version == onnx.helper.find_min_ir_version_for(list(model.opset_import)[:1]) == 8

    def test_the_checker_finds_nothing(self, drawing):
        onnx.checker.check_model(drawing.model, full_check=True)
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(drawing.model, strict_mode=True))

    def test_the_loop_is_in_the_graph_and_not_unrolled(self, drawing):
        """One operator or Scan for a cell, a layer or all of them: the length is nowhere."""
        spec, cells = drawing.weights.spec, len(drawing.weights.spec.cells())
        expected = {
            "rnn": {"RNN": spec.num_layers},
            "loop": {"Loop": cells},
            "blocked": {"Scan": spec.num_layers},
            "stacked": {"Scan": spec.num_layers if spec.bidirectional else 1},
        }.get(drawing.form, {"Scan": cells})
        found = Counter(node.op_type for graph in graphs(drawing.model.graph) for node in graph.node)
        assert {name: found[name] for name in ("RNN", "Scan", "Loop", "If", "SequenceAt") if found[name]} == expected
        assert len(drawing.model.graph.node) < 30 + 30 * cells

    def test_it_holds_the_weights_bit_for_bit_and_no_other_float(self, drawing):
        assert read_back(drawing.model, FORMS.get(drawing.form), drawing.weights) == ""

    def test_it_tells_nothing_about_where_and_by_whom_it_was_drawn(self, drawing):
        model = drawing.model
        assert (model.producer_name, model.producer_version, model.domain) == ("rnn-export", "", "")
        assert not model.doc_string
        assert not model.metadata_props
        for graph in graphs(model.graph):
            for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
                assert not item.doc_string
                assert not item.metadata_props
        data = model.SerializeToString()
        for place in (b"/home", b"site-packages", b".py", bytes(ROOT), bytes(Path.home())):
            assert place not in data

    def test_layout_1_is_nowhere(self, drawing):
        """ONNX Runtime refuses it, OpenVINO ignores it."""
        for node in drawing.model.graph.node:
            assert "layout" not in {attribute.name for attribute in node.attribute}

    def test_every_constant_is_used(self, drawing):
        used = {name for graph in graphs(drawing.model.graph) for node in graph.node for name in node.input}
        for graph in graphs(drawing.model.graph):
            assert {tensor.name for tensor in graph.initializer} <= used

    def test_no_scan_body_lists_a_value_twice(self, drawing):
        """What passes the checker and is silently wrong in ONNX Runtime."""
        for node in scans_in(drawing.model):
            outputs = [value.name for value in body_of(node).output]
            assert len(set(outputs)) == len(outputs)
            assert not set(outputs) & {value.name for value in body_of(node).input}

    def test_an_empty_batch_gives_empty_outputs(self, drawing):
        runner = Runner(drawing)
        found = runner.answer(*runner.input_of(4, 0))
        assert found.output.shape == (4, 0, 4 * drawing.weights.spec.num_directions)

    def test_it_is_registered_with_a_summary_and_a_least_opset(self, drawing):
        form = FORMS.get(drawing.form)
        assert form.summary
        assert 13 <= form.min_opset <= OPSET


@pytest.mark.parametrize("spec", every_spec(), ids=str)
@pytest.mark.parametrize("form", LOOPS)
def test_the_direct_forms_are_right_for_every_combination_of_the_options(form, spec):
    found = Runner(drawing_of(form, spec)).verdict(8, 2)
    assert (found.code, found.detail) == ("", "")
    assert found.residual <= GATE


class TestOpsets:
    @pytest.mark.parametrize("opset", range(14, NEWEST + 1))
    @pytest.mark.parametrize("form", LOOPS)
    def test_every_one_loads_and_runs_in_onnx_runtime(self, form, opset):
        drawing = drawing_of(form, DEEP, opset)
        assert drawing.model.opset_import[0].version == opset
        assert drawing.model.ir_version == onnx.helper.find_min_ir_version_for(list(drawing.model.opset_import)[:1])
        assert Runner(drawing).verdict(7, 2).code == ""

    @pytest.mark.parametrize("opset", [16, 20, NEWEST])
    def test_the_exporters_too(self, opset):
        drawing = drawing_of("module", RNNSpec(3, 4), opset)
        assert [(item.domain, item.version) for item in drawing.model.opset_import] == [("", opset)]
        assert drawing.model.ir_version == onnx.helper.find_min_ir_version_for(list(drawing.model.opset_import))
        assert Runner(drawing).verdict(7, 2).code == ""

    @pytest.mark.parametrize("form", FORMS.names())
    def test_an_older_or_newer_one_is_a_usage_error_that_says_which_there_are(self, form):
        weights, least = Weights.random(RNNSpec(3, 4), 0), FORMS.get(form).min_opset
        for opset in (least - 1, NEWEST + 1, 0, -1):
            with pytest.raises(UsageError, match=f"Choose {least} to {NEWEST}"):
                draw(form, weights, opset, steps=STEPS.get(form))

    @pytest.mark.parametrize("form", ANY_TYPE)
    def test_the_first_with_bfloat16_is_the_forms_own(self, form):
        weights, least = Weights.random(RNNSpec(3, 4), 0, "bfloat16"), FORMS.get(form).bfloat16_opset
        for lengths in FLAGS if FORMS.get(form).length != "step" else FLAGS[:1]:
            assert draw(form, weights, least, lengths=lengths, steps=STEPS.get(form)).opset_import[0].version == least
        reason = f"opset {least - 1}( in bfloat16)?\\. Choose {least} to {NEWEST}"
        with pytest.raises(UsageError, match=reason):
            draw(form, weights, least - 1, steps=STEPS.get(form))

    @pytest.mark.parametrize("form", [name for name in DIRECT if name != "cell" and name in ANY_TYPE])
    def test_the_first_with_bfloat16_is_not_later_than_need_be(self, form):
        """The checker knows which operators take it: one opset lower it refuses. The first of cell takes it already."""
        known, weights = FORMS.get(form), Weights.random(RNNSpec(3, 4), 0, "bfloat16")
        model = known.build(weights, FormDrawing(known.bfloat16_opset - 1, lengths=True, steps=STEPS.get(form)))
        with pytest.raises(Exception, match="bfloat16"):
            onnx.checker.check_model(model, full_check=True)

    def test_an_unknown_form_is_a_usage_error_that_names_the_closest(self):
        with pytest.raises(UsageError, match=r"unknown form 'scam'\. Did you mean 'scan'"):
            draw("scam", Weights.random(RNNSpec(3, 4), 0), OPSET)


class TestDoublePrecision:
    @pytest.mark.parametrize("form", [form for form in DYNAMIC if form != "rnn" and form in ANY_TYPE])
    @pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
    def test_a_float64_network_is_drawn_and_judged_in_float64(self, form, nonlinearity):
        drawing = drawing_of(form, RNNSpec(3, 4, 2, nonlinearity), OPSET, "float64")
        assert {value.type.tensor_type.elem_type for value in drawing.model.graph.input} == {11}
        found = Runner(drawing).verdict(40, 2)
        assert (found.code, found.precision) == ("", "float64")
        assert found.residual <= GATE
        assert found.max_abs < 1e-13


class TestHalfPrecision:
    @pytest.mark.parametrize("form", [form for form in DYNAMIC if form in ANY_TYPE])
    @pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
    def test_a_float16_network_is_drawn_and_judged_in_float16(self, form, nonlinearity):
        drawing = drawing_of(form, RNNSpec(3, 4, 2, nonlinearity, bidirectional=True), OPSET, "float16")
        assert {value.type.tensor_type.elem_type for value in drawing.model.graph.input} == {TensorProto.FLOAT16}
        found = Runner(drawing).verdict(40, 2)
        assert (found.code, found.precision) == ("", "float16")

    @pytest.mark.parametrize("form", ANY_TYPE)
    @pytest.mark.parametrize("lengths", FLAGS)
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_every_variant_is_a_valid_file_that_holds_the_weights(self, form, lengths, dtype):
        whole = FORMS.get(form).length != "step"
        weights = Weights.random(RNNSpec(3, 4, 2, bidirectional=whole, batch_first=True), 1, dtype)
        head = Head(np.ones((5, 8 if whole else 4), dtype), np.zeros(5, dtype))
        model = draw(form, weights, 22, lengths=lengths and whole, head=head, steps=STEPS.get(form))
        assert read_back(model, FORMS.get(form), weights, head) == ""
        other = Weights(weights.spec, {name: -array for name, array in weights.items()})
        assert "differs from the checkpoint" in read_back(model, FORMS.get(form), other, head)


class TestTheSameEverywhere:
    SCRIPT = """
import hashlib, json, sys
from rnn_export.forms import draw
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights
def digest(form, **options):
    weights = Weights.random(RNNSpec(3, 4, **options), 1)
    steps = 3 if form == "unrolled" else None
    return hashlib.sha256(draw(form, weights, 18, steps=steps).SerializeToString(deterministic=True)).hexdigest()
print(json.dumps([digest(form, **options) for form, options in json.loads(sys.argv[1])]))
"""

    def digests(self, folder: Path, seed: str, *drawings: tuple[str, dict]) -> list[str]:
        """Of drawings that one fresh process makes one after the other, there and with these hashes."""
        folder.mkdir(exist_ok=True)
        environment = {"PYTHONHASHSEED": seed, "HOME": str(folder), "TORCHINDUCTOR_CACHE_DIR": str(folder)}
        line = [sys.executable, "-c", self.SCRIPT, json.dumps(drawings)]
        done = subprocess.run(line, cwd=folder, env=environment, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    @pytest.mark.parametrize("form", [*DIRECT, pytest.param("module", marks=pytest.mark.slow)])
    def test_the_bytes_do_not_depend_on_the_process_the_folder_or_the_hashes(self, tmp_path, form):
        deep = (form, {"num_layers": 2, "bidirectional": form != "cell"})
        first, second = (self.digests(tmp_path / seed, seed, deep) for seed in ("1", "2"))
        assert first == second

    @pytest.mark.parametrize("form", [*DIRECT, pytest.param("module", marks=pytest.mark.slow)])
    def test_the_bytes_do_not_depend_on_what_was_drawn_before(self, tmp_path, form):
        first, _, again = self.digests(tmp_path, "0", (form, {}), (form, {"batch_first": True}), (form, {}))
        assert first == again

    @pytest.mark.parametrize("form", DIRECT)
    def test_the_direct_forms_need_no_torch(self, form):
        script = (
            "import sys; from rnn_export import RNNSpec, Weights; from rnn_export.forms import draw\n"
            f"draw({form!r}, Weights.random(RNNSpec(3, 4), 0), 18, steps={STEPS.get(form)})\n"
            "sys.exit('torch' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", script], check=True)

    @pytest.mark.parametrize("form", DIRECT)
    def test_the_direct_forms_take_milliseconds(self, form):
        weights, took = Weights.random(RNNSpec(2, 256), 0), []
        for _ in range(5):
            started = time.process_time()
            draw(form, weights, OPSET, steps=STEPS.get(form))
            took.append(time.process_time() - started)
        assert min(took) < 0.05

    @pytest.mark.parametrize("form", FORMS.names())
    def test_drawing_changes_nothing_outside(self, form):
        """Neither the weights nor torch's mode, threads, warnings and loggers."""
        import logging
        import warnings

        import torch

        weights = Weights.random(RNNSpec(3, 4), 0)
        before = {name: array.tobytes() for name, array in weights.items()}
        loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
        levels = [logger.level for logger in loggers]
        state = (torch.is_grad_enabled(), torch.get_num_threads(), list(warnings.filters))
        draw(form, weights, OPSET, steps=STEPS.get(form))
        assert {name: array.tobytes() for name, array in weights.items()} == before
        assert (torch.is_grad_enabled(), torch.get_num_threads(), list(warnings.filters)) == state
        assert [logger.level for logger in loggers] == levels

    @pytest.mark.parametrize("form", FORMS.names())
    def test_drawing_prints_nothing(self, form, capfd):
        draw(form, Weights.random(RNNSpec(3, 4), 0), OPSET, steps=STEPS.get(form))
        assert capfd.readouterr() == ("", "")


class TestTidy:
    """What a drawing may bring along is taken out, and what is wrong in ONNX Runtime is refused."""

    def scan_with(self, body: str) -> onnx.ModelProto:
        return parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 18]> g (float[T,2] x, float[2] h) => (float[2] l, float[T,2] y) '
            "{ l, y = Scan <num_scan_inputs: int = 1, "
            f"body: graph = body (float[s27] h, float[2] x) => {body}> (h, x) }}"
        )

    def test_a_body_that_lists_one_value_as_state_and_output_is_refused(self):
        model = self.scan_with("(float[2] a, float[2] a) { a = Add (x, h) }")
        with pytest.raises(ValueError, match=r"lists 'a' as state and output.*Put an Identity between"):
            tidy(model)

    def test_a_body_that_passes_its_input_through_is_refused(self):
        model = self.scan_with("(float[2] a, float[2] x) { a = Add (x, h) }")
        with pytest.raises(ValueError, match="lists 'x'"):
            tidy(model)

    def test_the_lint_is_needed_because_the_checker_accepts_it(self):
        onnx.checker.check_model(self.scan_with("(float[2] a, float[2] a) { a = Add (x, h) }"))

    def test_a_body_with_an_identity_is_accepted_and_its_symbols_are_renamed(self):
        model = self.scan_with("(float[2] a, float[2] b) { a = Add (x, h) b = Identity (a) }")
        tidy(model)
        assert dims_of(body_of(model.graph.node[0]).input[0]) == ["B"]

    def test_metadata_doc_strings_and_stray_constants_are_taken_out_everywhere(self):
        model = self.scan_with("(float[2] a, float[2] b) { a = Add (x, h) b = Identity (a) }")
        model.doc_string = model.graph.doc_string = "drawn in /home/somebody"
        model.producer_version = "9.9"
        for graph in graphs(model.graph):
            for item in (model, graph, *graph.node, *graph.input):
                item.metadata_props.add(key="where", value="/home/somebody/net.py")
                item.doc_string = "/home/somebody"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "stray"))
        tidy(model)
        assert b"somebody" not in model.SerializeToString()
        assert not model.graph.initializer
        assert (model.ir_version, model.producer_name, model.producer_version) == (8, "rnn-export", "")
