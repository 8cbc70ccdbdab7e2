"""Model repositories for Triton, each with one mistake, and next to it the one without."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper, parser

from rnn_export.model_config import config_from, write_config

NAME, INPUT_SIZE, HIDDEN_SIZE = "lstm", 4, 8
_TRANSPOSE = "Transpose <perm = [1, 0, 2]>"
H_C = ("h_in", "c_in", "h_out", "c_out")
Fields = dict[str, Any]


class Pair(NamedTuple):
    """A repository with one mistake, and its twin without; each writes into the folder that it is given."""

    wrong: Callable[[Path], object]
    right: Callable[[Path], object]


def network(
    *,
    batch_first: bool = True,
    states: tuple[str, str, str, str] | None = None,
    states_batch_first: bool = True,
    lengths: str = "",
    output_steps: str = "T",
    traced_steps: int = 0,
    opset: int = 18,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """An LSTM of one layer, x -> y, drawn as text.

    Args:
        batch_first: x (B, T, I) and y (B, T, H), else (T, B, ...).
        states: names of h and c as inputs and as outputs; without, it starts from zeros.
        states_batch_first: they are (B, 1, H), else torch's (1, B, H).
        lengths: the shape of an int32 input of that name, such as "[B]"; without, there is none.
        output_steps: what y declares as its length.
        traced_steps: where not 0, a Reshape of the sequence has this length as a constant.
    """
    axes, state = ("B,T" if batch_first else "T,B"), ("B,1" if states_batch_first else "1,B")
    turn = _TRANSPOSE if batch_first else "Identity"
    turn_state = _TRANSPOSE if states_batch_first else "Identity"
    h_in, c_in, h_out, c_out = states or H_C
    inputs, outputs = [f"float[{axes},{INPUT_SIZE}] x"], [f"float[{axes.replace('T', output_steps)},{HIDDEN_SIZE}] y"]
    nodes = [f"sequence = {turn} (x)"]
    if traced_steps:
        nodes = [f"turned = {turn} (x)", "sequence = Reshape (turned, traced)"]
    if lengths:
        inputs.append(f"int32{lengths} lengths")
        nodes.append("steps = Identity (lengths)" if lengths == "[B]" else "steps = Squeeze (lengths, one)")
    if states:
        inputs += [f"float[{state},{HIDDEN_SIZE}] {name}" for name in (h_in, c_in)]
        outputs += [f"float[{state},{HIDDEN_SIZE}] {name}" for name in (h_out, c_out)]
        nodes += [f"h_0 = {turn_state} ({h_in})", f"c_0 = {turn_state} ({c_in})"]
    given = ", ".join(["steps" if lengths else '""', *(["h_0", "c_0"] if states else [])])
    nodes.append(f"all, h_n, c_n = LSTM <hidden_size = {HIDDEN_SIZE}> (sequence, W, R, bias, {given})")
    nodes += ["squeezed = Squeeze (all, one)", f"y = {turn} (squeezed)"]
    if states:
        nodes += [f"{h_out} = {turn_state} (h_n)", f"{c_out} = {turn_state} (c_n)"]
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>'
    model = parser.parse_model(f"{header} g ({', '.join(inputs)}) => ({', '.join(outputs)}) {{ {' '.join(nodes)} }}")
    generator, gates = np.random.default_rng(0), 4 * HIDDEN_SIZE
    shapes = {"W": (1, gates, INPUT_SIZE), "R": (1, gates, HIDDEN_SIZE), "bias": (1, 2 * gates)}
    arrays: Mapping[str, Any] = {
        **{name: generator.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()},
        "one": np.array([1], np.int64),
        **({"traced": np.array([traced_steps, 0, INPUT_SIZE], np.int64)} if traced_steps else {}),  # 0: B as it is
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def sizes(name: str, *dims: int, kind: str = "TYPE_FP32", **more: Any) -> Fields:
    """One entry of a configuration's input or output."""
    return {"name": name, "data_type": kind, "dims": list(dims), **more}


def stateless(**changes: Any) -> Fields:
    """The configuration of ``network()``; a change to None takes the field out."""
    fields: Fields = {
        "backend": "onnxruntime",
        "max_batch_size": 8,
        "input": [sizes("x", -1, INPUT_SIZE)],
        "output": [sizes("y", -1, HIDDEN_SIZE)],
        "dynamic_batching": {},
    }
    return {key: value for key, value in {**fields, **changes}.items() if value is not None}


