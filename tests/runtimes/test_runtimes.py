"""Every runtime in the folder keeps the contract: it is named, found, refuses in words, and computes networks."""

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from rnn_export.canary import FOLDER as CANARY
from rnn_export.canary import sing
from rnn_export.child import Child, Failure
from rnn_export.documents import from_document
from rnn_export.element_types import FLOATS
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.errors import UsageError
from rnn_export.execution import execute
from rnn_export.forms import FORMS
from rnn_export.record import Placement
from rnn_export.residual import GATE, step_residual
from rnn_export.result import Stage, Status
from rnn_export.rounding import ARITHMETICS
from rnn_export.runtimes import RUNTIMES, Fallback, Runtime
from rnn_export.runtimes._onnxruntime import _prove_placement
from rnn_export.spec import RNNSpec
from rnn_export.verification import verify_runtime
from rnn_export.weights import Weights
from tests.subjects import PATIENCE, drawn_subject, fake, only, random_weights, rows_of

HERE = Path(next(iter(RUNTIMES)).file).parent
DEEP = "rnn:3,4,layers=2,bidirectional"
PROVED = ("torch", "onnxruntime-cpu", "onnx-reference")  # the least that every machine has
# What the package stands for; what other runtimes compute is in docs/compatibility.md.
SCRIPTED = ("onnxruntime-node", "onnxruntime-web")
VOUCHED = (*PROVED, *SCRIPTED, *(name for name in RUNTIMES.names() if "cuda" in name))
# OpenVINO 2026.4 with one stream gives its last answer again where the width of an input is wrong.
ANSWERS_A_WRONG_WIDTH = ("openvino", "openvino-default")
SERVERS = ("mlserver", "triton")  # each of their processes starts one
NOT_TAKEN = {("onnxruntime-node", "float16")}  # its kernels are there, but see onnxruntime_node.py
each_runtime = pytest.mark.parametrize("runtime", list(RUNTIMES), ids=lambda runtime: runtime.name)


@cache
def why_absent(name: str) -> str:
    """Empty where it is installed, with the device that it needs."""
    runtime = RUNTIMES.get(name)
    python = interpreter_of(runtime)
    if python is None:
        return f"not installed: {how_to_install(runtime)}"
    try:
        with Child(runtime, python, PATIENCE) as child:
            child.wait_until_ready()
            sing(child, runtime.reads)
    except Failure as failure:
        return failure.detail if failure.status is Status.ABSENT else ""
    return ""


@pytest.fixture(params=VOUCHED)
def vouched(request) -> Runtime:
    if request.param not in PROVED and (reason := why_absent(request.param)):
        pytest.skip(f"{request.param}: {reason}")
    return RUNTIMES.get(request.param)


def _marked(runtime: Runtime):
    slow = runtime.slow_to_compile or runtime.name in SERVERS
    return pytest.param(runtime, id=runtime.name, marks=[pytest.mark.slow] if slow else [])


@pytest.fixture(params=map(_marked, RUNTIMES))
def present(request) -> Runtime:
    if request.param.name not in PROVED and (reason := why_absent(request.param.name)):
        pytest.skip(f"{request.param.name}: {reason}")
    return request.param


def prepare_or_skip(child: Child, folder: Path, runtime: Runtime, feed: Mapping[str, np.ndarray]) -> None:
    """Some refuse the network of these tests, at once or when they compile it: that says nothing of their adapters."""
    try:
        child.prepare(folder)
        child.run(0, feed)
    except Failure as failure:
        if runtime.name in PROVED:
            raise
        pytest.skip(f"{runtime.name} does not run this network: {failure.detail}")


@each_runtime
class TestDeclaration:
    def test_its_name_can_be_typed_and_its_summary_is_one_line(self, runtime):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", runtime.name)
        assert runtime.summary
        assert "\n" not in runtime.summary

    def test_its_file_is_in_the_folder_and_opens_with_what_it_is(self, runtime):
        assert runtime.file.parent == HERE
        docstring = ast.get_docstring(ast.parse(runtime.file.read_text()))
        assert docstring is not None

    def test_it_says_what_it_requires_and_pins_it_where_it_lives_apart(self, runtime):
        assert runtime.requires
        assert runtime.distribution
        if runtime.own_environment:
            assert all("==" in requirement for requirement in runtime.requires)
            assert any(requirement.startswith("numpy==") for requirement in runtime.requires)
        assert all(re.fullmatch(r"[a-z-]+@[0-9.]+", package) for package in runtime.npm)
        assert runtime.name in how_to_install(runtime) or runtime.distribution in how_to_install(runtime)

    def test_it_reads_one_of_the_files_or_asks_a_server_and_asks_for_a_known_precision(self, runtime):
        assert runtime.reads in ("model.onnx", "weights.safetensors", "server")
        assert runtime.precision in ("float32", "TF32")

    def test_it_imports_its_runtime_only_to_prepare(self, runtime):
        needed = {requirement.partition("=")[0].partition("[")[0] for requirement in runtime.requires} - {"numpy"}
        for node in ast.parse(runtime.file.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names]
                assert not {str(name).split(".")[0] for name in names} & {name.split("-")[0] for name in needed}


