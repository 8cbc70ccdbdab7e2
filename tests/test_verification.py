"""Every way to misbehave gets its stage and its status, and no more; real runtimes and foreign files get theirs."""

import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from rnn_export.cases import Case, Check
from rnn_export.environments import how_to_install
from rnn_export.forms import FORMS, draw
from rnn_export.module import to_torch
from rnn_export.oracle import run_oracle
from rnn_export.pipeline import export, verify
from rnn_export.residual import GATE
from rnn_export.result import Result, Stage, Status
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import RNNSpec, parse_spec
from rnn_export.subject import Subject, subject_of_model
from rnn_export.verification import verify_runtime
from rnn_export.weights import Weights
from tests.subjects import PATIENCE, descendants, drawn_subject, fake, only, random_weights, rows_of

ONNX_RUNTIME = RUNTIMES.get("onnxruntime-cpu")
TORCH = RUNTIMES.get("torch")
LIMIT = 3.0  # seconds: many times what a child needs to load ONNX Runtime, and these tests wait for it


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Subject:
    """One layer of tanh, with two of its cases."""
    return only(drawn_subject("rnn:3,4", tmp_path_factory.mktemp("drawn")), "T=5 B=3", "T=2 B=1")


@pytest.fixture(scope="module")
def every_case(tmp_path_factory) -> Subject:
    return drawn_subject("rnn:3,4", tmp_path_factory.mktemp("every"))


def foreign_subject(model: onnx.ModelProto, weights: Weights, folder: Path) -> Subject:
    """A file that this package did not make."""
    path, scratch = folder / "foreign.onnx", folder / "scratch"
    scratch.mkdir()
    onnx.save(model, path)
    return subject_of_model(path, weights, scratch)


def exported_by_torch(network: torch.nn.Module, folder: Path, **options) -> Path:
    """The file that torch.onnx.export makes of a network, from an example of T = 20 and B = 3."""
    path = folder / "foreign.onnx"
    spec = (network.input_size, network.num_layers * (2 if network.bidirectional else 1), network.hidden_size)
    example = (torch.zeros(20, 3, spec[0]), torch.zeros(spec[1], 3, spec[2]))
    with warnings.catch_warnings():  # the exporter's own, about its own future
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            example,
            str(path),
            input_names=["input", "h_0"],
            output_names=["output", "h_n"],
            verbose=False,
            **options,
        )
    return path


@pytest.fixture
def nothing_left_running():
    before = descendants()
    yield
    assert descendants() <= before


def statuses(rows: list[Result]) -> set[Status]:
    return {row.status for row in rows}


def row_of(rows: list[Result], case: str) -> Result:
    return next(row for row in rows if row.case == case)


class TestWrongAnswers:
    """It answered: the verdict is a MISMATCH, and its code says of which kind."""

    @pytest.mark.parametrize(
        ("answer", "code", "words"),
        [
            ("lies", "step-residual", "first at t=0 b=0"),
            ("lies about the end", "step-residual", "of h_n, layer 0"),
            ("forgets the state", "missing-output", "the output h_n is missing"),
            ("forgets everything", "missing-output", "the output output is missing"),
            ("too wide", "wrong-shape", "output has shape [5, 3, 8], not [5, 3, 4]"),
            ("one row for all", "wrong-shape", "output has shape [5, 1, 4], not [5, 3, 4]"),
            ("flat", "wrong-shape", "output has shape [60], not [5, 3, 4]"),
            ("double", "wrong-shape", "output is float64, not float32"),
            ("half", "wrong-shape", "output is float16, not float32"),
            ("lists", "wrong-shape", "output is float64, not float32"),
            ("NaN", "step-residual", "residual inf > 4"),
            ("one step for all", "frozen-length", "1 of 5 steps came back"),
        ],
    )
    def test_a_wrong_answer_is_a_mismatch_with_a_code(self, subject, answer, code, words):
        rows = rows_of(only(subject, "T=5 B=3"), fake("answers", ANSWER=answer))
        assert [(row.stage, row.status, row.code) for row in rows] == [(Stage.COMPARE, Status.MISMATCH, code)]
        assert words in rows[0].detail

    def test_an_honest_answer_passes(self, subject):
        rows = rows_of(subject, fake("answers", ANSWER="honest"))
        assert [(row.stage, row.status, row.code) for row in rows] == [(Stage.COMPARE, Status.PASS, "")] * 2
        assert all(row.residual <= GATE and row.precision == "float32" for row in rows)
        assert all(row.version for row in rows)

    @pytest.mark.parametrize("answer", ["nothing", "objects"])
    def test_an_answer_that_is_no_array_is_refused(self, subject, answer):
        rows = rows_of(subject, fake("answers", ANSWER=answer))
        assert {(row.stage, row.status, row.code) for row in rows} == {(Stage.RUN, Status.REFUSED, "refused")}