def streaming(names: tuple[str, str, str, str] = H_C, **changes: Any) -> Fields:
    """The configuration of ``network(states=names)`` for Triton's sequence batcher."""
    h_in, c_in, h_out, c_out = names

    def state(taken: str, given: str) -> Fields:
        shape = {"data_type": "TYPE_FP32", "dims": [1, HIDDEN_SIZE]}
        initial = {"name": f"first_{taken}", **shape, "zero_data": True}
        return {"input_name": taken, "output_name": given, **shape, "initial_state": [initial]}

    batcher = {
        "max_sequence_idle_microseconds": 60_000_000,
        "oldest": {"max_candidate_sequences": 16},
        "state": [state(h_in, h_out), state(c_in, c_out)],
    }
    return stateless(**{**changes, "dynamic_batching": None, "sequence_batching": batcher})


def changed(fields: Fields, *path: str | int, to: Any) -> Fields:
    """A copy with one value replaced, or taken out where it is None."""
    copy = deepcopy(fields)
    place: Any = copy
    for step in path[:-1]:
        place = place[step]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return copy


def write(
    folder: Path,
    model: onnx.ModelProto | None,
    config: Fields | str | None,
    *,
    name: str = NAME,
    file: str = "model.onnx",
) -> Path:
    """A model of a repository: folder/NAME/1/model.onnx and folder/NAME/config.pbtxt."""
    place = folder / name / "1"
    place.mkdir(parents=True, exist_ok=True)
    if model is not None:
        onnx.save(model, place / file)
    if config is not None:
        text = config if isinstance(config, str) else write_config(config_from(config))
        (folder / name / "config.pbtxt").write_text(text)
    return folder


def _writer(config: Fields | None, file: str = "model.onnx", **drawing: Any) -> Callable[[Path], object]:
    return lambda folder: write(folder, network(**drawing), config, file=file)


_WHOLE = {  # time as axis 0, which is right where nothing is batched
    "input": [sizes("x", -1, -1, INPUT_SIZE)],
    "output": [sizes("y", -1, -1, HIDDEN_SIZE)],
    "max_batch_size": 0,
    "dynamic_batching": None,
}
_SWAPPING = ("h0", "c0", "state_1", "state_2")
_INITIAL = ("sequence_batching", "state", 0, "initial_state")
_LENGTHS = [sizes("x", -1, INPUT_SIZE), sizes("lengths", 1, kind="TYPE_INT32", reshape={"shape": []})]
_ACCELERATED = {"execution_accelerators": {"gpu_execution_accelerator": [{"name": "tensorrt"}]}}
_STREAMING = _writer(streaming(), states=H_C)
RELEASE = "25.03"  # for which the pair of T13 is made
PAIRS = {
    "T1": Pair(_writer(None, batch_first=False), _writer(stateless(**_WHOLE), batch_first=False)),
    "T2": Pair(_writer(stateless(), batch_first=False), _writer(stateless())),
    "T3": Pair(_writer(streaming(), states=H_C, states_batch_first=False), _STREAMING),
    "T4": Pair(_writer(changed(streaming(), *_INITIAL, to=None), states=H_C), _STREAMING),
    "T5": Pair(_writer(streaming(_SWAPPING), states=_SWAPPING), _STREAMING),
    "T6": Pair(
        _writer(stateless(input=changed({"input": _LENGTHS}, "input", 1, "reshape", to=None)["input"]), lengths="[B]"),
        _writer(stateless(input=_LENGTHS), lengths="[B]"),
    ),
    "T8": Pair(_writer(stateless(output=[sizes("y", 5, HIDDEN_SIZE)])), _writer(stateless())),
    "T9": Pair(_writer(changed(streaming(), "input", to=None), states=H_C), _STREAMING),
    "T10": Pair(
        _writer(stateless(), file="lstm.onnx"),
        _writer(stateless(default_model_filename="lstm.onnx"), file="lstm.onnx"),
    ),
    "T11": Pair(
        _writer(changed(streaming(), "sequence_batching", "max_sequence_idle_microseconds", to=None), states=H_C),
        _STREAMING,
    ),
    "T12": Pair(_writer(stateless(output=[sizes("y", 5, HIDDEN_SIZE)]), output_steps="5"), _writer(stateless())),
    "T13": Pair(_writer(stateless(), opset=23, ir_version=11), _writer(stateless(), opset=22, ir_version=10)),
    "T14": Pair(_writer(stateless(optimization=_ACCELERATED)), _writer(stateless())),
}
WARNINGS = frozenset({"T11", "T14"})  # the mistakes that do not fail