@pytest.mark.parametrize(
    "runtime", [runtime for runtime in RUNTIMES if runtime.name not in PROVED], ids=lambda runtime: runtime.name
)
def test_an_absent_runtime_is_absent_in_words(runtime, tmp_path):
    if not why_absent(runtime.name):
        pytest.skip(f"{runtime.name} is here")
    (row,) = rows_of(only(drawn_subject("rnn:3,4", tmp_path), "T=5 B=3"), runtime)
    assert (row.case, row.status, row.code) == ("", Status.ABSENT, "absent")
    assert row.stage in (Stage.FIND, Stage.PREPARE)
    assert why_absent(runtime.name) in row.detail


class TestComputing:
    def test_the_canary_is_sung_and_the_version_told(self, present):
        with Child(present, interpreter_of(present), PATIENCE) as child:
            child.wait_until_ready()
            sing(child, present.reads)
            assert re.match(r"\d+\.\d+", child.version)

    @pytest.mark.parametrize("spec", [DEEP, "rnn:3,4,relu,layers=2,batch-first", "rnn:3,4,relu,no-bias"])
    def test_every_step_of_every_layer_is_the_recurrences(self, present, spec, tmp_path):
        subject = drawn_subject(spec, tmp_path)
        names = ("T=1 B=1", "T=6 B=3", "T=10 B=8", "negative T=5 B=3", "rows T=5 B=3", "state T=5 B=3", "B=0 T=5")
        rows = rows_of(only(subject, *names), present)
        if (present.name, spec) == ("onnx-reference", DEEP):
            # It has no Scan in reverse, and says so
            assert [(row.stage, row.status) for row in rows] == [(Stage.PREPARE, Status.REFUSED)] or rows[0].passed
            return
        if present.name not in VOUCHED:
            # What others compute is the compatibility table's business; an adapter's is that they answer at all.
            assert rows
            assert not {row.status for row in rows} & {Status.BROKEN, Status.CRASHED, Status.TIMEOUT, Status.ABSENT}
            return
        assert [(row.case, row.status, row.code) for row in rows] == [(name, Status.PASS, "") for name in names]
        judged = [row for row in rows if row.case != "B=0 T=5"]
        assert all(row.residual <= GATE and row.precision == present.precision for row in judged)

    def test_an_answer_does_not_depend_on_what_was_asked_before(self, present, tmp_path):
        folder = drawn_subject("rnn:3,4", tmp_path).folder
        rng = np.random.default_rng(0)
        first, second = (
            {"input": rng.normal(size=(T, 2, 3)).astype(np.float32), "h_0": np.ones((1, 2, 4), np.float32)}
            for T in (6, 9)
        )
        with Child(present, interpreter_of(present), PATIENCE) as child:
            child.wait_until_ready()
            prepare_or_skip(child, folder, present, first)
            answers = [child.run(0, feed)["output"] for feed in (first, second, first)]
        assert answers[0].tobytes() == answers[2].tobytes()
        assert answers[0].shape != answers[1].shape

    @pytest.mark.parametrize("form", ["scan", "rnn"])
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_it_lacks_the_kernels_that_it_says_it_lacks_and_no_others(self, vouched, form, dtype, tmp_path):
        """One layer forward with tanh, which every runtime has, so that only the type can be what it refuses."""
        weights = Weights.random(RNNSpec(3, 4), 0, dtype)
        folder = drawn_subject(weights, tmp_path, form, opset=22).folder
        feed = {"input": np.ones((5, 2, 3), dtype), "h_0": np.zeros((1, 2, 4), dtype)}
        if (FORMS.get(form).product, dtype) in vouched.lacks:
            with pytest.raises(Failure, match="Could not find an implementation") as caught:
                execute(vouched, folder, feed)
            assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.REFUSED)
            return
        if (vouched.name, dtype) in NOT_TAKEN:
            with pytest.raises(Failure, match="not enough space") as caught:
                execute(vouched, folder, feed)
            assert (caught.value.stage, caught.value.status) == (Stage.RUN, Status.REFUSED)
            return
        y = execute(vouched, folder, feed)["output"]
        assert y.dtype == dtype
        start = np.zeros((2, 4), dtype)
        assert step_residual(weights.cell(0, 0), feed["input"], start, y, arithmetic=ARITHMETICS[dtype]).passed

    def test_what_it_cannot_run_is_refused_and_no_crash(self, present, tmp_path):
        folder = drawn_subject("rnn:3,4", tmp_path).folder
        narrow = {"input": np.zeros((5, 2, 7), np.float32), "h_0": np.zeros((1, 2, 4), np.float32)}
        right = {"input": np.zeros((5, 2, 3), np.float32), "h_0": np.zeros((1, 2, 4), np.float32)}
        with Child(present, interpreter_of(present), PATIENCE) as child:
            child.wait_until_ready()
            prepare_or_skip(child, folder, present, right)
            if present.name not in ANSWERS_A_WRONG_WIDTH:
                with pytest.raises(Failure) as caught:
                    child.run(0, narrow)
                assert (caught.value.stage, caught.value.status) == (Stage.RUN, Status.REFUSED)
            assert child.run(0, right)["output"].shape == (5, 2, 4)
            (folder / present.reads).write_bytes(b"nothing that anybody reads")
            with pytest.raises(Failure) as caught:
                child.prepare(folder)
            assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.REFUSED)


