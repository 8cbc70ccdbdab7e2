"""What one runtime showed besides its rows: where its nodes ran, and how one telling case went step by step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_POINTS = 400  # of a series: what a plot can show


@dataclass(frozen=True)
class Placement:
    """Where ONNX Runtime placed the nodes, as the session itself says.

    Attributes:
        asked: the execution provider that was asked for.
        providers: those of the session, in its order; one that is not there was not available.
        nodes: provider -> its nodes, each as operator and name; empty where this version cannot tell.
        tf32: whether the provider may compute in TF32, read back from the session; null where it has no such option.
    """

    asked: str
    providers: tuple[str, ...]
    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tf32: bool | None = None

    @property
    def fell_back(self) -> Mapping[str, tuple[str, ...]]:
        """The nodes that are not on the provider that was asked for, by provider."""
        return {provider: nodes for provider, nodes in self.nodes.items() if provider != self.asked and nodes}


@dataclass(frozen=True)
class Series:
    """One case over time. Of a long one each point is the largest value of ``stride`` consecutive steps.

    Attributes:
        case: the case's name.
        length: the number of steps, T.
        stride: how many steps a point stands for; point i begins at step i * stride.
        threshold: the residual up to which a step is the recurrence's.
        residual: the largest step residual over batch, units, layers and directions; null where none was measured.
        error: the largest absolute error of the output against the float64 oracle; null where the input is not finite.
    """

    case: str
    length: int
    stride: int
    threshold: float
    residual: tuple[float, ...] | None
    error: tuple[float, ...] | None


@dataclass(frozen=True)
class Load:
    """What a live server did under load.

    Attributes:
        clients: how many asked at once.
        seconds: for how long.
        answered: requests that were answered.
        refused: requests that were not.
        mixed_up: answers that are not the network's for their own request.
        requests_per_second: that were answered.
        p50_ms: milliseconds that half of them took at most.
        p99_ms: milliseconds that all but one in a hundred took at most.
        requests_per_run: how many the server joined into one run of the model; null where it does not count.
    """

    clients: int
    seconds: float
    answered: int
    refused: int
    mixed_up: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    requests_per_run: float | None = None


@dataclass(frozen=True)
class Record:
    """What one runtime showed besides its rows.

    Attributes:
        name: the runtime's.
        version: its package's.
        precision: what the row asks for: float32, which stands for the network's own type, or TF32.
        placement: where its nodes ran; null where the runtime has no execution providers.
        series: the case that tells most over time: one that failed, else the user's own, else the longest.
        load: of a live server that was probed; null for any other.
    """

    name: str
    version: str = ""
    precision: str = "float32"
    placement: Placement | None = None
    series: Series | None = None
    load: Load | None = None


def series_of(
    case: str, threshold: float, residual: "NDArray[np.floating] | None", error: "NDArray[np.floating] | None"
) -> Series | None:
    """A series of at most 400 points that keeps every maximum; None where there is nothing over time.

    Args:
        case: the case's name.
        threshold: the residual up to which a step is the recurrence's.
        residual, error: (T,), the largest of each step.
    """
    known = [values for values in (residual, error) if values is not None]
    if not known or not len(known[0]):
        return None
    length = len(known[0])
    stride = -(-length // MOST_POINTS)
    return Series(case, length, stride, threshold, _points(residual, stride), _points(error, stride))


def _points(values: "NDArray[np.floating] | None", stride: int) -> tuple[float, ...] | None:
    if values is None:
        return None
    import numpy as np

    largest: Any = np.maximum.reduceat(values, np.arange(0, len(values), stride))
    return tuple(float(f"{value:.6g}") for value in largest)
