"""Sequences of different lengths: every form, the oracle and the module equal torch's packed sequences."""

from itertools import product
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_export import RNNSpec, SingleMatrixRNN, Weights, export, to_torch, verify
from rnn_export.forms import draw
from rnn_export.oracle import run_oracle, valid_steps
from rnn_export.residual import step_residual

OPTIONS = list(product((1, 3), ("tanh", "relu"), (True, False), (True, False), (True, False)))
LENGTHS = np.array([4, 9, 1, 7])  # unsorted, one of them T, one of them 1
T, B, INPUT, HIDDEN = 9, 4, 3, 5


def make(layers: int, nonlinearity: str, bias: bool, batch_first: bool, bidirectional: bool) -> Weights:
    spec = RNNSpec(INPUT, HIDDEN, layers, nonlinearity, bias, batch_first, bidirectional)
    return Weights.random(spec, seed=layers)


def data(weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    generator, spec = np.random.default_rng(0), weights.spec
    x = generator.standard_normal((T, B, INPUT)).astype(np.float32)
    h_0 = generator.uniform(-1, 1, (spec.num_layers * spec.num_directions, B, HIDDEN)).astype(np.float32)
    return x, h_0


def packed(weights: Weights, x: np.ndarray, h_0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """torch's own answer, time-major, in float64."""
    network = to_torch(weights).double()
    network.batch_first = False
    with torch.no_grad():
        sequence = pack_padded_sequence(torch.tensor(x).double(), torch.tensor(LENGTHS), enforce_sorted=False)
        output, h_n = network(sequence, torch.tensor(h_0).double())
        padded, _ = pad_packed_sequence(output, total_length=T)
    return padded.numpy(), h_n.numpy()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_oracle_is_torchs_packed_sequence(options):
    weights = make(*options)
    x, h_0 = data(weights)
    for found, expected in zip(run_oracle(weights, x, h_0, LENGTHS), packed(weights, x, h_0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_module_is_torchs_packed_sequence(options):
    weights = make(*options)
    x, h_0 = data(weights)
    module = SingleMatrixRNN.from_weights(weights).double()
    given = torch.tensor(x).double()
    with torch.no_grad():
        output, h_n = module(
            given.transpose(0, 1) if weights.spec.batch_first else given,
            torch.tensor(h_0).double(),
            torch.tensor(LENGTHS),
        )
    output = output.transpose(0, 1) if weights.spec.batch_first else output
    expected_output, expected_h_n = packed(weights, x, h_0)
    # the single matrix adds its two biases in float32
    np.testing.assert_allclose(output, expected_output, rtol=0, atol=2e-6)
    np.testing.assert_allclose(h_n, expected_h_n, rtol=0, atol=2e-6)


@pytest.mark.parametrize("form", ["scan", "rnn"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_drawn_form_is_torchs_packed_sequence_whatever_stands_in_the_padding(form, options):
    weights = make(*options)
    x, h_0 = data(weights)
    model = draw(form, weights, 18, lengths=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected_output, expected_h_n = packed(weights, x, h_0)
    inside = valid_steps(T, B, LENGTHS)
    answers = []
    for padding in (0.0, np.nan):
        filled = np.where(inside[..., None], x, np.float32(padding))
        fed = np.ascontiguousarray(filled.swapaxes(0, 1) if weights.spec.batch_first else filled)
        output, h_n = session.run(["output", "h_n"], {"input": fed, "h_0": h_0, "lengths": LENGTHS})
        answers.append((output, h_n))
        time_major = output.swapaxes(0, 1) if weights.spec.batch_first else output
        assert not time_major[~inside].any()
        np.testing.assert_allclose(time_major, expected_output, rtol=0, atol=1e-5)
        np.testing.assert_allclose(h_n, expected_h_n, rtol=0, atol=1e-5)
    assert all(np.array_equal(*pair) for pair in zip(*answers, strict=True))


@pytest.mark.parametrize("form", ["scan", "loop", "rnn", "module"])
def test_an_artifact_with_lengths_passes_in_onnx_runtime_and_torch(form, tmp_path: Path):
    artifact = export("rnn:3,5,layers=2,bidirectional", tmp_path / "out", form=form, lengths=True)
    report = verify(artifact.path, runtimes=["onnxruntime-cpu", "torch"])
    assert report.exit_code == 0
    ran = {row.case for row in report.results if row.runtime == "onnxruntime-cpu" and row.passed}
    assert any(case.startswith("NaN in the padding") for case in ran)
    onnx_rows = [row for row in report.results if row.runtime == "onnxruntime-cpu" and row.case.startswith("T=5")]
    assert all(row.residual is not None for row in onnx_rows)


def test_a_runtime_that_ignores_lengths_is_caught(tmp_path: Path):
    # the onnx package's own RNN evaluator ignores sequence_lens
    artifact = export("rnn:3,5", tmp_path / "out", form="rnn", lengths=True)
    report = verify(artifact.path, runtimes=["onnx-reference"])
    assert report.exit_code == 1
    assert {row.code for row in report.results if row.status.value == "MISMATCH"} <= {"padding", "step-residual"}


def test_a_wrong_step_in_reverse_is_named_where_the_sequences_end_at_different_steps():
    weights = make(1, "tanh", True, False, True)
    x, h_0 = data(weights)
    output = run_oracle(weights, x, h_0, LENGTHS).output.astype(np.float32)
    y = output[..., HIDDEN:].copy()
    clean = step_residual(weights.cell(0, 1), x, h_0[1], y, reverse=True, lengths=LENGTHS)
    assert clean.passed
    assert clean.judged == LENGTHS.sum() * HIDDEN
    y[3, 0, 2] += 1e-3  # the first step that row 0, of length 4, takes in reverse
    found = step_residual(weights.cell(0, 1), x, h_0[1], y, reverse=True, lengths=LENGTHS)
    assert found.first == (3, 0, 2)
