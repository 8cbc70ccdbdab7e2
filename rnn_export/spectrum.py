"""The spectral radius of a recurrent weight, and what it means for long inputs."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 1024  # hidden units; eigenvalues of a larger matrix take a minute and more
_SETTLING, _MEASURED, _VECTORS = 100, 200, 4
_FADED = 1000.0
_OVERFLOW = 2.0**127


class SpectralRadius(NamedTuple):
    """The largest modulus of an eigenvalue; None where there is none to speak of."""

    value: float | None
    exact: bool


def spectral_radius(matrix: NDArray[np.floating]) -> SpectralRadius:
    """Of a square matrix (H, H): from its eigenvalues, or above ``EXACT_UP_TO`` estimated by powers of it.

    The estimate is Gelfand's: the mean growth of random vectors per product, after the first hundred. None of a
    matrix that is not square or not finite, or whose radius is beyond float64.
    """
    wide = np.asarray(matrix, np.float64)
    if wide.ndim != 2 or wide.shape[0] != wide.shape[1] or not np.isfinite(wide).all():
        return SpectralRadius(None, False)
    with np.errstate(all="ignore"):
        found = _radius_of(wide)
    return found if found.value is not None and math.isfinite(found.value) else SpectralRadius(None, False)


def _radius_of(wide: NDArray[np.float64]) -> SpectralRadius:
    if len(wide) <= EXACT_UP_TO:
        return SpectralRadius(float(np.abs(np.linalg.eigvals(wide)).max(initial=0.0)), True)
    vectors = np.random.default_rng(0).standard_normal((len(wide), _VECTORS))
    growth = np.zeros(_VECTORS)
    for product in range(_SETTLING + _MEASURED):
        vectors = wide @ vectors
        norms = np.linalg.norm(vectors, axis=0)
        if not norms.all():
            return SpectralRadius(0.0, False)
        vectors /= norms
        growth += np.log(norms) if product >= _SETTLING else 0.0
    return SpectralRadius(float(np.exp(growth.max() / _MEASURED)), False)


def meaning(radius: float | None, nonlinearity: str | None) -> str:
    """What a spectral radius of W_hh means over many steps, in words; ``nonlinearity`` is None where it is not known.

    A tanh near rest and a relu that is active behave as the linear recurrence h' = W_hh h, whose powers go with
    radius**t.
    """
    if radius is None:
        return "not to be had: the matrix is not square, not finite, or too large"
    if nonlinearity is None:
        return "of an activation that is not tanh, relu or identity"
    if radius == 0.0:
        return "the state forgets at once"
    if radius < 1.0:
        steps = math.ceil(math.log(_FADED) / -math.log(radius))
        return f"fades: near rest a difference is a thousandth after about {steps:,} steps"
    if radius == 1.0:
        return "neither fades nor grows near rest"
    if nonlinearity == "tanh":
        return "can amplify: over a long input correct runtimes may drift apart, which the step residual does not mind"
    steps = math.ceil(math.log(_OVERFLOW) / math.log(radius))
    return f"may grow without bound: float32 can overflow from about {steps:,} steps on"
