"""A failure as a maintainer of the runtime wants it: the smallest network that still fails, and a script without us."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.artifact import Artifact
from rnn_export.cases import Case, Check
from rnn_export.element_types import BFLOAT16
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.errors import InstallationError, UsageError
from rnn_export.findings import explain
from rnn_export.folder import replace_folder
from rnn_export.oracle import run_oracle
from rnn_export.pipeline import export, verify
from rnn_export.result import Result, Status
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.spec import RNNSpec
from rnn_export.subject import Subject, subject_of_artifact
from rnn_export.verification import verify_runtime
from rnn_export.weights import Weights

SCRIPT = '''"""{title}

{install}, then run this file in its folder.
"""

import numpy as np

inputs, expected = dict(np.load("inputs.npz")), dict(np.load("expected.npz"))
{snippet}
np.set_printoptions(precision=17)
for name, right in expected.items():
    array = np.asarray(found[name])
    print(name, "is", array.dtype, array.shape, array.ravel(), "and not", right.shape, right.ravel())
'''
TIMEOUT = 60.0  # seconds per request
FEW_STEPS, FEW_ROWS = 8, 3  # shorter inputs are all tried; what fails only beyond keeps the length of its case
_GOOD = (Status.PASS, Status.DIVERGENCE, Status.ABSENT)
_SIZES = ("num_layers", "input_size", "hidden_size")
_MARK = "reproduction.txt"  # what says that a folder is ours to replace


@dataclass(frozen=True)
class Reproduction:
    """What was found: the folder, the network, the failing row, and how many networks were tried."""

    path: Path
    spec: RNNSpec
    row: Result
    tried: int


def reproduce(artifact: str | Path, runtime: str, output: str | Path, *, code: str | None = None) -> Reproduction:
    """Shrink an artifact's failure on a runtime, and write a folder that shows it with that runtime and numpy alone.

    The network keeps its form, nonlinearity, type and lengths; its layers, directions, sizes, biases and the steps of a
    fixed length are taken away one after the other as long as a network with random weights still fails with the same
    code. Then its weights are made simple and its input short, as far as that still shows it.

    Args:
        artifact: a folder that ``export`` made, and that fails on the runtime.
        runtime: where.
        output: the folder to make.
        code: of the finding, where there are several, or of a documented difference; the gravest if not said.

    Raises:
        UsageError: the artifact does not fail there, the code is unknown, or the runtime or type has no script.
        InstallationError: the runtime is not installed here.
    """
    chosen = RUNTIMES.get(runtime)
    if not chosen.snippet:
        raise UsageError(f"there is no script for {runtime}", "Its adapter would have to give one")
    if interpreter_of(chosen) is None:
        raise InstallationError(f"{runtime} is not installed", f"Run: {how_to_install(chosen)}")
    if code is not None:
        explain(code)  # or says which there are
    source = Artifact.load(Path(artifact))
    if source.manifest["dtype"] == BFLOAT16:
        raise UsageError("numpy has no bfloat16, which the script would read", "Export the network in another --dtype")
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        trials = _Trials(chosen, Path(scratch))
        smallest, tried = source, 1
        failure = trials.failure(source, code or _gravest(source, runtime))
        if failure is None:
            what = f"{code} on {runtime}" if code else f"on {runtime}"
            raise UsageError(f"{source.path} does not fail {what}", f"See: rnn-export verify {source.path}")
        progress = True
        while progress:
            progress = False
            for weights, steps in _smaller(smallest):
                tried += 1
                place = Path(scratch) / f"trial-{tried}"
                lengths, opset = source.manifest["lengths"], source.opset
                trial = export(weights, place, form=source.form, opset=opset, lengths=lengths, steps=steps)
                if (found := trials.failure(trial, failure.row.code)) is not None:
                    smallest, failure, progress = trial, found, True
                    break
        failure = trials.shortened(smallest, failure)
        _write(smallest, chosen, failure, Path(output))
    return Reproduction(Path(output), smallest.spec, failure.row, tried)


def _gravest(artifact: Artifact, runtime: str) -> str:
    """The code of the artifact's failure on the runtime, wrong answers before refusals; empty where it passes."""
    results = verify(artifact.path, runtimes=[runtime]).results
    rows = [row for row in results if row.runtime == runtime and row.status not in _GOOD]
    wrong = [row.code for row in rows if row.status is Status.MISMATCH]
    return next(iter([*wrong, *(row.code for row in rows)]), "")


@dataclass(frozen=True)
class _Failure:
    """A row that failed, and its input; None where the runtime did not get so far."""

    row: Result
    case: Case | None


