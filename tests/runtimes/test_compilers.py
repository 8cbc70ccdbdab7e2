"""What runtimes that compile were found to compute, to refuse and to get wrong: each is a verdict with its code."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnn_export.pipeline import export, verify
from rnn_export.result import Result, Stage, Status
from rnn_export.runtimes import RUNTIMES
from rnn_export.runtimes._torch import loop_run, torch_run
from tests.runtimes.test_runtimes import why_absent
from tests.subjects import drawn_subject, only, random_weights, rows_of


def rows(runtime: str, source: str, folder: Path, **options) -> list[Result]:
    """The rows of a runtime that may not be installed here."""
    if reason := why_absent(runtime):
        pytest.skip(f"{runtime}: {reason}")
    artifact = export(source, folder / "out", **options)
    return [row for row in verify(artifact.path, runtimes=[runtime]).results if row.runtime == runtime]


def verdicts(found: list[Result]) -> set[tuple[Status, str]]:
    return {(row.status, row.code) for row in found}


PASSED = {(Status.PASS, "")}


@pytest.mark.slow
class TestIree:
    @pytest.mark.parametrize("form", ["rnn", "scan", "module"])
    @pytest.mark.parametrize("source", ["rnn:3,4", "rnn:3,4,relu,layers=2,batch-first"])
    def test_one_direction_passes_in_every_form(self, form, source, tmp_path):
        assert verdicts(rows("iree", source, tmp_path, form=form)) == PASSED

    def test_two_directions_pass_where_torch_drew_them(self, tmp_path):
        assert verdicts(rows("iree", "rnn:3,4,bidirectional", tmp_path, form="module")) == PASSED

    def test_a_scan_in_reverse_is_computed_forwards_and_found(self, tmp_path):
        found = verdicts(rows("iree", "rnn:3,4,bidirectional", tmp_path, form="scan"))
        assert (Status.MISMATCH, "step-residual") in found

    def test_the_operator_in_two_directions_is_refused(self, tmp_path):
        found = rows("iree", "rnn:3,4,bidirectional", tmp_path, form="rnn")
        assert {(row.stage, row.status) for row in found} == {(Stage.RUN, Status.REFUSED)}
        assert "failed to legalize" in found[0].detail

    def test_the_operator_ignores_lengths_and_is_found(self, tmp_path):
        assert (Status.MISMATCH, "padding") in verdicts(rows("iree", "rnn:3,4", tmp_path, form="rnn", lengths=True))

    def test_lengths_pass_in_a_scan(self, tmp_path):
        assert verdicts(rows("iree", "rnn:3,4", tmp_path, form="scan", lengths=True)) == PASSED


class TestWithoutLoops:
    @pytest.mark.parametrize("runtime", ["opencv", "tinygrad", "tvm"])
    @pytest.mark.parametrize("form", ["scan", "rnn"])
    def test_what_has_no_loop_refuses_loops_in_its_own_words(self, runtime, form, tmp_path):
        found = rows(runtime, "rnn:3,4", tmp_path, form=form)
        refused = [row for row in found if row.status is not Status.DIVERGENCE]
        assert {row.status for row in refused} == {Status.REFUSED}
        assert all(word in refused[0].detail for word in ({"scan": "Scan", "rnn": "RNN"}[form],))

    @pytest.mark.slow
    @pytest.mark.parametrize("runtime", ["tinygrad", "tvm"])
    @pytest.mark.parametrize(("form", "options"), [("unrolled", {"steps": 6}), ("cell", {})])
    def test_unrolled_and_step_by_step_it_passes(self, runtime, form, options, tmp_path):
        assert verdicts(rows(runtime, "rnn:3,4,layers=2", tmp_path, form=form, **options)) == PASSED

    @pytest.mark.parametrize("form", ["unrolled", "cell"])
    def test_opencvs_tanh_of_large_numbers_is_nan_and_is_found(self, form, tmp_path):
        options = {"steps": 6} if form == "unrolled" else {}
        found = rows("opencv", "rnn:3,4", tmp_path, form=form, **options)
        wrong = {row.case.split()[0]: row.code for row in found if row.status is Status.MISMATCH}
        assert wrong == {"large": "step-residual", "Inf": "nan-misplaced"}

    def test_opencvs_relu_of_large_numbers_is_right(self, tmp_path):
        found = rows("opencv", "rnn:3,4,relu", tmp_path, form="unrolled", steps=6)
        assert next(row for row in found if row.case.startswith("large")).passed


class TestTorchCompile:
    def test_without_a_compiler_it_is_absent_and_says_what_to_install(self, tmp_path):
        runtime = replace(RUNTIMES.get("torch-compile"), environ={"CXX": "no-such-compiler"})
        (row,) = rows_of(only(drawn_subject("rnn:3,4", tmp_path), "T=5 B=3"), runtime)
        assert (row.status, row.code) == (Status.ABSENT, "absent")
        assert "there is no no-such-compiler: install g++" in row.detail

    @pytest.mark.slow
    @pytest.mark.parametrize("source", ["rnn:3,4,layers=2,bidirectional", "rnn:3,4,relu,no-bias"])
    def test_every_layer_passes(self, source, tmp_path):
        assert verdicts(rows("torch-compile", source, tmp_path)) == PASSED

    @pytest.mark.parametrize("source", ["rnn:3,4,layers=2,bidirectional", "rnn:3,4,relu,no-bias,batch-first"])
    def test_the_loop_that_is_compiled_is_torchs_own_recurrence(self, source, tmp_path):
        import torch

        weights = random_weights(source)
        folder = drawn_subject(weights, tmp_path).folder
        spec = weights.spec
        state = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
        rng = np.random.default_rng(0)
        feed = {
            "input": rng.normal(size=(5, 5, 3)).astype(np.float32),
            "h_0": rng.normal(size=(spec.num_layers * spec.num_directions, 5, 4)).astype(np.float32),
            "lengths": np.array([5, 1, 3, 4, 2]),
        }
        found = loop_run(torch, spec.to_dict(), state, "cpu")(feed)
        expected = torch_run(folder, "cpu")(feed)
        assert set(expected) <= set(found)
        for name, array in expected.items():
            assert np.allclose(found[name], array, rtol=0, atol=1e-6), name
