"""The form that is chosen is the first that every runtime computes, and the reasons say why it was not another."""

import pytest

from rnn_export.checkpoint import load_checkpoint
from rnn_export.choice import choose_form
from rnn_export.errors import InstallationError, UsageError
from rnn_export.forms import FORMS


def test_the_fastest_is_taken_where_it_is_right():
    choice = choose_form(load_checkpoint("rnn:3,4"), ("onnxruntime-cpu",))
    assert choice.form == min(FORMS, key=lambda form: form.rank).name == "rnn"
    assert choice.reasons == ("form rnn: right on onnxruntime-cpu",)


def test_a_runtime_that_refuses_it_moves_the_choice_on():
    # The reference evaluator has no relu in its RNN operator
    choice = choose_form(load_checkpoint("rnn:3,4,relu"), ("onnxruntime-cpu", "onnx-reference"))
    assert choice.form == "scan"
    assert choice.reasons[0] == "form rnn: REFUSED on onnx-reference [refused]"


def test_a_runtime_that_is_wrong_moves_the_choice_on():
    # and it ignores sequence lengths
    choice = choose_form(load_checkpoint("rnn:3,4"), ("onnx-reference",), lengths=True)
    assert choice.form == "scan"
    assert choice.reasons[0] == "form rnn: MISMATCH on onnx-reference [padding]"


def test_where_none_is_right_every_reason_is_given():
    with pytest.raises(UsageError, match="no form is right on onnxruntime-cpu: form rnn: ") as caught:
        choose_form(load_checkpoint("rnn:3,4").converted("bfloat16"), ("onnxruntime-cpu",), opset=22)
    tried = [form.name for form in FORMS if form.length != "fixed"]
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


def test_nothing_to_choose_for_and_what_is_not_installed():
    with pytest.raises(UsageError, match="--for onnxruntime-cpu"):
        choose_form(load_checkpoint("rnn:3,4"), ())
    with pytest.raises(InstallationError, match=r"runtimes install onnxruntime@0\.0\.1"):
        choose_form(load_checkpoint("rnn:3,4"), ("onnxruntime@0.0.1",))
