"""What a folder holds for a server to load, and which server that is."""

from dataclasses import dataclass
from pathlib import Path

from rnn_export.bundle import Bundle, is_bundle
from rnn_export.errors import UsageError
from rnn_export.repository.backends import backend_of
from rnn_export.repository.model_files import Reader
from rnn_export.repository.served_models import model_folders
from rnn_export.rules._model import ONNX

SERVERS = {"triton-python": "triton", "mlserver": "mlserver"}  # target -> the runtime whose environment has the server
_SHIP = "Ship it with --target triton-python, which runs the same file"


@dataclass(frozen=True)
class Servable:
    """What a server shall load.

    Attributes:
        server: "triton" or "mlserver".
        folder: of the models.
        names: of the models.
        bundle: whether it is one of ours, which can be probed.
    """

    server: str
    folder: Path
    names: tuple[str, ...]
    bundle: bool


def read_servable(path: str | Path, *, maybe_empty: bool = False) -> Servable:
    """What a folder holds, and which server it is for.

    Args:
        path: a bundle, which is checked as a whole, or a model repository of Triton.
        maybe_empty: also a folder without models, for a server that is sent them.

    Raises:
        ArtifactError: it is neither, or is damaged.
        UsageError: it is for a server that cannot be run here.
    """
    path = Path(path)
    if is_bundle(path):
        bundle = Bundle.load(path)
        target = bundle.facts.target
        if target not in SERVERS:
            raise UsageError(f"{path} is for {target}, which does not run here: {_why_not(target)}", _SHIP)
        return Servable(SERVERS[target], path / "models", (bundle.facts.name,), bundle=True)
    models = [] if maybe_empty and _holds_no_folder(path) else model_folders(path)
    if models == [path]:
        raise UsageError(f"{path} is one model", "Name the folder that holds it: Triton loads a model repository")
    for model in models:
        if backend_of(model, Reader(model, path.resolve()).config()) == ONNX:
            raise UsageError(f"{model} is for the backend {ONNX}: {_why_not('triton')}", _SHIP)
    return Servable("triton", path, tuple(model.name for model in models), bundle=False)


def _holds_no_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not any(inner.is_dir() for inner in path.iterdir())
    except OSError:  # who looks for models says why
        return False


def _why_not(target: str) -> str:
    if target in ("triton", "kserve", "seldon"):
        return "the Triton that pip installs has the python backend alone"
    return "there is no such server to install with pip"
