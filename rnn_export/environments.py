"""Where runtimes live: beside rnn-export, or in a virtual environment of their own in the user's cache."""

import hashlib
import json
import os
import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from rnn_export.runtimes import Runtime, distribution_name


def cache_folder() -> Path:
    """``$RNN_EXPORT_CACHE``, or rnn-export's folder in the user's cache."""
    if place := os.environ.get("RNN_EXPORT_CACHE"):
        return Path(place)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rnn-export"


def environment_of(runtime: Runtime) -> Path:
    """The runtime's own environment; runtimes with the same pins share it."""
    pins = "\n".join([*runtime.requires, *runtime.npm, sys.implementation.cache_tag or ""])
    digest = hashlib.sha256(pins.encode()).hexdigest()[:8]
    return cache_folder() / "environments" / f"{runtime.distribution}-{digest}"


def interpreter_of(runtime: Runtime) -> Path | None:
    """The Python that can run the runtime, or None where it is not installed."""
    if runtime.own_environment:
        python = environment_of(runtime) / "bin" / "python"
        return python if python.exists() else None
    return Path(sys.executable) if all(_installed(requirement) for requirement in runtime.requires) else None


def how_to_install(runtime: Runtime) -> str:
    """The command that makes it present."""
    if runtime.own_environment:
        return f"rnn-export runtimes install {runtime.name}"
    return f"pip install {shlex.join(runtime.requires)}"


def installed_version(runtime: Runtime) -> str:
    """The version of the runtime's package, without importing it; empty where it is not installed."""
    if runtime.npm:
        manifest = environment_of(runtime) / "node_modules" / runtime.distribution / "package.json"
        return str(json.loads(manifest.read_bytes())["version"]) if manifest.is_file() else ""
    if runtime.own_environment:
        places = list((environment_of(runtime) / "lib").glob("python*/site-packages"))
        name = re.sub(r"[-_.]+", "_", runtime.distribution)
        found = [match for place in places for match in place.glob(f"{name}-*.dist-info")]
        return found[0].name.removeprefix(f"{name}-").removesuffix(".dist-info") if found else ""
    try:
        return version(runtime.distribution)
    except PackageNotFoundError:
        return ""


def clashes() -> list[str]:
    """The ONNX Runtime packages installed side by side here: they overwrite each other's files."""
    names = ["onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"]
    found = []
    for name in names:
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found if len(found) > 1 else []


def _installed(requirement: str) -> bool:
    """Whether some version of it is: a pin is the own environments' business."""
    try:
        distribution(distribution_name(requirement))
    except PackageNotFoundError:
        return False
    return True
