"""What the manifests for Kubernetes share."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STORAGE = "s3://YOUR-BUCKET"  # where the user uploads the folder to: nobody else knows it


def kubernetes_name(name: str) -> str:
    """The name as Kubernetes takes it: lower case letters, digits and hyphens, at most 63 of them (RFC 1123)."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "model"


def write_manifest(root: Path, name: str, head: str, fields: Mapping[str, Any]) -> None:
    """``k8s/NAME`` with comment lines in front. It is JSON, which is YAML too, and needs no escaping of its own."""
    folder = root / "k8s"
    folder.mkdir()
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    (folder / name).write_text(comment + json.dumps(fields, indent=2) + "\n")
