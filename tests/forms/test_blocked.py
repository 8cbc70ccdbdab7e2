"""``blocked``: a length is filled up to whole blocks, and what is computed there shows nowhere."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_export.forms import FORMS, draw
from rnn_export.forms._tidy import body_of
from rnn_export.forms.blocked import STEPS
from rnn_export.oracle import run_oracle
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

SPECS = [RNNSpec(3, 4, 2, bidirectional=directions) for directions in (False, True)]


def session_of(spec: RNNSpec, lengths: bool) -> tuple[Weights, onnxruntime.InferenceSession]:
    weights = Weights.random(spec, 1)
    model = draw("blocked", weights, 18, lengths=lengths).SerializeToString()
    return weights, onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


SESSIONS = {(spec, lengths): session_of(spec, lengths) for spec in SPECS for lengths in (False, True)}


@settings(deadline=None, max_examples=60)
@given(data=st.data(), spec=st.sampled_from(SPECS), T=st.integers(1, 3 * STEPS + 1), B=st.integers(1, 3))
def test_every_length_gives_the_recurrence_and_its_last_state(data, spec, T, B):
    lengths = data.draw(st.none() | st.lists(st.integers(1, T), min_size=B, max_size=B))
    weights, session = SESSIONS[spec, lengths is not None]
    rng = np.random.default_rng([T, B])
    feed = {"input": rng.standard_normal((T, B, 3)).astype(np.float32)}
    feed["h_0"] = rng.uniform(-1, 1, (len(spec.cells()), B, 4)).astype(np.float32)
    own = None if lengths is None else np.array(lengths)
    truth = run_oracle(weights, feed["input"], feed["h_0"], own)
    output, h_n = session.run(None, feed if own is None else {**feed, "lengths": own})
    np.testing.assert_allclose(output, truth.output[:], atol=2e-6)
    np.testing.assert_allclose(h_n, truth.h_n, atol=2e-6)


@pytest.mark.parametrize("T", [1, STEPS + 1])
def test_a_state_that_overflows_in_the_filling_shows_nowhere(T):
    """A linear network grows without end; the steps behind the last one are computed, and would be infinite."""
    spec = RNNSpec(1, 1, nonlinearity="identity", bias=False)
    weights = Weights(spec, {name: np.full((1, 1), 1e30, np.float32) for name in spec.weight_shapes()})
    model = draw("blocked", weights, 18).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    x = np.zeros((T, 1, 1), np.float32)
    x[-1] = 1.0
    output, h_n = session.run(None, {"input": x, "h_0": np.zeros((1, 1, 1), np.float32)})
    assert np.isfinite(output).all()
    assert output[-1] == h_n[0] == np.float32(1e30)


def test_both_directions_are_in_one_scan_which_makes_a_block_of_steps():
    model = draw("blocked", Weights.random(RNNSpec(3, 4, bidirectional=True), 0), 18)
    (scan,) = (node for node in model.graph.node if node.op_type == "Scan")
    operators = [node.op_type for node in body_of(scan).node]
    assert operators.count("Gemm") == operators.count("Tanh") == 2 * STEPS
    assert operators.count("Identity") == 2
    assert FORMS.get("blocked").block == STEPS
