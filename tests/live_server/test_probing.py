"""Probing real servers: right ones pass over every protocol, wrong ones that answer with HTTP 200 are caught."""

import json
import os
import signal

import numpy as np
import pytest

from rnn_export.errors import ServingError, UsageError
from rnn_export.live_server.probing import probe
from rnn_export.pipeline import verify
from rnn_export.pushing import push
from rnn_export.server_address import ServerAddress
from rnn_export.shipping import Order
from scripts.wrong.servers import SERVERS, write_wrong
from tests.servers import need, serving
from tests.shipped import shipped

pytestmark = pytest.mark.slow
NOTHING = "http://127.0.0.1:9"  # the port of discard, where nobody listens


def codes_of(report) -> set[str]:
    return {row.code for row in report.results if row.code and row.status.value != "DIVERGENCE"}


def probed(bundle, *, seconds: float = 0.5, clients: int = 16, **options):
    """The report on a server that is started for it."""
    with serving(bundle.path, **options) as server:
        return probe([server.url, server.grpc_url], bundle.facts.name, bundle.path, seconds=seconds, clients=clients)


class TestTriton:
    @pytest.fixture(autouse=True)
    def _servers(self):
        need("triton", "open-inference")

    @pytest.mark.parametrize(
        ("source", "mode", "options"),
        [
            ("rnn:3,8", "stateless", {}),
            ("rnn:3,8", "streaming", {}),
            ("rnn:1,8", "stateless", {}),
            ("rnn:3,8,layers=2,bidirectional", "stateless", {}),
            ("rnn:3,8,layers=2", "streaming", {"lengths": True}),
            ("rnn:3,8,relu,layers=2,bidirectional", "stateless", {"form": "rnn"}),
            ("rnn:3,8,batch-first", "client-state", {"lengths": True}),
        ],
    )
    def test_what_is_shipped_is_proved_on_the_server(self, source, mode, options, tmp_path):
        report = probed(shipped(source, tmp_path, Order("triton-python", mode=mode), **options))
        assert report.exit_code == 0, str(report)
        assert report.required == {"http-binary", "http-json", "grpc"}
        for name in report.required:
            cases = [row.case for row in report.results if row.runtime == name and row.passed]
            for needed in ("ready", "metadata", "golden 0", "T=5 B=", "bad request", "concurrent", "load"):
                assert any(case.startswith(needed) for case in cases), (name, needed)
            assert any(case.startswith("sequences") for case in cases) == (mode == "streaming")

    def test_a_learned_state_is_what_the_server_starts_from(self, tmp_path):
        np.savez(tmp_path / "state.npz", h_0=np.linspace(-1, 1, 8, dtype=np.float32)[None])
        order = Order("triton-python", mode="streaming", initial_state=tmp_path / "state.npz")
        assert probed(shipped("rnn:3,8", tmp_path, order)).exit_code == 0

    def test_a_server_that_died_comes_back_with_the_same_network(self, tmp_path):
        bundle = shipped("rnn:3,8", tmp_path, Order("triton-python"))
        with serving(bundle.path) as server:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
            report = probe([server.url], bundle.facts.name, bundle.path, seconds=0)
            assert report.exit_code != 0
        assert probed(bundle, seconds=0).exit_code == 0

    def test_an_artifact_is_enough_to_probe_what_was_made_from_it(self, tmp_path):
        bundle = shipped("rnn:3,8", tmp_path, Order("triton-python", mode="streaming", name="served"))
        with serving(bundle.path) as server:
            report = probe([server.url], "served", tmp_path / "net", seconds=0, clients=8)
        assert report.exit_code == 0, str(report)
        assert any(row.case.startswith("sequences") for row in report.results)

    def test_verify_takes_a_live_server_for_a_runtime(self, tmp_path):
        bundle = shipped("rnn:3,8,layers=2", tmp_path, Order("triton-python", mode="streaming"))
        with serving(bundle.path) as server:
            address = ServerAddress(server.grpc_url, bundle.facts.name)
            report = verify(bundle.path, runtimes=["open-inference"], server=address)
        assert report.exit_code == 0, str(report)
        assert report.verdicts["open-inference"].value == "PASS"
        assert any(row.residual is not None for row in report.results)

    def test_the_golden_bodies_are_answered_as_they_are(self, tmp_path):
        import urllib.request

        bundle = shipped("rnn:3,8", tmp_path, Order("triton-python"))
        (golden, *_) = bundle.golden
        with serving(bundle.path) as server:
            body = (bundle.path / "proof" / "golden" / "0.json").read_bytes()
            url = f"{server.url}/v2/models/{bundle.facts.name}/infer"
            with urllib.request.urlopen(url, data=body) as answer:  # noqa: S310  # our own server
                outputs = {one["name"]: one for one in json.load(answer)["outputs"]}
        found = np.array(outputs["output"]["data"], np.float32).reshape(outputs["output"]["shape"])
        assert np.abs(found - golden.outputs["output"]).max() < 1e-6