@pytest.mark.usefixtures("nothing_left_running")
class TestDeaths:
    @pytest.mark.parametrize(
        ("death", "status", "words"),
        [
            ("SIGSEGV", Status.CRASHED, "ended with SIGSEGV"),
            ("SIGABRT", Status.CRASHED, "ended with SIGABRT"),
            ("SIGKILL", Status.CRASHED, "ended with SIGKILL"),
            ("exit", Status.CRASHED, "exit code 3"),
            ("sys.exit", Status.CRASHED, "exit code 7"),
            ("memory", Status.MEMORY, "Unable to allocate"),
            ("bad_alloc", Status.MEMORY, "std::bad_alloc"),
            ("mapping", Status.MEMORY, "unable to mmap"),
            ("hang", Status.TIMEOUT, "no answer within 3 s"),
            ("close", Status.CRASHED, "it closed its pipe and did not end"),
            ("babble", Status.CRASHED, "out of protocol"),
            ("refuse", Status.REFUSED, "ValueError: this network is not for me"),
        ],
    )
    def test_a_death_in_a_run_has_its_status(self, subject, death, status, words):
        runtime = fake("deaths", DEATH=death, STAGE="RUN")
        rows = rows_of(only(subject, "T=5 B=3"), runtime, LIMIT if status is Status.TIMEOUT else PATIENCE)
        assert [(row.case, row.stage, row.status) for row in rows] == [("T=5 B=3", Stage.RUN, status)]
        assert rows[0].code == status.value.lower()
        assert words in rows[0].detail

    @pytest.mark.parametrize("stage", [Stage.FIND, Stage.PREPARE])
    @pytest.mark.parametrize(
        ("death", "status"),
        [("SIGSEGV", Status.CRASHED), ("hang", Status.TIMEOUT), ("memory", Status.MEMORY)],
    )
    def test_a_death_before_any_run_is_one_row_at_its_stage(self, subject, stage, death, status):
        limit = LIMIT if status is Status.TIMEOUT else PATIENCE
        rows = rows_of(subject, fake("deaths", DEATH=death, STAGE=stage.value), limit)
        assert [(row.case, row.stage, row.status) for row in rows] == [("", stage, status)]

    def test_a_hang_costs_its_limit_and_two_seconds_at_most(self, subject):
        took, one = [], only(subject, "T=5 B=3")
        for runtime in (fake("answers", ANSWER="honest"), fake("deaths", DEATH="hang", STAGE="RUN")):
            started = time.monotonic()
            rows = rows_of(one, runtime, LIMIT)
            took.append(time.monotonic() - started)
        assert statuses(rows) == {Status.TIMEOUT}
        assert LIMIT <= took[1] < took[0] + LIMIT + 2.0

    def test_after_two_deaths_the_remaining_cases_are_counted_and_not_run(self, subject):
        cases = [replace(subject.cases[0], name=f"case {number}") for number in range(6)]
        rows = rows_of(replace(subject, cases=cases), fake("deaths", DEATH="SIGSEGV", STAGE="RUN"))
        assert [row.case for row in rows] == ["case 0", "case 1"]
        assert "4 more cases" not in rows[0].detail
        assert rows[1].detail.endswith("; 4 more cases were not run")

    def test_one_deadly_case_costs_no_other_case(self, subject):
        cases = [replace(case, name=f"{number}: {case.name}") for number in (0, 1) for case in subject.cases]
        deadly = replace(subject, cases=cases[:3])
        rows = rows_of(deadly, fake("deaths", DEATH="SIGABRT", STAGE="RUN", ROWS="1"))
        assert [row.status for row in rows] == [Status.PASS, Status.CRASHED, Status.PASS]

    def test_a_refusal_of_every_case_kills_nobody_and_every_case_is_told(self, subject):
        rows = rows_of(subject, fake("deaths", DEATH="refuse", STAGE="RUN"))
        assert [(row.case, row.status) for row in rows] == [(case.name, Status.REFUSED) for case in subject.cases]

    def test_progress_is_told_after_every_case(self, subject):
        from rnn_export.verification import verify_runtime

        told: list[tuple[str, int, int]] = []
        runtime = fake("answers", ANSWER="honest")
        verify_runtime(subject, runtime, timeout=30, torch_errors={}, progress=lambda *what: told.append(what))
        assert told == [(runtime.name, 1, 2), (runtime.name, 2, 2)]