class TestVersions:
    def test_another_version_is_an_environment_of_the_same_adapter(self):
        older, usual = RUNTIMES.get("onnxruntime@1.24.1"), RUNTIMES.get("onnxruntime-cpu")
        assert older.requires == ("onnxruntime==1.24.1",)
        assert (older.file, older.own_environment, usual.own_environment) == (usual.file, True, False)
        assert RUNTIMES.get("onnxruntime-cpu@1.24.1").requires == older.requires
        assert "onnxruntime@1.24.1" in how_to_install(older)
        browser = RUNTIMES.get("onnxruntime-web@1.27.0")
        assert (browser.npm, browser.requires) == (
            ("onnxruntime-web@1.27.0",),
            RUNTIMES.get("onnxruntime-web").requires,
        )
        assert RUNTIMES.get("onnxruntime-cuda@1.20.0").requires == ("onnxruntime-gpu[cuda,cudnn]==1.20.0",)

    @pytest.mark.parametrize(("name", "message"), [("torch@", "is no version"), ("torch@; rm", "is no version")])
    def test_what_is_no_version_is_refused(self, name, message):
        with pytest.raises(UsageError, match=message):
            RUNTIMES.get(name)
        with pytest.raises(UsageError, match="unknown runtime"):
            RUNTIMES.get("onnxruntyme@1.24.1")

    def test_what_runs_only_when_named(self):
        named = ["mlserver", "open-inference", "openvino-default", "torch-compile", "triton"]
        assert [runtime.name for runtime in RUNTIMES if not runtime.by_default] == named


class TestBfloat16:
    def test_onnx_runtime_takes_and_gives_it_as_bits(self, tmp_path):
        """No product: only that the values cross to it and back, beside arrays of other types."""
        text = """<ir_version: 10, opset_import: ["" : 22]>
            pass (bfloat16[N] x, float[N] y) => (bfloat16[N] same, float[N] wide) {
                same = Identity (x)  narrow = Cast <to: int = 1> (x)  wide = Add (narrow, y)
            }"""
        onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
        x = np.array([1.5, -0.0, np.inf, 2.0**-133], "bfloat16")
        found = execute(RUNTIMES.get("onnxruntime-cpu"), tmp_path, {"x": x, "y": np.ones(4, np.float32)})
        assert (found["same"].dtype, found["same"].tobytes()) == (x.dtype, x.tobytes())
        assert found["wide"].tolist() == [2.5, 1.0, np.inf, 1.0]


class TestExecution:
    def test_one_input_gets_its_answers(self, tmp_path):
        weights = random_weights("rnn:3,4,relu")
        folder = drawn_subject(weights, tmp_path).folder
        x, h_0 = np.ones((6, 2, 3), np.float32), np.full((1, 2, 4), 0.5, np.float32)
        found = execute(RUNTIMES.get("onnxruntime-cpu"), folder, {"input": x, "h_0": h_0})
        assert step_residual(weights.cell(0, 0), x, h_0[0], found["output"]).passed
        assert np.array_equal(found["h_n"][0], found["output"][-1])

    def test_an_absent_runtime_is_a_failure_that_says_what_to_type(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path))
        with pytest.raises(Failure, match="rnn-export runtimes install onnxruntime-cuda") as caught:
            execute(RUNTIMES.get("onnxruntime-cuda"), tmp_path, {})
        assert (caught.value.stage, caught.value.status) == (Stage.FIND, Status.ABSENT)


