"""What is said of a folder: what it is, all that is wrong with it, what it was verified on, by whom it is signed."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from rnn_export.artifact import Artifact
from rnn_export.differences import list_folder
from rnn_export.errors import ArtifactError, UsageError
from rnn_export.integrity import Integrity, check
from rnn_export.manifest import MANIFEST, VERIFICATION, digest_of, read_manifest, sealed
from rnn_export.pipeline import export
from rnn_export.result import Status
from rnn_export.verification_file import record_verification
from rnn_export.whole_model.model_folder import export_model
from tests.rows import report_of, row

FLIPS = 200


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Path:
    """An artifact with a record."""
    artifact = export("rnn:2,3", tmp_path_factory.mktemp("master") / "out")
    rows = (row("file", Status.PASS, "weights read back"), row("a", Status.PASS, residual=0.5))
    assert record_verification(artifact.path, report_of(*rows, digest=artifact.digest, created="2026-01-31T12:00:00Z"))
    return artifact.path


@pytest.fixture
def folder(master, tmp_path) -> Path:
    return Path(shutil.copytree(master, tmp_path / "out"))


def kinds(found: Integrity) -> list[tuple[str, str]]:
    return [(problem.kind, problem.file) for problem in found.problems]


class TestWhole:
    def test_an_artifact(self, folder):
        found = check(folder)
        assert found.whole
        assert (found.name, found.kind, found.signature) == ("out", "artifact", "none")
        assert found.digest == digest_of(folder) == Artifact.load(folder).digest
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert (found.files, found.bytes) == (len(files), sum(path.stat().st_size for path in files))
        assert found.verification is not None
        assert list(found.verification.passed_on) == ["a"]
        assert found.lines() == [
            f"out   artifact   {len(files)} files, {found.bytes:,} bytes",
            f"manifest    sha256 {found.digest}",
            "verified    weights read back: PASS",
            "verified    a 1.0: PASS in 1 cases, residual 0.5   2026-01-31T12:00:00Z",
            "signature   none",
            "WHOLE: every file is as it was made",
        ]

    def test_one_that_was_never_verified_says_so(self, folder):
        (folder / VERIFICATION).unlink()
        found = check(folder)
        assert found.whole
        assert "verified    on nothing that is recorded here" in found.lines()

    def test_a_whole_model(self, tmp_path):
        path = export_model(torch.nn.RNN(2, 3), torch.zeros(5, 1, 2), tmp_path / "out").parent
        found = check(path)
        assert (found.whole, found.kind, found.files) == (True, "whole-model", 2)
        assert not any(line.startswith("verified") for line in found.lines())

    def test_any_other_kind_is_held_against_its_manifest(self, folder):
        (folder / VERIFICATION).unlink()
        (folder / MANIFEST).write_bytes(sealed({**read_manifest(folder), "kind": "bundle"}))
        assert check(folder).kind == "bundle"
        (folder / VERIFICATION).touch()
        assert kinds(check(folder)) == [("extra", VERIFICATION)]

    def test_nothing_in_it_is_changed(self, folder):
        before = {name: status.st_mtime_ns for name, status in list_folder(folder).things.items()}
        check(folder)
        assert {name: status.st_mtime_ns for name, status in list_folder(folder).things.items()} == before

    def test_for_machines(self, folder):
        read = json.loads(json.dumps(check(folder).to_dict()))
        assert (read["schema"], read["whole"], read["kind"], read["problems"]) == (1, True, "artifact", [])
        assert read["verification"]["runtimes"]["a"]["status"] == "PASS"


class TestDamaged:
    def test_all_problems_are_listed_at_once(self, folder):
        (folder / "model.onnx").write_bytes(b"")
        (folder / "data.json").rename(folder / "other.json")
        (folder / "weights.safetensors").chmod(0o777)
        (folder / VERIFICATION).write_bytes(b"{}")
        found = check(folder)
        assert kinds(found) == [
            ("renamed", "data.json"),
            ("changed", "model.onnx"),
            ("mode", "weights.safetensors"),
            ("record", VERIFICATION),
        ]
        lines = found.lines()
        assert "RENAMED       data.json: it is now other.json" in lines
        assert "CHANGED       model.onnx: its sha256 is another" in lines
        assert lines[-1] == "DAMAGED: 4 problems; do not use it, make it again"
        assert [one["kind"] for one in found.to_dict()["problems"]] == [kind for kind, _ in kinds(found)]

    def test_a_single_flipped_bit_of_any_file_is_found(self, folder):
        """Of the model and the weights, of golden data, of the manifest and of the record."""
        generator, seen = random.Random(1), set()
        files = sorted(list_folder(folder).plain)
        for _ in range(FLIPS):
            name = generator.choice(files)
            raw = (folder / name).read_bytes()
            place = generator.randrange(len(raw))
            (folder / name).write_bytes(
                raw[:place] + bytes([raw[place] ^ 1 << generator.randrange(8)]) + raw[place + 1 :]
            )
            try:
                assert kinds(check(folder)) == [("record" if name == VERIFICATION else "changed", name)]
            except ArtifactError:
                assert name == MANIFEST
            (folder / name).write_bytes(raw)
            seen.add(name)
        assert seen == set(files)
        assert check(folder).whole

    def test_what_is_right_and_open_to_others_is_said_apart(self, folder, tmp_path):
        (tmp_path / "other").hardlink_to(folder / "model.onnx")
        (folder / "data.json").chmod(0o666)
        found = check(folder)
        assert not found.whole
        assert kinds(found) == [("mode", "data.json"), ("hard link", "model.onnx")]
        assert found.lines()[-1].startswith("EXPOSED: 2 problems; the content is right")

    def test_what_it_says_to_do_about_it_helps(self, folder, tmp_path):
        import subprocess

        (tmp_path / "other").hardlink_to(folder / "model.onnx")
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o777)
        shutil.copytree(folder, tmp_path / "copy")
        subprocess.run(["/bin/chmod", "-R", "o-w,a-x+X", tmp_path / "copy"], check=True)
        assert "make a copy, chmod -R o-w,a-x+X" in check(folder).lines()[-1]
        assert check(tmp_path / "copy").whole

    def test_a_damaged_record_leaves_the_artifact_right(self, folder):
        (folder / VERIFICATION).write_bytes(b"{}")
        found = check(folder)
        assert kinds(found) == [("record", VERIFICATION)]
        assert found.lines()[-1] == "DAMAGED: 1 problem; the artifact itself is right: verify it again"
        assert found.verification is None

    def test_a_link_in_the_place_of_the_record_is_said_once(self, folder, tmp_path):
        (folder / VERIFICATION).rename(tmp_path / "kept")
        (folder / VERIFICATION).symlink_to(tmp_path / "kept")
        assert kinds(check(folder)) == [("linked", VERIFICATION)]

    def test_a_pipe_is_no_wait(self, folder):
        (folder / "model.onnx").unlink()
        os.mkfifo(folder / "model.onnx")
        assert kinds(check(folder)) == [("no file", "model.onnx")]

    @pytest.mark.parametrize("kind", [5, None, ["bundle"]])
    def test_a_kind_that_is_none_is_damage(self, folder, kind):
        (folder / MANIFEST).write_bytes(sealed({**read_manifest(folder), "kind": kind}))
        with pytest.raises(ArtifactError, match="its kind is none"):
            check(folder)

    def test_what_is_no_folder_of_ours_is_said(self, tmp_path):
        with pytest.raises(ArtifactError, match="does not exist"):
            check(tmp_path / "nothing")
        with pytest.raises(ArtifactError, match="it has no manifest"):
            check(tmp_path)


class TestSignature:
    def test_one_that_is_there_is_not_taken_for_checked(self, folder):
        folder.with_name("out.sig").touch()
        assert check(folder).signature == "out.sig: not checked, give --public-key FILE"

    def test_one_without_a_key_proves_nothing(self, folder):
        with pytest.raises(UsageError, match="without the key"):
            check(folder, signature=folder.with_name("out.sig"))