@pytest.mark.usefixtures("nothing_left_running")
class TestSlowToCompile:
    """A runtime that compiles for every shape gets two, and its rows say so."""

    @pytest.mark.parametrize("answer", ["honest", "lies"])
    def test_it_runs_two_shapes_and_the_first_pass_says_which(self, every_case, answer):
        told = []
        runtime = replace(fake("answers", ANSWER=answer), slow_to_compile=True)
        rows, _ = verify_runtime(
            every_case,
            runtime,
            timeout=PATIENCE,
            torch_errors={},
            progress=lambda _, done, of: told.append((done, of)),
        )
        assert {row.case for row in rows if "=" in row.case} >= {"T=5 B=3", "T=6 B=8", "NaN T=5 B=3"}
        assert told == [(done, 12) for done in range(1, 13)]
        noted = [row for row in rows if "12 of 35 cases were run, at T=5 B=3, T=6 B=8" in row.detail]
        assert noted == [row for row in rows if row.passed][:1]
        assert rows[0].passed == (answer == "honest")

    def test_what_runs_every_case_anyway_has_nothing_to_say(self, every_case):
        few = only(every_case, "T=5 B=3", "T=6 B=8")
        rows = rows_of(few, replace(fake("answers", ANSWER="honest"), slow_to_compile=True))
        assert [(row.case, row.detail) for row in rows] == [("T=5 B=3", ""), ("T=6 B=8", "")]


class TestTheAdaptersFault:
    @pytest.mark.parametrize(
        ("way", "words"),
        [
            ("a little wrong", "computes the canary, one small product, wrongly"),
            ("a list of NaN", "computes the canary, one small product, wrongly"),
            ("another name", "computes the canary, one small product, wrongly"),
            ("no answer", "fails the canary too: no answer within 3 s"),
            ("a crash", "fails the canary too: the process ended with SIGABRT"),
            ("an error", "fails the canary too: ZeroDivisionError"),
        ],
    )
    def test_who_fails_the_canary_is_broken_whatever_the_network(self, subject, way, words):
        rows = rows_of(subject, fake("broken", BROKEN=way), LIMIT if way == "no answer" else PATIENCE)
        assert [(row.case, row.stage, row.status) for row in rows] == [("", Stage.RUN, Status.BROKEN)]
        assert words in rows[0].detail

    @pytest.mark.parametrize(
        ("lack", "stage", "status", "words"),
        [
            ("a module at import", Stage.FIND, Status.BROKEN, "module_that_nobody_has"),
            ("a module in prepare", Stage.PREPARE, Status.BROKEN, "another_module_that_nobody_has"),
            ("a device", Stage.PREPARE, Status.ABSENT, "this machine has no abacus"),
            ("a place", Stage.PREPARE, Status.FALLBACK, "asked for the abacus, but the node Scan is on the CPU"),
        ],
    )
    def test_what_is_lacking_is_said_in_the_runtimes_own_words(self, subject, lack, stage, status, words):
        rows = rows_of(subject, fake("lacks", LACKS=lack))
        assert [(row.case, row.stage, row.status) for row in rows] == [("", stage, status)]
        assert words in rows[0].detail

    def test_what_is_not_installed_starts_no_process_and_says_what_to_type(self, subject):
        runtime = replace(fake("deaths", DEATH="SIGSEGV", STAGE="FIND"), requires=("package-that-nobody-has",))
        rows = rows_of(subject, runtime)
        assert [(row.stage, row.status, row.code) for row in rows] == [(Stage.FIND, Status.ABSENT, "absent")]
        assert rows[0].detail == f"not installed: {how_to_install(runtime)}"
        assert "pip install package-that-nobody-has" in rows[0].detail

    def test_noise_on_every_stream_changes_nothing(self, subject, capfd):
        rows = rows_of(subject, fake("noise", NOISE="1"))
        assert statuses(rows) == {Status.PASS}
        assert capfd.readouterr() == ("", "")


