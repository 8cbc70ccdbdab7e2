"""How the answers of a server are judged, without one: right ones pass, golden ones are held against the network."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from rnn_export.checkpoint import Checkpoint
from rnn_export.live_server.checks import Probed, check_golden
from rnn_export.live_server.endpoint import Description, Endpoint, Refused, Replies, encodings_of, server_runtime
from rnn_export.live_server.held import held_of_bundle
from rnn_export.live_server.requests import judge_answer, make_request
from rnn_export.live_server.yardstick import Yardstick
from rnn_export.pipeline import export
from rnn_export.server_address import ServerAddress
from rnn_export.shipping import Order, ship
from rnn_export.weights import Weights
from tests.servers import need
from tests.shipped import shipped
from tests.subjects import PATIENCE, random_weights


def probed_by_nobody(bundle, scratch) -> Probed:
    """What is asked of a server that is never reached."""
    need("open-inference")
    scratch.mkdir()
    held = held_of_bundle(bundle.path, scratch)
    endpoint = Endpoint(server_runtime(ServerAddress("http://127.0.0.1:9", "net")), PATIENCE)
    endpoint.__exit__(None, None, None)
    said = Description(True, True, True, {}, None, None)
    yardstick = Yardstick(held.subject, PATIENCE)
    return Probed(endpoint, held.subject, held.interface, held.start, said, yardstick, held.max_batch)


def test_golden_answers_that_are_not_the_networks_are_found_without_the_server(tmp_path):
    bundle = shipped("rnn:3,4", tmp_path, Order("triton"))
    probed = probed_by_nobody(bundle, tmp_path / "scratch")
    for name, array in bundle.golden[0].outputs.items():
        wrong = replace(bundle.golden[0], outputs={**bundle.golden[0].outputs, name: array + np.float32(1e-4)})
        (row,) = check_golden(probed, [wrong])
        assert (row.code, name in row.detail) == ("golden", True)


@pytest.mark.parametrize("scale", [1e-2, 1e-4])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_right_answers_of_a_deep_network_pass_though_its_last_layer_says_little(tmp_path, scale, nonlinearity):
    """The error of the last layer alone would be a yardstick that the states of the first cannot meet."""
    random = random_weights(f"rnn:3,8,{nonlinearity},layers=2")
    arrays = {name: array * np.float32(scale if name.endswith("l1") else 1) for name, array in random.items()}
    weights = Weights(random.spec, arrays)
    artifact = export(Checkpoint(weights, (), {"name": "weak"}), tmp_path / "net")
    bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"), unverified=True)
    (tmp_path / "scratch").mkdir()
    subject = held_of_bundle(bundle.path, tmp_path / "scratch").subject
    session = onnxruntime.InferenceSession(bundle.model_path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    with Yardstick(subject, PATIENCE) as yardstick:
        for seed in range(8):
            request = make_request(subject, bundle.initial_state, 9, 2, [seed])
            raw = dict(zip(names, session.run(names, request.wire(subject)), strict=True))
            assert judge_answer(subject, request, raw, yardstick.error_of(request)).code == ""
            wrong = {**raw, "h_n": raw["h_n"] + np.float32(1e-3)}
            assert judge_answer(subject, request, wrong, yardstick.error_of(request)).code == "end-to-end"


@pytest.mark.parametrize("layers", [1, 2])
def test_answers_of_a_quantised_network_are_judged_as_the_file_asks(tmp_path, layers):
    """Of two layers a server shows the last alone, and torch's rounding is no yardstick for states of 8 bits."""
    artifact = export(f"rnn:3,64,layers={layers}", tmp_path / "net", form="int8")
    bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"), unverified=True)
    (tmp_path / "scratch").mkdir()
    subject = held_of_bundle(bundle.path, tmp_path / "scratch").subject
    session = onnxruntime.InferenceSession(bundle.model_path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    with Yardstick(subject, PATIENCE) as yardstick:
        request = make_request(subject, bundle.initial_state, 9, 2, [0])
        raw = dict(zip(names, session.run(names, request.wire(subject)), strict=True))
        found = judge_answer(subject, request, raw, yardstick.error_of(request))
        assert (found.code, found.precision) == ("", "int8" if layers == 1 else None)
        off = np.float32(1e-4 if layers == 1 else 0.2)
        wrong = judge_answer(subject, request, {**raw, "h_n": raw["h_n"] + off}, yardstick.error_of(request))
        assert wrong.code == ("step-residual" if layers == 1 else "end-to-end")


def test_a_bad_request_counts_as_refused_where_the_server_refused_it(tmp_path):
    probed = probed_by_nobody(shipped("rnn:3,4", tmp_path, Order("triton")), tmp_path / "scratch")

    def row_of(*errors: Refused) -> str:
        replies = Replies({}, {}, errors, np.zeros(0), 1.0, 0, None)
        return probed.turned_down("bad request", replies, "it").code

    assert row_of(Refused("a", "unexpected shape", 1, "400")) == ""
    assert row_of(Refused("a", "no answer: timed out", 1, "")) == "not-ready"
    assert row_of() == "accepted"


@pytest.mark.parametrize(
    ("url", "extensions", "datatype", "expected"),
    [
        ("grpc://127.0.0.1:1", [], "FP16", ["grpc"]),
        ("http://127.0.0.1:1", ["binary_tensor_data"], "FP32", ["http-binary", "http-json"]),
        ("http://127.0.0.1:1", ["binary_tensor_data"], "FP16", ["http-binary"]),
        ("http://127.0.0.1:1", [], "FP32", ["http-json"]),
        ("http://127.0.0.1:1", [], "FP16", ["http-json"]),  # it has no other way, and its own words say so
    ],
)
def test_a_server_is_asked_in_every_way_that_can_hold_the_networks_type(url, extensions, datatype, expected):
    assert encodings_of(url, extensions, datatype) == expected


def test_a_request_has_no_more_rows_than_the_bundle_allows(tmp_path):
    bundle = shipped("rnn:3,4", tmp_path, Order("triton", max_batch=2))
    assert max(len(one.inputs["input"]) for one in bundle.golden) == 2
    probed = probed_by_nobody(bundle, tmp_path / "scratch")
    assert probed.request(5, 3, 1).x.shape == (5, 2, 3)
    assert max(case.B for case in probed.subject.cases) <= 2
