"""Judging the answers to one case: shapes, every step's residual, NaN placement, h_n, and end to end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.element_types import name_of
from rnn_export.oracle import Trajectory, head_input, valid_steps
from rnn_export.precision import judge_as_asked
from rnn_export.residual import Place, Residual
from rnn_export.rounding import ARITHMETICS
from rnn_export.sequences import Sequence, stretches
from rnn_export.spec import NONLINEARITIES
from rnn_export.weights import Cell, Head, Weights

INCOMPARABLE, INCOMPARABLE_ROUNDINGS = 2.0**-10, 16  # of the largest output; in coarse types so many roundings
RATIO_GATE = 8.0  # end to end, where no residual could be measured
UNJUDGED = "every step overflows or follows a NaN: not judged"
TEN_BIT = ("TF32", "10-bit (TF32, float16)")


@dataclass(frozen=True)
class Answers:
    """What a runtime answered, time-major.

    Attributes:
        output: (T, B, D*H).
        h_n: (L*D, B, H), None where the model does not give it.
        layers: the states of each layer (T, B, D*H), the last one the output; None where they could not be had.
        layers_agree: whether what showed the lower layers gave the same output, bit for bit.
        prediction: the head's output (T, B, O), where there is a head.
    """

    output: NDArray[np.floating]
    h_n: NDArray[np.floating] | None
    layers: list[NDArray[np.floating]] | None
    layers_agree: bool = True
    prediction: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Judgement:
    """The verdict on one run; an empty ``code`` means that nothing is wrong."""

    code: str = ""
    detail: str = ""
    residual: float | None = None
    precision: str | None = None
    max_abs: float | None = None
    notes: tuple[str, ...] = ()
    judged: int = 0
    diverges: bool = False  # a documented difference of a runtime, no mismatch
    element: "Element | None" = None
    # (T,), the largest of each step: over all layers without h_n, and of the output against float64
    residuals: NDArray[np.float64] | None = field(default=None, compare=False)  # an array is not equal in one bit
    errors: NDArray[np.float64] | None = field(default=None, compare=False)


class Element(NamedTuple):
    """The first wrong element: t in the input's own order; no layer where it is the head's."""

    step: int
    row: int
    unit: int
    layer: int | None = None
    direction: int | None = None


@dataclass
class _Found:
    """What the layers' residuals add up to."""

    worst: float = 0.0
    judged: int = 0
    overflowed: int = 0
    blind: float = 0.0
    precision: str = ""
    code: str = ""
    detail: str = ""
    diverges: bool = False
    notes: list[str] = field(default_factory=list)
    element: Element | None = None
    by_step: NDArray[np.float64] | None = None

    def add(
        self, residual: Residual, run: "_Run", precision: str, asked: str, swallowed: bool, instead: str = ""
    ) -> None:
        if run.ends is None:
            known = residual.by_step if self.by_step is None else self.by_step
            self.by_step = np.maximum(known, residual.by_step)
        self.worst = max(self.worst, residual.max_q)
        self.judged += residual.judged
        self.overflowed += residual.overflowed
        self.blind = max(self.blind, residual.blind)
        if not self.precision or not residual.passed or (precision == "int8" and not self.code):
            self.precision = precision  # a head has none of the products that make a network int8
        if self.code and not self.diverges:
            return
        of = f" of {run.where}" if run.where else ""
        if residual.first is not None:
            self.element = run.element(residual.first)
            t, b, unit = self.element[:3]
            self.code, self.diverges = "step-residual", False
            place = f"first at t={t} b={b} unit={unit}{of}"
            self.detail = f"residual {residual.max_q:.3g} > 4, {place}; {instead or _explained(precision, asked)}"
        elif residual.misplaced is not None:
            self.element = run.element(residual.misplaced)
            t, b, unit = self.element[:3]
            self.code, self.diverges = ("nan-swallowed", True) if swallowed else ("nan-misplaced", False)
            what = "swallows a NaN" if residual.swallowed else "puts NaN or infinity where IEEE arithmetic does not"
            self.detail = f"{what}, first at t={t} b={b} unit={unit}{of}"

    def judgement(self, max_abs: float | None = None, errors: NDArray[np.float64] | None = None) -> Judgement:
        notes = list(self.notes)
        if self.overflowed:
            notes.append(f"{self.overflowed} elements overflow, not judged")
        if self.blind > 0.5:
            notes.append(f"{self.blind:.0%} of the elements could not have shown a fault")
        return Judgement(
            self.code,
            self.detail,
            self.worst,
            self.precision,
            max_abs,
            tuple(notes),
            self.judged,
            self.diverges,
            self.element,
            self.by_step,
            errors,
        )


