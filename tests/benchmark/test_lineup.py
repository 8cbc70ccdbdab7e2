"""The rows are found in the registries: torch first, every usual form by rank, and what is named takes their place."""

import pytest

from rnn_export.benchmark import lineup
from rnn_export.benchmark.lineup import line_up
from rnn_export.errors import UsageError
from rnn_export.forms import FORMS, usual_forms


def labels(*arguments, **options) -> list[str]:
    return [candidate.label for candidate in line_up(*arguments, **options)]


@pytest.fixture(params=[True, False], ids=["openvino here", "openvino absent"])
def openvino(request, monkeypatch) -> bool:
    monkeypatch.setattr(lineup, "interpreter_of", lambda runtime: request.param or None)
    return request.param


def test_without_names_it_is_every_usual_form_and_openvino_where_it_is(openvino):
    found = labels((), ())
    forms = [form.name for form in sorted(FORMS, key=lambda form: form.rank) if form.length == "dynamic"]
    forms.remove("module")
    assert found[: len(forms) + 1] == ["torch", *(f"{form} on onnxruntime-cpu" for form in forms)]
    assert found[len(forms) + 1 :] == (["rnn on openvino"] if openvino else [])
    assert not any(candidate.named for candidate in line_up((), ()))


def test_forms_that_are_named_take_the_place_of_all(openvino):
    assert labels(("scan", "loop", "scan"), ()) == ["torch", "scan on onnxruntime-cpu", "loop on onnxruntime-cpu"]
    assert [candidate.named for candidate in line_up(("scan",), ())] == [False, True]


def test_runtimes_that_are_named_take_the_place_of_the_usual_ones():
    forms = [form.name for form in usual_forms()]
    assert labels((), ("onnxruntime-cuda",)) == ["torch", *(f"{form} on onnxruntime-cuda" for form in forms)]
    assert labels((), ("openvino", "torch-compile")) == ["torch", "rnn on openvino", "torch-compile"]
    assert labels((), ("onnxruntime@1.24.1",))[1] == f"{forms[0]} on onnxruntime@1.24.1"


def test_both_named_are_each_on_each():
    assert labels(("scan", "rnn"), ("openvino",)) == ["torch", "scan on openvino", "rnn on openvino"]


def test_torch_is_there_once_and_named_where_it_is_named():
    (only,) = line_up((), ("torch",))
    assert (only.label, only.named, only.form) == ("torch", True, None)


def test_a_form_of_fixed_length_runs_when_it_is_named():
    assert labels(("unrolled",), ("onnxruntime-cpu",)) == ["torch", "unrolled on onnxruntime-cpu"]


@pytest.mark.parametrize(
    ("forms", "runtimes", "threads", "message"),
    [
        (("cell",), (), 1, "'cell' is one step"),
        (("scam",), (), 1, "unknown form 'scam'. Did you mean 'scan'"),
        ((), ("onnxruntime-cpo",), 1, "unknown runtime 'onnxruntime-cpo'"),
        ((), ("open-inference",), 1, "asks a live server"),
        ((), ("tract",), 2, "tract computes with one thread"),
    ],
)
def test_what_makes_no_row_is_said(forms, runtimes, threads, message):
    with pytest.raises(UsageError, match=message):
        line_up(forms, runtimes, threads)


def test_one_thread_is_enough_for_all():
    assert "rnn on tract" in labels((), ("tract",), threads=1)
