"""Triton's python backend: model.onnx beside this file, run by ONNX Runtime on the CPU.

Requests of the same shapes are one run, and where that fails, each is a run of its own. Where the configuration has
sequences, the state h_0 of each (L*D, H) is kept here from request to request: Triton's own states are not for this
backend.
"""

import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        config = json.loads(args["model_config"])
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1  # requests side by side use the other processors
        settings.log_severity_level = 3
        model = str(folder / "model.onnx")
        self.session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        self.inputs = [one["name"] for one in config["input"]]
        self.outputs = [one["name"] for one in config["output"]]
        self.sequences = None
        if "sequence_batching" in config:
            (state,) = [value for value in self.session.get_inputs() if value.name == "h_0"]
            start = np.frombuffer((folder / "h_0").read_bytes(), TYPES[state.type])
            idle = int(config["parameters"]["sequence_idle_microseconds"]["string_value"])
            self.sequences = Sequences(start.reshape(state.shape[1:]), idle / 1e6)

    def execute(self, requests):
        alike = defaultdict(list)
        answers = [None] * len(requests)
        for place, request in enumerate(requests):
            arrays = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            if self.sequences is not None:
                state = self.sequences.state_of(request)
                if state is None:
                    error = "the sequence is not known: it was idle for too long, or did not begin with START"
                    answers[place] = self._refusal(request, error)
                    continue
                arrays["h_0"] = state
            if problem := lengths_problem(arrays):
                answers[place] = self._refusal(request, problem)
                continue
            alike[tuple(array.shape[1:] for array in arrays.values())].append((place, arrays))
        for group in alike.values():
            self._run(requests, answers, group)
        return answers

    def _run(self, requests, answers, group):
        """One run for requests of the same shapes, and its rows given back to each of them."""
        names = list(group[0][1])
        rows = [len(arrays[names[0]]) for _, arrays in group]
        feed = {name: np.concatenate([arrays[name] for _, arrays in group]) for name in names}
        try:
            found = self.session.run(self.outputs, feed)
        except Exception as error:
            if len(group) > 1:  # one of them may be bad: the others are strangers to it
                for one in group:
                    self._run(requests, answers, [one])
                return
            answers[group[0][0]] = self._refusal(requests[group[0][0]], str(error))
            return
        for number, (place, _) in enumerate(group):
            first = sum(rows[:number])
            own = {name: array[first : first + rows[number]] for name, array in zip(self.outputs, found, strict=True)}
            if self.sequences is not None:
                self.sequences.keep(requests[place], own["h_n"])
            tensors = [triton.Tensor(name, np.ascontiguousarray(array)) for name, array in own.items()]
            answers[place] = triton.InferenceResponse(output_tensors=tensors)

    def _refusal(self, request, error):
        if self.sequences is not None:
            self.sequences.keep(request, None)
        return triton.InferenceResponse(error=triton.TritonError(error))


def lengths_problem(arrays):
    """What is wrong with lengths (B, 1) for the steps of input (B, T, I), which the graph would not say; or nothing."""
    steps = arrays["input"].shape[1]
    for row, length in enumerate(arrays["lengths"].ravel().tolist() if "lengths" in arrays else ()):
        if not 1 <= length <= steps:
            return f"lengths of row {row} is {length}, and has to be from 1 to {steps}, the steps of the input"
    return ""


class Sequences:
    """The states of open sequences, by their correlation id."""

    def __init__(self, start, idle):
        self.start, self.idle = start, idle  # (L*D, H), seconds
        self.states = {}  # id -> (state (1, L*D, H), when it was last used)

    def state_of(self, request):
        """(1, L*D, H) before the request's first step; None where the sequence is not known."""
        if self._flag(request, "START"):
            self._forget_idle()
            self.states.pop(self._id(request), None)  # if this request fails, none may go on from the one before it
            return self.start[None]
        state, _ = self.states.get(self._id(request), (None, None))
        return state

    def keep(self, request, state):
        """The state (1, L*D, H) after a request; None where it failed: that before it stays, if more may follow."""
        if self._flag(request, "END"):
            self.states.pop(self._id(request), None)
        elif state is not None:
            # A copy: a part of the batch's array would keep the whole of it
            self.states[self._id(request)] = (state.copy(), time.monotonic())

    def _forget_idle(self):
        """Triton has given their places to others by then, and says nothing of it here."""
        oldest = time.monotonic() - 2 * self.idle
        for name in [name for name, (_, used) in self.states.items() if used < oldest]:
            del self.states[name]

    def _id(self, request):
        return int(self._control(request, "correlation_id"))

    def _flag(self, request, name):
        return bool(self._control(request, name))

    def _control(self, request, name):
        return triton.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0]