def judge(
    weights: Weights,
    x: NDArray[np.floating],
    h_0: NDArray[np.floating],
    answers: Answers,
    truth: Trajectory,
    asked: str = "float32",
    *,
    lengths: NDArray[np.integer] | None = None,
    head: Head | None = None,
) -> Judgement:
    """Judge answers of the right shapes and types.

    Args:
        weights: what the network should be.
        x: (T, B, I).
        h_0: (L*D, B, H).
        answers: what the runtime answered.
        truth: the float64 oracle on the same input.
        asked: the precision that the row asks for: TF32, int8 of a file with products of 8-bit integers, or else the
            weights' own type.
        lengths: (B,), each in 1..T; past a sequence's end the output must be exactly 0.
        head: the Linear that made ``answers.prediction``.
    """
    if asked not in ("TF32", "int8"):
        asked = name_of(weights.dtype)
    inside = valid_steps(len(x), x.shape[1], lengths)
    pieces = stretches(len(x), x.shape[1] * max(x.shape[2], answers.output.shape[2]))
    if any(answers.output[steps][~inside[steps]].any() for steps in pieces):  # NaN counts as something
        return Judgement("padding", "past the end of a sequence the output is not 0")
    # With NaN or infinity in the input a distance says nothing: their placement is judged, step by step.
    finite = all(np.isfinite(x[steps][inside[steps]]).all() for steps in pieces)
    max_abs, errors = distances(answers, truth) if finite else (None, None)
    layers = answers.layers
    if layers is None and weights.spec.num_layers == 1:
        layers = [answers.output]
    found = _Found()
    if head is not None and answers.prediction is not None:
        read = head_input(head, weights.spec, x, h_0, answers.output, lengths)
        _judge_head(found, head, read, answers.prediction, asked, lengths)
    if layers is None:
        if found.code:
            wrong = Judgement(found.code, found.detail, max_abs=max_abs, diverges=found.diverges)
            return replace(wrong, element=found.element, errors=errors)
        return (
            Judgement(max_abs=max_abs, errors=errors) if finite else _placed(answers, truth, weights.spec.nonlinearity)
        )
    for layer, states in enumerate(layers):
        below = x if layer == 0 else layers[layer - 1]
        _judge_layer(found, weights, layer, below, h_0, states, answers.h_n, asked, lengths)
    # A state of 8 bits is off from the first step on, which is no amplified rounding.
    told = finite and found.precision != "int8"
    if not found.code and told and (step := _incomparable_from(answers.output, truth, max_abs)) is not None:
        found.notes.append(f"end to end no longer comparable from t={step}")
    return found.judgement(max_abs, errors)


def judge_cell(
    cell: Cell,
    x: NDArray[np.floating],
    h_0: NDArray[np.floating],
    y: NDArray[np.floating],
    h_n: NDArray[np.floating] | None,
    asked: str = "float32",
    *,
    reverse: bool = False,
    lengths: NDArray[np.integer] | None = None,
) -> Judgement:
    """Judge one layer in one direction by its steps alone.

    Args:
        cell: what it should compute.
        x: (T, B, I), the layer's actual input.
        h_0: (B, H).
        y: (T, B, H), what the runtime answered.
        h_n: (B, H), None where the runtime does not give it.
        asked: the precision that the row asks for.
        reverse: the layer reads x from its end.
        lengths: (B,), each in 1..T; steps past a sequence's end are not judged.
    """
    found = _Found()
    _judge_runs(found, cell, _runs(_Run(x, h_0, y, "", lengths, None, int(reverse)), h_n), asked)
    if not found.code and not found.judged and x.size:
        found.code, found.detail, found.diverges = "overflow", UNJUDGED, True
    return found.judgement()


def _judge_layer(
    found: _Found,
    weights: Weights,
    layer: int,
    below: NDArray[np.floating],
    h_0: NDArray[np.floating],
    states: NDArray[np.floating],
    h_n: NDArray[np.floating] | None,
    asked: str,
    lengths: NDArray[np.integer] | None,
) -> None:
    spec = weights.spec
    H = spec.hidden_size
    for direction in range(spec.num_directions):
        row, cell, reverse = layer * spec.num_directions + direction, weights.cell(layer, direction), direction == 1
        y = states[:, :, direction * H : (direction + 1) * H]
        where = f"layer {layer}" + (" in reverse" if reverse else "")
        run = _Run(below, h_0[row], y, where, lengths, layer, direction)
        _judge_runs(found, cell, _runs(run, None if h_n is None else h_n[row]), asked)


