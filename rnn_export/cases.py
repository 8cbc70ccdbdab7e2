"""The inputs that a verification runs."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from rnn_export.spec import RNNSpec

EXPORT_T, EXPORT_B = 5, 3
LONG_T = 400


class Check(Enum):
    """What is asked of the answers to a case, besides shapes and types."""

    STEPS = "every step is what the recurrence says"
    MASKS = "NaN and infinity are where IEEE arithmetic puts them"
    SHAPES = "an empty batch gives empty outputs"
    NO_STEPS = "with no steps, h_n is h_0"
    CHUNKS = "the whole pass equals chunks with carried state"
    ROWS = "the rows of a batch are independent"
    STATE = "another h_0 gives other answers"


@dataclass(frozen=True)
class Case:
    """One input: x (T, B, I) time-major, h_0 (L*D, B, H), and what is asked of the answers."""

    name: str
    x: NDArray[np.floating]
    h_0: NDArray[np.floating]
    check: Check = Check.STEPS

    @property
    def T(self) -> int:
        return len(self.x)

    @property
    def B(self) -> int:
        return int(self.x.shape[1])


def default_cases(
    spec: RNNSpec,
    dtype: str,
    fixed_T: int | None = None,
    fixed_B: int | None = None,
    has_h_0: bool = True,
    has_h_n: bool = True,
) -> list[Case]:
    """Lengths and batches around and beyond the exported ones, other kinds of input, and the state checks.

    Args:
        spec: the network.
        dtype: float32 or float64.
        fixed_T, fixed_B: sizes that the file declares as fixed; only these are run then.
        has_h_0: whether the file takes an initial state; zeros everywhere if not.
        has_h_n: whether the file gives the last state; nothing can be carried on if not.
    """
    make = _Maker(spec, dtype, has_h_0)
    e = EXPORT_T
    lengths = [fixed_T] if fixed_T is not None else [1, 2, e - 1, e, e + 1, 2 * e, LONG_T]
    batches = [fixed_B] if fixed_B is not None else [1, EXPORT_B, 8]
    cases = [make(f"T={T} B={B}", T, B) for T in lengths for B in batches]
    T, B = fixed_T or e, fixed_B or EXPORT_B
    for kind in ("one-hot", "uniform", "negative", "zeros", "tiny", "large"):
        cases.append(make(f"{kind} T={T} B={B}", T, B, kind))
    cases.append(make(f"h_0=0 T={T} B={B}", T, B, zero_state=True))
    cases.append(make(f"NaN T={T} B={B}", T, B, "nan", check=Check.MASKS))
    cases.append(make(f"Inf T={T} B={B}", T, B, "inf", check=Check.MASKS))
    if has_h_0:
        cases.append(make(f"state T={T} B={B}", T, B, check=Check.STATE))
    if fixed_B is None:
        cases.append(make(f"B=0 T={T}", T, 0, check=Check.SHAPES))
        cases.append(make(f"rows T={T} B={B}", T, B, check=Check.ROWS))
    if fixed_T is None and has_h_0 and has_h_n:
        cases.append(make("T=0 B=3" if fixed_B is None else f"T=0 B={B}", 0, B, check=Check.NO_STEPS))
        if not spec.bidirectional:
            cases.append(make(f"chunks 1+2+3+4 B={B}", 10, B, check=Check.CHUNKS))
    return cases


class _Maker:
    """Makes cases; each name has a seed of its own, so that adding a case changes no other."""

    def __init__(self, spec: RNNSpec, dtype: str, has_h_0: bool) -> None:
        self.spec, self.dtype, self.has_h_0 = spec, dtype, has_h_0

    def __call__(
        self,
        name: str,
        T: int,
        B: int,
        kind: str = "normal",
        check: Check = Check.STEPS,
        zero_state: bool = False,
    ) -> Case:
        generator = np.random.default_rng(list(name.encode()))
        spec = self.spec
        x = input_of_kind(kind, (T, B, spec.input_size), generator)
        h_0 = generator.uniform(-1, 1, (spec.num_layers * spec.num_directions, B, spec.hidden_size))
        if zero_state or not self.has_h_0:
            h_0 = np.zeros_like(h_0)
        return Case(name, x.astype(self.dtype), h_0.astype(self.dtype), check)


def input_of_kind(kind: str, shape: tuple[int, int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """normal, one-hot, uniform, negative, zeros, tiny (1e-30), large (1e30), or one NaN or infinity in row 0."""
    T, B, width = shape
    x = generator.standard_normal(shape)
    if kind == "one-hot":
        return np.eye(width)[generator.integers(0, width, (T, B))]
    if kind == "uniform":
        return generator.uniform(0, 1, shape)
    if kind == "negative":
        return -np.abs(x)
    if kind in ("zeros", "tiny", "large"):
        return x * {"zeros": 0.0, "tiny": 1e-30, "large": 1e30}[kind]
    if kind in ("nan", "inf") and T and B:
        x[min(1, T - 1), 0, 0] = np.nan if kind == "nan" else np.inf
    return x
