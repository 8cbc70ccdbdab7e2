"""Reading the files of one model of a repository: plain files inside of it, and in words what could not be read."""

import stat
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf comes without types

from rnn_export.errors import ArtifactError
from rnn_export.model_config import FILE, Config, parse_config
from rnn_export.repository.trial_inputs import UNNAMED
from rnn_export.rules import Graph, Value
from rnn_export.rules._model import ENSEMBLE, ONNX, PYTHON

LARGEST_CONFIG, LARGEST_MODEL = 2**20, 2**31 - 1  # bytes; a protobuf message cannot be larger
_TYPES = {"FLOAT": "FP32", "DOUBLE": "FP64", "FLOAT16": "FP16", "BFLOAT16": "BF16"}
_TYPES |= {name: name for name in ("BOOL", "STRING", "INT8", "INT16", "INT32", "INT64")}
_TYPES |= {f"UINT{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)}


class Reader:
    """Reads plain files of one model and remembers what it could not read."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.problems: list[str] = []

    def plain(self, path: Path, largest: int = LARGEST_MODEL) -> Path | None:
        """The file, or None with a problem where there is one; silent where there is none."""
        name = f"{self.folder.absolute().name}/{path.relative_to(self.folder)}"
        if not path.is_symlink() and not path.exists():
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
        name = f"{self.folder.absolute().name}/{FILE}"
        try:
            return parse_config(file.read_text(encoding="utf-8"), name)
        except UnicodeDecodeError:
            self.problems.append(f"{name} is no UTF-8 text")
        except ArtifactError as error:
            self.problems.append(str(error.args[0]))
        except OSError as error:
            self.problems.append(f"{name} cannot be read: {error.strerror}")
        return None

    def backend_and_file(self, config: Config | None, version: Path) -> tuple[str, Path | None]:
        """Which backend runs the version, and the file that it loads."""
        backend = backend_of(config)
        named = "" if config is None else str(config.default_model_filename)
        if named and (Path(named).is_absolute() or ".." in Path(named).parts):
            self.problems.append(
                f"{self.folder.absolute().name}/{FILE}: default_model_filename {named!r} leads elsewhere"
            )
            return backend, None
        for kind, default in ((ONNX, "model.onnx"), (PYTHON, "model.py")):
            place = version / (named or default)
            if backend in (kind, "") and (backend or not named or named == default):
                if (place / "model.onnx").is_file():  # a folder of that name, with its weights beside the model
                    place = place / "model.onnx"
                if (file := self.plain(place)) is not None or backend:
                    return kind, file
        return backend, None

    def graph(self, file: Path) -> Graph | None:
        """What the file declares; its weights beside it stay where they are."""
        name = f"{self.folder.absolute().name}/{file.relative_to(self.folder)}"
        try:
            model = onnx.load(file, load_external_data=False)
        except (DecodeError, OSError, ValueError) as error:
            self.problems.append(f"{name} is no ONNX file: {str(error) or type(error).__name__}")
            return None
        if not model.graph.node:
            self.problems.append(f"{name} is no ONNX file: it has no nodes")
            return None
        return graph_of(model)


def graph_of(model: onnx.ModelProto) -> Graph:
    """What a model declares."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_value(value) for value in model.graph.input if value.name not in constants)
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
    return Graph(inputs, tuple(map(_value, model.graph.output)), opset, model.ir_version)


def backend_of(config: Config | None) -> str:
    """The backend that a configuration names, by its field or, as older ones do, by the platform."""
    if config is None:
        return ""
    if config.backend:
        return str(config.backend)
    if config.platform == ENSEMBLE or config.WhichOneof("scheduling") == "ensemble_scheduling":
        return ENSEMBLE
    return ONNX if config.platform == "onnxruntime_onnx" else str(config.platform)


def _value(value: Any) -> Value:
    tensor = value.type.tensor_type
    kind = _TYPES.get(onnx.TensorProto.DataType.Name(tensor.elem_type), "") if tensor.elem_type else ""
    fixed = [dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim]
    both = list(zip(tensor.shape.dim, fixed, strict=True))
    dims = tuple(int(dim.dim_value) if known else -1 for dim, known in both)
    names = tuple(str(dim.dim_value) if known else dim.dim_param or UNNAMED for dim, known in both)
    return Value(value.name, f"TYPE_{kind}" if kind else "", dims, names)
