"""Shipping: what was never verified, or cannot be served, is refused with what to do, and nothing is written."""

import json

import numpy as np
import pytest
import torch

from rnn_export.artifact import Artifact
from rnn_export.bundle import Bundle, is_bundle
from rnn_export.checkpoint import load_checkpoint
from rnn_export.errors import ArtifactError, OutputError, SourceError, UsageError
from rnn_export.onnxruntime_releases import RELEASES
from rnn_export.pipeline import describe, export, verify
from rnn_export.reports import write_report
from rnn_export.shipping import Order, ship
from rnn_export.subject import subject_of_bundle
from tests.servers import need
from tests.shipped import forged, shipped, verified


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Artifact:
    return verified("rnn:3,4", tmp_path_factory.mktemp("shipping") / "my-rnn")


class TestProof:
    def test_the_bundle_says_how_its_own_graph_and_the_artifact_were_verified(self, artifact, tmp_path):
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"))
        proof = bundle.facts.proof
        assert proof.runtime == "onnxruntime-cpu"
        assert proof.cases > 25
        assert 0 < proof.residual <= 4
        assert proof.verified_on.keys() == {"onnxruntime-cpu"}
        assert proof.artifact == artifact.digest
        card = (bundle.path / "README.md").read_text()
        assert f"residual {proof.residual:.2f}" in card
        assert "never verified" not in card

    def test_an_artifact_that_was_never_verified_is_refused(self, tmp_path):
        found = export("rnn:3,4", tmp_path / "net")
        with pytest.raises(ArtifactError, match="was never verified") as caught:
            ship(found.path, tmp_path / "bundle", Order("triton"))
        assert "rnn-export verify" in caught.value.hint
        assert not (tmp_path / "bundle").exists()

    def test_unverified_ships_it_and_the_card_says_so(self, tmp_path):
        found = export("rnn:3,4", tmp_path / "net")
        bundle = ship(found.path, tmp_path / "bundle", Order("triton"), unverified=True)
        assert bundle.facts.proof.verified_on == {}
        assert "**never verified**" in (bundle.path / "README.md").read_text()

    def test_a_verification_on_another_engine_does_not_count(self, tmp_path):
        found = export("rnn:3,4", tmp_path / "net")
        verify(found.path, runtimes=["onnx-reference"])
        with pytest.raises(ArtifactError, match="onnx-reference and not on onnxruntime-cpu"):
            ship(found.path, tmp_path / "bundle", Order("triton"))

    def test_another_engine_in_the_same_version_table_does_not_count(self, artifact, tmp_path):
        """ONNX Runtime says nothing about OpenVINO."""
        need("openvino")
        with pytest.raises(ArtifactError, match="not on openvino"):
            ship(artifact.path, tmp_path / "bundle", Order("ovms"))

    def test_a_result_that_was_kept_stands_for_the_record(self, tmp_path):
        found = export("rnn:3,4", tmp_path / "net")
        write_report(verify(found.path, runtimes=["onnxruntime-cpu"]), tmp_path / "result.json")
        (found.path / "verification.json").unlink()
        bundle = ship(found.path, tmp_path / "bundle", Order("triton"), report=tmp_path / "result.json")
        assert list(bundle.facts.proof.verified_on) == ["onnxruntime-cpu"]
        other = export("rnn:3,4,seed=2", tmp_path / "other")
        with pytest.raises(UsageError, match="another artifact"):
            ship(other.path, tmp_path / "second", Order("triton"), report=tmp_path / "result.json")

    def test_a_graph_that_its_engine_gets_wrong_is_not_shipped(self, tmp_path):
        """float64 in the form rnn has no kernel in ONNX Runtime: it refuses the file."""
        found = export("rnn:3,4", tmp_path / "net", form="rnn", dtype="float64")
        with pytest.raises(ArtifactError, match="REFUSED on onnxruntime-cpu"):
            ship(found.path, tmp_path / "bundle", Order("triton"), unverified=True)
        assert not (tmp_path / "bundle").exists()


