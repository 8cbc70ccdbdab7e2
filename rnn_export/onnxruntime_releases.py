"""Which ONNX Runtime a release of Triton has inside, and the newest files that it loads."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rnn_export.errors import UsageError


class Release(NamedTuple):
    """One release of Triton.

    Attributes:
        name: as NVIDIA counts them, such as 25.10; "main" is what comes next.
        onnxruntime: the version that its ONNX Runtime backend is built with.
        opset: the newest version of ONNX's operators that it loads and runs.
        ir_version: the newest version of ONNX's file format that it loads.
    """

    name: str
    onnxruntime: str
    opset: int
    ir_version: int

    def takes(self, opset: int, ir_version: int) -> bool:
        """Whether it loads a file of that opset and IR version."""
        return opset <= self.opset and ir_version <= self.ir_version


# Release and ONNX Runtime: triton-inference-server/server, build.py of each. Opset and IR version: measured by
# scripts/onnxruntime_releases.py.
_TABLE = (
    Release("24.10", "1.19.2", opset=21, ir_version=10),
    Release("25.03", "1.21.0", opset=22, ir_version=10),
    Release("25.10", "1.23.1", opset=23, ir_version=11),
    Release("26.03", "1.24.2", opset=25, ir_version=13),
    Release("main", "1.27.0", opset=26, ir_version=13),
)
RELEASES: Mapping[str, Release] = MappingProxyType({release.name: release for release in _TABLE})  # oldest first


def release_of(name: str) -> Release:
    """The release of that name.

    Raises:
        UsageError: it is not in the table; the message names those that are.
    """
    if name not in RELEASES:
        known = ", ".join(RELEASES)
        raise UsageError(f"unknown release of Triton {name!r}", f"Name the last one before it of: {known}")
    return RELEASES[name]
