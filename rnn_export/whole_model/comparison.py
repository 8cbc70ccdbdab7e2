"""A runtime's outputs held against the model's own: how far they are from float64, in units of torch's own error.

An element that torch has finite in its own type and in float64 is judged by its distance. Where one of them is NaN or
infinite, as where float32 overflows, a correct runtime may side with either: it has the same NaN or infinity as the
one, or is near the other.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rnn_export.judgement import RATIO_GATE, Judgement
from rnn_export.whole_model.truth import Array, Expected


def compare(found: Sequence[Array], expected: Expected) -> tuple[Judgement, float | None]:
    """Every output judged: shape and type, integers exactly, floats by the largest ratio to torch's own error.

    Args:
        found: the runtime's outputs, in the model's order.
        expected: what the model answers to the same input.

    Returns:
        The judgement, and the ratio where there is one. An output that has no finite element is not judged, which
        is no pass.
    """
    if len(found) != len(expected.own):
        detail = f"the file has {len(found)} outputs, the model {len(expected.own)}"
        return Judgement("missing-output", detail), None
    errors, ratios, notes, unjudged = [0.0], [0.0], [], []
    for number, (ours, own, truth) in enumerate(zip(found, expected.own, expected.truth, strict=True)):
        if ours.shape != own.shape or ours.dtype != own.dtype:
            said = f"{ours.dtype}{list(ours.shape)}, not {own.dtype}{list(own.shape)}"
            return Judgement("wrong-shape", f"output {number} is {said}"), None
        if not np.issubdtype(own.dtype, np.floating):
            # Where rounding decides, as between two equal logits, torch and its float64 may differ.
            if not (np.array_equal(ours, own) or np.array_equal(ours, truth)):
                wrong = int((ours != truth).sum())
                return Judgement("end-to-end", f"output {number} differs in {wrong} of {truth.size} integers"), None
            continue
        error, floor = _errors(ours, own, truth), _floors(own, truth)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.divide(error, floor, out=np.zeros_like(error), where=error > 0)
        errors.append(float(error.max(initial=0.0)))
        ratios.append(float(ratio.max(initial=0.0)))
        finite = np.isfinite(own) & np.isfinite(truth)
        if own.size and not (finite.any() and np.isfinite(floor).all()):
            unjudged.append(str(number))
        elif not finite.all():
            lost = f"{finite.size - int(finite.sum())} of {finite.size} elements of output {number}"
            notes.append(f"torch has no finite value for {lost}: they need only be as it has them")
    max_abs, worst = float(np.max(errors)), float(np.max(ratios))
    if not worst <= RATIO_GATE:
        detail = f"{worst:.3g} times torch's own error against float64"
        return Judgement("end-to-end", detail, max_abs=max_abs), worst
    if unjudged:
        detail = f"torch itself has NaN or infinity everywhere in output {', '.join(unjudged)}: not judged"
        return Judgement("not-judged", detail, max_abs=max_abs), None
    return Judgement(max_abs=max_abs, notes=tuple(notes)), worst


def _errors(ours: Array, own: Array, truth: Array) -> NDArray[np.float64]:
    """How far each element is from the truth; where torch is not finite, from the nearer of its own and the truth."""
    error = _distances(ours, truth)
    return np.where(np.isfinite(own) & np.isfinite(truth), error, np.minimum(error, _distances(ours, own)))


def _floors(own: Array, truth: Array) -> NDArray[np.float64]:
    """What an error of each element is measured in: torch's largest error, at least one rounding of the largest value.

    Of what is finite in both; an element that only float64 has finite may be larger, and is rounded by itself.
    """
    finite = np.isfinite(own) & np.isfinite(truth)
    rounding = float(np.finfo(own.dtype).eps) / 2
    magnitude = np.abs(np.where(np.isfinite(truth), truth, 0.0))
    torchs = _distances(own, truth)[finite].max(initial=0.0)
    floor = np.maximum(torchs, rounding * magnitude[finite].max(initial=0.0))
    return np.asarray(np.maximum(floor, rounding * magnitude))


def _distances(found: Array, expected: Array) -> NDArray[np.float64]:
    """The absolute error of each element; inf where one is NaN or infinite and the other is not."""
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(same, 0.0, np.abs(found.astype(np.float64) - expected))
    return np.nan_to_num(error, nan=np.inf, posinf=np.inf)
