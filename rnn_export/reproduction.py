"""A failure as a maintainer of the runtime wants it: the smallest network that still fails, and a script without us."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.artifact import Artifact
from rnn_export.errors import UsageError
from rnn_export.folder import replace_folder
from rnn_export.oracle import run_oracle
from rnn_export.pipeline import export, verify
from rnn_export.result import Result, Status
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.spec import RNNSpec
from rnn_export.subject import subject_of_artifact
from rnn_export.weights import Weights

SCRIPT = '''"""{title}

pip install {requires}, then run this file in its folder.
"""

import numpy as np

inputs, expected = dict(np.load("inputs.npz")), dict(np.load("expected.npz"))
{snippet}
for name in expected:
    print(name, "is off by", np.abs(np.asarray(found[name]) - expected[name]).max(), "from float64")
'''
_SIZES = ("num_layers", "input_size", "hidden_size")
_MARK = "reproduction.txt"  # what says that a folder is ours to replace


@dataclass(frozen=True)
class Reproduction:
    """What was found: the folder, the network, the failing row, and how many networks were tried."""

    path: Path
    spec: RNNSpec
    row: Result
    tried: int


def reproduce(artifact: str | Path, runtime: str, output: str | Path) -> Reproduction:
    """Shrink an artifact's failure on a runtime, and write a folder that shows it with that runtime and numpy alone.

    The network keeps its form, nonlinearity, type and lengths; its layers, directions, sizes, biases and the steps of a
    fixed length are taken away one after the other as long as a network with random weights still fails with the same
    code. Of its failing cases it is the one of the fewest steps and rows.

    Args:
        artifact: a folder that ``export`` made, and that fails on the runtime.
        runtime: where.
        output: the folder to make.

    Raises:
        UsageError: the artifact does not fail there, or the runtime has no script.
    """
    chosen = RUNTIMES.get(runtime)
    if not chosen.snippet:
        raise UsageError(f"there is no script for {runtime}", "Its adapter would have to give one")
    source = Artifact.load(Path(artifact))
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        smallest, tried = source, 1
        row = _failure(source.path, chosen)
        if row is None:
            raise UsageError(f"{source.path} does not fail on {runtime}", "There is nothing to reproduce")
        progress = True
        while progress:
            progress = False
            for spec, steps in _smaller(smallest.spec, smallest.steps):
                tried += 1
                trial = _exported(spec, steps, source, Path(scratch) / f"trial-{tried}")
                found = _failure(trial.path, chosen)
                if found is not None and found.code == row.code:
                    smallest, row, progress = trial, found, True
                    break
        _write(smallest, chosen, row, Path(output))
    return Reproduction(Path(output), smallest.spec, row, tried)


def _smaller(spec: RNNSpec, steps: int | None) -> Iterator[tuple[RNNSpec, int | None]]:
    """The same network with less of one thing, the largest cut first."""
    said = spec.to_dict()
    for name in _SIZES:
        for less in _less_than(said[name]):
            yield RNNSpec.from_dict({**said, name: less}), steps
    for name in ("bidirectional", "bias", "batch_first"):
        if said[name]:
            yield RNNSpec.from_dict({**said, name: False}), steps
    for less in _less_than(steps or 1):
        yield spec, less


def _less_than(size: int) -> list[int]:
    return [less for less in (1, 2, size // 2) if 0 < less < size]


def _exported(spec: RNNSpec, steps: int | None, source: Artifact, place: Path) -> Artifact:
    weights, lengths = Weights.random(spec, 0, source.manifest["dtype"]), source.manifest["lengths"]
    return export(weights, place, form=source.form, opset=source.opset, lengths=lengths, steps=steps)


def _failure(path: Path, runtime: Runtime) -> Result | None:
    """The failing row with the smallest input; None where all pass."""
    report = verify(path, runtimes=[runtime.name])
    good = (Status.PASS, Status.DIVERGENCE, Status.ABSENT)
    rows = [row for row in report.results if row.runtime == runtime.name and row.status not in good]
    if not rows:
        return None
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        sizes = {case.name: case.x.size for case in subject_of_artifact(path, Path(scratch)).cases}
    return min(rows, key=lambda row: sizes.get(row.case, 0))


def _write(artifact: Artifact, runtime: Runtime, row: Result, output: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        subject = subject_of_artifact(artifact.path, Path(scratch))
        case = next((case for case in subject.cases if case.name == row.case), subject.cases[0])
    if subject.signature.one_step:  # of a case with more steps the first: the script has no loop
        case = replace(case, x=case.x[:1])
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
    script = SCRIPT.format(title=title, requires=" ".join(runtime.requires), snippet=runtime.snippet)

    def fill(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(artifact.model_path.read_bytes())
        for name, arrays in (("inputs", inputs), ("expected", expected)):
            whole = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
            np.savez(folder / f"{name}.npz", **whole)  # type: ignore[arg-type]  # its stub takes an option for a key
        (folder / "reproduce.py").write_text(script)
        (folder / _MARK).write_text(f"{title}\n{row.detail}\n")

    replace_folder(output, fill, lambda folder: (folder / _MARK).is_file())
