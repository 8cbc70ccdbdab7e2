"""Artifacts that may be shipped, and bundles made of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnn_export.artifact import Artifact
from rnn_export.bundle import Bundle
from rnn_export.differences import file_digests
from rnn_export.manifest import MANIFEST, sealed
from rnn_export.pipeline import export, verify
from rnn_export.shipping import Order, ship


def verified(source: str, folder: Path, **options) -> Artifact:
    """An artifact that was verified on ONNX Runtime."""
    artifact = export(source, folder, **options)
    assert verify(artifact.path, runtimes=["onnxruntime-cpu"]).exit_code == 0
    return artifact


def shipped(source: str, folder: Path, order: Order, **options) -> Bundle:
    """A bundle of a network that nobody verified but for the graph that is shipped."""
    artifact = export(source, folder / "net", **options)
    return ship(artifact.path, folder / "bundle", order, unverified=True)


def forged(bundle: Path, change: Callable[[dict[str, Any]], None] = lambda facts: None) -> None:
    """Seal a bundle again after its files were changed, and its facts by ``change``, as somebody else could."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest["sha256"]
    change(manifest["facts"])
    (bundle / MANIFEST).unlink()
    (bundle / MANIFEST).write_bytes(sealed({**manifest, "files": file_digests(bundle)}))
