"""What is timed is the network itself, and gives what the run gives that is judged."""

import numpy as np
import pytest

from rnn_export.element_types import BITS
from rnn_export.runtimes import RUNTIMES, thread_limit
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights
from tests.subjects import drawn_subject

HERE = ("torch", "onnxruntime-cpu")  # that can be loaded beside the tests


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("spec", ["rnn:3,4", "rnn:3,4,layers=2,bidirectional,batch-first"])
def test_lean_gives_the_same_bits_and_no_layers(name, spec, tmp_path):
    subject = drawn_subject(spec, tmp_path)
    run = RUNTIMES.get(name).prepare(subject.folder)
    rows = len(subject.weights.spec.cells())
    feed = {
        "input": np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32),
        "h_0": np.ones((rows, 5 if subject.weights.spec.batch_first else 2, 4), np.float32),
    }
    whole, lean = run(feed), run.lean(feed)
    assert set(lean) == {"output", "h_n"}
    for answer in lean:
        assert lean[answer].tobytes() == whole[answer].tobytes()


def test_lean_takes_bfloat16_as_its_bits(tmp_path):
    subject = drawn_subject(Weights.random(RNNSpec(3, 4), 0, "bfloat16"), tmp_path, "scan", opset=22)
    run = RUNTIMES.get("torch").prepare(subject.folder)
    feed = {"input": np.zeros((5, 2, 3), BITS), "h_0": np.zeros((1, 2, 4), BITS)}
    assert run.lean(feed)["output"].tobytes() == run(feed)["output"].tobytes()


def test_a_process_computes_with_one_thread_unless_it_is_told_otherwise(monkeypatch):
    monkeypatch.delenv("RNN_EXPORT_THREADS", raising=False)
    assert thread_limit() == 1
    monkeypatch.setenv("RNN_EXPORT_THREADS", "3")
    assert thread_limit() == 3