class TestWithOtherRuntimes:
    """One runtime's end is no other's: the pipeline reports them all, and the exit code follows the page."""

    @pytest.fixture
    def registered(self):
        added = []

        def register(runtime):
            RUNTIMES.add(runtime)
            added.append(runtime.name)
            return runtime.name

        yield register
        for name in added:
            RUNTIMES.remove(name)

    @pytest.mark.parametrize(
        ("runtime", "status", "code"),
        [
            (fake("deaths", DEATH="SIGSEGV", STAGE="RUN"), Status.CRASHED, 4),
            (fake("answers", ANSWER="lies"), Status.MISMATCH, 1),
            (fake("lacks", LACKS="a place"), Status.FALLBACK, 1),
        ],
        ids=["crash", "lie", "fallback"],
    )
    def test_the_others_are_still_verified(self, tmp_path, registered, runtime, status, code):
        artifact = export("rnn:3,4", tmp_path / "artifact")
        report = verify(artifact.path, runtimes=[registered(runtime), "onnxruntime-cpu"])
        assert status in {row.status for row in report.results if row.runtime == runtime.name}
        others = [row for row in report.results if row.runtime == "onnxruntime-cpu"]
        assert {row.status for row in others} <= {Status.PASS, Status.DIVERGENCE}
        assert len(others) > 30
        assert report.exit_code == code


@pytest.fixture(scope="module", params=["tanh", "relu"])
def real(request, tmp_path_factory) -> tuple[str, dict[str, list[Result]]]:
    """Of the form that is most at odds with torch, all but the plain lengths and batches."""
    subject = drawn_subject(f"rnn:3,4,{request.param}", tmp_path_factory.mktemp("real"), form="rnn")
    names = [case.name for case in subject.cases if case.check is not Check.STEPS or case.T in (2, 6)]
    runtimes = (ONNX_RUNTIME, TORCH)
    return request.param, {runtime.name: rows_of(only(subject, *names), runtime) for runtime in runtimes}


