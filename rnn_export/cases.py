"""The inputs that a verification runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnn_export.element_types import from_bits
from rnn_export.errors import SourceError
from rnn_export.oracle import valid_steps
from rnn_export.spec import RNNSpec

EXPORT_T, EXPORT_B = 5, 3
LONG_T = 400
EXTREMES = {"zeros": 0.0, "tiny": 1e-30, "large": 1e30}
REPEATED = (2, 0, 1, 1, 0)  # the rows of a batch of three, in another order and some twice
FLOAT16_EXTREMES = {"zeros": 0.0, "tiny": 1e-6, "large": 1e3}  # below its normal numbers; sums still fit


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
    """One input: x (T, B, I) time-major, h_0 (L*D, B, H), lengths (B,), and what is asked of the answers."""

    name: str
    x: NDArray[np.floating]
    h_0: NDArray[np.floating]
    check: Check = Check.STEPS
    lengths: NDArray[np.integer] | None = None
    own: str = ""  # of the user's own data: what was done to it

    @property
    def T(self) -> int:
        return len(self.x)

    @property
    def B(self) -> int:
        return int(self.x.shape[1])

    @property
    def size(self) -> str:
        return f"T={self.T} B={self.B}"


def default_cases(
    spec: RNNSpec,
    dtype: DTypeLike,
    fixed_T: int | None = None,
    fixed_B: int | None = None,
    has_h_0: bool = True,
    has_h_n: bool = True,
    has_lengths: bool = False,
    one_step: bool = False,
    kind: str = "normal",
    start: NDArray[np.floating] | None = None,
    most_B: int | None = None,
) -> list[Case]:
    """Lengths and batches around and beyond the exported ones, other kinds of input, and the state checks.

    Args:
        spec: the network.
        dtype: of the weights.
        fixed_T, fixed_B: sizes that the file declares as fixed; only these are run then.
        has_h_0: whether the file takes an initial state; zeros everywhere if not.
        has_h_n: whether the file gives the last state; nothing can be carried on if not.
        has_lengths: whether the file takes lengths; they are random and unsorted then, the first one T.
        one_step: whether the file is one step; without steps it does nothing, and it runs in chunks anyway.
        kind: of the inputs of the cases that do not ask for another: normal, one-hot or uniform.
        start: (L*D, H), what a file without an initial state starts from; zeros if absent.
        most_B: the most rows that may be sent at once.
    """
    make = _Maker(spec, dtype, has_h_0, has_lengths, kind, start)
    e = EXPORT_T
    lengths = [fixed_T] if fixed_T is not None else [1, 2, e - 1, e, e + 1, 2 * e, LONG_T]
    if most_B is not None and most_B < EXPORT_B:
        fixed_B = fixed_B or 1
    batches = [fixed_B] if fixed_B is not None else [1, EXPORT_B, min(8, most_B or 8)]
    cases = [make(f"T={T} B={B}", T, B) for T in lengths for B in dict.fromkeys(batches)]
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
    if has_lengths:
        cases.append(make(f"NaN in the padding T={2 * T} B={B}", fixed_T or 2 * T, B, nan_padding=True))
    elif fixed_T is None and has_h_0 and has_h_n and not one_step:
        cases.append(make("T=0 B=3" if fixed_B is None else f"T=0 B={B}", 0, B, check=Check.NO_STEPS))
        if not spec.bidirectional:
            cases.append(make(f"chunks 1+2+3+4 B={B}", 10, B, check=Check.CHUNKS))
    return cases


def repeated_rows(case: Case) -> Case:
    """The case with its rows permuted and some of them twice: what proves that axis 0 of a shipped graph is the batch.

    Every row has to be the recurrence's of its own input, whatever stands beside it.

    Args:
        case: of three rows, T another number.
    """
    rows = list(REPEATED)
    lengths = None if case.lengths is None else case.lengths[rows]
    name = f"rows {' '.join(map(str, rows))} T={case.T} B={len(rows)}"
    return replace(case, name=name, x=case.x[:, rows], h_0=case.h_0[:, rows], lengths=lengths)


def of_two_shapes(cases: Sequence[Case]) -> list[Case]:
    """The cases for a runtime that compiles for every shape: two lengths and two batches, and every kind of input.

    They are of the size that most cases have and of the next larger one. NaN in the padding and the user's own data
    stay, whatever their size.

    Args:
        cases: those of a verification.
    """
    sizes = Counter((case.T, case.B) for case in cases if case.check is Check.STEPS)
    if not sizes:
        return list(cases)
    (home, _), *_ = sizes.most_common(1)
    # Where a size is fixed, the other one alone grows.
    other = min(set(sizes) - {home}, key=lambda size: (size[0] <= home[0], size[1] <= home[1], size), default=home)
    one_shape = (Check.STEPS, Check.MASKS, Check.STATE)  # the others run their input in parts, each of another shape
    kept = [case for case in cases if case.check in one_shape]
    return [case for case in kept if case.name != case.size or (case.T, case.B) in (home, other)]


class _Maker:
    """Makes cases; each name has a seed of its own, so that adding a case changes no other."""

    def __init__(
        self,
        spec: RNNSpec,
        dtype: DTypeLike,
        has_h_0: bool,
        has_lengths: bool,
        kind: str,
        start: NDArray[np.floating] | None,
    ) -> None:
        self.spec, self.dtype, self.has_h_0, self.has_lengths = spec, np.dtype(dtype), has_h_0, has_lengths
        self.kind, self.start = kind, start
        self.extremes = FLOAT16_EXTREMES if self.dtype == np.float16 else EXTREMES

    def __call__(
        self,
        name: str,
        T: int,
        B: int,
        kind: str = "",
        check: Check = Check.STEPS,
        zero_state: bool = False,
        nan_padding: bool = False,
    ) -> Case:
        generator = np.random.default_rng(list(name.encode()))
        spec = self.spec
        x = input_of_kind(kind or self.kind, (T, B, spec.input_size), generator, self.extremes)
        h_0 = generator.uniform(-1, 1, (spec.num_layers * spec.num_directions, B, spec.hidden_size))
        if not self.has_h_0 and self.start is not None:
            h_0 = np.repeat(self.start[:, None], B, axis=1)
        elif zero_state or not self.has_h_0:
            h_0 = np.zeros_like(h_0)
        lengths = None
        if self.has_lengths:
            lengths = generator.integers(1, T + 1, B) if T else np.ones(B, np.int64)
            lengths[:1] = T  # torch trims to the longest, so one sequence fills the input
            if nan_padding:
                x[~valid_steps(T, B, lengths)] = np.nan
        return Case(name, x.astype(self.dtype), h_0.astype(self.dtype), check, lengths)


def input_of_kind(
    kind: str,
    shape: tuple[int, int, int],
    generator: np.random.Generator,
    extremes: Mapping[str, float] = MappingProxyType(EXTREMES),
) -> NDArray[np.float64]:
    """normal, one-hot, uniform, negative, zeros, tiny, large, or one NaN or infinity in row 0."""
    T, B, width = shape
    x = generator.standard_normal(shape)
    if kind == "one-hot":
        return np.eye(width)[generator.integers(0, width, (T, B))]
    if kind == "uniform":
        return generator.uniform(0, 1, shape)
    if kind == "negative":
        return -np.abs(x)
    if kind in extremes:
        return x * extremes[kind]
    if kind in ("nan", "inf") and T and B:
        x[min(1, T - 1), 0, 0] = np.nan if kind == "nan" else np.inf
    return x


def case_from_file(path: Path, spec: RNNSpec, dtype: DTypeLike, has_lengths: bool) -> Case:
    """A user's own data: ``input``, and where they matter ``h_0`` and ``lengths``, from an .npz file.

    Args:
        path: the file; input is (T, B, I), or (B, T, I) when the network is ``batch_first``.
        spec: the network.
        dtype: the type that the network takes; other floating types are converted.
        has_lengths: whether the file under test takes lengths.

    Raises:
        SourceError: an array is missing, or does not fit the network.
    """
    arrays = read_arrays(path)
    rows = spec.num_layers * spec.num_directions
    known = ("input", "h_0", "lengths", "output", "h_n")  # the last two for --expect of the same file
    if "input" not in arrays:
        raise SourceError(f"{path.name} has no array input", f"It has {', '.join(arrays) or 'none'}")
    if strange := [name for name in arrays if name not in known]:
        raise SourceError(
            f"{path.name} has an array {strange[0]}, which says nothing here", f"Known: {', '.join(known)}"
        )
    for name, array in arrays.items():
        if array.dtype.kind not in "fiubV" or (name != "lengths" and array.dtype.kind == "b"):
            raise SourceError(f"{name} in {path.name} is {array.dtype}", "Convert it to numbers of the network's type")
    x = arrays["input"]
    if x.ndim != 3 or x.shape[2] != spec.input_size:
        raise SourceError(f"input in {path.name} has shape {x.shape}, but {spec} takes 3 axes, I = {spec.input_size}")
    x = x.swapaxes(0, 1) if spec.batch_first else x
    T, B = x.shape[:2]
    if has_lengths and not T:
        raise SourceError(f"input in {path.name} has no steps", "With lengths every sequence has at least one")
    expected: dict[str, tuple[tuple[int, ...], NDArray[Any]]] = {
        "h_0": ((rows, B, spec.hidden_size), np.zeros((rows, B, spec.hidden_size))),
        "lengths": ((B,), np.full(B, T, np.int64)),
    }
    given = {}
    for name, (shape, default) in expected.items():
        given[name] = arrays.get(name, default)
        if given[name].shape != shape:
            raise SourceError(f"{name} in {path.name} has shape {given[name].shape}, not {shape}")
    lengths = given["lengths"].astype(np.int64)
    if not ((lengths >= 1) & (lengths <= T)).all():
        raise SourceError(f"lengths in {path.name} must lie in 1..{T}")
    if "lengths" in arrays and not has_lengths:
        raise SourceError(f"{path.name} has lengths, but the model takes none", "Export it with --lengths")
    name = f"{path.name} T={T} B={B}"
    x, h_0 = (_typed(key, array, dtype, path) for key, array in (("input", x), ("h_0", given["h_0"])))
    was = arrays["input"].dtype
    own = "your own data" + ("" if was == x.dtype else f", converted from {was}")
    return Case(name, x, h_0, Check.STEPS, lengths if has_lengths else None, own)


def _typed(key: str, array: NDArray[Any], dtype: DTypeLike, path: Path) -> NDArray[Any]:
    """The array in the network's type; itself where that is its type already."""
    with np.errstate(over="ignore"):
        typed = array.astype(dtype, copy=False)
    if typed is not array and (np.isfinite(array) > np.isfinite(typed)).any():
        largest = np.abs(array).max()
        raise SourceError(f"{key} in {path.name} reaches {largest:g}, which {typed.dtype} cannot hold")
    return typed


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file, without unpickling anything; bfloat16 as numpy writes it is recognised.

    Raises:
        SourceError: the file is missing or damaged, or holds something else.
    """
    try:
        stored = np.load(path, allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise ValueError("one array of .npy")
        with stored:
            return {name: from_bits(stored[name]) for name in stored.files}
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist", "Check the path") from None
    except (OSError, ValueError, AttributeError, BadZipFile):  # what numpy raises for another kind of file
        raise SourceError(f"{path} is not an .npz file of plain arrays", "Write it with numpy.savez") from None
