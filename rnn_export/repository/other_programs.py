"""What a server would run besides a model file, or instead of it: then the file's own run would prove nothing."""

from pathlib import Path

from rnn_export.model_config import FILE, Config
from rnn_export.repository.versions import DATA_FOLDERS
from rnn_export.rules._model import PYTHON

OUR_CODE = Path(__file__).parent.parent / "data" / "triton" / "model.py"  # it runs the model.onnx of its version
_PARAMETERS = ("EXECUTION_ENV_PATH", "TRITON_BATCH_STRATEGY_PATH")
_STUB = "triton_python_backend_stub"  # which the python backend takes from a model's folder rather than its own


def is_ours(file: Path) -> bool:
    """Whether a model.py is the one that ``ship`` writes, byte for byte."""
    return file.stat().st_size == OUR_CODE.stat().st_size and file.read_bytes() == OUR_CODE.read_bytes()


def other_program(folder: Path, version: str, backend: str, config: Config | None) -> str:
    """The first that is found, in words; empty where there is none.

    Args:
        folder: of the model.
        version: the name of the version's folder.
        backend: what runs the model.
        config: its configuration.
    """
    name = folder.absolute().name
    if config is not None and (field := _field(config)):
        return f"{name}/{FILE} has {field}, so that the server runs something else too"
    for place, shown in ((folder / version, f"{name}/{version}"), (folder, name)):
        if place.is_dir() and (found := _program_in(place, backend)):
            return f"{shown}/{found} may be run by the server too"
    return ""


def _field(config: Config) -> str:
    """What names a program, or other files for some processors."""
    if config.runtime:
        return f"runtime: {config.runtime!r}"
    if config.cc_model_filenames:
        return "cc_model_filenames"
    if config.model_operations.op_library_filename:
        return "op_library_filename"
    if config.model_repository_agents.agents:
        return "model_repository_agents"
    return next((f"the parameter {key}" for key in _PARAMETERS if key in config.parameters), "")


def _program_in(place: Path, backend: str) -> str:
    """A library, which Triton looks for there before its own; and what Python could import there."""
    names = sorted(inner.name for inner in place.iterdir())
    programs = [name for name in names if name.endswith(".so")]
    if backend == PYTHON:
        programs += [name for name in names if name == _STUB or _may_be_imported(place / name)]
    return next(iter(programs), "")


def _may_be_imported(file: Path) -> bool:
    if file.is_dir():
        return file.name.isidentifier() and file.name not in DATA_FOLDERS
    return file.suffix in (".py", ".pyc") and file.name != "model.py"