class TestRealRuntimes:
    def test_an_empty_batch_gives_empty_outputs(self, real):
        for rows in real[1].values():
            found = row_of(rows, "B=0 T=5")
            assert (found.status, found.residual) == (Status.PASS, None)

    def test_length_0_is_a_documented_difference_and_never_a_mismatch(self, real):
        assert row_of(real[1]["torch"], "T=0 B=3").status is Status.DIVERGENCE
        for rows in real[1].values():
            assert row_of(rows, "T=0 B=3").code in ("", "no-steps")

    @pytest.mark.parametrize("case", ["rows T=5 B=3", "chunks 1+2+3+4 B=3", "state T=5 B=3", "T=6 B=8"])
    def test_rows_chunks_and_state_pass(self, real, case):
        for rows in real[1].values():
            found = row_of(rows, case)
            assert found.status is Status.PASS
            assert found.residual <= GATE

    def test_nan_is_where_ieee_puts_it_or_the_difference_is_named(self, real):
        nonlinearity, rows = real
        assert row_of(rows["torch"], "NaN T=5 B=3").status is Status.PASS
        found = row_of(rows["onnxruntime-cpu"], "NaN T=5 B=3")
        if nonlinearity == "tanh":
            assert found.status is Status.PASS
        else:  # ONNX Runtime's relu in the RNN operator answers 0 where torch answers NaN
            assert (found.status, found.code) == (Status.DIVERGENCE, "nan-swallowed")

    def test_no_kind_of_input_is_called_wrong(self, real):
        for rows in real[1].values():
            assert statuses(rows) <= {Status.PASS, Status.DIVERGENCE}

    def test_every_case_is_reported_once_in_its_order(self, real):
        names = [row.case for row in real[1]["torch"]]
        assert names == [row.case for row in real[1]["onnxruntime-cpu"]]
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("runtime", [ONNX_RUNTIME, TORCH], ids=lambda runtime: runtime.name)
    def test_a_network_that_overflows_is_not_called_wrong(self, tmp_path, runtime):
        """relu with gain 8: the states leave float32 after some fifty steps, in torch itself."""
        plain = random_weights("rnn:4,16,relu,seed=4")
        weights = Weights(plain.spec, {name: array * np.float32(8) for name, array in plain.items()})
        rows = rows_of(only(drawn_subject(weights, tmp_path), "T=400 B=1"), runtime)
        assert statuses(rows) <= {Status.PASS, Status.DIVERGENCE}

    def test_where_no_step_was_judged_nothing_passes(self, tmp_path):
        arrays = {
            "weight_ih_l0": np.full((2, 2), 1e-3, np.float32),
            "weight_hh_l0": np.zeros((2, 2), np.float32),
            "bias_ih_l0": np.full(2, 3e38, np.float32),  # every sum overflows, and is not judged
            "bias_hh_l0": np.zeros(2, np.float32),
        }
        weights = Weights(RNNSpec(2, 2, nonlinearity="relu"), arrays)
        rows = rows_of(only(drawn_subject(weights, tmp_path), "T=5 B=3", "B=0 T=5"), ONNX_RUNTIME)
        assert [(row.case, row.code) for row in rows] == [
            ("T=5 B=3", "overflow"),
            ("B=0 T=5", ""),  # an empty batch proves nothing
            ("recurrence", "not-exercised"),
        ]
        assert rows[-1].status is Status.MISMATCH

    def test_float64_is_judged_in_float64(self, tmp_path):
        weights = Weights.random(RNNSpec(3, 5, 2, bidirectional=True), 0, "float64")
        subject = only(drawn_subject(weights, tmp_path), "T=6 B=3", "T=10 B=8", "state T=5 B=3")
        for runtime in (ONNX_RUNTIME, TORCH):
            rows = rows_of(subject, runtime)
            assert {(row.status, row.precision) for row in rows} == {(Status.PASS, "float64")}
            assert all(row.max_abs < 1e-12 for row in rows)

    @pytest.mark.parametrize("form", ["scan", "rnn"])
    @pytest.mark.parametrize("spec", ["rnn:3,5,layers=2,bidirectional", "rnn:3,5,relu,batch-first"])
    @pytest.mark.parametrize(("dtype", "error"), [("float16", 0.01), ("bfloat16", 0.1)])
    def test_float16_and_bfloat16_are_judged_in_themselves(self, tmp_path, spec, form, dtype, error):
        network, _ = parse_spec(spec)
        opset = 22 if dtype == "bfloat16" else 18
        subject = drawn_subject(Weights.random(network, 0, dtype), tmp_path, form, opset)
        names = ("T=6 B=3", "T=10 B=8", "tiny T=5 B=3", "large T=5 B=3", "NaN T=5 B=3", "state T=5 B=3", "rows T=5 B=3")
        for runtime in (ONNX_RUNTIME, TORCH):
            rows = rows_of(only(subject, *names), runtime)
            if (product := FORMS.get(form).product, dtype) in runtime.lacks:
                assert [(row.stage, row.status) for row in rows] == [(Stage.PREPARE, Status.REFUSED)]
                assert f"Could not find an implementation for {product}" in rows[0].detail
                continue
            swallows = form == "rnn" and network.nonlinearity == "relu" and runtime is ONNX_RUNTIME
            expected = {name: "nan-swallowed" if swallows and "NaN" in name else "" for name in names}
            assert {row.case: row.code for row in rows} == expected
            assert {row.precision for row in rows} == {dtype}
            assert all(row.max_abs < error for row in rows if row.case in ("T=6 B=3", "T=10 B=8"))

    def test_a_fault_in_a_float16_network_is_found_and_said_in_float16(self, tmp_path):
        honest = Weights.random(RNNSpec(3, 5), 0, "float16")
        faulty = {name: array.copy() for name, array in honest.items()}
        faulty["weight_hh_l0"][1, 2] += np.float16(0.25)
        subject = drawn_subject(honest, tmp_path / "honest")
        other = drawn_subject(Weights(honest.spec, faulty), tmp_path / "faulty")
        (row,) = rows_of(only(replace(subject, folder=other.folder), "T=10 B=8"), ONNX_RUNTIME)
        assert (row.status, row.code) == (Status.MISMATCH, "step-residual")
        assert "unit=1 of layer 0; no arithmetic explains it" in row.detail

    @pytest.mark.parametrize("spec", ["rnn:3,4,layers=2,batch-first", "rnn:3,4,layers=2,bidirectional,relu"])
    def test_every_layer_of_a_deep_network_is_judged(self, tmp_path, spec):
        """A fault in the lower layer is found there, in what that layer itself puts out."""
        honest = random_weights(spec)
        faulty = {name: array.copy() for name, array in honest.items()}
        faulty["weight_hh_l0"][1, 2] += 1e-3
        subject = drawn_subject(honest, tmp_path / "honest")
        wrong = drawn_subject(Weights(honest.spec, faulty), tmp_path / "faulty")
        rows = rows_of(only(subject, "T=6 B=3"), ONNX_RUNTIME)
        assert [row.status for row in rows] == [Status.PASS]
        assert rows[0].residual <= GATE
        rows = rows_of(replace(only(wrong, "T=6 B=3"), weights=honest), ONNX_RUNTIME)
        assert [(row.status, row.code) for row in rows] == [(Status.MISMATCH, "step-residual")]
        assert "unit=1 of layer 0" in rows[0].detail


