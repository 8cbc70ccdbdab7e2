"""Answers wrongly in the way that ANSWER names; the canary is answered rightly."""

import os

import numpy as np

from rnn_export.runtimes._onnxruntime import session_run

ANSWERS = {
    "honest": lambda output, h_n: {"output": output, "h_n": h_n},
    "lies": lambda output, h_n: {"output": output * np.float32(1.001), "h_n": h_n},
    "lies about the end": lambda output, h_n: {"output": output, "h_n": h_n + np.float32(1e-4)},
    "forgets the state": lambda output, h_n: {"output": output},
    "forgets everything": lambda output, h_n: {},
    "too wide": lambda output, h_n: {"output": np.concatenate([output, output], -1), "h_n": h_n},
    "one row for all": lambda output, h_n: {"output": output[:, :1], "h_n": h_n},
    "one step for all": lambda output, h_n: {"output": output[:1], "h_n": h_n},
    "flat": lambda output, h_n: {"output": output.reshape(-1), "h_n": h_n},
    "double": lambda output, h_n: {"output": output.astype(np.float64), "h_n": h_n},
    "half": lambda output, h_n: {"output": output.astype(np.float16), "h_n": h_n},
    "NaN": lambda output, h_n: {"output": output * np.float32("nan"), "h_n": h_n},
    "lists": lambda output, h_n: {"output": output.tolist(), "h_n": h_n.tolist()},
    "nothing": lambda output, h_n: None,
    "objects": lambda output, h_n: {"output": output.astype(object), "h_n": h_n},
}
MORE = {
    "keeps its layers to itself": lambda layers: {},
    "layers of another width": lambda layers: {name: array[..., :-1] for name, array in layers.items()},
    "layers of fewer axes": lambda layers: {name: array.reshape(-1) for name, array in layers.items()},
}


def prepare(folder):
    honest = session_run(folder, "CPUExecutionProvider", {})
    answer, more = ANSWERS.get(os.environ["ANSWER"]), MORE.get(os.environ["ANSWER"])

    def run(inputs):
        outputs = honest(inputs)
        if "h_n" not in outputs:
            return outputs
        if answer is not None:
            return answer(outputs["output"], outputs["h_n"])
        return {name: outputs.pop(name) for name in ("output", "h_n")} | more(outputs)

    return run
