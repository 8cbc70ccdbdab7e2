"""Every target in the folder keeps the contract: what it writes is explicit, whole, and the network."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from rnn_export.environments import interpreter_of
from rnn_export.model_config import parse_config
from rnn_export.oracle import run_oracle
from rnn_export.repository.checking import check_repository
from rnn_export.runtimes import RUNTIMES
from rnn_export.serving import interface_of, served_model
from rnn_export.shipping import Order
from rnn_export.targets import TARGETS, Shipment, Target
from rnn_export.targets._kubernetes import kubernetes_name
from tests.shipped import shipped
from tests.subjects import drawn_subject, random_weights

each_target = pytest.mark.parametrize("target", list(TARGETS), ids=lambda target: target.name)
WITH_CONFIGURATION = ("triton", "triton-python", "kserve", "seldon")


def shipment_of(text: str, folder: Path, state: str, learned: bool = False) -> Shipment:
    subject = drawn_subject(text, folder)
    spec = subject.weights.spec
    start = np.full((spec.num_layers * spec.num_directions, spec.hidden_size), 0.25 * learned, np.float32)
    model = served_model(subject.model, spec, state, start)
    return Shipment("my.net_1", model, None, interface_of(model, state), 16, start)


@each_target
def test_a_target_says_which_server_it_is_for_and_how_to_run_it(target):
    assert target.summary
    assert target.serve
    assert RUNTIMES.get(target.engine).name == target.engine
    assert target.bundle.__module__.startswith("rnn_export.targets.")


@each_target
@pytest.mark.parametrize("state", ["none", "client", "server"])
def test_what_is_written_holds_the_graph_and_is_the_same_every_time(target, state, tmp_path):
    if state == "server" and not target.holds_state:
        state = "client"  # as ship does
    shipment = shipment_of("rnn:3,4,layers=2", tmp_path, state)
    made = []
    for place in ("one", "two"):
        root = tmp_path / place
        root.mkdir()
        model = target.bundle(shipment, root)
        assert model.relative_to(root)
        assert onnx.load(model) == shipment.model
        files = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        made.append(files)
    assert made[0] == made[1]
    assert not [path for path in made[0] if path.suffix == ".pyc"]
    if target.name in WITH_CONFIGURATION:
        config = parse_config(made[0][Path("models/my.net_1/config.pbtxt")].decode())
        assert config.name == "my.net_1"
        assert [list(one.dims) for one in config.input] == [list(one.shape) for one in shipment.interface.sent]
        assert [one.name for one in config.output] == ["output", "h_n"]


@each_target
@pytest.mark.parametrize("mode", ["stateless", "streaming"])
def test_the_bundle_of_every_target_passes_our_own_rules(target: Target, mode, tmp_path):
    if interpreter_of(RUNTIMES.get(target.engine)) is None:
        pytest.skip(f"{target.engine} is not installed")
    bundle = shipped("rnn:3,4", tmp_path, Order(target.name, mode=mode), lengths=True)
    assert bundle.facts.proof.residual <= 4
    if target.name in WITH_CONFIGURATION:
        report = check_repository(bundle.path)
        assert report.exit_code == 0, str(report)
        assert not [row for row in report.results if row.code], str(report)


class TestTriton:
    def test_the_state_is_explicit_and_starts_from_zeros(self, tmp_path):
        state = self._config("rnn:3,4", tmp_path, learned=False).sequence_batching.state[0]
        assert (state.input_name, state.output_name, list(state.dims)) == ("h_0", "h_n", [1, 4])
        assert state.initial_state[0].zero_data
        assert not (tmp_path / "models" / "my.net_1" / "initial_state").exists()

    def test_a_learned_state_is_a_file_where_triton_looks_for_it(self, tmp_path):
        state = self._config("rnn:3,4,layers=2", tmp_path, learned=True).sequence_batching.state[0]
        assert state.initial_state[0].data_file == "h_0"
        held = (tmp_path / "models" / "my.net_1" / "initial_state" / "h_0").read_bytes()
        assert np.frombuffer(held, np.float32).tolist() == [0.25] * 8

    def test_a_stateless_model_joins_requests_along_the_batch(self, tmp_path):
        TARGETS.get("triton").bundle(shipment_of("rnn:3,4", tmp_path / "net", "none"), tmp_path)
        config = parse_config((tmp_path / "models" / "my.net_1" / "config.pbtxt").read_text())
        assert config.max_batch_size == 16
        assert config.HasField("dynamic_batching")
        assert not config.HasField("sequence_batching")
        assert len(config.model_warmup) == 1

    def _config(self, text, root, *, learned):
        TARGETS.get("triton").bundle(shipment_of(text, root / "net", "server", learned), root)
        return parse_config((root / "models" / "my.net_1" / "config.pbtxt").read_text())


class TestKubernetes:
    @pytest.mark.parametrize(
        ("name", "expected"), [("my_RNN.2", "my-rnn-2"), ("a" * 80, "a" * 63), ("...", "model"), ("-x-", "x")]
    )
    def test_a_name_is_made_one_that_kubernetes_takes(self, name, expected):
        assert kubernetes_name(name) == expected

    @pytest.mark.parametrize(("target", "file"), [("kserve", "kserve.yaml"), ("seldon", "seldon-model.yaml")])
    def test_the_manifest_is_yaml_that_names_the_model(self, target, file, tmp_path):
        import yaml

        TARGETS.get(target).bundle(shipment_of("rnn:3,4", tmp_path / "net", "server"), tmp_path)
        manifest = yaml.safe_load((tmp_path / "k8s" / file).read_text())
        assert manifest["metadata"]["name"] == "my-net-1"
        assert "models" in json.dumps(manifest["spec"])


class TestOnnx:
    def test_the_file_alone_computes_the_network_in_a_plain_session(self, tmp_path):
        weights = random_weights("rnn:3,4")
        model = TARGETS.get("onnx").bundle(shipment_of("rnn:3,4", tmp_path / "net", "none"), tmp_path)
        x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
        (output, h_n) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"input": x})
        truth = run_oracle(weights, x.swapaxes(0, 1), np.zeros((1, 2, 4)))
        assert np.abs(output.swapaxes(0, 1) - truth.output[:]).max() < 1e-6
        assert h_n.shape == (2, 1, 4)
