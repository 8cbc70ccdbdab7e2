"""What a release of Triton loads: the table is measured by a script, and used as what it says."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from rnn_export.checkpoint import load_checkpoint
from rnn_export.child import Failure
from rnn_export.environments import interpreter_of
from rnn_export.errors import UsageError
from rnn_export.execution import execute
from rnn_export.forms import draw
from rnn_export.onnxruntime_releases import RELEASES, release_of
from rnn_export.runtimes import RUNTIMES


def test_newer_releases_load_more():
    limits = [(release.opset, release.ir_version) for release in RELEASES.values()]
    assert limits == sorted(limits)
    assert len({release.onnxruntime for release in RELEASES.values()}) == len(RELEASES)


@pytest.mark.parametrize("release", RELEASES.values(), ids=lambda release: release.name)
def test_what_is_drawn_for_a_release_has_a_format_that_it_loads(release):
    assert helper.find_min_ir_version_for([helper.make_opsetid("", release.opset)]) <= release.ir_version
    assert release.takes(release.opset, release.ir_version)
    assert not release.takes(release.opset + 1, release.ir_version)
    assert not release.takes(release.opset, release.ir_version + 1)


@pytest.mark.parametrize("release", RELEASES.values(), ids=lambda release: release.name)
def test_the_limits_are_those_of_its_onnxruntime(release):
    """Where that version is installed: the newest opset runs, and the next one does not."""
    runtime = RUNTIMES.get(f"onnxruntime@{release.onnxruntime}")
    if interpreter_of(runtime) is None:
        pytest.skip(f"rnn-export runtimes install {runtime.name}")
    weights = load_checkpoint("rnn:3,4").weights
    feed = {"input": np.ones((5, 2, 3), np.float32), "h_0": np.zeros((1, 2, 4), np.float32)}
    for opset, ir_version, works in (
        (release.opset, release.ir_version, True),
        (release.opset + 1, release.ir_version, False),
        (release.opset, release.ir_version + 1, False),
    ):
        model = draw("scan", weights, release.opset)
        model.opset_import[0].version, model.ir_version = opset, ir_version
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model.onnx").write_bytes(model.SerializeToString())
            if works:
                assert execute(runtime, Path(folder), feed)["output"].shape == (5, 2, 4)
            else:
                with pytest.raises(Failure, match=r"opset|IR version"):
                    execute(runtime, Path(folder), feed)


def test_an_unknown_release_names_those_that_are_known():
    with pytest.raises(UsageError, match=r"unknown release of Triton '25.05'.*25.03, 25.10"):
        release_of("25.05")
    assert release_of("25.10").onnxruntime == "1.23.1"
