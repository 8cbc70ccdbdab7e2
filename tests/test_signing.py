"""A signature is good for this folder and this key, and for nothing that is one bit away from them."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from rnn_export.errors import ArtifactError, OutputError, SourceError, UsageError
from rnn_export.manifest import MANIFEST, VERIFICATION
from rnn_export.pipeline import export
from rnn_export.signing import sign, signature_beside, wrong_with

PASSWORD = "correct horse"  # noqa: S105
OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl makes the keys")


def openssl(*arguments: object) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *map(str, arguments)], check=True, capture_output=True)


class Keys(NamedTuple):
    private: Path
    public: Path


def make_keys(folder: Path, curve: str = "prime256v1") -> Keys:
    """A pair in a folder of its own."""
    folder.mkdir()
    keys = Keys(folder / f"{curve}.pem", folder / f"{curve}-public.pem")
    openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", keys.private)
    openssl("ec", "-in", keys.private, "-pubout", "-out", keys.public)
    return keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys") / "ours")


@pytest.fixture
def stranger(tmp_path) -> Keys:
    return make_keys(tmp_path / "stranger")


@pytest.fixture(scope="module")
def master(tmp_path_factory, keys) -> Path:
    """A folder with a signature beside it."""
    path = export("rnn:2,3", tmp_path_factory.mktemp("master") / "out").path
    sign(path, keys.private)
    return path


@pytest.fixture
def folder(master, tmp_path) -> Path:
    shutil.copyfile(signature_beside(master), tmp_path / "out.sig")
    return Path(shutil.copytree(master, tmp_path / "out"))


def wrong(folder: Path, keys: Keys) -> str:
    return wrong_with(folder, signature_beside(folder), keys.public)


class TestGood:
    def test_it_is_good_where_nothing_changed(self, folder, keys):
        assert signature_beside(folder) == folder.with_name("out.sig")
        assert wrong(folder, keys) == ""

    @pytest.mark.parametrize("curve", ["secp384r1", "secp521r1"])
    def test_with_larger_curves_too(self, folder, tmp_path, curve):
        larger = make_keys(tmp_path / "larger", curve)
        assert sign(folder, larger.private) == folder.with_name("out.sig")
        assert wrong(folder, larger) == ""

    def test_a_folder_may_be_moved(self, folder, keys, tmp_path):
        folder.rename(tmp_path / "moved")
        assert wrong_with(tmp_path / "moved", tmp_path / "out.sig", keys.public) == ""

    def test_the_record_of_verifications_may_come_and_change(self, folder, keys):
        (folder / VERIFICATION).write_bytes(b"{}")
        assert wrong(folder, keys) == ""
        sign(folder, keys.private)
        (folder / VERIFICATION).unlink()
        assert wrong(folder, keys) == ""

    def test_it_may_lie_elsewhere(self, folder, keys, tmp_path):
        elsewhere = tmp_path / "signatures" / "one"
        assert sign(folder, keys.private, elsewhere) == elsewhere
        assert wrong_with(folder, elsewhere, keys.public) == ""

    def test_a_key_with_a_password(self, folder, keys, tmp_path):
        locked = tmp_path / "locked.pem"
        openssl("ec", "-in", keys.private, "-aes256", "-passout", f"pass:{PASSWORD}", "-out", locked)
        sign(folder, locked, password=PASSWORD)
        assert wrong(folder, keys) == ""
        for password in (None, "wrong"):
            with pytest.raises(SourceError, match=r"locked\.pem"):
                sign(folder, locked, password=password)

    def test_what_model_signing_itself_signed_is_good(self, folder, keys):
        import model_signing

        signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=keys.private)
        signer.sign(folder, folder.with_name("out.sig"))
        assert wrong(folder, keys) == ""
        (folder / "model.onnx").write_bytes(b"")
        assert wrong(folder, keys)


def swap(folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "x")
    (folder / "data.json").rename(folder / "model.onnx")
    (folder / "x").rename(folder / "data.json")


def link(folder: Path) -> None:
    (folder / "data.json").rename(folder.parent / "data.json")
    (folder / "data.json").symlink_to(folder.parent / "data.json")


class TestBad:
    @pytest.mark.parametrize(
        "change",
        [
            lambda folder: (folder / "model.onnx").unlink(),
            lambda folder: (folder / "extra").touch(),
            lambda folder: (folder / ".gitignore").touch(),
            lambda folder: (folder / "data.json").rename(folder / "Data.json"),
            lambda folder: shutil.copyfile(folder / "data.json", folder / MANIFEST),
            swap,
            link,
        ],
    )
    def test_any_change_of_the_folder_is_found(self, folder, keys, change):
        change(folder)
        assert "not this folder's by this key" in wrong(folder, keys)

    def test_a_flipped_bit_of_any_file_is_found(self, folder, keys):
        generator = random.Random(0)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            raw = bytearray(file.read_bytes())
            place = generator.randrange(len(raw))
            raw[place] ^= 1 << generator.randrange(8)
            whole = file.read_bytes()
            file.write_bytes(raw)
            assert wrong(folder, keys), file
            file.write_bytes(whole)
        assert wrong(folder, keys) == ""

    def test_another_key_is_found(self, folder, stranger):
        assert "Key mismatch" in wrong(folder, stranger)

    def test_the_hint_of_the_key_is_not_what_decides(self, folder, keys, stranger):
        """A stranger signs a changed folder and writes our key's name into it."""
        ours = json.loads(signature_beside(folder).read_bytes())
        sign(folder, stranger.private)
        forged = json.loads(signature_beside(folder).read_bytes())
        forged["verificationMaterial"] = ours["verificationMaterial"]
        signature_beside(folder).write_text(json.dumps(forged))
        assert "InvalidSignature: it was changed, or made by another key" in wrong(folder, keys)

    def test_the_signature_of_another_folder_is_found(self, folder, keys, tmp_path):
        other = export("rnn:2,3,relu", tmp_path / "other").path
        assert "Signature mismatch" in wrong_with(other, signature_beside(folder), keys.public)

    def test_a_flipped_bit_of_what_is_signed_or_of_the_signature_is_found(self, folder, keys):
        file, generator = signature_beside(folder), random.Random(0)
        raw = file.read_bytes()
        envelope = json.loads(raw)["dsseEnvelope"]
        signed = [envelope["payload"].encode(), envelope["signatures"][0]["sig"].encode()]
        for part in signed:
            for place in generator.sample(range(len(part) - 2), 40):  # the last character pads, some bits mean nothing
                start = raw.index(part) + place
                file.write_bytes(raw[:start] + bytes([raw[start] ^ 1 << generator.randrange(7)]) + raw[start + 1 :])
                assert wrong(folder, keys)

    @pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"verificationMaterial": {}}'])
    def test_what_is_no_signature_is_said(self, folder, keys, raw):
        signature_beside(folder).write_bytes(raw)
        assert "not this folder's by this key" in wrong(folder, keys)

    def test_no_signature_is_said(self, folder, keys):
        signature_beside(folder).unlink()
        assert wrong(folder, keys) == "there is no such signature"

    def test_a_pipe_is_no_signature(self, folder, keys):
        signature_beside(folder).unlink()
        os.mkfifo(signature_beside(folder))
        assert wrong(folder, keys) == "there is no such signature"

    def test_one_that_leaves_the_manifest_out_is_found(self, folder, keys):
        """Good by the right key, and about less than the folder."""
        import model_signing

        hashing = model_signing.hashing.Config().set_ignored_paths(paths=[MANIFEST])
        signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=keys.private)
        signer.set_hashing_config(hashing).sign(folder, signature_beside(folder))
        assert wrong(folder, keys) == f"it does not cover {MANIFEST}"


