"""The record of verifications: it is of one artifact, it grows, it is found damaged, and it never hinders anything."""

import json
import random
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rnn_export.artifact import Artifact
from rnn_export.checkpoint import load_checkpoint
from rnn_export.errors import ArtifactError, UsageError
from rnn_export.manifest import MANIFEST, VERIFICATION, digest_of, sealed
from rnn_export.pipeline import export, verify
from rnn_export.report import Report
from rnn_export.result import Status
from rnn_export.verification_file import (
    MOST_BYTES,
    RuntimeVerdict,
    record_verification,
    verification_from_report,
    verification_of,
)
from rnn_export.whole_model.model_folder import export_model
from tests.rights import no_rights, open_folder
from tests.rows import report_of, row

WHEN = "2026-01-31T12:00:00Z"
READ_BACK = row("file", Status.PASS, "weights read back")


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Path:
    return export("rnn:2,3", tmp_path_factory.mktemp("master") / "out").path


@pytest.fixture
def artifact(master, tmp_path) -> Artifact:
    return Artifact.load(shutil.copytree(master, tmp_path / "out"))


def report_on(artifact: Artifact, *rows, **more) -> Report:
    return report_of(READ_BACK, *rows, digest=artifact.digest, created=WHEN, **more)


def record(artifact: Artifact, *rows, **more) -> None:
    assert record_verification(artifact.path, report_on(artifact, *rows, **more))


def only_names(artifact: Artifact) -> list[str]:
    return sorted(path.name for path in artifact.path.parent.iterdir())


class TestLife:
    def test_an_artifact_that_was_never_verified_has_none(self, artifact):
        assert verification_of(artifact) is None

    def test_a_real_verification_is_what_it_says(self, artifact):
        report = verify(artifact.path, runtimes=["torch", "onnxruntime-cpu"])
        assert record_verification(artifact.path, report)
        found = verification_of(Artifact.load(artifact.path))
        assert found is not None
        assert found.artifact == digest_of(artifact.path)
        assert found.weights is Status.PASS
        assert set(found.runtimes) == {"torch", "onnxruntime-cpu"}
        assert list(found.passed_on) == ["onnxruntime-cpu"]  # torch ran the weights, and not the file
        verdict = found.passed_on["onnxruntime-cpu"]
        rows = [one for one in report.results if one.runtime == "onnxruntime-cpu"]
        assert verdict.cases == sum(one.passed for one in rows) > 5
        assert verdict.residual == max(one.residual for one in rows if one.residual is not None)
        assert (verdict.version, verdict.created) == (rows[0].version, report.created)
        assert verification_from_report(report, artifact) == found

    def test_runs_are_put_together_and_the_later_one_of_a_runtime_counts(self, artifact):
        record(artifact, row("a", Status.PASS, residual=0.5), row("a", Status.PASS, residual=1.5))
        record(artifact, row("b", Status.MISMATCH, residual=9.0))
        found = verification_of(artifact)
        assert found is not None
        assert found.runtimes == {
            "a": RuntimeVerdict(Status.PASS, "1.0", 2, 1.5, created=WHEN),
            "b": RuntimeVerdict(Status.MISMATCH, "1.0", 0, 9.0, created=WHEN),
        }
        assert list(found.passed_on) == ["a"]
        record(artifact, row("a", Status.CRASHED), row("b", Status.PASS))
        found = verification_of(artifact)
        assert found is not None
        assert list(found.passed_on) == ["b"]

    def test_a_documented_difference_spoils_no_pass(self, artifact):
        record(artifact, row("a", Status.PASS), row("a", Status.DIVERGENCE), row("b", Status.DIVERGENCE))
        found = verification_of(artifact)
        assert found is not None
        assert list(found.passed_on) == ["a"]

    def test_a_runtime_that_is_absent_keeps_what_it_showed(self, artifact):
        record(artifact, row("a", Status.PASS))
        record(artifact, row("a", Status.ABSENT), row("c", Status.ABSENT))
        found = verification_of(artifact)
        assert found is not None
        assert list(found.runtimes) == ["a"]

    def test_a_reference_in_any_version_is_one(self, artifact):
        record(artifact, row("torch@2.10", Status.PASS), references=frozenset({"torch"}))
        found = verification_of(artifact)
        assert found is not None
        assert found.runtimes["torch@2.10"].reference
        assert not found.passed_on

    def test_where_the_file_holds_other_weights_nothing_passed(self, artifact):
        wrong = replace(READ_BACK, status=Status.MISMATCH)
        rows = (wrong, row("a", Status.PASS))
        assert record_verification(artifact.path, report_of(*rows, digest=artifact.digest))
        found = verification_of(artifact)
        assert found is not None
        assert (found.weights, dict(found.passed_on)) == (Status.MISMATCH, {})

    def test_saved_outputs_are_no_runtime(self, artifact):
        record(artifact, row("expect", Status.PASS), row("a", Status.PASS))
        found = verification_of(artifact)
        assert found is not None
        assert list(found.runtimes) == ["a"]

    def test_exporting_again_drops_it(self, artifact):
        before = {path: path.read_bytes() for path in artifact.path.rglob("*") if path.is_file()}
        record(artifact, row("a", Status.PASS))
        again = export("rnn:2,3", artifact.path)
        assert verification_of(again) is None
        assert {path: path.read_bytes() for path in artifact.path.rglob("*") if path.is_file()} == before

    def test_nothing_is_left_beside_the_artifact(self, artifact):
        record(artifact, row("a", Status.PASS))
        assert only_names(artifact) == ["out"]


