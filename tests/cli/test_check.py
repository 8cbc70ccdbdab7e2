"""``check`` and ``sign``: one page for people, JSON for programs, exit code 3 where something is not as it was made."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rnn_export.manifest import VERIFICATION, digest_of
from rnn_export.pipeline import export

OPENSSL = shutil.which("openssl")


@pytest.fixture
def folder(artifact, tmp_path) -> Path:
    """A copy that may be damaged, without what other tests recorded in it."""
    copy = Path(shutil.copytree(artifact, tmp_path / "out"))
    (copy / VERIFICATION).unlink(missing_ok=True)
    return copy


def test_a_whole_one(cli, folder):
    found = cli("check", folder)
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("out   artifact   ")
    assert f"sha256 {digest_of(folder)}" in found.out
    assert found.out.endswith("WHOLE: every file is as it was made\n")


def test_every_problem_and_code_3(cli, folder):
    (folder / "model.onnx").unlink()
    (folder / "extra").mkdir()
    found = cli("check", folder)
    assert (found.code, found.err) == (3, "")
    assert found.out.splitlines()[-3:] == [
        "EMPTY FOLDER  extra: the manifest does not list it",
        "MISSING       model.onnx: the manifest lists it",
        "DAMAGED: 2 problems; do not use it, make it again",
    ]
    read = json.loads(cli("check", folder, "--format", "json").out)
    assert not read["whole"]
    assert [problem["file"] for problem in read["problems"]] == ["extra", "model.onnx"]


def test_a_manifest_that_was_changed_is_one_line_with_code_3(cli, folder):
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("scan", "loop"))
    found = cli("check", folder)
    assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)


def test_a_verification_is_seen(cli, folder):
    assert cli("verify", folder, "--runtime", "onnxruntime-cpu").code == 0
    found = cli("check", folder)
    assert found.code == 0
    assert "verified    onnxruntime-cpu " in found.out


def test_a_name_in_the_folder_cannot_write_lines_of_its_own(cli, folder):
    (folder / os.fsdecode(b"x\nWHOLE: every file is as it was made\x1b[2J\xff")).touch()
    for style in ("human", "json"):
        found = cli("check", folder, "--format", style)
        assert found.code == 3
        assert "\x1b" not in found.out
        assert not any(line.startswith("WHOLE") for line in found.out.splitlines())


@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the keys")
def test_signed_and_checked(cli, folder, tmp_path, monkeypatch):
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    make = [[OPENSSL, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key]]
    make += [[OPENSSL, "ec", "-in", key, "-pubout", "-out", public]]
    for line in make:
        subprocess.run(line, check=True, capture_output=True)
    signed = cli("sign", folder, "--private-key", key)
    assert (signed.code, signed.out) == (0, f"{tmp_path / 'out.sig'}\n")
    assert "rnn-export check" in signed.err
    found = cli("check", folder, "--public-key", public)
    assert (found.code, found.err) == (0, "")
    assert "signature   out.sig: good, by public.pem" in found.out
    (folder / "empty").mkdir()  # which the signature alone would not tell
    found = cli("check", folder, "--public-key", public)
    assert found.code == 3
    assert "signature   out.sig: good, by public.pem" in found.out
    (folder / "data.json").write_text("{}")
    found = cli("check", folder, "--public-key", public)
    assert found.code == 3
    assert "signature   out.sig: bad, by public.pem" in found.out
    assert any(line.startswith("SIGNATURE     out.sig: ") for line in found.out.splitlines())
    assert cli("sign", folder, "--private-key", key).code == 3
    (folder / "empty").rmdir()
    export("rnn:3,4,relu", folder)  # whole, and not what was signed
    found = cli("check", folder, "--public-key", public)
    assert (found.code, found.out.splitlines()[-1].split(":")[0]) == (3, "UNPROVED")
    assert cli("check", folder, "--signature", tmp_path / "out.sig").code == 2
    assert cli("check", folder, "--public-key", tmp_path / "none.pem").code == 3


@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the keys")
def test_the_password_of_a_key_comes_from_the_environment(cli, folder, tmp_path, monkeypatch):
    key = tmp_path / "key.pem"
    line = [OPENSSL, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes-256-cbc"]
    subprocess.run([*line, "-pass", "pass:secret", "-out", key], check=True, capture_output=True)
    refused = cli("sign", folder, "--private-key", key)
    assert refused.code == 3
    assert "RNN_EXPORT_KEY_PASSWORD" in refused.err
    monkeypatch.setenv("RNN_EXPORT_KEY_PASSWORD", "secret")
    assert cli("sign", folder, "--private-key", key).code == 0
