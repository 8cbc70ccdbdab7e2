"""What a bug report needs: versions, clashes, the cache, and which runtimes work on this machine."""

import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rnn_export.environments import cache_folder, clashes
from rnn_export.inventory import examine
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.runtimes._chromium import HOW_TO_INSTALL, chromium

PACKAGES = (
    "rnn-export",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "numpy",
    "safetensors",
    "click",
    "rich",
)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: ``ok`` is None where it is only said."""

    name: str
    value: str
    ok: bool | None = None
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def diagnose() -> list[Finding]:
    """Everything, cheap things first; each runtime sings the canary in its own process."""
    findings = [
        Finding("python", f"{platform.python_version()} ({sys.implementation.name})"),
        Finding("machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
    ]
    findings += [Finding(name, _version(name), _version(name) != "not installed") for name in PACKAGES]
    findings += [_packages(), _cache(), _browser()]
    return findings + [_runtime(runtime) for runtime in RUNTIMES]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _packages() -> Finding:
    if not (found := clashes()):
        return Finding("packages", "no ONNX Runtime packages overwrite each other", True)
    remedy = f"pip uninstall -y {' '.join(found)} && pip install onnxruntime"
    return Finding("packages", f"{' and '.join(found)} overwrite each other's files", False, remedy)


def _cache() -> Finding:
    folder = cache_folder()
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if os.access(place, os.W_OK):
        return Finding("cache", "writable", True)
    return Finding("cache", "not writable", False, "Set RNN_EXPORT_CACHE to a folder of yours")


def _browser() -> Finding:
    """Where onnxruntime-web runs."""
    program = chromium()
    if program is None:
        return Finding("browser", "not found", None, HOW_TO_INSTALL)
    said = subprocess.run([program, "--version"], capture_output=True, text=True)
    return Finding("browser", said.stdout.strip() or f"{program} says no version")


def _runtime(runtime: Runtime) -> Finding:
    entry = examine(runtime)
    if not entry.installed:
        return Finding(runtime.name, "ABSENT: not installed", None, entry.next)
    if entry.canary is Status.PASS:
        return Finding(runtime.name, f"{entry.version} computes the canary", True)
    assert entry.canary is not None  # it was asked
    ok = None if entry.canary is Status.ABSENT else False
    return Finding(runtime.name, f"{entry.canary.value}: {entry.detail}", ok, entry.next)