class FakeSession:
    """What a session says about itself when it does not run where it was asked to."""

    def __init__(
        self, providers: list[str], places: dict[str, list[str]], options: dict[str, dict[str, str]] | None = None
    ) -> None:
        self.providers, self.places, self.options = providers, places, options or {}

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return self.options

    def get_providers(self) -> list[str]:
        return self.providers

    def get_provider_graph_assignment_info(self):
        class Node:
            def __init__(self, name: str) -> None:
                self.op_type, self.name = "Scan", name

        class Part:
            def __init__(self, ep_name: str, names: list[str]) -> None:
                self.ep_name, self.names = ep_name, names

            def get_nodes(self) -> list[Node]:
                return [Node(name) for name in self.names]

        return [Part(*place) for place in self.places.items()]


class TestPlacement:
    """Without a GPU the proof of placement can only be shown on what such a session would say."""

    def test_all_nodes_on_the_provider_that_was_asked_for_is_proof(self):
        found = _prove_placement(FakeSession(["CUDA", "CPU"], {"CUDA": ["a", "b"]}), "CUDA")
        assert found == {
            "asked": "CUDA",
            "providers": ["CUDA", "CPU"],
            "nodes": {"CUDA": ["Scan a", "Scan b"]},
            "tf32": None,
        }

    @pytest.mark.parametrize(("said", "tf32"), [("0", False), ("1", True)])
    def test_whether_tf32_is_allowed_is_read_back_from_the_session(self, said, tf32):
        session = FakeSession(["CUDA"], {"CUDA": ["a"]}, {"CUDA": {"use_tf32": said, "device_id": "0"}})
        assert _prove_placement(session, "CUDA")["tf32"] is tf32

    def test_a_provider_that_is_not_in_the_session_is_a_fallback(self):
        with pytest.raises(Fallback, match="asked for CUDA, got CPU"):
            _prove_placement(FakeSession(["CPU"], {"CPU": ["a"]}), "CUDA")

    def test_a_node_elsewhere_is_a_fallback_that_names_it(self):
        with pytest.raises(Fallback, match=r"Scan b on CPU \(1 nodes\)") as caught:
            _prove_placement(FakeSession(["CUDA", "CPU"], {"CUDA": ["a"], "CPU": ["b"]}), "CUDA")
        assert from_document(Placement, caught.value.placement).fell_back == {"CPU": ("Scan b",)}

    def test_what_fell_back_reaches_the_record_from_the_child(self, tmp_path):
        verified = verify_runtime(
            only(drawn_subject("rnn:3,4", tmp_path), "T=5 B=3"), fake("elsewhere"), timeout=PATIENCE, torch_errors={}
        )
        assert [row.status for row in verified.rows] == [Status.FALLBACK]
        assert verified.record.placement.fell_back == {"CPU": ("Scan over_time",)}

    def test_onnx_runtime_tells_the_place_of_every_node_of_a_real_session(self, tmp_path):
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        model = str(drawn_subject("rnn:3,4", tmp_path).folder / "model.onnx")
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        _prove_placement(session, "CPUExecutionProvider")
        with pytest.raises(Fallback):
            _prove_placement(session, "CUDAExecutionProvider")
        told = [node.op_type for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()]
        assert "Scan" in told

    def test_onnx_runtime_that_lacks_the_provider_is_no_pass(self, tmp_path):
        """The CUDA row in an environment without CUDA: whatever it is, it is not computed on the CPU unsaid."""
        runtime = replace(RUNTIMES.get("onnxruntime-cuda"), own_environment=False, requires=("onnxruntime",))
        (row,) = rows_of(only(drawn_subject("rnn:3,4", tmp_path), "T=5 B=3"), runtime)
        assert row.status in (Status.ABSENT, Status.FALLBACK, Status.BROKEN)


def test_the_canary_is_exact_in_the_files_that_are_shipped():
    model = onnx.load(CANARY / "model.onnx")
    assert [node.op_type for node in model.graph.node] == ["Gemm"]
    assert sorted(path.name for path in CANARY.iterdir()) == ["model.onnx", "weights.safetensors"]