class TestForeignFiles:
    def test_a_length_that_only_looks_dynamic_is_named_with_its_constant(self, tmp_path):
        weights = random_weights("rnn:3,4")
        auto = torch.export.Dim.AUTO
        shapes = ({0: auto, 1: auto}, {1: auto})
        path = exported_by_torch(to_torch(weights), tmp_path, dynamo=True, dynamic_shapes=shapes)
        report = verify(path, against=weights, runtimes=["onnxruntime-cpu"])
        found = row_of(list(report.results), "T=400 B=1")
        assert (found.stage, found.status, found.code) == (Stage.COMPARE, Status.MISMATCH, "frozen-length")
        assert "declared dynamic, but 20 of 400 steps came back" in found.detail
        assert "unrolled" in found.detail
        assert report.exit_code == 1

    @pytest.mark.parametrize("spec", ["rnn:3,4", "rnn:3,4,relu,layers=2,bidirectional"])
    def test_the_rnn_operator_of_the_old_exporter_passes(self, tmp_path, spec):
        weights = random_weights(spec)
        axes = {"input": {0: "T", 1: "B"}, "h_0": {1: "B"}, "output": {0: "T", 1: "B"}, "h_n": {1: "B"}}
        path = exported_by_torch(to_torch(weights), tmp_path, dynamo=False, dynamic_axes=axes)
        report = verify(path, against=weights, runtimes=["onnxruntime-cpu"])
        assert report.exit_code == 0
        judged = [row for row in report.results if row.residual is not None]
        assert len(judged) > 25
        assert all(row.residual <= GATE for row in judged)
        assert (report.artifact, report.form) == ("foreign.onnx", None)

    def test_the_order_in_which_a_file_lists_its_directions_does_not_matter(self, tmp_path):
        """The reverse Scan of each layer before the forward one: the same network, and ONNX Runtime's same bits."""
        weights = random_weights("rnn:3,4,layers=2,bidirectional")
        model = draw("scan", weights, 18)
        nodes = sorted(model.graph.node, key=lambda node: node.op_type != "Gather")
        places = [i for i, node in enumerate(nodes) if node.op_type == "Scan"]
        for forward, reverse in zip(places[::2], places[1::2], strict=True):
            nodes.insert(forward, nodes.pop(reverse))
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        onnx.checker.check_model(model, full_check=True)
        rows = rows_of(only(foreign_subject(model, weights, tmp_path), "T=6 B=3"), ONNX_RUNTIME)
        assert rows[0].max_abs < 1e-6
        assert rows[0].status is Status.PASS

    def test_a_file_of_fixed_sizes_is_run_in_these_alone(self, tmp_path):
        weights = random_weights("rnn:3,4")
        path = exported_by_torch(to_torch(weights), tmp_path, dynamo=False)
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        subject = subject_of_model(path, weights, scratch)
        assert {(case.T, case.B) for case in subject.cases} == {(20, 3)}
        assert statuses(rows_of(subject, ONNX_RUNTIME)) == {Status.PASS}

    def test_a_file_of_one_step_does_not_exercise_the_recurrence(self, tmp_path):
        weights = random_weights("rnn:3,4")
        model = draw("rnn", weights, 18)
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        rows = rows_of(foreign_subject(model, weights, tmp_path), ONNX_RUNTIME)
        assert (rows[-1].case, rows[-1].status, rows[-1].code) == ("recurrence", Status.MISMATCH, "not-exercised")
        assert statuses(rows[:-1]) == {Status.PASS}

    def test_a_file_that_ignores_its_state_is_told_so(self, tmp_path):
        weights = random_weights("rnn:3,4")
        model = draw("rnn", weights, 18)
        node = next(node for node in model.graph.node if node.op_type == "RNN")
        del node.input[5:]
        row = rows_of(only(foreign_subject(model, weights, tmp_path), "state T=5 B=3"), ONNX_RUNTIME)[0]
        assert (row.status, row.code) == (Status.MISMATCH, "state-ignored")

    def test_a_batch_that_is_frozen_is_found(self, tmp_path):
        weights = random_weights("rnn:3,4")
        model = draw("rnn", weights, 18)
        first = onnx.parser.parse_node("kept = Slice (input, row_0, row_1, axis_1)")
        del model.graph.node[0]
        model.graph.node.insert(0, onnx.parser.parse_node("sequence_0 = Identity (kept)"))
        model.graph.node.insert(0, first)
        rows = rows_of(only(foreign_subject(model, weights, tmp_path), "T=5 B=1", "T=5 B=3"), ONNX_RUNTIME)
        assert rows[0].status is Status.PASS
        assert rows[1].status in (Status.REFUSED, Status.MISMATCH)


