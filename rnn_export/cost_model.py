"""What a form is expected to take on a runtime: measured constants of one layer, put together for any network.

A run of T steps takes ``run + T * step`` microseconds, where both are measured of one layer I = H in one direction at
some widths and batch sizes, with the input's product in them; between those they are interpolated in logarithms. Layers
and directions add up. Where I is not H, the input's product takes more or less by the operations that it has more or
less, at the fastest rate of products that the table holds.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnn_export.documents import from_document, to_document
from rnn_export.environments import cache_folder
from rnn_export.errors import SourceError
from rnn_export.forms import FORMS
from rnn_export.spec import RNNSpec
from rnn_export.text_file import write_text

SCHEMA = 1
SHIPPED = Path(__file__).parent / "data" / "costs"  # measured on one machine: docs/decisions/0012
_AGAIN = "Measure again: rnn-export bench --calibrate"


@dataclass(frozen=True)
class Load:
    """What a file is for.

    Attributes:
        batch: B, the sequences that arrive at once.
        length: T, their steps.
        threads: that the runtime may compute with.
    """

    batch: int = 1  # a file is exported for streams more often than for batches
    length: int = 128
    threads: int = 1


@dataclass(frozen=True)
class FormCost:
    """One form's constants at every width and batch of a table, the batches of the first width first.

    Attributes:
        run: microseconds of a run beside its steps.
        step: microseconds of a step of the whole batch.
    """

    run: tuple[float, ...]
    step: tuple[float, ...]


@dataclass(frozen=True)
class Costs:
    """The constants under one number of threads.

    Attributes:
        threads: how many.
        nonlinearity: tanh or relu.
        widths: H, ascending.
        batches: B, ascending.
        forms: name -> its constants.
    """

    threads: int
    nonlinearity: str
    widths: tuple[int, ...]
    batches: tuple[int, ...]
    forms: Mapping[str, FormCost]


@dataclass(frozen=True)
class CostTable:
    """What was measured of one runtime on one machine.

    Attributes:
        runtime: its name.
        version: of its package.
        cpu: the processor's model.
        created: when, in UTC.
        costs: by threads and nonlinearity.
        here: whether it was measured on this machine, and not shipped.
    """

    runtime: str
    version: str
    cpu: str
    created: str
    costs: tuple[Costs, ...]
    here: bool = False

    def write(self) -> Path:
        """Keep it in the user's cache, where ``cost_table`` finds it first."""
        path = measured_costs(self.runtime)
        write_text(path, json.dumps({"schema": SCHEMA, **to_document(self)}) + "\n")
        return path


def cost_table(runtime: str) -> CostTable | None:
    """The table that was measured here, else the one that is shipped; None where there is neither.

    Raises:
        SourceError: the file in the cache is damaged, or of another version.
    """
    for path in (measured_costs(runtime), SHIPPED / f"{runtime}.json"):
        try:
            data = json.loads(path.read_bytes())
            if not isinstance(data, dict) or data.get("schema") != SCHEMA:
                raise ValueError("they are of another schema")
            table = from_document(CostTable, data)
            _check(table)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SourceError(f"the costs in {path} cannot be read: {error.strerror}", _AGAIN) from None
        except (ValueError, RecursionError) as error:
            raise SourceError(f"the costs in {path} are damaged: {error}", _AGAIN) from None
        return table
    return None


def _check(table: CostTable) -> None:
    """Raises ValueError where a table has not what an expectation is computed from."""
    kinds = [(costs.threads, costs.nonlinearity) for costs in table.costs]
    if not kinds or any((threads, name) not in kinds for threads, _ in kinds for name in ("tanh", "relu")):
        raise ValueError("tanh or relu is missing")
    for costs in table.costs:
        for what, values in (("widths", costs.widths), ("batches", costs.batches)):
            if len(values) < 2 or values[0] < 1 or any(b <= a for a, b in pairwise(values)):
                raise ValueError(f"the {what} {values} do not ascend")
        points = len(costs.widths) * len(costs.batches)
        for name, form in costs.forms.items():
            sizes = {len(form.run), len(form.step)}
            if sizes != {points} or not all(0 < step < math.inf for step in form.step) or min(form.run) < 0:
                raise ValueError(f"{name} has no cost for every point")


def expected_microseconds(table: CostTable, form: str, spec: RNNSpec, load: Load) -> float | None:
    """What a run of the whole network takes, in microseconds; None for a form that the table does not have."""
    costs = _costs_for(table, load.threads, spec.nonlinearity)
    if form not in costs.forms:
        return None
    block = FORMS.get(form).block
    steps = math.ceil(load.length / block) * block
    constants, H = costs.forms[form], spec.hidden_size
    run = _interpolated(costs, constants.run, H, load.batch)
    step = math.exp(_interpolated(costs, tuple(map(math.log, constants.step)), H, load.batch, beyond=True))
    rate, total = _product_rate(costs), 0.0
    for layer, _ in spec.cells():
        more = 2 * load.batch * (spec.layer_input_size(layer) - H) * H / rate
        # a narrow input takes nothing at best; what is left is the recurrent product, no less than half
        total += run + steps * max(step + more, step / 2)
    return total


def threads_known(table: CostTable, threads: int) -> int:
    """The number of threads that the table answers for: the nearest that was measured."""
    return min({costs.threads for costs in table.costs}, key=lambda known: (abs(known - threads), known))


def _costs_for(table: CostTable, threads: int, nonlinearity: str) -> Costs:
    known = threads_known(table, threads)
    found = {costs.nonlinearity: costs for costs in table.costs if costs.threads == known}
    return found.get(nonlinearity) or found["relu"]  # identity has no scalar tanh either


def _interpolated(costs: Costs, values: tuple[float, ...], H: int, B: int, *, beyond: bool = False) -> float:
    """Bilinear in the logarithms of H and B; outside the points as at the edge, or going on as the last two do."""
    grid = np.reshape(values, (len(costs.widths), len(costs.batches)))
    by_batch = [_linear(np.log(costs.batches), row, math.log(B), beyond) for row in grid]
    return _linear(np.log(costs.widths), np.array(by_batch), math.log(H), beyond)


def _linear(xs: NDArray[np.float64], ys: NDArray[np.float64], x: float, beyond: bool) -> float:
    at = int(np.clip(np.searchsorted(xs, x) - 1, 0, len(xs) - 2))
    share = (x - xs[at]) / (xs[at + 1] - xs[at])
    share = share if beyond else min(max(share, 0.0), 1.0)
    return float(ys[at] + share * (ys[at + 1] - ys[at]))


def _product_rate(costs: Costs) -> float:
    """Operations per microsecond, of two products of H*H in each step, at the best of all points."""
    points = [(H, B) for H in costs.widths for B in costs.batches]
    return max(
        4 * B * H * H / step
        for constants in costs.forms.values()
        for (H, B), step in zip(points, constants.step, strict=True)
    )


def measured_costs(runtime: str) -> Path:
    """Where the costs that were measured on this machine are kept."""
    return cache_folder() / "costs" / f"{runtime}.json"
