"""Real servers on this machine: networks are verified on them, and a client asks them in every encoding."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from rnn_export.canary import FOLDER, sing
from rnn_export.child import Child, Failure
from rnn_export.environments import environment_of, interpreter_of
from rnn_export.pipeline import export, verify
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES
from rnn_export.runtimes._launching import HOST, free_ports, stop, wait_ready
from rnn_export.runtimes._mlserver import start_mlserver
from rnn_export.runtimes.mlserver import MODEL
from rnn_export.server import run_server
from rnn_export.shipping import Order
from tests.servers import need, serving
from tests.shipped import shipped
from tests.subjects import PATIENCE, descendants, ends_within
from tests.tls import behind_tls, write_certificate
from tests.triton_models import add_network, add_sum, in_shared_memory, regions_of

pytestmark = pytest.mark.slow
CLIENTS = 64


class Servers(NamedTuple):
    """Where the network and, on Triton, the sum are."""

    http: str
    grpc: str
    pid: int


class Asking:
    """The runtime ``open-inference`` on one model."""

    def __init__(self, url: str, model: str, encoding: str = "auto", sequences: str = "") -> None:
        need("open-inference")
        settings = {"URL": url, "MODEL": model, "ENCODING": encoding, "SEQUENCES": sequences}
        environ = {f"RNN_EXPORT_SERVER_{name}": value for name, value in settings.items()}
        runtime = replace(RUNTIMES.get("open-inference"), environ=environ)
        interpreter = interpreter_of(runtime)
        assert interpreter is not None
        self.child = Child(runtime, interpreter, PATIENCE)
        self.child.wait_until_ready()

    def __enter__(self) -> "Asking":
        sing(self.child, "server")
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close()

    def run(self, **inputs: Any) -> dict[str, Any]:
        return self.child.run(0, inputs)

    def plan(self, plan: dict[str, Any], **arrays: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        found = self.child.run(0, {"plan": np.frombuffer(json.dumps(plan).encode(), np.uint8), **arrays})
        return json.loads(bytes(found.pop("report"))), found


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    return export("rnn:3,4", tmp_path_factory.mktemp("servers") / "network").path


@pytest.fixture(scope="module")
def triton(artifact, tmp_path_factory) -> Iterator[Servers]:
    need("triton")
    repository = tmp_path_factory.mktemp("repository")
    add_network(repository, artifact / "model.onnx")
    add_sum(repository)
    with run_server(repository, http_port=0, grpc_port=0) as server:
        yield Servers(server.url, server.grpc_url, server.process.pid)


@pytest.fixture(scope="module")
def mlserver(artifact, tmp_path_factory) -> Iterator[Servers]:
    need("mlserver")
    models, scratch = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("scratch")
    (models / "network").mkdir()
    shutil.copyfile(MODEL, models / "network" / MODEL.name)
    names = ([("input", [-1, -1, 3]), ("h_0", [1, -1, 4])], [("output", [-1, -1, 4]), ("h_n", [1, -1, 4])])
    inputs, outputs = ([{"name": name, "datatype": "FP32", "shape": shape} for name, shape in one] for one in names)
    settings = {
        "name": "network",
        "implementation": "ort_runtime.OrtRuntime",
        "parameters": {"uri": str(artifact / "model.onnx")},
        "inputs": inputs,
        "outputs": outputs,
    }
    (models / "network" / "model-settings.json").write_text(json.dumps(settings))
    http, grpc = free_ports(2)
    log = scratch / "log"
    environment = environment_of(RUNTIMES.get("mlserver"))
    process = start_mlserver(environment, models, http=http, grpc=grpc, scratch=scratch, log=log)
    try:
        wait_ready(f"http://{HOST}:{http}", process, PATIENCE, log, ["network"])
        yield Servers(f"http://{HOST}:{http}", f"grpc://{HOST}:{grpc}", process.pid)
    finally:
        stop(process)


WAYS = [("http", "binary"), ("http", "json"), ("grpc", "auto")]
each_way = pytest.mark.parametrize(("protocol", "encoding"), WAYS, ids=["binary", "json", "grpc"])


def feed(T: int, B: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(T, B, 3)).astype(np.float32)
    return {"input": x, "h_0": np.full((1, B, 4), 0.5, np.float32)}


class TestVerifying:
    @pytest.mark.parametrize("name", ["triton", "mlserver"])
    @pytest.mark.parametrize("options", [{}, {"lengths": True}, {"dtype": "float16"}, {"dtype": "float64"}], ids=str)
    def test_a_real_server_computes_the_network_as_the_engine_inside_it_does(self, name, options, tmp_path):
        need(name)
        before = descendants()
        path = export("rnn:3,4,layers=2", tmp_path / "network", **options).path
        report = verify(path, runtimes=[name, "onnxruntime-cpu"], timeout=PATIENCE)
        assert report.exit_code == 0
        rows = {
            runtime: [row for row in report.results if row.runtime == runtime] for runtime in (name, "onnxruntime-cpu")
        }
        said = {runtime: [(row.case, row.status, row.residual) for row in found] for runtime, found in rows.items()}
        assert len(said[name]) > 30
        assert said[name] == said["onnxruntime-cpu"]
        assert descendants() <= before

    @pytest.mark.parametrize("name", ["triton", "mlserver"])
    def test_a_type_without_a_kernel_is_refused_in_the_engines_words(self, name, tmp_path):
        need(name)
        path = export("rnn:3,4", tmp_path / "network", dtype="bfloat16").path
        report = verify(path, runtimes=[name], timeout=PATIENCE)
        (row,) = [row for row in report.results if row.runtime == name]
        assert row.status is Status.REFUSED
        assert "Could not find an implementation for Gemm" in row.detail

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory is elsewhere")  # noqa: S108
    def test_killing_it_leaves_nothing_in_shared_memory_and_no_process(self, artifact):
        need("triton")
        runtime = RUNTIMES.get("triton")
        with Child(runtime, interpreter_of(runtime), PATIENCE) as child:
            child.wait_until_ready()
            sing(child, runtime.reads)
            started = descendants()
            (server,) = [pid for pid in started if b"tritonserver\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            regions = regions_of(server)
        assert len(started) >= 3  # the child, the server and its stub
        assert all(ends_within(one, 2.0) for one in started)
        assert in_shared_memory(regions) == []


class TestTriton:
    def test_it_is_described(self, triton):
        with Asking(triton.http, "network") as http, Asking(triton.grpc, "network") as grpc:
            (first, _), (second, _) = http.plan({"do": "describe"}), grpc.plan({"do": "describe"})
        assert (first["encoding"], second["encoding"]) == ("binary", "grpc")
        for said in (first, second):
            assert said["live"] is said["ready"] is said["model_ready"] is True
            assert said["server"]["name"] == "triton"
            assert "binary_tensor_data" in said["server"]["extensions"]
            assert {"name": "h_0", "datatype": "FP32", "shape": [1, -1, 4]} in said["metadata"]["inputs"]
            assert said["config"]["input"][0]["dims"] == [-1, -1, 3]
            assert said["config"]["backend"] == "python"

    def test_the_encodings_give_the_same_bytes(self, triton):
        answers = []
        for protocol, encoding in WAYS:
            with Asking(getattr(triton, protocol), "network", encoding) as asking:
                answers.append({name: array.tobytes() for name, array in asking.run(**feed(7)).items()})
        assert answers[0] == answers[1] == answers[2]
        assert sorted(answers[0]) == ["h_n", "output"]

    @each_way
    def test_many_clients_at_once_each_get_their_own_answer(self, triton, protocol, encoding):
        keys = [f"key{number}" for number in range(CLIENTS)]
        arrays = {f"{key}:{name}": one for n, key in enumerate(keys) for name, one in feed(3 + n % 9, seed=n).items()}
        with Asking(getattr(triton, protocol), "network", encoding) as asking:
            alone = {key: asking.run(**feed(3 + n % 9, seed=n)) for n, key in enumerate(keys)}
            plan = {"do": "requests", "clients": [[{"key": key}] for key in keys], "rounds": 5}
            report, found = asking.plan(plan, **arrays)
        assert (report["sent"], report["errors"], report["dropped"]) == (5 * CLIENTS, [], 0)
        assert report["counts"] == {key: [5] for key in keys}
        assert len(found["latency"]) == 5 * CLIENTS
        assert 0 < found["latency"].min() <= found["latency"].max() <= report["wall"]
        for key in keys:
            assert found[f"{key}:0:output"].tobytes() == alone[key]["output"].tobytes()

    @each_way
    def test_sequences_go_on_each_for_itself(self, triton, protocol, encoding):
        steps, length = [], 10
        for client in range(CLIENTS):
            places = range(length)
            own = {"key": f"key{client}", "sequence": client + 1}
            steps.append([{**own, "start": place == 0, "end": place == length - 1} for place in places])
        arrays = {f"key{client}:x": np.array([[client + 1.0]], np.float32) for client in range(CLIENTS)}
        with Asking(getattr(triton, protocol), "sum", encoding) as asking:
            report, found = asking.plan({"do": "requests", "clients": steps, "rounds": 2}, **arrays)
        assert report["errors"] == []
        for client in range(CLIENTS):
            sums = sorted(float(found[f"key{client}:{number}:sum"].item()) for number in range(length))
            assert sums == [(client + 1.0) * times for times in range(1, length + 1)]
            assert report["counts"][f"key{client}"] == [2] * length

    def test_a_plain_run_is_a_sequence_of_its_own_where_the_server_holds_the_state(self, triton):
        with Asking(triton.grpc, "sum", sequences="1") as asking:
            assert [asking.run(x=np.array([[2.0]], np.float32))["sum"].item() for _ in range(2)] == [2.0, 2.0]

    def test_a_request_that_begins_no_sequence_is_refused_and_counted(self, triton):
        with Asking(triton.http, "sum") as asking:
            plan = {"do": "requests", "clients": [[{"key": "a", "sequence": 1}]], "rounds": 1}
            report, found = asking.plan(plan, **{"a:x": np.ones((1, 1), np.float32)})
        ((key, said, count, status),) = report["errors"]
        assert (key, count, status, len(found["latency"])) == ("a", 1, "400", 0)
        assert "must specify the START flag" in said

    @each_way
    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"input": np.zeros((5, 2, 7), np.float32)}, "unexpected shape for input 'input'"),
            ({"input": np.zeros((5, 2, 3), np.float64)}, "data-type is 'FP64', but model 'network' expects 'FP32'"),
            ({"inputt": np.zeros((5, 2, 3), np.float32)}, "inputt"),
        ],
        ids=["width", "type", "name"],
    )
    def test_bad_requests_are_refused_in_its_words_on_one_line(self, triton, protocol, encoding, changed, words):
        with Asking(getattr(triton, protocol), "network", encoding) as asking:
            with pytest.raises(Failure, match=words) as caught:
                asking.run(**{**feed(5), **changed})
            assert caught.value.status is Status.REFUSED
            assert "\n" not in caught.value.detail
            assert asking.run(**feed(5))["output"].shape == (5, 2, 4)  # and it goes on

    @pytest.mark.parametrize(("model", "words"), [("nothing", "model nothing .* is not ready, or there is none")])
    def test_a_model_that_is_not_there_is_said(self, triton, model, words):
        asking = Asking(triton.http, model)
        try:
            with pytest.raises(Failure, match=words):
                sing(asking.child, "server")
        finally:
            asking.child.close()

    def test_a_server_that_dies_is_an_error_of_every_request(self, artifact, tmp_path):
        need("triton")
        add_network(tmp_path / "repository", artifact / "model.onnx")
        with (
            run_server(tmp_path / "repository", http_port=0, grpc_port=0) as server,
            Asking(server.url, "network") as one,
        ):
            os.kill(server.process.pid, signal.SIGKILL)
            assert ends_within(server.process.pid, 5.0)
            plan = {"do": "requests", "clients": [[{"key": "a"}]] * 3, "rounds": 2, "timeout": 5}
            report, _ = one.plan(plan, **{f"a:{name}": array for name, array in feed(5).items()})
        assert (report["sent"], report["counts"]) == (6, {})
        assert sum(count for _, _, count, _ in report["errors"]) == 6
        assert all(said.startswith("no answer: ") and not status for _, said, _, status in report["errors"])

    @pytest.mark.parametrize("protocol", ["http", "grpc"])
    def test_a_server_that_hangs_has_no_status_and_one_that_refuses_has_its_own(self, triton, protocol):
        bad = {f"a:{name}": array for name, array in {**feed(5), "input": np.zeros((5, 2, 7), np.float32)}.items()}
        plan = {"do": "requests", "clients": [[{"key": "a"}]], "timeout": 1}
        with Asking(getattr(triton, protocol), "network") as asking:
            ((_, refused, _, status),) = asking.plan(plan, **bad)[0]["errors"]
            os.kill(triton.pid, signal.SIGSTOP)
            try:
                ((_, silent, _, nothing),) = asking.plan(plan, **bad)[0]["errors"]
            finally:
                os.kill(triton.pid, signal.SIGCONT)
        assert (status, nothing) == ({"http": "400", "grpc": "INVALID_ARGUMENT"}[protocol], "")
        assert f"[{status}]" in refused
        assert silent.startswith("no answer: ")

    def test_what_cannot_be_put_into_json_was_not_refused_by_the_server(self, triton):
        arrays = {f"a:{name}": np.zeros(array.shape, "V2") for name, array in feed(5).items()}  # bfloat16
        with Asking(triton.http, "network", "json") as asking:
            report, _ = asking.plan({"do": "requests", "clients": [[{"key": "a"}]]}, **arrays)
        ((_, said, _, status),) = report["errors"]
        assert status == ""
        assert said.startswith("cannot be sent as json")

    def test_https_is_spoken_to_a_server_whose_certificate_is_trusted_and_to_no_other(
        self, triton, tmp_path, monkeypatch
    ):
        certificate = write_certificate(tmp_path)
        with behind_tls(int(triton.http.rpartition(":")[2]), certificate) as url:
            stranger = Asking(url, "network")
            try:
                with pytest.raises(Failure, match=r"no answer: .*certificate verify failed"):
                    sing(stranger.child, "server")
            finally:
                stranger.child.close()
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # where OpenSSL looks for who is trusted
            with Asking(url, "network") as asking, Asking(triton.http, "network") as plain:
                assert asking.run(**feed(7))["output"].tobytes() == plain.run(**feed(7))["output"].tobytes()

    def test_its_version_is_the_one_that_its_row_shows(self, triton):
        with Asking(triton.http, "network") as asking:
            said, _ = asking.plan({"do": "describe"})
        assert f"Triton {said['server']['version']}," in RUNTIMES.get("triton").summary

    def test_a_model_is_loaded_over_the_network_where_that_is_allowed(self, triton, artifact, tmp_path):
        (tmp_path / "empty").mkdir()
        folder = add_network(tmp_path / "elsewhere", artifact / "model.onnx", "pushed")
        files = {"file:1/model.py": np.frombuffer((folder / "1" / "model.py").read_bytes(), np.uint8)}
        config = {
            "backend": "python",
            "input": [_configured("input", [-1, -1, 3]), _configured("h_0", [1, -1, 4])],
            "output": [_configured("output", [-1, -1, 4]), _configured("h_n", [1, -1, 4])],
            "instance_group": [{"kind": "KIND_CPU"}],
            "parameters": {"path": {"string_value": str(artifact / "model.onnx")}},
        }
        load = {"do": "load", "name": "pushed", "config": json.dumps(config)}
        with run_server(tmp_path / "empty", http_port=0, grpc_port=0, explicit=True) as server:
            for url in (server.url, server.grpc_url):
                with Asking(url, "") as asking:
                    asking.plan(load, **files)
                with Asking(url, "pushed") as asking:
                    assert asking.run(**feed(5))["output"].shape == (5, 2, 4)
                    asking.plan({"do": "unload", "name": "pushed"})
        with (
            Asking(triton.http, "") as asking,
            pytest.raises(Failure, match="explicit model load / unload is not allowed"),
        ):
            asking.plan(load, **files)


def _configured(name: str, dims: list[int]) -> dict[str, Any]:
    return {"name": name, "data_type": "TYPE_FP32", "dims": dims}


class TestMLServer:
    def test_it_is_described_and_has_no_configuration(self, mlserver):
        for url, encoding in ((mlserver.http, "json"), (mlserver.grpc, "grpc")):
            with Asking(url, "network") as asking:
                said, _ = asking.plan({"do": "describe"})
            assert (said["encoding"], said["server"]["name"], said["config"]) == (encoding, "mlserver", None)
            assert [one["name"] for one in said["metadata"]["inputs"]] == ["input", "h_0"]

    def test_json_and_grpc_give_the_same_bytes_to_many_clients(self, mlserver):
        keys = [f"key{number}" for number in range(16)]
        arrays = {f"{key}:{name}": one for n, key in enumerate(keys) for name, one in feed(3 + n, seed=n).items()}
        plan = {"do": "requests", "clients": [[{"key": key}] for key in keys], "rounds": 3}
        answers = []
        for url in (mlserver.http, mlserver.grpc):
            with Asking(url, "network") as asking:
                report, found = asking.plan(plan, **arrays)
            assert (report["errors"], report["counts"]) == ([], {key: [3] for key in keys})
            del found["latency"]
            answers.append({name: array.tobytes() for name, array in found.items()})
        assert answers[0] == answers[1]

    def test_binary_tensors_are_refused_in_its_words(self, mlserver):
        with Asking(mlserver.http, "network", "binary") as asking:
            with pytest.raises(Failure, match=r"\[422\]|\[400\]") as caught:
                asking.run(**feed(5))
            assert caught.value.status is Status.REFUSED

    def test_a_bad_request_is_refused_in_the_engines_words(self, mlserver):
        with Asking(mlserver.grpc, "network") as asking:
            with pytest.raises(Failure, match=r"INVALID_ARGUMENT.*Got: 7 Expected: 3"):
                asking.run(**{**feed(5), "input": np.zeros((5, 2, 7), np.float32)})
            assert asking.run(**feed(5))["output"].shape == (5, 2, 4)

    def test_nan_and_infinity_come_back_over_grpc(self, mlserver):
        x = feed(3)["input"]
        x[0, 0, 0], x[1, 1, 1] = np.nan, np.inf
        with Asking(mlserver.grpc, "network") as asking:
            output = asking.run(**{**feed(3), "input": x})["output"]
        assert np.isnan(output[:, 0]).all()
        assert not np.isnan(output[:, 1]).any()


class TestShipped:
    """What bundles are served with: model.py of Triton's python backend, and MLServer's runtime of ours."""

    @pytest.mark.parametrize("target", ["triton-python", "mlserver"])
    def test_an_array_without_its_last_axis_is_refused_also_where_that_has_one_number(self, target, tmp_path):
        need(target.removesuffix("-python"))
        bundle = shipped("rnn:1,4", tmp_path, Order(target, name="rnn"))
        x = np.ones((2, 5, 1), np.float32)
        with serving(bundle.path) as server, Asking(server.grpc_url, "rnn") as asking:
            assert asking.run(input=x)["output"].shape == (2, 5, 4)
            with pytest.raises(Failure, match=r"(?i)shape|rank"):
                asking.run(input=x[:, :, 0])

    @pytest.mark.parametrize(("target", "mode"), [("triton-python", "streaming"), ("mlserver", "stateless")])
    def test_lengths_that_are_none_are_refused_with_the_row_and_the_limit(self, target, mode, tmp_path):
        need(target.removesuffix("-python"))
        bundle = shipped("rnn:3,4", tmp_path, Order(target, mode=mode, name="rnn"), lengths=True)
        B = 1 if mode == "streaming" else 2
        x, lengths = np.ones((B, 5, 3), np.float32), np.full((B, 1), 5)
        held = "1" if mode == "streaming" else ""
        with serving(bundle.path) as server, Asking(server.grpc_url, "rnn", sequences=held) as asking:
            for wrong in (0, 6, -1):
                lengths[-1] = wrong
                with pytest.raises(Failure, match=rf"lengths of row {B - 1} is {wrong}, and has to be from 1 to 5"):
                    asking.run(input=x, lengths=lengths)
            lengths[-1] = 2
            assert asking.run(input=x, lengths=lengths)["output"].shape == (B, 5, 4)


def test_the_canarys_folder_is_not_read(triton):
    with Asking(triton.http, "network") as asking:
        asking.child.prepare(FOLDER / "nowhere")
