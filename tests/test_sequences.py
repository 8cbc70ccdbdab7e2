"""A sequence in a file is a sequence in memory, and going through time in stretches changes no answer."""

import errno
import os

import numpy as np
import pytest

from rnn_export import sequences
from rnn_export.errors import OutputError
from rnn_export.judgement import Answers, judge
from rnn_export.oracle import run_oracle
from rnn_export.sequences import StoredSequence, empty_sequence, stretches
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights
from tests.strategies import every_spec

LENGTHS = np.array([9, 3, 7])


@pytest.fixture
def tiny_stretches(monkeypatch):
    """Two or three steps at a time, and every sequence in a file."""
    monkeypatch.setattr(sequences, "STRETCH", 64)
    monkeypatch.setattr(sequences, "KEPT", 0)


@pytest.mark.parametrize(("T", "width"), [(0, 4), (1, 4), (10, 0), (100, 2**20), (3, 2**30), (2**21 + 1, 1)])
def test_stretches_are_every_step_once_and_in_order(T, width):
    steps = [t for stretch in stretches(T, width) for t in range(stretch.start, stretch.stop)]
    assert steps == list(range(T))
    assert all(
        (stretch.stop - stretch.start) * width <= max(width, sequences.STRETCH) for stretch in stretches(T, width)
    )


def test_a_stored_sequence_gives_back_what_was_put_there():
    stored, array = StoredSequence((9, 2, 3)), np.zeros((9, 2, 3))
    values = np.random.default_rng(0).standard_normal(array.shape)
    for steps in (slice(4, 9), slice(0, 2), slice(1, 3), slice(5, 5)):
        stored[steps] = values[steps]
        array[steps] = values[steps]
    assert len(stored) == 9
    for steps in (slice(None), slice(2, 5), slice(8, 20), slice(3, 3), slice(-2, None)):
        np.testing.assert_array_equal(stored[steps], array[steps])


def test_a_stored_sequence_takes_consecutive_steps_of_its_own_shape_only():
    stored = StoredSequence((4, 1, 2))
    for steps, stretch in ((slice(0, 2), (1, 1, 2)), (slice(0, 4), (4, 2)), (slice(3, 6), (3, 1, 2))):
        with pytest.raises(ValueError, match="is not the shape"):
            stored[steps] = np.zeros(stretch)
    with pytest.raises(ValueError, match="consecutive"):
        _ = stored[::2]


def test_a_long_sequence_goes_to_a_file_and_a_short_one_does_not():
    assert isinstance(empty_sequence((2**22 // 64, 1, 64)), np.ndarray)
    assert isinstance(empty_sequence((2**22 // 64 + 1, 1, 64)), StoredSequence)


def test_a_full_disk_is_said_before_anything_is_computed(monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match=r"no room for 8,000 bytes: No space left on device\. Set TMPDIR"):
        StoredSequence((1000, 1, 1))


@pytest.mark.parametrize("spec", every_spec(), ids=str)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["", "lengths"])
def test_the_oracle_and_the_verdict_do_not_depend_on_the_stretches(spec, lengths, request):
    weights, rng = Weights.random(spec, 0), np.random.default_rng(1)
    x = rng.standard_normal((9, 3, spec.input_size)).astype(np.float32)
    h_0 = rng.uniform(-1, 1, (len(spec.cells()), 3, spec.hidden_size)).astype(np.float32)
    whole = run_oracle(weights, x, h_0, lengths)
    answers = Answers(whole.output[:].astype(np.float32), whole.h_n.astype(np.float32), None)
    expected = judge(weights, x, h_0, answers, whole, lengths=lengths)
    request.getfixturevalue("tiny_stretches")
    pieces = run_oracle(weights, x, h_0, lengths)
    assert isinstance(pieces.output, StoredSequence)
    np.testing.assert_allclose(pieces.output[:], whole.output[:], rtol=0, atol=1e-14)
    np.testing.assert_allclose(pieces.h_n, whole.h_n, rtol=0, atol=1e-14)
    found = judge(weights, x, h_0, answers, whole, lengths=lengths)
    assert found == expected
    for name in ("residuals", "errors"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_what_is_wrong_in_a_late_stretch_is_found(tiny_stretches):
    weights = Weights.random(RNNSpec(3, 4, 2), 0)
    x, h_0 = np.ones((30, 1, 3), np.float32), np.zeros((2, 1, 4), np.float32)
    truth = run_oracle(weights, x, h_0)
    output = truth.output[:].astype(np.float32)
    output[29, 0, 2] += 0.5
    found = judge(weights, x, h_0, Answers(output, None, None), truth)
    assert found.max_abs == pytest.approx(0.5, abs=1e-3)
    lengths = np.array([20])
    truth = run_oracle(weights, x, h_0, lengths)
    output = truth.output[:].astype(np.float32)
    output[29, 0, 2] = np.nan
    assert judge(weights, x, h_0, Answers(output, None, None), truth, lengths=lengths).code == "padding"
    x[28, 0, 0] = np.inf
    output = run_oracle(weights, x, h_0).output[:].astype(np.float32)
    output[29, 0, 2] = np.nan
    assert judge(weights, x, h_0, Answers(output, None, None), run_oracle(weights, x, h_0)).code == "nan-misplaced"
