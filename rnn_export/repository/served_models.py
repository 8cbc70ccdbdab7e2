"""The models of a Triton model repository, read from their folders without running or importing anything of them."""

from functools import cache
from pathlib import Path

from rnn_export.errors import ArtifactError
from rnn_export.model_config import FILE, Config
from rnn_export.onnxruntime_releases import Release
from rnn_export.repository.backends import backend_of
from rnn_export.repository.model_files import Reader
from rnn_export.repository.other_programs import is_ours, other_program
from rnn_export.repository.traced_sizes import try_file
from rnn_export.repository.trial_run import Question
from rnn_export.repository.versions import folders_in, served_versions, versions_in
from rnn_export.rules import Graph, Model, Trial
from rnn_export.rules._model import ENSEMBLE, ONNX, PYTHON, START


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
    return [path / name for name in folders_in(path) if _is_model(path / name)]  # hidden ones too: Triton serves them


def read_models(folder: Path, root: Path, release: Release | None) -> list[Model]:
    """One model, in every version that is served, the newest last; once where there is none.

    Args:
        folder: of the model.
        root: of the repository: links that lead out of it are not followed.
        release: of the server, if one was named.
    """
    reader = Reader(folder, root.resolve())
    config = reader.config()
    backend = backend_of(folder, config)
    present, served = versions_in(folder), served_versions(folder, config)
    if present and not served:
        reader.problems.append(f"{reader.name}/{FILE}: version_policy serves none of {_listed(present)}")
    notes = ["an ensemble: its models are checked as models"] if backend == ENSEMBLE else []
    if len(present) > 1 and served:
        notes.append(f"of its versions {_listed(present)} Triton serves, and here is checked: {_listed(served)}")
    names = [str(version) for version in served] or [""]
    return [
        _read_version(Reader(folder, reader.root, reader.problems), config, backend, name, notes, release)
        for name in names
    ]


def _read_version(
    reader: Reader, config: Config | None, backend: str, version: str, notes: list[str], release: Release | None
) -> Model:
    folder = reader.folder
    file = reader.file(backend, config, folder / version) if version else None
    program = other_program(folder, version, backend, config)
    graph_file = file if backend == ONNX else None
    if backend == PYTHON and file is not None and is_ours(file):
        graph_file = reader.plain(folder / version / "model.onnx")
    graph = reader.graph(graph_file) if graph_file is not None else None

    @cache
    def trial() -> Trial:
        if graph is None or graph_file is None or program:
            return Trial(unproved=_why_not_run(backend, reader.problems, program))
        return try_file(_question(model, graph_file, graph))

    model = Model(
        name=reader.name,
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
    return config.exists() or config.is_symlink() or any((folder / str(one)).is_dir() for one in versions_in(folder))


def _listed(versions: list[int]) -> str:
    return ", ".join(map(str, versions))


def _why_not_run(backend: str, problems: list[str], program: str) -> str:
    if problems:
        return problems[0]
    if program:
        return program
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
