"""The models of a Triton model repository, read from their folders without running or importing anything of them."""

from functools import cache
from pathlib import Path

from rnn_export.errors import ArtifactError
from rnn_export.model_config import FILE
from rnn_export.onnxruntime_releases import Release
from rnn_export.repository.model_files import Reader, backend_of
from rnn_export.repository.traced_sizes import try_file
from rnn_export.repository.trial_run import Question
from rnn_export.rules import Graph, Model, Trial
from rnn_export.rules._model import ENSEMBLE, ONNX, PYTHON, START

OUR_CODE = Path(__file__).parent.parent / "data" / "triton"  # a model.py of ours runs model.onnx beside it


def model_folders(path: Path) -> list[Path]:
    """The folders of the models: of a repository, of a bundle's ``models``, or the one folder that was named.

    Raises:
        ArtifactError: there is no model.
    """
    if not path.is_dir():
        what = "is no folder" if path.exists() else "does not exist"
        raise ArtifactError(f"{path} {what}", "Name a model repository, a model's folder in it, or a bundle")
    try:
        if models := _model_folders(path):
            return models
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}", "Check its rights") from None
    raise ArtifactError(
        f"{path} is no model repository: no folder in it has a {FILE} or a version such as 1",
        "Name the folder that holds NAME/1/model.onnx",
    )


def _model_folders(path: Path) -> list[Path]:
    if (path / "manifest.json").is_file() and (path / "models").is_dir():
        path = path / "models"
    if _is_model(path):
        return [path]
    found = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    return [folder for folder in found if _is_model(folder)]


def read_model(folder: Path, root: Path, release: Release | None) -> Model:
    """One model, in its newest version.

    Args:
        folder: of the model.
        root: of the repository: links that lead out of it are not followed.
        release: of the server, if one was named.
    """
    reader = Reader(folder, root.resolve())
    config = reader.config()
    versions = _versions(folder)
    version = str(versions[-1]) if versions else ""
    backend, file = reader.backend_and_file(config, folder / version) if version else (backend_of(config), None)
    graph_file = file
    if backend == PYTHON:
        graph_file = reader.plain(file.parent / "model.onnx") if file is not None and _is_ours(file) else None
    elif backend != ONNX:
        graph_file = None
    graph = reader.graph(graph_file) if graph_file is not None else None
    notes = ["an ensemble: its models are checked as models"] if backend == ENSEMBLE else []
    if len(versions) > 1:
        notes.append(f"version {version} of {', '.join(map(str, versions))} is checked, the newest")

    @cache
    def trial() -> Trial:
        if graph is None or graph_file is None:
            return Trial(unproved=_why_not_run(backend, reader.problems))
        return try_file(_question(model, graph_file, graph))

    model = Model(
        name=folder.absolute().name,
        folder=folder,
        config=config,
        backend=backend,
        version=version,
        file=file,
        graph=graph,
        release=release,
        problems=tuple(reader.problems),
        notes=tuple(notes),
        trial=trial,
    )
    return model


def _is_model(folder: Path) -> bool:
    config = folder / FILE
    return config.exists() or config.is_symlink() or bool(_versions(folder))


def _versions(folder: Path) -> list[int]:
    """The numbers of the version folders, the newest last: what starts with 0 is none."""
    names = (inner.name for inner in folder.iterdir() if inner.is_dir())
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and name[0] != "0")


def _is_ours(file: Path) -> bool:
    return any(code.read_bytes() == file.read_bytes() for code in OUR_CODE.rglob("model.py"))


def _why_not_run(backend: str, problems: list[str]) -> str:
    if problems:
        return problems[0]
    if backend == PYTHON:
        return "model.py is somebody's program, and nothing of a repository is executed but ONNX files"
    return f"the backend {backend or 'is not known'}: only ONNX files are run"


def _question(model: Model, file: Path, graph: Graph) -> Question:
    batched = model.max_batch_size > 0
    said = (
        {}
        if model.config is None
        else {one.name: one.reshape.shape if one.HasField("reshape") else one.dims for one in model.config.input}
    )
    said |= {state.input_name: state.dims for state in model.states}
    fitting = {value.name for value in graph.inputs if value.may_batch or not batched}  # of the others T3 and T8 speak
    pinned = {name: [-1, *dims] if batched else list(dims) for name, dims in said.items() if name in fitting}
    flags = frozenset(name for name, kinds in model.controls.items() if kinds <= {START, START + 1, START + 2})
    outputs = tuple(value for value in graph.outputs if value in model.used)
    return Question(file, graph, outputs, model.batches, pinned, flags)
