"""The manifest of a folder of ours: what it is, and the sha256 of every other file.

It is sealed with the sha256 of its own text and read back byte for byte, so that no bit of it can change unseen. What
does not stand in it is known to be added, except for the one file that an artifact may hold beside: what a verification
leaves there.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_export.errors import ArtifactError

SCHEMA = 1
MANIFEST = "manifest.json"
VERIFICATION = "verification.json"  # not listed: exporting again makes the same bytes, whatever was verified
BUNDLE = "bundle"  # the kind of what ship made
WHOLE_MODEL = "whole-model"  # the kind of a folder that export_model made; an artifact's manifest has no kind
_AGAIN = "Export it again with rnn-export export"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a folder that this package made, whatever its kind; its own text is checked.

    Raises:
        ArtifactError: there is none, or it is damaged or changed.
    """
    if not path.exists():
        raise ArtifactError(f"{path} does not exist", "Make it with rnn-export export SOURCE -o DIR")
    if not (path / MANIFEST).is_file():
        raise ArtifactError(
            f"{path} is not an artifact: it has no {MANIFEST}",
            "A model that somebody else exported is verified with --against SOURCE",
        )
    if (path / MANIFEST).is_symlink():
        raise ArtifactError(f"the manifest of {path} is a link", _AGAIN)
    raw = (path / MANIFEST).read_bytes()
    try:
        manifest = json.loads(raw)
        if manifest["schema"] != SCHEMA:
            raise ArtifactError(f"{path} has manifest schema {manifest['schema']}, not {SCHEMA}", _AGAIN)
        seal = manifest.pop("sha256")
        if not isinstance(manifest["files"], dict):
            raise ValueError("files is of another kind")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"the manifest of {path} is damaged: {error}", _AGAIN) from None
    # Byte for byte what was written, so that no bit of it can change unseen.
    if raw != sealed(manifest) or seal != _seal(manifest):
        raise ArtifactError(f"the manifest of {path} was changed after it was exported", _AGAIN)
    return dict(manifest)


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """The bytes of the manifest file: the manifest and the sha256 of its own text."""
    return text_of({**manifest, "sha256": _seal(manifest)})


def digest_of(path: Path) -> str | None:
    """The sha256 of a folder's manifest, which binds every other file of it; None where there is no manifest."""
    manifest = path / MANIFEST
    return sha256_of(manifest) if manifest.is_file() else None


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_of(value: Mapping[str, Any]) -> bytes:
    """The one way in which JSON is written into a folder of ours."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _seal(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(text_of(manifest)).hexdigest()