class TestMLServer:
    @pytest.mark.parametrize(("source", "mode"), [("rnn:3,8", "stateless"), ("rnn:3,8,layers=2", "client-state")])
    def test_what_is_shipped_is_proved_on_the_server(self, source, mode, tmp_path):
        need("mlserver", "open-inference")
        report = probed(shipped(source, tmp_path, Order("mlserver", mode=mode), lengths=True))
        assert report.exit_code == 0, str(report)
        assert report.required == {"http-json", "grpc"}  # it takes no binary tensors
        assert "nan-refused" in {row.code for row in report.results}


@pytest.mark.parametrize("name", list(SERVERS))
def test_a_server_that_answers_wrongly_is_caught(name, tmp_path):
    """The same model.py without the change passes, in TestTriton."""
    need("triton", "open-inference")
    wrong = SERVERS[name]
    bundle = shipped("rnn:3,8", tmp_path, Order("triton-python", mode=wrong.mode))
    write_wrong(wrong, bundle, tmp_path / "repository")
    with serving(tmp_path / "repository") as server:
        report = probe([server.grpc_url], bundle.facts.name, bundle.path, seconds=0.5, clients=32)
    assert report.exit_code == 1, str(report)
    assert codes_of(report) & wrong.codes, str(report)


class TestWrongCalls:
    def test_what_is_not_there_is_said(self, tmp_path):
        need("open-inference")
        bundle = shipped("rnn:3,4", tmp_path, Order("triton-python"))
        report = probe([NOTHING], bundle.facts.name, bundle.path, seconds=0, timeout=5)
        assert report.exit_code != 0
        with pytest.raises(ServingError, match="does not serve"):
            probe([NOTHING], "net", tmp_path / "net", timeout=5)
        with pytest.raises(UsageError, match="no address of a server"):
            probe(["localhost:8000"], "net", bundle.path)
        with pytest.raises(UsageError, match="no server is named"):
            probe([], "net", bundle.path)


class TestPush:
    @pytest.fixture(autouse=True)
    def _servers(self):
        need("triton", "open-inference")

    def test_a_bundle_is_loaded_and_proved(self, tmp_path):
        bundle = shipped("rnn:3,8", tmp_path, Order("triton-python", mode="streaming"))
        (tmp_path / "empty").mkdir()
        with serving(tmp_path / "empty", explicit=True) as server:
            with pytest.raises(UsageError, match=r"1/model.py, which the server would run"):
                push(bundle, server.url)
            assert push(bundle, server.url, allow_code=True).exit_code == 0
            with pytest.raises(UsageError, match="already"):
                push(bundle, server.url, allow_code=True)
            assert push(bundle, server.grpc_url, allow_code=True, replace=True).exit_code == 0

    def test_a_server_that_takes_nothing_says_so(self, tmp_path):
        bundle = shipped("rnn:3,8", tmp_path, Order("triton-python"))
        with serving(bundle.path) as server, pytest.raises(ServingError, match="explicit"):
            push(bundle, server.url, allow_code=True, replace=True)

    def test_what_is_not_for_triton_is_not_pushed(self, tmp_path):
        bundle = shipped("rnn:3,4", tmp_path, Order("onnx"))
        with pytest.raises(UsageError, match="nothing can be pushed"):
            push(bundle, NOTHING)