class _Trials:
    """Networks tried on one runtime."""

    def __init__(self, runtime: Runtime, scratch: Path) -> None:
        self.runtime, self.scratch = runtime, scratch

    def failure(self, artifact: Artifact, code: str) -> _Failure | None:
        """What fails with the code, of the smallest input; None where nothing does."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:
            return self._failure(subject_of_artifact(artifact.path, Path(place)), code)

    def shortened(self, artifact: Artifact, failure: _Failure) -> _Failure:
        """The same failure with as few steps and rows as show it."""
        case = failure.case
        if case is None or case.check not in (Check.STEPS, Check.MASKS) or not case.x.size:
            return failure
        lengths = [case.T] if artifact.steps is not None else [*range(1, min(case.T, FEW_STEPS) + 1), case.T]
        sizes = [(T, B) for T in dict.fromkeys(lengths) for B in range(1, min(case.B, FEW_ROWS) + 1)]
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:
            subject = subject_of_artifact(artifact.path, Path(place))
            shorter = [_cut(case, T, B) for T, B in sizes]
            return self._failure(replace(subject, cases=shorter), failure.row.code) or failure

    def _failure(self, subject: Subject, code: str) -> _Failure | None:
        errors: dict[str, float] = {}
        if code == "end-to-end":  # the only verdict that asks how far off torch is
            reference = verify_runtime(subject, RUNTIMES.get("torch"), timeout=TIMEOUT, torch_errors={}).rows
            errors = {row.case: row.max_abs for row in reference if row.max_abs is not None}
        rows = verify_runtime(subject, self.runtime, timeout=TIMEOUT, torch_errors=errors).rows
        cases = {case.name: case for case in subject.cases}
        found = [_Failure(row, cases.get(row.case)) for row in rows if code and row.code == code]
        return min(found, key=lambda failure: failure.case.x.size if failure.case else 0, default=None)


def _cut(case: Case, T: int, B: int) -> Case:
    lengths = None if case.lengths is None else np.minimum(case.lengths[:B], T)
    if lengths is not None:
        lengths[0] = T  # the longest fills the input
    return replace(case, name=f"T={T} B={B}", x=case.x[:T, :B], h_0=case.h_0[:, :B], lengths=lengths)


def _smaller(artifact: Artifact) -> Iterator[tuple[Weights, int | None]]:
    """The same network with less of one thing, the largest cut first; at last with simpler weights."""
    said, steps, dtype = artifact.spec.to_dict(), artifact.steps, artifact.manifest["dtype"]
    smaller = [{name: less} for name in _SIZES for less in _less_than(said[name])]
    smaller += [{name: False} for name in ("bidirectional", "bias", "batch_first") if said[name]]
    for less in smaller:
        yield Weights.random(RNNSpec.from_dict({**said, **less}), 0, dtype), steps
    for fewer in _less_than(steps or 1):
        yield Weights.random(artifact.spec, 0, dtype), fewer
    weights = artifact.weights()
    for simple in ({name: np.full_like(array, 0.5) for name, array in weights.items()}, _rounded(weights)):
        if any((simple[name] != array).any() for name, array in weights.items()):
            yield Weights(artifact.spec, simple), steps


def _rounded(weights: Weights) -> dict[str, NDArray[Any]]:
    """To one decimal, which a person can read."""
    return {name: np.round(array.astype(np.float64), 1).astype(array.dtype) for name, array in weights.items()}


def _less_than(size: int) -> list[int]:
    return [less for less in (1, 2, size // 2) if 0 < less < size]


def _write(artifact: Artifact, runtime: Runtime, failure: _Failure, output: Path) -> None:
    row = failure.row
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        subject = subject_of_artifact(artifact.path, Path(scratch))
    case = failure.case or subject.cases[0]
    if subject.signature.one_step:  # of a case with more steps the first wrong one: the script has no loop
        before = run_oracle(subject.weights, case.x[: row.step or 0], case.h_0).h_n.astype(case.h_0.dtype)
        case = replace(case, x=case.x[row.step or 0 :][:1], h_0=before)
    truth = run_oracle(subject.weights, case.x, case.h_0, case.lengths)
    turn = artifact.spec.batch_first
    inputs: dict[str, NDArray[Any]] = {"input": case.x.swapaxes(0, 1) if turn else case.x, "h_0": case.h_0}
    if case.lengths is not None:
        inputs["lengths"] = case.lengths
    output_of = truth.output[:]
    expected = {"output": output_of.swapaxes(0, 1) if turn else output_of, "h_n": truth.h_n}
    if subject.signature.one_step:
        inputs["input"] = case.x[0]
        del expected["output"]
    verdict = f"{row.status.value} [{row.code}]"
    title = f"{runtime.name} {row.version}: {verdict} on {artifact.spec}, {row.case or 'loading'}."
    install = f"pip install {' '.join(runtime.requires)}"
    install += f", npm install {' '.join(runtime.npm)}" if runtime.npm else ""
    script = SCRIPT.format(title=title, install=install, snippet=runtime.snippet)

    def fill(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(artifact.model_path.read_bytes())
        for name, arrays in (("inputs", inputs), ("expected", expected)):
            whole = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
            np.savez(folder / f"{name}.npz", **whole)  # type: ignore[arg-type]  # its stub takes an option for a key
        (folder / "reproduce.py").write_text(script)
        (folder / _MARK).write_text(f"{title}\n{row.detail}\n")

    replace_folder(output, fill, lambda folder: (folder / _MARK).is_file())