class TestOrders:
    def test_a_server_without_states_leaves_them_to_the_client(self, artifact, tmp_path):
        bundle = ship(artifact.path, tmp_path / "bundle", Order("mlserver", mode="streaming"))
        assert bundle.facts.interface.state == "client"
        assert [tensor.name for tensor in bundle.facts.interface.sent] == ["input", "h_0"]

    @pytest.mark.parametrize(
        ("order", "message"),
        [
            (Order("tritom"), "Did you mean 'triton'"),
            (Order("triton", name="../up"), "no name for a model"),
            (Order("triton", name='a" backend: "python'), "no name for a model"),
            (Order("triton", max_batch=0), "none"),
            (Order("onnx", release="25.10"), "no releases of Triton"),
            (Order("triton-python", release="25.10"), "no releases of Triton"),
            (Order("triton", release="1.0"), "25.10"),
        ],
    )
    def test_an_order_that_makes_no_sense_is_refused(self, artifact, tmp_path, order, message):
        with pytest.raises(UsageError, match=message):
            ship(artifact.path, tmp_path / "bundle", order)
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_too_new_for_the_server_is_drawn_again(self, tmp_path):
        """Of no named release the oldest that is known decides; ONNX Runtime here loads the artifact itself."""
        artifact = verified("rnn:3,4", tmp_path / "net", opset=23)
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"))
        assert (artifact.opset, bundle.facts.opset) == (23, next(iter(RELEASES.values())).opset)
        assert ship(artifact.path, tmp_path / "other", Order("mlserver")).facts.opset == 23

    @pytest.mark.slow
    @pytest.mark.parametrize("release", ["24.10", "25.10"])
    def test_a_release_is_verified_on_its_own_onnx_runtime(self, release, artifact, tmp_path):
        version = RELEASES[release].onnxruntime
        need(f"onnxruntime@{version}")
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton", release=release))
        assert bundle.facts.proof.runtime == f"onnxruntime@{version}"
        assert bundle.facts.proof.version == version
        assert f"for Triton {release}" in (bundle.path / "README.md").read_text()

    def test_a_release_whose_onnx_runtime_is_missing_says_what_to_install(self, artifact, tmp_path, monkeypatch):
        monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "cache"))
        with pytest.raises(UsageError, match=r"rnn-export runtimes install onnxruntime@1.23.1"):
            ship(artifact.path, tmp_path / "bundle", Order("triton", release="25.10"))

    def test_a_bidirectional_network_is_not_streamed(self, tmp_path):
        with pytest.raises(UsageError, match="cannot be streamed"):
            shipped("rnn:3,4,bidirectional", tmp_path, Order("triton", mode="streaming"))

    def test_a_folder_that_is_no_bundle_is_kept(self, artifact, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes").write_text("mine")
        with pytest.raises(OutputError, match="exists"):
            ship(artifact.path, tmp_path / "mine", Order("triton"))
        with pytest.raises(OutputError, match="exists"):
            ship(artifact.path, artifact.path, Order("triton"))
        assert (tmp_path / "mine" / "notes").read_text() == "mine"
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"))
        with pytest.raises(OutputError, match="nothing that this command made"):
            export("rnn:3,4", bundle.path)  # nor does export take a bundle's place
        assert is_bundle(bundle.path)

    def test_a_bundle_is_replaced_as_a_whole(self, artifact, tmp_path):
        ship(artifact.path, tmp_path / "bundle", Order("triton", name="one"))
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton", name="two"))
        assert [path.name for path in (bundle.path / "models").iterdir()] == ["two"]

    def test_the_same_order_makes_the_same_bytes(self, artifact, tmp_path):
        made = [ship(artifact.path, tmp_path / place, Order("triton-python", name="net")).path for place in "ab"]
        first, second = (
            {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()} for root in made
        )
        assert first == second


class TestInitialState:
    def test_a_learned_state_is_what_every_sequence_starts_from(self, artifact, tmp_path):
        learned = np.random.default_rng(0).uniform(-1, 1, (1, 1, 4)).astype(np.float32)  # as torch keeps it
        np.savez(tmp_path / "state.npz", h_0=learned)
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton", initial_state=tmp_path / "state.npz"))
        assert bundle.facts.learned_state
        assert np.array_equal(bundle.initial_state, learned[:, 0])
        (tmp_path / "scratch").mkdir()
        subject = subject_of_bundle(bundle.path, tmp_path / "scratch")
        assert all(np.array_equal(case.h_0[:, b], learned[:, 0]) for case in subject.cases for b in range(case.B))

    def test_any_checkpoint_file_says_it_and_export_says_that_it_is_there(self, tmp_path):
        network = torch.nn.RNN(3, 4)
        learned = torch.linspace(-1, 1, 4)[None, None]
        torch.save({**network.state_dict(), "h0": learned}, tmp_path / "learned.pt")
        checkpoint = load_checkpoint(tmp_path / "learned.pt")
        assert any("'h0' may be a learned initial state" in note for note in checkpoint.notes)
        found = export(checkpoint, tmp_path / "net")
        order = Order("triton", initial_state=tmp_path / "learned.pt")
        bundle = ship(found.path, tmp_path / "bundle", order, unverified=True)
        assert np.array_equal(bundle.initial_state, learned.numpy()[0])

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"h_0": np.zeros((2, 4), np.float32)}, "no tensor of that shape"),
            (
                {"a": np.zeros((1, 4), np.float32), "b": np.zeros((4,), np.float32)},
                "several tensors of that shape: a, b",
            ),
            ({"h_0": np.full((1, 4), np.nan, np.float32)}, "not finite"),
            ({"h_0": np.zeros((1, 4), np.int64)}, "no tensor of that shape"),
        ],
    )
    def test_what_is_no_state_is_refused(self, artifact, tmp_path, arrays, message):
        np.savez(tmp_path / "state.npz", **arrays)
        with pytest.raises(SourceError, match=message):
            ship(artifact.path, tmp_path / "bundle", Order("triton", initial_state=tmp_path / "state.npz"))


