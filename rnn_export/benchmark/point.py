"""One network under one load: every row drawn, raced and compared with torch's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rnn_export.benchmark.limit import Gauge, Limit
from rnn_export.benchmark.lineup import Candidate
from rnn_export.benchmark.race import Entrant, Laps, race
from rnn_export.benchmark.score import OPERATOR, REFERENCE, Point, Row
from rnn_export.benchmark.spread import Spread, quartiles, speed_ratio
from rnn_export.checkpoint import Checkpoint, save_weights
from rnn_export.errors import RnnExportError
from rnn_export.pipeline import export
from rnn_export.result import Status
from rnn_export.weights import Weights

Drawings = Mapping[str, Path | RnnExportError]  # form, or empty for the weights alone -> its folder, or why it has none


@dataclass(frozen=True)
class Terms:
    """How a benchmark is run.

    Attributes:
        length: T.
        threads: of every runtime and of the limit.
        rounds: turns of each row.
        seconds: of a turn.
        timeout: seconds per request to a runtime.
    """

    length: int = 128
    threads: int = 1
    rounds: int = 9
    seconds: float = 0.1
    timeout: float = 60.0


def draw_all(candidates: Sequence[Candidate], network: Checkpoint, scratch: Path, T: int) -> Drawings:
    """Every form that the candidates run, each in a folder of its own."""
    weights = scratch / "weights"
    weights.mkdir()
    save_weights(weights / "weights.safetensors", network.weights)
    drawings: dict[str, Path | RnnExportError] = {"": weights}
    for form in {candidate.form.name: candidate.form for candidate in candidates if candidate.form}.values():
        steps = T if form.length == "fixed" else None
        try:
            drawings[form.name] = export(network, scratch / form.name, form=form.name, steps=steps).path
        except RnnExportError as error:  # a form that cannot draw this network is a row that says so
            drawings[form.name] = error
    return drawings


def measure_point(
    candidates: Sequence[Candidate],
    drawings: Drawings,
    weights: Weights,
    B: int,
    terms: Terms,
    progress: Callable[[int, int], None],
) -> Point:
    """Race the candidates on one input of T steps and B sequences; what does not run is a row with its reason."""
    spec, T = weights.spec, terms.length
    inputs = _inputs(weights, T, B)
    with Gauge(weights, terms.threads, terms.timeout) as gauge:

        def before_round(number: int) -> None:
            progress(number, terms.rounds)
            gauge.measure()

        entrants = [
            Entrant(candidate.label, candidate.runtime.name, folder, inputs, terms.threads)
            for candidate in candidates
            if isinstance(folder := _drawing(candidate, drawings), Path)
        ]
        found = race(entrants, terms.rounds, terms.seconds, timeout=terms.timeout, before_round=before_round)
        progress(terms.rounds, terms.rounds)
    limit = gauge.limit(B)
    laps = {one.label: one for one in found}
    for candidate in candidates:
        if isinstance(error := _drawing(candidate, drawings), RnnExportError):
            laps[candidate.label] = Laps(candidate.label, status=Status.REFUSED, detail=str(error))
    rows = tuple(_row(candidate, laps, T, B, limit) for candidate in candidates)
    kind = weights.dtype.name
    network = f"{spec}, {kind}" if kind != "float32" else str(spec)
    return Point(network, spec.input_size, spec.hidden_size, T, B, limit, gauge.problem, rows)


def _drawing(candidate: Candidate, drawings: Drawings) -> Path | RnnExportError:
    return drawings["" if candidate.form is None else candidate.form.name]


def _inputs(weights: Weights, T: int, B: int) -> dict[str, Any]:
    """input (T, B, I) or (B, T, I), normal, and h_0 (L*D, B, H) of zeros."""
    spec = weights.spec
    shape = (B, T, spec.input_size) if spec.batch_first else (T, B, spec.input_size)
    x = np.random.default_rng(0).standard_normal(shape).astype(weights.dtype)
    return {"input": x, "h_0": np.zeros((len(spec.cells()), B, spec.hidden_size), weights.dtype)}


def _row(candidate: Candidate, laps: Mapping[str, Laps], T: int, B: int, limit: Limit | None) -> Row:
    own = laps[candidate.label]
    form = "" if candidate.form is None else candidate.form.name
    said = (candidate.label, candidate.runtime.name, form, own.version, own.status, own.detail, candidate.named)
    if own.status is not Status.PASS:
        return Row(*said)
    run = quartiles(own.seconds)
    step = Spread(*(1e6 / T * seconds for seconds in (run.median, run.low, run.high)))
    reachable = limit if candidate.runtime.device == "CPU" else None  # it was measured there
    return Row(
        *said,
        ratio=_ratio(own, laps.get(REFERENCE)),
        operator_ratio=_ratio(own, laps.get(OPERATOR)),
        microseconds=step,
        sequences_per_second=B / run.median,
        share=None if reachable is None else reachable.seconds * 1e6 / step.median,
        peak_bytes=own.peak_bytes,
        load_seconds=own.load_seconds,
        difference=_difference(own, laps[REFERENCE]),
    )


def _ratio(own: Laps, reference: Laps | None) -> Spread | None:
    if reference is None or reference.status is not Status.PASS:
        return None
    return speed_ratio(own.seconds, reference.seconds)


def _difference(own: Laps, reference: Laps) -> float | None:
    """The largest of the two outputs' elements; None where they cannot be compared, as where one is missing."""
    found, expected = (laps.answers.get("output") for laps in (own, reference))
    if found is None or expected is None or found.shape != expected.shape:
        return None
    return float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64)), initial=0.0))
