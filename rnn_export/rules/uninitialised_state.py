"""T4: a sequence starts from uninitialised memory."""

import math
from typing import Any

from rnn_export.rules import Model, Outcome, error, rule, warning
from rnn_export.rules._model import START, data_type_of


@rule(
    "T4",
    meaning="A state of sequence_batching has no initial_state: the first request of a sequence starts from "
    "uninitialised memory, often the state of somebody else's sequence, and is answered with HTTP 200.",
    remedy="Write initial_state with zero_data: true for it; or with data_file and a learned state, which lies in "
    "the model's folder initial_state.",
)
def check(model: Model) -> list[Outcome] | None:
    if not model.states:
        return None
    return [outcome for state in model.states if (outcome := _outcome(model, state)) is not None]


def _outcome(model: Model, state: Any) -> Outcome | None:
    where = f"{model.config_file}: state {state.input_name!r}"
    initial = state.initial_state[0] if state.initial_state else None
    if initial is None or initial.WhichOneof("data") is None:
        missing = "has no initial_state" if initial is None else "has an initial_state without zero_data or data_file"
        said = f"{where} {missing}: a sequence starts from uninitialised memory"
        if any(START in kinds for kinds in model.controls.values()):
            return warning(f"{said}, unless the graph itself replaces it where START is set")
        return error(said)
    if initial.WhichOneof("data") == "zero_data":
        return None if initial.zero_data else error(f"{where} has zero_data: false: nothing initialises it")
    file = model.folder / "initial_state" / initial.data_file
    if file.name != initial.data_file or not file.is_file():
        return error(f"{where} starts from data_file {initial.data_file!r}, which is not in {model.name}/initial_state")
    kind = data_type_of(initial)
    width = _bytes_of(kind)
    if width and min(initial.dims, default=0) > 0 and file.stat().st_size != width * math.prod(initial.dims):
        expected = f"{width * math.prod(initial.dims)} bytes of {kind} {list(initial.dims)}"
        return error(f"{where}: initial_state/{initial.data_file} has {file.stat().st_size} bytes, and not {expected}")
    return None


def _bytes_of(kind: str) -> int:
    """Of one number, as its type's name says it; 0 where it does not."""
    digits = "".join(filter(str.isdigit, kind))
    return int(digits) // 8 if digits else int(kind == "TYPE_BOOL")
