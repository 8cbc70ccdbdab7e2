"""Whether the axes that an ONNX file declares dynamic really are: it is run at sizes that nobody exported it with."""

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rnn_export.child import Child, Failure
from rnn_export.execution import prepared
from rnn_export.forms._external import write_model
from rnn_export.inspection import constants_of_graph, frozen_length
from rnn_export.runtimes import RUNTIMES

SIZES = (3, 67, 131)  # primes on both sides of what people export with
RUNTIME = "onnxruntime-cpu"
TIMEOUT = 20.0  # seconds per run
MOST_AXES, MOST_SECONDS = 16, 60.0  # what is tried of one file, which may be anybody's
LIMIT = 2**24  # numbers in one input; more is not tried
_NUMBERS = {np.dtype(kind) for kind in ("float16", "float32", "float64", "int32", "int64")}


@dataclass(frozen=True)
class AxisFinding:
    """One axis that the inputs declare dynamic.

    Attributes:
        name: what the file calls it, or ``input[0]`` for an axis without a name.
        state: ``dynamic``; ``frozen``: it says dynamic, and an output comes back in another size; ``no effect seen``:
            it runs, and nothing shows that what stands there counts; ``refused``; ``not tried``.
        detail: how that was found.
    """

    name: str
    state: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}   {self.state}: {self.detail}"


def probe_axes(model: onnx.ModelProto) -> Iterator[AxisFinding]:
    """Every axis that the inputs declare dynamic, tried at several sizes.

    An axis is frozen where an output that declares it comes back in another size than was put in. It is dynamic where
    an output follows it, or changes when the first, the middle or the last slice of an input does.

    Args:
        model: the file, whole; large weights are moved out of it.
    """
    constants = {name for name, _ in constants_of_graph(model.graph)}
    inputs = {value.name: _axes(value) for value in model.graph.input if value.name not in constants}
    dtypes = {value.name: _dtype(value) for value in model.graph.input if value.name in inputs}
    names = list(dict.fromkeys(size for axes in inputs.values() for size in axes if isinstance(size, str)))
    if not names:
        return
    if strange := [name for name, dtype in dtypes.items() if dtype not in _NUMBERS]:
        yield from (AxisFinding(name, "not tried", f"{strange[0]} holds {dtypes[strange[0]]}") for name in names)
        return
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch, ExitStack() as children:
        folder = Path(scratch)
        write_model(folder, model)
        trial = _Trial(model, inputs, dtypes, folder, children)
        started = time.monotonic()
        for name in names[:MOST_AXES]:
            if time.monotonic() - started > MOST_SECONDS:
                yield AxisFinding(name, "not tried", f"the axes before it took {MOST_SECONDS:.0f} seconds")
            else:
                yield trial.finding(name)
        yield from (AxisFinding(name, "not tried", f"only {MOST_AXES} axes are") for name in names[MOST_AXES:])


class _Trial:
    """One file in one child process, and in another where the first is dead."""

    def __init__(
        self,
        model: onnx.ModelProto,
        inputs: Mapping[str, tuple[int | str, ...]],
        dtypes: Mapping[str, np.dtype[Any]],
        folder: Path,
        children: ExitStack,
    ) -> None:
        self.model, self.inputs, self.dtypes, self.folder = model, inputs, dtypes, folder
        self.children = children
        self.child: Child | None = None

    def finding(self, name: str) -> AxisFinding:
        """One named axis."""
        try:
            if self.child is None or not self.child.alive:
                self.child = self.children.enter_context(prepared(RUNTIMES.get(RUNTIME), [self.folder], TIMEOUT))
            return self._tried(name, self.child)
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
        for size, found in answers.items():
            for output, kept in self._declared(name, found):
                if kept != size:
                    where = frozen_length(self.model, kept)
                    said = f"declared dynamic, but of {size} {kept} come back in {output}: {where}"
                    return AxisFinding(name, "frozen", said)
        sizes = ", ".join(map(str, answers)) + (f"; {refusal}" if refusal else "")
        shapes = {tuple(array.shape for array in found.values()) for found in answers.values()}
        least = min(answers)
        if len(shapes) == 1 and not self._counts(name, least, answers[least], child):
            said = "nothing that was changed along it changed an output: unused, faded, or frozen"
            return AxisFinding(name, "no effect seen", f"runs at {sizes}; {said}")
        return AxisFinding(name, "dynamic" if len(answers) > 1 else "refused", f"runs at {sizes}")

    def _declared(self, name: str, answers: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, int]]:
        """(output, its size) wherever an output declares the axis."""
        for value in self.model.graph.output:
            for axis, size in enumerate(_axes(value)):
                if size == name and value.name in answers and answers[value.name].ndim > axis:
                    yield value.name, int(answers[value.name].shape[axis])

    def _counts(self, name: str, size: int, before: Mapping[str, NDArray[Any]], child: Child) -> bool:
        """Whether some output changes when the last slice along the axis does; where all sizes run, any slice."""
        places = (-1, size // 2, 0) if size == SIZES[0] else (-1,)
        for place in places:
            feed = self._feed(name, size)
            assert feed is not None  # it was run before
            for key, axes in self.inputs.items():
                if name in axes and (feed[key].ndim > 1 or np.issubdtype(feed[key].dtype, np.floating)):
                    feed[key][(slice(None),) * axes.index(name) + (place,)] *= -1
                    feed[key][(slice(None),) * axes.index(name) + (place,)] += 1
            after = child.run(1, feed)
            if any(not np.array_equal(after[key], before[key], equal_nan=True) for key in before):
                return True
        return False

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
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or f"{value.name}[{axis}]"
        for axis, dim in enumerate(dims)
    )


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    kind = value.type.tensor_type.elem_type
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)) if kind else np.dtype(object)
