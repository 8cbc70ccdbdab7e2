"""``stacked``: however many layers, one Scan; and beside input and output nothing that grows with the length."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from rnn_export.forms import draw
from rnn_export.inspection import instrument
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

ROOT = Path(__file__).parent.parent.parent
BOUND = 64 * 2**20


def test_the_copy_that_shows_every_layer_gives_the_same_bits_also_of_layers_with_two_digits():
    spec = RNNSpec(3, 4, 12)
    model = draw("stacked", Weights.random(spec, 1), 18)
    copy, shown = instrument(model, spec) or (None, [])
    assert copy is not None
    assert [value.name for value in shown] == [f"states_l{layer}" for layer in range(12)]
    feed = {"input": np.ones((6, 2, 3), np.float32), "h_0": np.zeros((12, 2, 4), np.float32)}
    sessions = [
        onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
        for one in (model, copy)
    ]
    output, h_n = sessions[0].run(None, feed)
    found = dict(zip([value.name for value in sessions[1].get_outputs()], sessions[1].run(None, feed), strict=True))
    assert found["output"].tobytes() == output.tobytes() == found["states_l11"].tobytes()
    for layer in range(12):
        assert found[f"states_l{layer}"][-1].tobytes() == h_n[layer].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 4])
def test_a_million_steps_take_no_memory_beside_input_and_output(layers):
    script = ROOT / "scripts" / "speed" / "one_run.py"
    line = [sys.executable, str(script), "stacked", "1000000", "64", str(layers)]
    found = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    assert 0 <= found["bytes_beside"] < BOUND
