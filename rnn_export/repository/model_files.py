"""Reading the files of one model of a repository: plain files inside of it, and in words what could not be read."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf comes without types

from rnn_export.errors import ArtifactError
from rnn_export.model_config import FILE, Config, parse_config
from rnn_export.repository.data_types import DATA_TYPES
from rnn_export.repository.trial_inputs import UNNAMED
from rnn_export.repository.weight_files import weight_files
from rnn_export.rules import Graph, Value
from rnn_export.rules._model import DEFAULT_FILES, ONNX

LARGEST_CONFIG, LARGEST_MODEL = 2**20, 2**31 - 1  # bytes; a protobuf message cannot be larger
LARGEST_WEIGHTS = 2**50  # bytes; they are mapped, and not read


class Reader:
    """Reads plain files of one model and remembers what it could not read."""

    def __init__(self, folder: Path, root: Path, problems: Sequence[str] = ()) -> None:
        self.folder, self.root = folder, root
        self.name = folder.absolute().name
        self.problems = [*problems]

    def plain(self, path: Path, largest: int = LARGEST_MODEL) -> Path | None:
        """The file, or None with a problem where there is one; silent where there is none."""
        name = f"{self.name}/{path.relative_to(self.folder)}"
        if not os.path.lexists(path):  # which takes any name
            return None
        try:
            found, real = path.stat(), path.resolve(strict=True)
        except (OSError, RuntimeError):
            self.problems.append(f"{name} is a link that leads nowhere")
            return None
        if not real.is_relative_to(self.root):
            self.problems.append(f"{name} is a link out of the repository, and was not followed")
        elif not stat.S_ISREG(found.st_mode):
            self.problems.append(f"{name} is no plain file")
        elif found.st_size > largest:
            self.problems.append(f"{name} has {found.st_size:,} bytes, and more than {largest:,} cannot be loaded")
        else:
            return path
        return None

    def config(self) -> Config | None:
        file = self.plain(self.folder / FILE, LARGEST_CONFIG)
        if file is None:
            return None
        name = f"{self.name}/{FILE}"
        try:
            return parse_config(file.read_text(encoding="utf-8"), name)
        except UnicodeDecodeError:
            self.problems.append(f"{name} is no UTF-8 text")
        except ArtifactError as error:
            self.problems.append(str(error.args[0]))
        except OSError as error:
            self.problems.append(f"{name} cannot be read: {error.strerror}")
        return None

    def file(self, backend: str, config: Config | None, version: Path) -> Path | None:
        """The file that the backend loads, where it is one that is known here."""
        named = "" if config is None else str(config.default_model_filename)
        if named and (Path(named).is_absolute() or ".." in Path(named).parts):
            self.problems.append(f"{self.name}/{FILE}: default_model_filename {named!r} leads elsewhere")
            return None
        if backend not in DEFAULT_FILES:
            return None
        place = version / (named or DEFAULT_FILES[backend])
        try:
            if backend == ONNX and place.is_dir():  # a folder of that name, with its weights beside the model
                place = place / "model.onnx"
        except OSError as error:
            self.problems.append(f"{self.name}/{FILE}: default_model_filename: {error.strerror}")
            return None
        return self.plain(place)

    def graph(self, file: Path) -> Graph | None:
        """What the file declares; its weights beside it stay where they are."""
        name = f"{self.name}/{file.relative_to(self.folder)}"
        if file.suffix == ".ort":
            self.problems.append(f"{name} is for ONNX Runtime a file of its own format, which is not read here")
            return None
        try:
            model = onnx.load(file, format="protobuf", load_external_data=False)
        except (DecodeError, OSError, ValueError) as error:
            self.problems.append(f"{name} is no ONNX file: {str(error) or type(error).__name__}")
            return None
        if not model.graph.node:
            self.problems.append(f"{name} is no ONNX file: it has no nodes")
            return None
        whole = [self._has_weights(file, name, place) for place in weight_files(model)]
        return graph_of(model) if all(whole) else None

    def _has_weights(self, file: Path, name: str, place: Path) -> bool:
        if place.is_absolute() or ".." in place.parts:
            self.problems.append(f"{name} has its weights in {str(place)!r}, which leads elsewhere")
            return False
        before = len(self.problems)
        if self.plain(file.parent / place, LARGEST_WEIGHTS) is None and len(self.problems) == before:
            self.problems.append(f"{name} has weights in {str(place)!r}, which is not there")
        return len(self.problems) == before


def graph_of(model: onnx.ModelProto) -> Graph:
    """What a model declares."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_value(value) for value in model.graph.input if value.name not in constants)
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
    return Graph(inputs, tuple(map(_value, model.graph.output)), opset, model.ir_version)


def _value(value: Any) -> Value:
    tensor = value.type.tensor_type
    fixed = [dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim]
    both = list(zip(tensor.shape.dim, fixed, strict=True))
    dims = tuple(int(dim.dim_value) if known else -1 for dim, known in both)
    names = tuple(str(dim.dim_value) if known else dim.dim_param or UNNAMED for dim, known in both)
    return Value(value.name, DATA_TYPES.get(tensor.elem_type, ""), dims, names)