def with_a_stray_scan(weights: Weights) -> onnx.ModelProto:
    """A Scan that belongs to no layer: the layers cannot be told apart, so no instrumented copy is made."""
    model = draw("scan", weights, 18)
    model.producer_name = "somebody else"  # whose values are called what they like
    place, node = next((i, node) for i, node in enumerate(model.graph.node) if node.op_type == "Scan")
    stray = onnx.NodeProto()
    stray.CopyFrom(node)
    stray.output[:] = ["stray_last", "stray_states"]
    model.graph.node.insert(place, stray)
    return model


@pytest.fixture(scope="module")
def bidirectional(tmp_path_factory) -> Subject:
    weights = random_weights("rnn:3,4,layers=2,bidirectional")
    folder = tmp_path_factory.mktemp("bidirectional")
    return only(foreign_subject(with_a_stray_scan(weights), weights, folder), "T=6 B=3")


class TestLayersThatCannotBeShown:
    @pytest.mark.parametrize(
        "answer", ["keeps its layers to itself", "layers of another width", "layers of fewer axes"]
    )
    def test_a_runtime_that_does_not_show_them_is_a_result_and_no_accident(self, tmp_path, answer):
        subject = only(drawn_subject("rnn:3,4,layers=2", tmp_path, form="rnn"), "T=6 B=3")
        rows = rows_of(subject, fake("answers", ANSWER=answer))
        assert len(rows) == 1

    def test_one_direction_is_judged_step_by_step_in_every_layer(self, tmp_path):
        weights = random_weights("rnn:3,4,relu,layers=2")
        subject = foreign_subject(with_a_stray_scan(weights), weights, tmp_path)
        assert subject.instrumented is None
        rows = rows_of(only(subject, "T=6 B=3", "T=1 B=1", "NaN T=5 B=3"), ONNX_RUNTIME)
        assert statuses(rows) == {Status.PASS}
        assert all(row.residual <= GATE and row.precision == "float32" for row in rows)

    def test_step_by_step_finds_a_fault_in_the_lower_layer(self, tmp_path):
        honest = random_weights("rnn:3,4,layers=2")
        faulty = {name: array.copy() for name, array in honest.items()}
        faulty["bias_ih_l0"][3] += 1e-3
        model = with_a_stray_scan(Weights(honest.spec, faulty))
        row = rows_of(only(foreign_subject(model, honest, tmp_path), "T=6 B=3"), ONNX_RUNTIME)[0]
        assert (row.status, row.code) == (Status.MISMATCH, "step-residual")
        assert "unit=3 of layer 0" in row.detail

    def test_two_directions_are_judged_end_to_end_against_torchs_own_error(self, bidirectional):
        reference = rows_of(bidirectional, TORCH)[0]
        row = rows_of(bidirectional, ONNX_RUNTIME, torch_errors={"T=6 B=3": reference.max_abs})[0]
        assert (row.status, row.residual) == (Status.PASS, None)
        assert 0 < row.ratio <= 8
        assert "judged end to end" in row.detail

    def test_end_to_end_rejects_an_error_above_eight_times_torchs_own(self, bidirectional):
        row = rows_of(bidirectional, fake("answers", ANSWER="lies"), torch_errors={"T=6 B=3": 1e-7})[0]
        assert (row.status, row.code) == (Status.MISMATCH, "end-to-end")
        assert row.ratio > 8

    def test_without_torch_there_is_nothing_to_judge_by_and_that_is_no_pass(self, bidirectional):
        row = rows_of(bidirectional, ONNX_RUNTIME)[0]
        assert (row.status, row.code) == (Status.MISMATCH, "not-judged")


