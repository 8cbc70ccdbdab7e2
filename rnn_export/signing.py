"""A detached signature over a folder of ours, by a key pair: the format is OpenSSF model-signing's, and so is the work.

The signature lies beside the folder, as DIR.sig, because the folder holds what its manifest lists. It covers every file
but the record of verifications, which every verification writes anew. model-signing does not see empty folders, modes
and hard links: ``differences`` does. Nothing here uses a network.
"""

import base64
import json
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from sys import stderr
from typing import Any

from rnn_export.differences import check_files
from rnn_export.errors import OutputError, SourceError, UsageError
from rnn_export.manifest import MANIFEST, VERIFICATION, read_manifest, sha256_of
from rnn_export.text_file import write_text

LONGEST = 200  # of what model-signing says: every digest of every file, which `problems_in` says shorter
HOW_TO_MAKE_KEYS = (
    "Make a pair with: openssl ecparam -name prime256v1 -genkey -noout -out key.pem; "
    "openssl ec -in key.pem -pubout -out public.pem"
)


def signature_beside(path: Path) -> Path:
    """Where the signature of a folder is unless somebody says otherwise."""
    final = path.resolve()
    return final.with_name(f"{final.name}.sig")


def sign(path: Path, private_key: Path, signature: Path | None = None, password: str | None = None) -> Path:
    """Sign a folder of ours that is whole.

    Args:
        path: an artifact, a whole model's folder or a bundle.
        private_key: a PEM file with an elliptic curve key, of P-256, P-384 or P-521.
        signature: the file to write; DIR.sig beside the folder if None. An earlier signature is replaced.
        password: of the key, where it is encrypted.

    Returns:
        The signature file.

    Raises:
        ArtifactError: the folder is no folder of ours, or damaged.
        UsageError: model-signing is not installed, or the signature would lie in the folder.
        SourceError: the key cannot be read, or is of another kind.
        OutputError: the signature cannot be written, or would replace something else.
    """
    signing, hashing = _model_signing("signing", "hashing")
    check_files(path, read_manifest(path))
    place = signature or signature_beside(path)
    _check_place(place, path)
    secret: Any = password.encode() if password else None  # model-signing says str, and hands it on to who wants bytes
    signer = _with_key(
        private_key, lambda: signing.Config().use_elliptic_key_signer(private_key=private_key, password=secret)
    )
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        made = Path(scratch) / "signature"
        signer.set_hashing_config(_coverage(hashing)).sign(path.resolve(), made)
        write_text(place, made.read_text(encoding="utf-8"))
    return place


def wrong_with(path: Path, signature: Path, public_key: Path) -> str:
    """Why a signature is not that of the folder by that key, in words; empty where it is.

    Raises:
        UsageError: model-signing is not installed.
        SourceError: the key cannot be read, or is of another kind.
    """
    verifying, hashing = _model_signing("verifying", "hashing")
    verifier = _with_key(public_key, lambda: verifying.Config().use_elliptic_key_verifier(public_key=public_key))
    verifier.set_hashing_config(_coverage(hashing))
    if not signature.is_file():
        return "there is no such signature"
    try:
        with redirect_stdout(stderr):  # it prints warnings
            verifier.verify(path.resolve(), signature)
    except Exception as error:  # of a damaged file nearly any: of json, pydantic, cryptography and its own
        said = str(error).strip() or "it was changed, or made by another key"
        return f"it is not this folder's by this key: {type(error).__name__}: {said[:LONGEST]}"
    if _signed_digests(signature).get(MANIFEST) != sha256_of(path / MANIFEST):
        return f"it does not cover {MANIFEST}"
    return ""


def _model_signing(*names: str) -> list[Any]:
    """Its modules of those names; importing them takes most of a second."""
    try:
        import model_signing
    except ImportError as error:
        raise UsageError(
            f"signatures need model-signing and pyOpenSSL: {error}", "Run: pip install 'rnn-export[sign]'"
        ) from None
    return [getattr(model_signing, name) for name in names]


def _coverage(hashing: Any) -> Any:
    """What a signature covers: everything, also what belongs to git, and not the record of verifications."""
    return hashing.Config().set_ignored_paths(paths=[VERIFICATION], ignore_git_paths=False)


def _with_key(key: Path, use: Callable[[], Any]) -> Any:
    """Raises SourceError where the key cannot be used."""
    try:
        return use()
    except OSError as error:
        raise SourceError(f"the key {key} cannot be read: {error.strerror}", HOW_TO_MAKE_KEYS) from None
    except TypeError as error:  # a password that is missing or not needed
        raise SourceError(f"the key {key} cannot be read: {error}", "Its password is RNN_EXPORT_KEY_PASSWORD") from None
    except AttributeError:  # of a key of another kind, such as RSA: it has no curve
        what = f"{key} is no such key on an elliptic curve: it is of another kind"
        raise SourceError(what, HOW_TO_MAKE_KEYS) from None
    except Exception as error:  # of a file that is no key at all
        raise SourceError(f"{key} is no such key on an elliptic curve: {error}", HOW_TO_MAKE_KEYS) from None


def _check_place(place: Path, folder: Path) -> None:
    if place.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{place} lies in the folder, which holds what its manifest lists", "Put it beside the folder")
    if place.exists() and not _signed_digests(place):
        raise OutputError(f"{place} exists and is no signature", "Choose another --signature; it was kept")


def _signed_digests(signature: Path) -> dict[str, str]:
    """File -> sha256, as the signature states them, whoever made it; empty where it is none."""
    try:
        envelope = json.loads(signature.read_bytes())["dsseEnvelope"]
        resources = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["resources"]
        return {resource["name"]: resource["digest"] for resource in resources}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}
