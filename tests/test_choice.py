"""The form that is chosen is the fastest that every runtime computes, and the reasons say why it was not another."""

from dataclasses import replace
from pathlib import Path

import pytest

from rnn_export.checkpoint import load_checkpoint
from rnn_export.choice import USUAL_RUNTIME as USUAL
from rnn_export.choice import choose_form, rank_forms
from rnn_export.cost_model import Costs, CostTable, FormCost, Load, cost_table
from rnn_export.environments import installed_version
from rnn_export.errors import InstallationError, UsageError
from rnn_export.forms import FORMS
from rnn_export.machine import this_environment
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import RNNSpec


@pytest.fixture(autouse=True)
def _no_costs_of_this_machine(tmp_path: Path, monkeypatch):
    """A choice rests on what is shipped, and not on what somebody measured here."""
    monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "cache"))


def test_the_operator_is_taken_for_a_small_stream_and_another_form_for_a_batch():
    stream = choose_form(load_checkpoint("rnn:16,16"), ("onnxruntime-cpu",))
    assert stream.form == "rnn"
    batch = choose_form(load_checkpoint("rnn:64,64"), ("onnxruntime-cpu",), load=Load(batch=32))
    assert batch.form in ("hoisted", "blocked")


def test_it_says_what_it_rests_on_what_it_expects_and_the_runner_up():
    basis, right, expected = choose_form(load_checkpoint("rnn:16,16"), load=Load(2, 50, 1)).reasons
    assert basis.startswith("for B=2 T=50, 1 thread: costs of onnxruntime-cpu measured on ")
    assert "bench --calibrate" in basis
    assert right == "form rnn: right on onnxruntime-cpu"
    assert expected.startswith("expected: rnn ")
    assert "us per step on onnxruntime-cpu; runner-up: " in expected
    assert expected.endswith("times as long)")


def test_the_costs_of_another_type_are_said_to_be_a_guess():
    basis = choose_form(load_checkpoint("rnn:3,4").converted("float64")).reasons[0]
    assert basis.endswith("they are of float32, for float64 a guess")


def test_costs_of_another_version_or_processor_are_not_said_to_be_of_this_machine(tmp_path):
    table = cost_table("onnxruntime-cpu")
    assert table is not None
    replace(table, here=True, cpu="another one").write()
    assert "measured on another one with version" in choose_form(load_checkpoint("rnn:3,4")).reasons[0]
    replace(table, here=True, cpu=this_environment(1).cpu, version=installed_version(RUNTIMES.get(USUAL))).write()
    assert "measured on this machine" in choose_form(load_checkpoint("rnn:3,4")).reasons[0]


def test_without_costs_the_usual_order_is_taken_and_that_is_said():
    # The reference evaluator has no relu in its RNN operator
    choice = choose_form(load_checkpoint("rnn:3,4,relu"), ("onnx-reference",))
    assert choice.reasons[0] == "for B=1 T=128, 1 thread: nothing was measured of onnx-reference: the usual order"
    assert choice.reasons[1] == "form rnn: REFUSED on onnx-reference [refused]"
    assert choice.form == "blocked"


def test_a_runtime_that_is_wrong_moves_the_choice_on():
    # and it ignores sequence lengths
    choice = choose_form(load_checkpoint("rnn:3,4"), ("onnx-reference",), lengths=True)
    assert choice.form == "blocked"
    assert choice.reasons[1] == "form rnn: MISMATCH on onnx-reference [padding]"


def test_where_none_is_right_every_reason_is_given():
    with pytest.raises(UsageError, match="no form is right on onnxruntime-cpu: form ") as caught:
        choose_form(load_checkpoint("rnn:3,4").converted("bfloat16"), ("onnxruntime-cpu",), opset=22)
    tried = [form.name for form in FORMS if form.length != "fixed" and form.quantised is None]
    assert all(f"form {name}: REFUSED on onnxruntime-cpu" in str(caught.value) for name in tried)
    assert "form unrolled: not drawn: form 'unrolled' has a fixed length" in str(caught.value)


def test_a_form_of_fixed_length_is_tried_where_its_length_is_said():
    # The reference evaluator has no Scan in reverse and stacks a Loop's steps wrongly; module needs a newer opset
    network = load_checkpoint("rnn:3,4,relu,bidirectional")
    choice = choose_form(network, ("onnx-reference",), opset=15, steps=6)
    assert (choice.form, choice.steps) == ("unrolled", 6)
    assert choice.reasons[-1] == "form unrolled: right on onnx-reference, 6 steps"
    with pytest.raises(UsageError, match="no form is right"):
        choose_form(network, ("onnx-reference",), opset=15)


def test_a_form_that_changes_the_weights_is_never_chosen():
    quantised = {form.name for form in FORMS if form.quantised is not None}
    ranked = [form.name for form, _ in rank_forms(RNNSpec(512, 512), {}, Load())]
    assert sorted(ranked) == sorted(set(FORMS.names()) - quantised)


class TestRanking:
    @staticmethod
    def table(runtime: str, **steps: float) -> CostTable:
        forms = {name: FormCost((1.0,) * 4, (step,) * 4) for name, step in steps.items()}
        costs = tuple(Costs(1, name, (32, 64), (1, 2), forms) for name in ("tanh", "relu"))
        return CostTable(runtime, "1", "a processor", "", costs)

    def test_the_fastest_comes_first_and_the_unknown_by_rank_after_the_known(self):
        tables = {"a": self.table("a", rnn=3.0, hoisted=1.0, scan=2.0)}
        ranked = [form.name for form, _ in rank_forms(RNNSpec(32, 32), tables, Load())]
        assert ranked[:3] == ["hoisted", "scan", "rnn"]
        rest = [FORMS.get(name).rank for name in ranked[3:]]
        assert rest == sorted(rest)

    def test_of_several_runtimes_no_one_is_sacrificed(self):
        """Slowness is a ratio: ten times as slow on one outweighs twice as fast on the other, whatever their units."""
        tables = {"a": self.table("a", rnn=100.0, scan=200.0), "b": self.table("b", rnn=10.0, scan=1.0)}
        (first, _), (second, _) = rank_forms(RNNSpec(32, 32), tables, Load())[:2]
        assert (first.name, second.name) == ("scan", "rnn")


def test_nothing_to_choose_for_and_what_is_not_installed():
    with pytest.raises(UsageError, match="--for onnxruntime-cpu"):
        choose_form(load_checkpoint("rnn:3,4"), ())
    with pytest.raises(UsageError, match="runs the weights"):
        choose_form(load_checkpoint("rnn:3,4"), ("torch",))
    with pytest.raises(UsageError, match="a batch of 0"):
        choose_form(load_checkpoint("rnn:3,4"), load=Load(batch=0))
    with pytest.raises(InstallationError, match=r"runtimes install onnxruntime@0\.0\.1"):
        choose_form(load_checkpoint("rnn:3,4"), ("onnxruntime@0.0.1",))
