"""Measuring the constants of the cost model: one layer of every form at some widths and batches, timed in a child."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rnn_export import canary
from rnn_export.child import MEMORY_LIMIT, Child, Failure
from rnn_export.cost_model import Costs, CostTable, FormCost
from rnn_export.environments import how_to_install, installed_version, interpreter_of
from rnn_export.errors import InstallationError, UsageError
from rnn_export.forms import draw, usual_forms
from rnn_export.machine import this_environment, utc_now
from rnn_export.runtimes import RUNTIMES, Runtime
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

WIDTHS, BATCHES = (32, 64, 128, 256, 512, 1024), (1, 2, 4, 8, 32)  # between them costs are interpolated
NONLINEARITIES = ("tanh", "relu")  # ONNX Runtime's RNN operator computes tanh number by number
# Steps: of two lengths the constants follow; multiples of every form's block. In wide networks a run beside its steps
# is nothing, and every step takes long.
SHORT, LONG, LONG_IF_WIDE, WIDE = 16, 64, 32, 512
ROUNDS, TURN = 4, 0.006  # of each form in turn, in seconds: one thread takes less than a minute
LEAST_SHARE = 0.2  # of a step in the time of a long run: less of it is noise, as of threads that wait for a processor
# With several threads most turns are spoilt where the processors have other work too: one waits for the other.
ROUNDS_OF_SEVERAL = 12
OPSET = 18  # what ``export`` draws in where nothing is said
TIMEOUT = 60.0  # seconds for a request, of which the longest runs for less than one

Progress = Callable[[str, int, int], None]  # (what, points done, points in all)


def calibrate(
    runtime: str, threads: tuple[int, ...], widths: tuple[int, ...] = WIDTHS, progress: Progress | None = None
) -> CostTable:
    """The constants of a runtime on this machine; nothing is written.

    Args:
        runtime: its name.
        threads: each number of threads that is measured.
        widths: H, ascending.
        progress: told how far it is.

    Raises:
        UsageError: a runtime that does not read model.onnx, or that has one thread and is asked for more.
        InstallationError: it is not installed, its process did not answer, or it computes no form.
    """
    chosen = RUNTIMES.get(runtime)
    if chosen.reads != "model.onnx":
        raise UsageError(f"{runtime} runs no file", "Calibrate what files are for, such as onnxruntime-cpu")
    if chosen.single_threaded and max(threads) > 1:
        raise UsageError(f"{runtime} computes with one thread, whatever it is given", "Leave --threads out")
    if interpreter_of(chosen) is None:
        raise InstallationError(f"{runtime} is not installed", f"Run: {how_to_install(chosen)}")
    try:
        costs = tuple(_costs(chosen, threads, widths, progress))
    except Failure as failure:
        said = f"{runtime} cannot be calibrated: {failure.status.value}: {failure.detail}"
        raise InstallationError(said, "rnn-export runtimes list tells whether it works") from None
    if not all(one.forms for one in costs):
        raise InstallationError(
            f"{runtime} computes no form of any length", "docs/compatibility.md has what runs where"
        )
    return CostTable(runtime, installed_version(chosen), this_environment(1).cpu, utc_now(), costs, here=True)


def _costs(
    runtime: Runtime, threads: tuple[int, ...], widths: tuple[int, ...], progress: Progress | None
) -> Iterator[Costs]:
    done, total = 0, len(threads) * len(NONLINEARITIES) * len(widths)
    for number in threads:
        for nonlinearity in NONLINEARITIES:
            found: dict[str, list[tuple[float, float]]] = {}
            for H in widths:
                for form, points in _of_width(runtime, number, RNNSpec(H, H, 1, nonlinearity)).items():
                    found.setdefault(form, []).extend(points)
                done += 1
                if progress is not None:
                    progress(runtime.name, done, total)
            whole = {form: points for form, points in found.items() if len(points) == len(widths) * len(BATCHES)}
            yield Costs(number, nonlinearity, widths, BATCHES, _constants(whole))


def run_and_step(short: float, long: float, longer: int) -> tuple[float, float]:
    """What a run takes beside its steps, and a step, from the times of two runs of SHORT and ``longer`` steps."""
    step = (long - short) / (longer - SHORT)
    step = min(max(step, LEAST_SHARE * long / longer), long / longer)
    return max(long - longer * step, 0.0), step


def _constants(found: dict[str, list[tuple[float, float]]]) -> dict[str, FormCost]:
    def figures(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(float(f"{value:.4g}") for value in values)  # more of them would be noise

    return {form: FormCost(*map(figures, zip(*points, strict=True))) for form, points in found.items()}


def _of_width(runtime: Runtime, threads: int, spec: RNNSpec) -> dict[str, list[tuple[float, float]]]:
    """Form -> (microseconds of a run beside its steps, of a step) at every batch; without what the runtime refuses."""
    interpreter = interpreter_of(runtime)
    assert interpreter is not None  # it was looked for
    with (
        tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch,
        Child(runtime, interpreter, TIMEOUT, MEMORY_LIMIT, threads) as child,
    ):
        child.wait_until_ready()
        canary.sing(child, runtime.reads)
        networks = _prepared(child, spec, Path(scratch))
        points: dict[str, list[tuple[float, float]]] = {form: [] for form in networks}
        longer = LONG if spec.hidden_size < WIDE else LONG_IF_WIDE
        for B in BATCHES:
            rounds = ROUNDS if threads == 1 else ROUNDS_OF_SEVERAL
            times = [_raced(child, networks, _inputs(spec, T, B), rounds) for T in (SHORT, longer)]
            for form in set(times[0]) & set(times[1]):
                points[form].append(run_and_step(times[0][form], times[1][form], longer))
    return points


def _prepared(child: Child, spec: RNNSpec, scratch: Path) -> dict[str, int]:
    """Form -> its number in the child, of every form that the runtime takes."""
    weights = Weights.random(spec, 0)
    networks: dict[str, int] = {}
    number = 0  # the canary's
    for form in usual_forms():
        if form.quantised is not None:
            continue  # nothing chooses it
        folder = scratch / form.name
        folder.mkdir()
        (folder / "model.onnx").write_bytes(draw(form.name, weights, OPSET).SerializeToString())
        try:
            child.prepare(folder)
            number += 1  # those that it refuses now get none
            child.run(number, _inputs(spec, SHORT, 1))
        except Failure:
            if not child.alive:
                raise
            continue
        networks[form.name] = number
    return networks


def _raced(child: Child, networks: dict[str, int], inputs: dict[str, Any], rounds: int) -> dict[str, float]:
    """Form -> microseconds of a run, the least of all: whatever else runs here only adds to it."""
    best = dict.fromkeys(networks, float("inf"))
    for _ in range(rounds):
        for form in list(best):
            try:
                best[form] = min(best[form], min(child.time(networks[form], inputs, TURN).seconds) * 1e6)
            except Failure:
                if not child.alive:
                    raise
                del best[form]  # it refuses inputs of this size
    return best


def _inputs(spec: RNNSpec, T: int, B: int) -> dict[str, Any]:
    rng, H = np.random.default_rng(0), spec.hidden_size
    x = rng.standard_normal((T, B, spec.input_size)).astype(np.float32)
    return {"input": x, "h_0": np.zeros((1, B, H), np.float32)}
