"""A runtime that lies: ONNX Runtime on the CPU, with chosen questions changed or answers corrupted.

The child process loads this file as it loads any runtime's. The plan beside the model says which input is
answered with which lie; every other input, the canary's too, is answered honestly. A lie sees time-major
arrays, whatever ``batch_first`` says.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faults.plan import Lie, Plan
from rnn_export.runtimes import Run
from rnn_export.runtimes._onnxruntime import session_run

Array = NDArray[Any]
Answers = dict[str, Array]
Ask = Callable[[Array, Array], Answers]  # (input (T, B, I), h_0 (L*D, B, H)) -> output (T, B, D*H), h_n (L*D, B, H)
ASKED: dict[str, Callable[..., Answers]] = {}
ANSWERED: dict[str, Callable[..., None]] = {}


def prepare(folder: Path) -> Run:
    honest, plan = session_run(folder, "CPUExecutionProvider", {}), Plan.read(folder)

    def ask(x: Array, h_0: Array) -> Answers:
        answers = {name: array.copy() for name, array in honest({"input": turned(x), "h_0": h_0}).items()}
        return {**answers, "output": turned(answers["output"])}

    def turned(array: Array) -> Array:
        return np.ascontiguousarray(array.swapaxes(0, 1)) if plan.batch_first else array

    def run(inputs: Mapping[str, Array]) -> Answers:
        lie = plan.lie_for(inputs)
        if lie is None:
            return dict(honest(inputs))
        answers = _tell(lie, ask, turned(inputs["input"]), inputs["h_0"])
        return {name: turned(array) if name == "output" else array for name, array in answers.items()}

    return run


def _tell(lie: Lie, ask: Ask, x: Array, h_0: Array) -> Answers:
    """The answers with one lie in them."""
    if lie.name in ASKED:
        return ASKED[lie.name](ask, x, h_0, **lie.options)
    answers = ask(x, h_0)
    ANSWERED[lie.name](answers, **lie.options)
    return answers


def asked(name: str) -> Callable[[Callable[..., Answers]], Callable[..., Answers]]:
    """Register a lie that asks ONNX Runtime something else."""

    def register(lie: Callable[..., Answers]) -> Callable[..., Answers]:
        ASKED[name] = lie
        return lie

    return register


def answered(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a lie that corrupts the answers in place."""

    def register(lie: Callable[..., None]) -> Callable[..., None]:
        ANSWERED[name] = lie
        return lie

    return register


@asked("h_0 ignored by the runtime")
def _ignore_state(ask: Ask, x: Array, h_0: Array) -> Answers:
    return ask(x, np.zeros_like(h_0))


@asked("rows of h_0 mixed")
def _mix_states(ask: Ask, x: Array, h_0: Array) -> Answers:
    return ask(x, np.roll(h_0, 1, axis=1))


@asked("all rows read the input of row 0")
def _repeat_row(ask: Ask, x: Array, h_0: Array) -> Answers:
    return ask(np.repeat(x[:, :1], x.shape[1], axis=1), h_0)


@asked("input stored as float16")
def _coarse_input(ask: Ask, x: Array, h_0: Array) -> Answers:
    return ask(x.astype(np.float16).astype(x.dtype), h_0)


@asked("state lost in the middle")
def _lose_state(ask: Ask, x: Array, h_0: Array) -> Answers:
    half = len(x) // 2
    first, second = ask(x[:half], h_0), ask(x[half:], np.zeros_like(h_0))
    whole = {name: np.concatenate([first[name], second[name]]) for name in first if name != "h_n"}
    return {**whole, "h_n": second["h_n"]}


@asked("one element of h_0")
def _move_state(ask: Ask, x: Array, h_0: Array, place: list[int], size: float) -> Answers:
    moved = h_0.copy()
    moved[tuple(place)] += np.float32(size)
    return ask(x, moved)


@asked("h_n one step behind")
def _late_h_n(ask: Ask, x: Array, h_0: Array) -> Answers:
    return {**ask(x, h_0), "h_n": ask(x[:-1], h_0)["h_n"]}


@answered("one output")
def _move_output(answers: Answers, place: list[int], size: float) -> None:
    answers["output"][tuple(place)] += np.float32(size)


@answered("last step zero")
def _clear_last(answers: Answers) -> None:
    answers["output"][-1] = 0


@answered("one step not updated")
def _repeat_step(answers: Answers) -> None:
    half = len(answers["output"]) // 2
    answers["output"][half] = answers["output"][half - 1]


@answered("output off by one step")
def _shift_output(answers: Answers) -> None:
    answers["output"] = np.roll(answers["output"], 1, axis=0)


@answered("batch rows mixed")
def _mix_rows(answers: Answers) -> None:
    answers["output"] = np.roll(answers["output"], 1, axis=1)


@answered("two units exchanged")
def _exchange_units(answers: Answers) -> None:
    answers["output"][..., [0, 1]] = answers["output"][..., [1, 0]]


@answered("answers stored as float16")
def _coarse_answers(answers: Answers) -> None:
    answers["output"] = answers["output"].astype(np.float16).astype(np.float32)


@answered("NaN swallowed")
def _swallow_nan(answers: Answers) -> None:
    answers["output"] = np.nan_to_num(answers["output"], nan=0.0)


@answered("NaN in one answer")
def _plant_nan(answers: Answers) -> None:
    answers["output"][-1, -1, -1] = np.nan


@answered("infinity in one answer")
def _plant_infinity(answers: Answers) -> None:
    answers["output"][0, 0, 0] = np.inf


@answered("memory never written")
def _forget_to_write(answers: Answers) -> None:
    answers["output"][len(answers["output"]) // 2 :] = 1e-38


@answered("h_n zero")
def _clear_h_n(answers: Answers) -> None:
    answers["h_n"][...] = 0


@answered("output missing")
def _omit_output(answers: Answers) -> None:
    del answers["output"]


@answered("h_n missing")
def _omit_h_n(answers: Answers) -> None:
    del answers["h_n"]


@answered("steps missing")
def _omit_steps(answers: Answers) -> None:
    answers["output"] = answers["output"][:-1]


@answered("a step too many")
def _add_step(answers: Answers) -> None:
    answers["output"] = np.concatenate([answers["output"], answers["output"][-1:]])


@answered("shape (1, B, H)")
def _keep_one_step(answers: Answers) -> None:
    answers["output"] = answers["output"][:1]


@answered("shape (T, 1, H)")
def _keep_one_row(answers: Answers) -> None:
    answers["output"] = answers["output"][:, :1]


@answered("answers of type float64")
def _widen(answers: Answers) -> None:
    answers["output"] = answers["output"].astype(np.float64)


@answered("answers of type float16")
def _narrow(answers: Answers) -> None:
    answers["output"] = answers["output"].astype(np.float16)
