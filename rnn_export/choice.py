"""Choosing a form for the runtimes that a file is for: the fastest that all of them get right."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rnn_export.checkpoint import Checkpoint
from rnn_export.cost_model import CostTable, Load, cost_table, expected_microseconds, threads_known
from rnn_export.environments import how_to_install, installed_version, interpreter_of
from rnn_export.errors import InstallationError, RnnExportError, UsageError
from rnn_export.forms import FORMS, Form
from rnn_export.machine import this_environment
from rnn_export.pipeline import DEFAULT_OPSET, export, verify
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import RNNSpec

USUAL_LOAD = Load()
MOST = 10**9  # steps of all sequences: beyond it no input fits into memory
USUAL_RUNTIME = "onnxruntime-cpu"  # what a file is for where nothing is said: it is where most files run


@dataclass(frozen=True)
class Expectation:
    """What a form is expected to take.

    Attributes:
        form: its name.
        microseconds: of a step of the whole batch through the whole network, on each runtime with known costs.
        slowness: how many times as long as the fastest form, over those runtimes the geometric mean; None if unknown.
    """

    form: str
    microseconds: tuple[tuple[str, float], ...]
    slowness: float | None

    def __str__(self) -> str:
        if not self.microseconds:
            return "no costs are known"
        return ", ".join(f"{value:.3g} us per step on {name}" for name, value in self.microseconds)


@dataclass(frozen=True)
class Choice:
    """The form, its steps where its length is fixed, and for every form that was tried what became of it.

    Attributes:
        form: its name.
        reasons: a line for each form that was tried, the chosen one last, and what it was chosen by.
        steps: T, of a form of fixed length.
    """

    form: str
    reasons: tuple[str, ...]
    steps: int | None = None


def choose_form(
    checkpoint: Checkpoint,
    runtimes: tuple[str, ...] = (USUAL_RUNTIME,),
    *,
    load: Load = USUAL_LOAD,
    opset: int = DEFAULT_OPSET,
    lengths: bool = False,
    steps: int | None = None,
) -> Choice:
    """Export and verify form after form, the fastest first, and take the first that every runtime computes.

    Args:
        checkpoint: the network.
        runtimes: what the file is for; documented differences, such as a refused length of 0, do not count.
        load: what will usually run.
        opset, lengths: see ``export``.
        steps: the length of the form ``unrolled``, which is not tried without it.

    Raises:
        UsageError: an unknown runtime, none at all, an empty load, or no form that all of them compute; the reasons
            are in it.
        InstallationError: a runtime is not installed here.
    """
    _check(runtimes, load)
    tables = {name: table for name in runtimes if (table := cost_table(name)) is not None}
    ranking = rank_forms(checkpoint.weights.spec, tables, load)
    kind = checkpoint.weights.dtype.name
    guess = f"; they are of float32, for {kind} a guess" if tables and kind != "float32" else ""
    reasons = [_basis(runtimes, tables, load) + guess]
    for place, (form, expectation) in enumerate(ranking):
        own_steps = steps if form.length == "fixed" else None
        problem = _problem(form.name, checkpoint, runtimes, opset, lengths, own_steps)
        what = {"dynamic": "", "fixed": f", {own_steps} steps", "step": ", one step at a time"}[form.length]
        reasons.append(f"form {form.name}: " + (problem or f"right on {', '.join(runtimes)}{what}"))
        if not problem:
            if tables:
                rest = [other for _, other in ranking[place + 1 :]]
                reasons.append(_comparison(expectation, rest))
            return Choice(form.name, tuple(reasons), own_steps)
    raise UsageError(
        f"no form is right on {', '.join(runtimes)}: {'; '.join(reasons[1:])}", _next_step(runtimes, steps)
    )


def rank_forms(spec: RNNSpec, tables: dict[str, CostTable], load: Load) -> list[tuple[Form, Expectation]]:
    """Every form that may be chosen, the one that is expected to be fastest first; those of unknown cost by their rank.

    A form that computes another network, with quantised weights, is chosen by its name only.
    """
    forms = [form for form in FORMS if form.quantised is None]
    known: dict[str, dict[str, float]] = {form.name: {} for form in forms}
    for runtime, table in tables.items():
        for form in forms:
            expected = expected_microseconds(table, form.name, spec, load)
            if expected is not None:
                known[form.name][runtime] = expected / load.length
    times = {name: [costs[name] for costs in known.values() if name in costs] for name in tables}
    best = {name: min(found) for name, found in times.items() if found}
    found = []
    for form in forms:
        costs, slowness = known[form.name], None
        if best and set(costs) == set(best):
            slowness = 1.0
            for name, value in costs.items():
                slowness *= (value / best[name]) ** (1 / len(costs))
        found.append((form, Expectation(form.name, tuple(costs.items()), slowness)))
    return sorted(found, key=lambda pair: (pair[1].slowness is None, pair[1].slowness or 0.0, pair[0].rank))


def _check(runtimes: tuple[str, ...], load: Load) -> None:
    if not runtimes:
        raise UsageError("a form is chosen for runtimes", "Name them: --for onnxruntime-cpu")
    if idle := [name for name in runtimes if RUNTIMES.get(name).reads != "model.onnx"]:
        raise UsageError(f"{idle[0]} runs the weights and never the file", "Name what the file is for")
    for what, size in (("batch", load.batch), ("length", load.length), ("number of threads", load.threads)):
        if size < 1:
            raise UsageError(f"a {what} of {size} is no load", "Give 1 or more")
    if load.batch * load.length > MOST:
        raise UsageError("more steps than any input has", f"Give --batch and --length of {MOST:,} steps at most")
    for runtime in map(RUNTIMES.get, runtimes):
        if interpreter_of(runtime) is None:
            raise InstallationError(f"{runtime.name} is not installed", f"Run: {how_to_install(runtime)}")


def _basis(runtimes: tuple[str, ...], tables: dict[str, CostTable], load: Load) -> str:
    """What the order is by, in words."""
    what = f"B={load.batch} T={load.length}, {_threads(load.threads)}"
    parts = []
    for name in runtimes:
        if (table := tables.get(name)) is None:
            parts.append(f"nothing was measured of {name}: the usual order")
            continue
        nearest = threads_known(table, load.threads)
        now = (this_environment(1).cpu, installed_version(RUNTIMES.get(name)))
        mine = table.here and (table.cpu, table.version) == now
        other = f"{table.cpu} with version {table.version}; for this machine: rnn-export bench --calibrate"
        of = "this machine" if mine else other
        only = f", with {_threads(nearest)}" if nearest != load.threads else ""
        parts.append(f"costs of {name} measured on {of}{only}")
    return f"for {what}: {', '.join(parts)}"


def _threads(number: int) -> str:
    return f"{number} thread{'s' if number > 1 else ''}"


def _comparison(chosen: Expectation, rest: Sequence[Expectation]) -> str:
    """What is expected of the form that was chosen, and of the next one."""
    words = f"expected: {chosen.form} {chosen}"
    second = next((other for other in rest if other.slowness is not None), None)
    if second is None or chosen.slowness is None or second.slowness is None:
        return words
    return f"{words}; runner-up: {second.form} {second} ({second.slowness / chosen.slowness:.2f} times as long)"


def _next_step(runtimes: tuple[str, ...], steps: int | None) -> str:
    if steps is None:
        return "A fixed length is tried too with --steps N"
    return "Export one file for each" if len(runtimes) > 1 else "docs/compatibility.md has what runs where"


def _problem(
    form: str, checkpoint: Checkpoint, runtimes: tuple[str, ...], opset: int, lengths: bool, steps: int | None
) -> str:
    """Why a form will not do; empty where it will."""
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        try:
            trial = Path(scratch) / "trial"
            artifact = export(checkpoint, trial, form=form, opset=opset, lengths=lengths, steps=steps)
        except RnnExportError as error:
            return f"not drawn: {error.args[0]}"
        report = verify(artifact.path, runtimes=runtimes)
    if report.exit_code == 0:
        return ""
    wrong = [row for row in report.results if row.status not in (Status.PASS, Status.DIVERGENCE)]
    said = {row.runtime: f"{row.status.value} on {row.runtime} [{row.code}]" for row in reversed(wrong)}
    return ", ".join(said[name] for name in runtimes if name in said) or "nothing was checked"