class TestForgery:
    """Behind a valid seal, as anybody can make one: what is read has to fit together all the same."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda facts: facts.update(name="../../elsewhere"), "no name of a model"),
            (lambda facts: facts.update(model="proof/weights.safetensors"), "is not the one that is served"),
            (lambda facts: facts.update(model="/etc/hostname"), "is not the one that is served"),
            (lambda facts: facts.update(form="nothing"), "unknown form"),
            (lambda facts: facts.pop("interface"), "interface is missing"),
        ],
    )
    def test_facts_that_do_not_fit_the_files_are_damage(self, artifact, tmp_path, change, message):
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"))
        forged(bundle.path, change)
        with pytest.raises(ArtifactError, match=message):
            Bundle.load(bundle.path)

    @pytest.mark.parametrize("file", ["initial_state.npz", "golden/0.npz", "weights.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"no archive", "another array"])
    def test_files_that_hold_something_else_are_damage(self, artifact, tmp_path, file, content):
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"))
        place = bundle.path / "proof" / file
        if isinstance(content, str):
            np.savez(tmp_path / "other.npz", h_0=np.zeros((3, 3), np.float32))
            content = (tmp_path / "other.npz").read_bytes()
        place.write_bytes(content)
        forged(bundle.path)
        with pytest.raises(ArtifactError, match="is damaged"):
            Bundle.load(bundle.path)


class TestBundle:
    def test_it_is_whole_or_it_is_damaged(self, artifact, tmp_path):
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"))
        assert is_bundle(bundle.path)
        (bundle.path / "models" / "my-rnn" / "config.pbtxt").write_text("max_batch_size: 8")
        with pytest.raises(ArtifactError, match=r"config.pbtxt"):
            Bundle.load(bundle.path)

    def test_an_artifact_is_no_bundle(self, artifact):
        assert not is_bundle(artifact.path)
        with pytest.raises(ArtifactError, match="rnn-export ship"):
            Bundle.load(artifact.path)

    def test_the_golden_requests_are_bodies_for_curl_with_the_same_numbers(self, artifact, tmp_path):
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton", mode="streaming"))
        golden = bundle.golden
        assert {len(one.inputs["input"]) for one in golden} == {1}  # a sequence is one row
        assert [one.chunks for one in golden] == [(), (), (), (1, 3, 2)]
        body = json.loads((bundle.path / "proof" / "golden" / "0.json").read_text())
        assert body["parameters"]["sequence_start"] is True
        (tensor,) = body["inputs"]
        sent = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        assert np.array_equal(sent, golden[0].inputs["input"])

    def test_verify_takes_it_like_an_artifact(self, artifact, tmp_path):
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"))
        report = verify(bundle.path, runtimes=["onnxruntime-cpu"])
        assert report.exit_code == 0
        assert any(row.case.startswith("rows 2 0 1 1 0") for row in report.results)
        assert not (bundle.path / "verification.json").exists()

    def test_inspect_reads_its_model_and_no_damaged_one(self, artifact, tmp_path):
        bundle = ship(artifact.path, tmp_path / "bundle", Order("triton"))
        assert "input" in str(describe(bundle.path))
        bundle.model_path.write_bytes(b"damaged")
        with pytest.raises(ArtifactError, match=r"model.onnx"):
            describe(bundle.path)
