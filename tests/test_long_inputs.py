"""The user's own data of a million steps: how much memory the verdict on it takes."""

import numpy as np
import pytest
import torch
from torch import nn

from rnn_export.pipeline import export
from tests.peaks import MIB, peak_of

H = 64


@pytest.mark.slow
@pytest.mark.parametrize("head", [None, "i2o"])
def test_a_million_steps_take_their_input_their_output_and_256_mib(tmp_path, head):
    """Above what the same command takes on ten steps; a head that reads cat(x, h) takes no more."""
    generator = np.random.default_rng(0)
    torch.save({"i2h": nn.Linear(2 * H, H), "i2o": nn.Linear(2 * H, 1)}, tmp_path / "cell.pt")
    source = tmp_path / "cell.pt" if head else f"rnn:{H},{H}"
    artifact = export(source, tmp_path / "out", head=head, nonlinearity="tanh" if head else None).path
    peaks = []
    for T in (10, 1_000_000):
        x = generator.standard_normal((T, 1, H), np.float32)
        np.savez(tmp_path / f"{T}.npz", input=x)
        line = ["verify", artifact, "--runtime", "onnxruntime-cpu", "--inputs", tmp_path / f"{T}.npz"]
        found = peak_of(*line, "--timeout", 300)
        assert found.code == 0, found.out
        peaks.append(found.bytes)
    assert peaks[1] - peaks[0] < 2 * x.nbytes + 256 * MIB
