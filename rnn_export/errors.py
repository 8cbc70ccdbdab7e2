"""The exceptions: a wrong call raises one of these, a wrong answer is a Result.

RnnExportError
├── UsageError         a name, an option or a call that makes no sense              exit 2
├── OutputError        a place that cannot be written (exists, no space, no right)  exit 2
├── SourceError        a checkpoint or spec that cannot be loaded or is no RNN      exit 3
├── ConversionError    a model that cannot be exported without freezing something  exit 3
├── ArtifactError      an artifact or ONNX file that is damaged or not understood   exit 3
├── InstallationError  a runtime's environment that could not be made               exit 4
├── ServingError       a server that does not start, or ends before it is told to   exit 4
└── ClusterError       a Ray cluster that does not answer or cannot run this         exit 4

Each carries the exit code of the command line and a hint: what to do next.
"""

from typing import ClassVar


class RnnExportError(Exception):
    """Says what is wrong, with which file or name, and (``hint``) what to do next."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}. {self.hint}" if self.hint else message


class UsageError(RnnExportError):
    """A name, an option or a call that makes no sense."""

    exit_code = 2


class OutputError(RnnExportError):
    """A place that cannot be written: it exists and is not ours, it is full, it is not writable."""

    exit_code = 2


class SourceError(RnnExportError):
    """A checkpoint or spec string that cannot be loaded, or that holds no RNN."""

    exit_code = 3


class ConversionError(RnnExportError):
    """A torch model that cannot be exported without freezing something, or that computes what no form can draw."""

    exit_code = 3


class ArtifactError(RnnExportError):
    """An artifact or an ONNX file that is damaged or not understood."""

    exit_code = 3


class InstallationError(RnnExportError):
    """A runtime's environment that could not be made."""

    exit_code = 4


class ServingError(RnnExportError):
    """An inference server that does not start, is not ready in time, or ends before it is told to."""

    exit_code = 4


class ClusterError(RnnExportError):
    """A Ray cluster that does not answer, or whose machines cannot run this package."""

    exit_code = 4