class TestRefused:
    def test_a_damaged_folder_is_not_signed(self, folder, keys, tmp_path):
        (folder / "model.onnx").write_bytes(b"")
        with pytest.raises(ArtifactError, match=r"model\.onnx"):
            sign(folder, keys.private, tmp_path / "new.sig")
        with pytest.raises(ArtifactError, match="is not an artifact"):
            sign(tmp_path, keys.private, tmp_path / "new.sig")
        assert not (tmp_path / "new.sig").exists()

    def test_a_signature_in_the_folder_would_damage_it(self, folder, keys):
        for place in (folder / "model.sig", folder / "test_data_set_0" / ".." / "model.sig"):
            with pytest.raises(UsageError, match="lies in the folder"):
                sign(folder, keys.private, place)
        assert wrong(folder, keys) == ""

    def test_what_is_no_signature_is_not_replaced(self, folder, keys, tmp_path):
        (tmp_path / "notes").write_text('{"mine": 1}')
        with pytest.raises(OutputError, match="exists and is no signature"):
            sign(folder, keys.private, tmp_path / "notes")
        with pytest.raises(OutputError, match="exists and is no signature"):
            sign(folder, keys.private, tmp_path)
        assert (tmp_path / "notes").read_text() == '{"mine": 1}'

    @pytest.mark.parametrize("raw", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
    def test_what_is_no_key_is_said(self, folder, keys, tmp_path, raw):
        (tmp_path / "key").write_bytes(raw)
        for use in (lambda key: sign(folder, key), lambda key: wrong_with(folder, signature_beside(folder), key)):
            with pytest.raises(SourceError, match="is no such key") as caught:
                use(tmp_path / "key")
            assert "openssl" in caught.value.hint
        with pytest.raises(SourceError, match="No such file"):
            sign(folder, tmp_path / "none")
        with pytest.raises(SourceError, match="is no such key"):
            sign(folder, keys.public)

    @pytest.mark.parametrize("algorithm", ["ed25519", "rsa", "secp256k1"])
    def test_a_key_of_another_kind_is_said(self, folder, tmp_path, algorithm):
        key = tmp_path / "key"
        if algorithm == "secp256k1":
            openssl("ecparam", "-name", algorithm, "-genkey", "-noout", "-out", key)
        else:
            openssl("genpkey", "-algorithm", algorithm, "-out", key)
        with pytest.raises(SourceError, match="is no such key"):
            sign(folder, key)

    def test_without_the_package_it_says_what_to_install(self, folder, keys, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "model_signing", None)
        for use in (lambda: sign(folder, keys.private), lambda: wrong(folder, keys)):
            with pytest.raises(UsageError, match="model-signing and pyOpenSSL") as caught:
                use()
            assert "rnn-export[sign]" in caught.value.hint
