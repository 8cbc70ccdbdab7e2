"""The graph that is shipped: the batch first everywhere, and still the network, in every form."""

import numpy as np
import onnx
import pytest

from rnn_export.cases import EXPORT_T
from rnn_export.checkpoint import save_weights
from rnn_export.errors import UsageError
from rnn_export.forms import FORMS, draw
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES
from rnn_export.serving import Interface, Tensor, check_shippable, interface_of, served_model
from rnn_export.subject import Served, subject_of_served
from rnn_export.verification import verify_runtime
from tests.subjects import PATIENCE, random_weights

STEPS = 6
SEQUENCES = [form.name for form in FORMS if form.length != "step"]
NETWORKS = ("rnn:3,4", "rnn:3,4,relu,layers=2,bidirectional", "rnn:3,4,layers=2,batch-first")


def drawn(form: str, text: str, *, lengths: bool = False):
    weights = random_weights(text)
    steps = STEPS if FORMS.get(form).length == "fixed" else None
    return weights, draw(form, weights, 18, lengths=lengths, steps=steps)


def state_of(weights, seed: int = 0):
    spec = weights.spec
    shape = (spec.num_layers * spec.num_directions, spec.hidden_size)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(weights.dtype)


@pytest.mark.parametrize("form", SEQUENCES)
@pytest.mark.parametrize("text", NETWORKS)
@pytest.mark.parametrize("state", ["none", "client"])
def test_every_form_is_the_same_network_with_the_batch_first(form, text, state, tmp_path):
    weights, model = drawn(form, text, lengths=True)
    start = state_of(weights)
    served = served_model(model, weights.spec, state, start)
    onnx.checker.check_model(served, full_check=True)
    onnx.save(served, tmp_path / "model.onnx")
    save_weights(tmp_path / "weights.safetensors", weights)
    (tmp_path / "scratch").mkdir()
    how = Served(interface_of(served, state), start, 32)
    subject = subject_of_served("net", form, tmp_path / "model.onnx", tmp_path, how, tmp_path / "scratch")
    rows = verify_runtime(subject, RUNTIMES.get("onnxruntime-cpu"), timeout=PATIENCE, torch_errors={}).rows
    T = STEPS if FORMS.get(form).length == "fixed" else EXPORT_T
    assert {row.status for row in (*subject.findings, *rows)} <= {Status.PASS, Status.DIVERGENCE}
    assert sum(row.passed for row in rows) > 9
    assert any(row.case.startswith(f"rows 2 0 1 1 0 T={T}") and row.passed for row in rows)
    assert all(row.residual is not None for row in rows if row.case.startswith("T=5"))


def test_another_initial_state_than_the_stated_one_is_seen(tmp_path):
    weights, model = drawn("scan", "rnn:3,4")
    served = served_model(model, weights.spec, "none", state_of(weights, 1))
    onnx.save(served, tmp_path / "model.onnx")
    save_weights(tmp_path / "weights.safetensors", weights)
    (tmp_path / "scratch").mkdir()
    how = Served(interface_of(served, "none"), state_of(weights, 2), 32)
    subject = subject_of_served("net", "scan", tmp_path / "model.onnx", tmp_path, how, tmp_path / "scratch")
    assert [row.code for row in subject.findings] == ["weights"]
    rows = verify_runtime(subject, RUNTIMES.get("onnxruntime-cpu"), timeout=PATIENCE, torch_errors={}).rows
    assert "step-residual" in {row.code for row in rows}


def test_the_interface_has_no_batch_axis_and_hides_the_state_that_the_server_holds():
    weights, model = drawn("scan", "rnn:3,4,layers=2", lengths=True)
    found = interface_of(served_model(model, weights.spec, "server", state_of(weights)), "server")
    assert found == Interface(
        (Tensor("input", "FP32", (-1, 3)), Tensor("h_0", "FP32", (2, 4)), Tensor("lengths", "INT64", (1,))),
        (Tensor("output", "FP32", (-1, 4)), Tensor("h_n", "FP32", (2, 4))),
        "server",
    )
    assert [tensor.name for tensor in found.sent] == ["input", "lengths"]


def test_the_artifacts_own_model_is_left_as_it_is():
    weights, model = drawn("scan", "rnn:3,4")
    before = model.SerializeToString(deterministic=True)
    served_model(model, weights.spec, "none", state_of(weights))
    assert model.SerializeToString(deterministic=True) == before


def test_what_cannot_be_served_is_refused_with_what_to_do():
    with pytest.raises(UsageError, match="is one step"):
        check_shippable("cell", random_weights("rnn:3,4").spec, "none")
    deep = random_weights("rnn:3,4,bidirectional").spec
    for state in ("server", "client"):
        with pytest.raises(UsageError, match="cannot be streamed"):
            check_shippable("scan", deep, state)
    check_shippable("scan", deep, "none")
    plain = random_weights("rnn:3,4").spec
    with pytest.raises(UsageError, match="fixed length"):
        check_shippable("unrolled", plain, "client")
    check_shippable("unrolled", plain, "none")