class TestOwnPrecision:
    def test_a_row_that_asks_for_another_precision_is_judged_in_it(self, tmp_path):
        """Weights rounded to TF32, on inputs and states that are exact in it: what TF32 hardware would answer."""
        from rnn_export.precision import keep_bits

        plain = random_weights("rnn:3,4")
        rounded = {name: keep_bits(10)(array.astype(float)).astype(np.float32) for name, array in plain.items()}
        weights = Weights(plain.spec, {**dict(plain), "weight_ih_l0": rounded["weight_ih_l0"]})
        subject = drawn_subject(weights, tmp_path)
        x = np.ones((1, 1, 3), np.float32)
        exact = Case("exact", x, np.zeros((1, 1, 4), np.float32))
        asked = replace(subject, weights=plain, cases=[exact])
        wrong = rows_of(asked, ONNX_RUNTIME)[0]
        assert (wrong.status, wrong.precision) == (Status.MISMATCH, "TF32")
        assert "you asked for float32, this run is TF32" in wrong.detail
        right = rows_of(asked, replace(ONNX_RUNTIME, precision="TF32"))[0]
        assert (right.status, right.precision) == (Status.PASS, "TF32")


def test_the_truth_of_a_case_is_the_oracles_and_is_computed_once(subject):
    case = subject.cases[0]
    truth = subject.truth_of(case)
    assert subject.truth_of(case) is truth
    assert np.array_equal(truth.output, run_oracle(subject.weights, case.x, case.h_0).output)