class _Run(NamedTuple):
    """What is judged at once: the steps of one layer and direction, of the head, or of h_n alone."""

    x: Sequence
    h_0: NDArray[np.floating]
    y: NDArray[np.floating]
    where: str
    lengths: NDArray[np.integer] | None
    layer: int | None = None
    direction: int | None = None
    ends: NDArray[np.integer] | None = None  # (B,), of h_n: which step of each row its one step is

    @property
    def reverse(self) -> bool:
        return self.direction == 1

    def element(self, place: Place) -> Element:
        step = place.t if self.ends is None else int(self.ends[place.b])
        return Element(step, place.b, place.unit, self.layer, self.direction)


def _runs(run: _Run, h_n: NDArray[np.floating] | None) -> list[_Run]:
    """What is judged of one layer and direction: its states, and h_n where it is not the last of them."""
    y = run.y
    if h_n is None or not len(y):
        return [run]
    # h_n must be the last state: where it is not, bit for bit, it is judged from the state before it
    if run.lengths is None and h_n.tobytes() == y[0 if run.reverse else -1].tobytes():
        return [run]
    last, previous = _last_step(y, run.h_0, run.reverse, run.lengths)
    rows = np.arange(y.shape[1])
    if np.array_equal(h_n, y[last, rows], equal_nan=True):
        return [run]
    x, where = run.x[:][last, rows][None], ", ".join(filter(None, ["h_n", run.where]))
    return [run, run._replace(x=x, h_0=previous, y=h_n[None], where=where, lengths=None, ends=last)]


def _judge_runs(found: _Found, cell: Cell, runs: list[_Run], asked: str) -> None:
    for run in runs:
        arrays = (cell, run.x, run.h_0, run.y)
        residual, precision = judge_as_asked(asked, *arrays, reverse=run.reverse, lengths=run.lengths)
        swallowed = residual.swallowed and (cell.nonlinearity == "relu" or _lost_in_integers(residual, precision, run))
        instead = "" if residual.first is None else _other_activation(cell, run, asked)
        found.add(residual, run, precision, asked, swallowed, instead)


def _lost_in_integers(residual: Residual, precision: str, run: _Run) -> bool:
    """Whether a NaN that is gone was one of the state, which has no integer; the input is multiplied as it is."""
    place = residual.misplaced
    return (
        precision == "int8" and place is not None and bool(np.isfinite(run.x[place.t : place.t + 1][0, place.b]).all())
    )


def _last_step(
    y: NDArray[np.floating], h_0: NDArray[np.floating], reverse: bool, lengths: NDArray[np.integer] | None
) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
    """The index (B,) of each row's last step in the direction's order, and the state (B, H) before it."""
    T, B = y.shape[:2]
    ends = np.full(B, T) if lengths is None else lengths
    last = np.zeros(B, np.int64) if reverse else ends - 1
    before = np.ones(B, np.int64) if reverse else ends - 2
    exists = (ends > 1)[:, None]
    return last, np.where(exists, y[np.where(ends > 1, before, 0), np.arange(B)], h_0)


def _judge_head(
    found: _Found,
    head: Head,
    read: Sequence,
    prediction: NDArray[np.floating],
    asked: str,
    lengths: NDArray[np.integer] | None,
) -> None:
    cell, start = head.as_cell(), np.zeros((prediction.shape[1], 0), prediction.dtype)
    asked = "float32" if asked == "int8" else asked  # that is the recurrent product alone
    residual, precision = judge_as_asked(asked, cell, read, start, prediction, lengths=lengths)
    found.add(residual, _Run(read, start, prediction, "the head", lengths), precision, asked, swallowed=False)


def _other_activation(cell: Cell, run: _Run, asked: str) -> str:
    """The commonest mistake: a state_dict does not say which activation it was trained with."""
    asked = asked if asked == "int8" else ""
    for nonlinearity in NONLINEARITIES:
        other = cell._replace(nonlinearity=nonlinearity)
        arrays = (other, run.x, run.h_0, run.y)
        if nonlinearity == cell.nonlinearity:
            continue
        if judge_as_asked(asked, *arrays, reverse=run.reverse, lengths=run.lengths)[0].passed:
            return f"it computes {nonlinearity}, not {cell.nonlinearity}"
    return ""


def _explained(precision: str, asked: str) -> str:
    if precision == "WRONG":
        return "no arithmetic explains it"
    remedy = ": on CUDA, use_tf32=0 and NVIDIA_TF32_OVERRIDE=0 turn it off" if precision in TEN_BIT else ""
    return f"you asked for {asked}, this run is {precision}{remedy}"


