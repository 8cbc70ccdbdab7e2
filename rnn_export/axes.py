"""Whether the axes that an ONNX file declares dynamic really are: it is run at sizes that nobody exported it with."""

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rnn_export.child import Child, Failure
from rnn_export.execution import prepared
from rnn_export.inspection import constants_of_graph, frozen_length
from rnn_export.runtimes import RUNTIMES

SIZES = (3, 67, 131)  # primes on both sides of what people export with
RUNTIME = "onnxruntime-cpu"
TIMEOUT = 20.0  # seconds per run
LIMIT = 2**24  # numbers in one input; more is not tried
_NUMBERS = {np.dtype(kind) for kind in ("float16", "float32", "float64", "int32", "int64")}


@dataclass(frozen=True)
class AxisFinding:
    """One axis that the inputs declare dynamic.

    Attributes:
        name: what the file calls it, or ``input[0]`` for an axis without a name.
        state: ``dynamic``, ``frozen`` (it says dynamic and is not), ``refused`` or ``not tried``.
        detail: how that was found.
    """

    name: str
    state: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}   {self.state}: {self.detail}"


def probe_axes(path: Path, model: onnx.ModelProto) -> Iterator[AxisFinding]:
    """Every axis that the inputs declare dynamic, tried at several sizes.

    An axis is dynamic where some output changes with it; in shape, or at the largest size in value when only the last
    slice of the input changes. It is frozen where the file runs and nothing changes.

    Args:
        path: the file.
        model: the same, loaded.
    """
    constants = {name for name, _ in constants_of_graph(model.graph)}
    inputs = {value.name: _axes(value) for value in model.graph.input if value.name not in constants}
    names = dict.fromkeys(size for axes in inputs.values() for size in axes if isinstance(size, str))
    dtypes = {value.name: _dtype(value) for value in model.graph.input if value.name in inputs}
    if not names:
        return
    if strange := [name for name, dtype in dtypes.items() if dtype not in _NUMBERS]:
        yield from (AxisFinding(name, "not tried", f"{strange[0]} holds {dtypes[strange[0]]}") for name in names)
        return
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        folder = Path(scratch)
        for file in (path, path.with_name(path.name + ".data")):  # where exporters keep large weights
            if file.is_file():
                shutil.copyfile(file, folder / ("model.onnx" if file == path else file.name))
        trial = _Trial(model, inputs, dtypes, folder)
        for name in names:
            yield trial.finding(name)


class _Trial:
    def __init__(
        self,
        model: onnx.ModelProto,
        inputs: Mapping[str, tuple[int | str, ...]],
        dtypes: Mapping[str, np.dtype[Any]],
        folder: Path,
    ) -> None:
        self.model, self.inputs, self.dtypes, self.folder = model, inputs, dtypes, folder
        self.runtime = RUNTIMES.get(RUNTIME)

    def finding(self, name: str) -> AxisFinding:
        """One named axis, in a child of its own: a size that kills it says nothing of the next axis."""
        try:
            with prepared(self.runtime, [self.folder], TIMEOUT) as child:
                return self._tried(name, child)
        except Failure as failure:
            return AxisFinding(name, "not tried", f"{RUNTIME} says {failure.status.value}: {failure.detail}")

    def _tried(self, name: str, child: Child) -> AxisFinding:
        answers: dict[int, dict[str, NDArray[Any]]] = {}
        refusal = ""
        for size in SIZES:
            feed = self._feed(name, size)
            if feed is None:
                return AxisFinding(name, "not tried", f"an input would have more than {LIMIT:,} numbers")
            try:
                answers[size] = child.run(1, feed)
            except Failure as failure:
                if not child.alive:
                    raise
                refusal = refusal or f"at {size}: {failure.detail}"
        if not answers:
            return AxisFinding(name, "refused", refusal)
        largest, sizes = max(answers), ", ".join(map(str, answers))
        shapes = {tuple(array.shape for array in found.values()) for found in answers.values()}
        if len(shapes) > 1 or self._counts(name, largest, answers[largest], child):
            state = "dynamic" if len(answers) > 1 else "refused"
            return AxisFinding(name, state, f"runs at {sizes}" + (f"; {refusal}" if refusal else ""))
        kept = self._kept(name, answers[largest])
        if kept is None or kept == largest:
            return AxisFinding(name, "frozen", f"declared dynamic, but only the first ones of {largest} count")
        where = frozen_length(self.model, kept)
        return AxisFinding(name, "frozen", f"declared dynamic, but {kept} of {largest} come back: {where}")

    def _counts(self, name: str, size: int, before: Mapping[str, NDArray[Any]], child: Child) -> bool:
        """Whether some output changes when the last slice along the axis does."""
        feed = self._feed(name, size)
        assert feed is not None  # it was run before
        for key, axes in self.inputs.items():
            if name in axes and feed[key].ndim > 1:
                last = (slice(None),) * axes.index(name) + (-1,)
                feed[key][last] = 1 - feed[key][last]
        after = child.run(1, feed)
        return any(not np.array_equal(after[key], before[key], equal_nan=True) for key in before)

    def _kept(self, name: str, answers: Mapping[str, NDArray[Any]]) -> int | None:
        """The size that an output has where the file declares the axis."""
        for value in self.model.graph.output:
            for axis, size in enumerate(_axes(value)):
                if size == name and value.name in answers:
                    return int(answers[value.name].shape[axis])
        return None

    def _feed(self, name: str, size: int) -> dict[str, NDArray[Any]] | None:
        """Inputs with that axis of that size and all others large; None where that is too much."""
        names = dict.fromkeys(axis for axes in self.inputs.values() for axis in axes if isinstance(axis, str))
        sizes = {**dict.fromkeys(names, SIZES[-1]), name: size}
        feed: dict[str, NDArray[Any]] = {}
        for seed, (key, axes) in enumerate(self.inputs.items()):
            shape = [sizes[axis] if isinstance(axis, str) else axis for axis in axes]
            if math.prod(shape) > LIMIT:
                return None
            if np.issubdtype(self.dtypes[key], np.floating):
                feed[key] = np.random.default_rng(seed).standard_normal(shape).astype(self.dtypes[key])
            else:  # one per row: lengths, none longer than the other axes; else indices: every table has the first
                others = [other for axis, other in sizes.items() if axis not in axes]
                feed[key] = np.full(shape, min(others, default=0) if len(shape) == 1 else 0, self.dtypes[key])
        return feed


def _axes(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}[{axis}]"
        for axis, dim in enumerate(dims)
    )


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    kind = value.type.tensor_type.elem_type
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)) if kind else np.dtype(object)
