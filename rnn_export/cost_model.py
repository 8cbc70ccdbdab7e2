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
from pathlib import Path

import numpy as np

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
        path = _measured(self.runtime)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"schema": SCHEMA, **to_document(self)}) + "\n")
        return path


def cost_table(runtime: str) -> CostTable | None:
    """The table that was measured here, else the one that is shipped; None where there is neither.

    Raises:
        SourceError: the file in the cache is damaged, or of another version.
    """
    for path in (_measured(runtime), SHIPPED / f"{runtime}.json"):
        if path.is_file():
            try:
                data = json.loads(path.read_bytes())
                if data.get("schema") != SCHEMA:
                    raise ValueError(f"it is of schema {data.get('schema')!r}")
                return from_document(CostTable, data)
            except (ValueError, AttributeError) as error:
                raise SourceError(f"the costs in {path} are damaged: {error}", _AGAIN) from None
    return None


def expected_microseconds(table: CostTable, form: str, spec: RNNSpec, load: Load) -> float | None:
    """What a run of the whole network takes, in microseconds; None for a form that the table does not have."""
    costs = _costs_for(table, load.threads, spec.nonlinearity)
    if form not in costs.forms:
        return None
    block = FORMS.get(form).block
    steps = math.ceil(load.length / block) * block
    constants, H = costs.forms[form], spec.hidden_size
    run = _interpolated(costs, constants.run, H, load.batch)
    step = _interpolated(costs, constants.step, H, load.batch)
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


def _interpolated(costs: Costs, values: tuple[float, ...], H: int, B: int) -> float:
    """Bilinear in the logarithms of H, B and the value; beyond the edges as the last two points go on."""
    grid = np.log(np.maximum(np.reshape(values, (len(costs.widths), len(costs.batches))), _LEAST))
    by_batch = [_linear(np.log(costs.batches), row, math.log(max(B, 1))) for row in grid]
    return math.exp(_linear(np.log(costs.widths), np.array(by_batch), math.log(H)))


_LEAST = 1e-3  # microseconds: what is measured as less is noise


def _linear(xs: np.ndarray, ys: np.ndarray, x: float) -> float:
    at = int(np.clip(np.searchsorted(xs, x) - 1, 0, len(xs) - 2))
    share = (x - xs[at]) / (xs[at + 1] - xs[at])
    return float(ys[at] + share * (ys[at + 1] - ys[at]))


def _product_rate(costs: Costs) -> float:
    """Operations per microsecond, of two products of H*H in each step, at the best of all points."""
    points = [(H, B) for H in costs.widths for B in costs.batches]
    return max(
        4 * B * H * H / step
        for constants in costs.forms.values()
        for (H, B), step in zip(points, constants.step, strict=True)
    )


def _measured(runtime: str) -> Path:
    return cache_folder() / "costs" / f"{runtime}.json"