def _pairs(answers: Answers, truth: Trajectory) -> Iterator[tuple[NDArray[np.floating], NDArray[np.float64]]]:
    """What was answered beside what is true: output in stretches of steps, in order, and h_n last."""
    for steps in _steps_of(answers.output):
        yield answers.output[steps], truth.output[steps]
    if answers.h_n is not None:
        yield answers.h_n, truth.h_n


def _steps_of(output: NDArray[np.floating]) -> list[slice]:
    return stretches(len(output), output.shape[1] * output.shape[2])


def distances(answers: Answers, truth: Trajectory) -> tuple[float, NDArray[np.float64]]:
    """The largest absolute error of output and h_n, and of each step's output (T,).

    inf where one is not finite and the other is.
    """
    largest = []
    for found, expected in _pairs(answers, truth):
        with np.errstate(invalid="ignore"):
            error = np.abs(found.astype(np.float64) - expected)
            by_step = error.max(axis=(1, 2), initial=0.0)
        if not np.isfinite(by_step).all():
            error[np.isnan(error) & (np.isnan(found) == np.isnan(expected)) & (found == expected)] = 0.0
            by_step = np.nan_to_num(error, nan=np.inf, posinf=np.inf).max(axis=(1, 2), initial=0.0)
        largest.append(by_step)
    errors = np.concatenate(largest) if largest else np.zeros(0)
    return float(errors.max(initial=0.0)), errors[: len(answers.output)]


def _placed(answers: Answers, truth: Trajectory, nonlinearity: str) -> Judgement:
    """Where no layer can be seen: NaN and infinity as in the oracle, the finite rest within the end-to-end error."""
    largest, swallowed = 0.0, False
    for found, expected in _pairs(answers, truth):
        finite = np.isfinite(expected)
        # A kernel of relu that drops NaN: no layer above it sees one then.
        off = np.isnan(expected) & ~np.isnan(found) & (nonlinearity == "relu")
        swallowed |= bool(off.any())
        right, told = np.where(finite | off, 0, expected), np.where(np.isfinite(found) | off, 0, found)
        if not np.array_equal(right, told, equal_nan=True):
            return Judgement("nan-misplaced", "NaN or infinity is not where IEEE arithmetic puts it")
        error = np.abs(found[finite] - expected[finite])
        largest = max(largest, float(error.max(initial=0.0)))
    if swallowed:
        return Judgement("nan-swallowed", "swallows a NaN", max_abs=largest, diverges=True)
    return Judgement(max_abs=largest)


def _incomparable_from(output: NDArray[np.floating], truth: Trajectory, max_abs: float | None) -> int | None:
    """The first step that is off by more than a thousandth of the largest output: rounding was amplified."""
    u = ARITHMETICS[name_of(output.dtype)].unit_roundoff
    limit = max(INCOMPARABLE, INCOMPARABLE_ROUNDINGS * u) * largest_output(truth)
    if max_abs is not None and max_abs <= limit:  # no step can be
        return None
    for steps in _steps_of(output) if output.size else []:
        with np.errstate(invalid="ignore"):
            off = np.abs(output[steps] - truth.output[steps]).max(axis=(1, 2)) > limit
        if off.any():
            return int(steps.start + off.argmax())
    return None


def largest_output(truth: Trajectory) -> float:
    """The largest |output|; NaN where there is one."""
    largest = 0.0
    for steps in stretches(len(truth.output), truth.output[:1].size):
        largest = float(np.maximum(largest, np.abs(truth.output[steps]).max(initial=0.0)))
    return largest


def ratio_to_torch(
    max_abs: float | None, torch_error: float | None, truth: Trajectory | None, weights: Weights
) -> float | None:
    """max_abs over torch's own error on the same input, at least one rounding of the largest output."""
    if max_abs is None or torch_error is None or truth is None:
        return None
    u = ARITHMETICS[name_of(weights.dtype)].unit_roundoff
    floor = max(torch_error, u * largest_output(truth))
    if floor == 0.0:
        return 0.0 if max_abs == 0.0 else float("inf")
    return max_abs / floor if np.isfinite(floor) else None


def shape_problem(
    found: Mapping[str, NDArray[np.floating]],
    expected: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[np.floating],
) -> str:
    """What is wrong with the answers' names, shapes and types, or an empty string; nothing is broadcast."""
    for name, shape in expected.items():
        if name not in found:
            return f"the output {name} is missing"
        if found[name].dtype != dtype:
            return f"{name} is {found[name].dtype}, not {dtype}"
        if found[name].shape != shape:
            return f"{name} has shape {list(found[name].shape)}, not {list(shape)}"
    return ""