class TestWhatIsNotRecorded:
    def test_a_report_about_a_file(self, artifact):
        report = report_of(READ_BACK, row("a", Status.PASS))
        assert not record_verification(artifact.path, report)
        with pytest.raises(UsageError, match="about another artifact"):
            verification_from_report(report, artifact)

    def test_a_report_about_other_bytes(self, artifact, tmp_path):
        other = export("rnn:2,3,relu", tmp_path / "other")
        report = report_on(other, row("a", Status.PASS))
        assert not record_verification(artifact.path, report)
        assert not (artifact.path / VERIFICATION).exists()
        with pytest.raises(UsageError, match="about another artifact") as caught:
            verification_from_report(report, artifact)
        assert "verify" in caught.value.hint

    def test_a_place_that_is_no_artifact(self, artifact, tmp_path):
        report = report_on(artifact, row("a", Status.PASS))
        assert not record_verification(tmp_path / "nothing", report)
        assert not record_verification(tmp_path, report)
        assert not record_verification(artifact.model_path, report)

    def test_a_whole_model(self, tmp_path):
        import torch

        path = export_model(torch.nn.RNN(2, 3), torch.zeros(5, 1, 2), tmp_path / "out").parent
        report = report_of(READ_BACK, row("a", Status.PASS), digest=digest_of(path))
        assert not record_verification(path, report)
        assert not (path / VERIFICATION).exists()

    @pytest.mark.parametrize("locked", ["out", "."])
    def test_a_folder_that_cannot_be_written(self, master, locked):
        with open_folder() as place:
            artifact = Artifact.load(shutil.copytree(master, place / "out"))
            (place / locked).chmod(0o555)
            report = report_on(artifact, row("a", Status.PASS))
            with no_rights():
                assert not record_verification(artifact.path, report)
                assert verification_of(artifact) is None
            assert list(verification_from_report(report, artifact).passed_on) == ["a"]
            assert only_names(artifact) == ["out"]

    def test_a_disk_that_is_full(self, artifact):
        record(artifact, row("a", Status.PASS))
        before = (artifact.path / VERIFICATION).read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            report = report_on(artifact, row("a", Status.MISMATCH))
            assert not record_verification(artifact.path, report)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (artifact.path / VERIFICATION).read_bytes() == before
        assert only_names(artifact) == ["out"]


class TestDamage:
    @pytest.fixture
    def recorded(self, artifact) -> Artifact:
        record(artifact, row("a", Status.PASS, residual=0.5))
        return artifact

    def refused(self, artifact: Artifact, why: str) -> None:
        """It is said, the artifact loads all the same, and a verification mends it."""
        with pytest.raises(ArtifactError, match=why) as caught:
            verification_of(artifact)
        assert f"rnn-export verify {artifact.path}" in caught.value.hint
        assert Artifact.load(artifact.path).digest == artifact.digest
        record(artifact, row("b", Status.PASS))
        found = verification_of(artifact)
        assert found is not None
        assert list(found.runtimes) == ["b"]

    def test_a_single_flipped_bit_anywhere_is_found(self, recorded):
        file, generator = recorded.path / VERIFICATION, random.Random(0)
        raw = file.read_bytes()
        for place in range(len(raw)):
            file.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << generator.randrange(8)]) + raw[place + 1 :])
            with pytest.raises(ArtifactError, match=VERIFICATION):
                verification_of(recorded)

    @pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"5", b"null", b"\xff", b"[" * 100_000, b'{"sha256": 1}'])
    def test_what_is_none_is_said(self, recorded, raw):
        (recorded.path / VERIFICATION).write_bytes(raw)
        self.refused(recorded, "is damaged")

    def test_an_edited_verdict_is_found(self, recorded):
        file = recorded.path / VERIFICATION
        file.write_text(file.read_text().replace("PASS", "MISMATCH"))
        self.refused(recorded, "it was changed")

    @pytest.mark.parametrize("change", [{"schema": 2}, {"runtimes": [1]}, {"weights": "FINE"}, {"artifact": None}])
    def test_one_that_means_nothing_is_found_though_its_seal_fits(self, recorded, change):
        document = json.loads((recorded.path / VERIFICATION).read_bytes())
        del document["sha256"]
        (recorded.path / VERIFICATION).write_bytes(sealed({**document, **change}))
        self.refused(recorded, "is damaged")

    def test_one_of_another_artifact_counts_for_nothing(self, recorded, tmp_path):
        other = export("rnn:2,3,relu", tmp_path / "other")
        shutil.copyfile(recorded.path / VERIFICATION, other.path / VERIFICATION)
        self.refused(other, "is about another artifact")

    def test_one_that_outlived_its_bytes_counts_for_nothing(self, recorded):
        """As if the other files had been replaced one by one."""
        kept = (recorded.path / VERIFICATION).read_bytes()
        changed = export(load_checkpoint("rnn:2,3,relu"), recorded.path)
        (changed.path / VERIFICATION).write_bytes(kept)
        self.refused(changed, "is about another artifact")

    def test_one_that_is_too_large_is_not_read(self, recorded):
        (recorded.path / VERIFICATION).write_bytes(b" " * (MOST_BYTES + 1))
        self.refused(recorded, "is damaged")

    def test_a_link_is_not_followed(self, recorded, tmp_path):
        kept = (recorded.path / VERIFICATION).rename(tmp_path / "kept")
        (recorded.path / VERIFICATION).symlink_to(kept)
        with pytest.raises(ArtifactError, match="is no plain file"):
            verification_of(recorded)
        with pytest.raises(ArtifactError, match="it is a link"):
            Artifact.load(recorded.path)

    def test_it_is_in_no_manifest(self, recorded):
        assert VERIFICATION not in (recorded.path / MANIFEST).read_text()
