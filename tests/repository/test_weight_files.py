"""How much memory a file may ask for is not for what lies beside it to say."""

from pathlib import Path

import onnx
import pytest

from rnn_export.child import MEMORY_LIMIT
from rnn_export.repository.weight_files import COPIES, MOST_WEIGHTS, memory_limit
from scripts.wrong.repositories import network


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onnx.save(network(), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=200)
    return tmp_path / "model.onnx"


def make_hole(file: Path, size: int) -> None:
    """It takes no space."""
    with file.open("ab") as stream:
        stream.truncate(size)


def test_the_model_and_its_weights_count(file):
    size = file.stat().st_size + (file.parent / "weights").stat().st_size
    assert memory_limit(file) == MEMORY_LIMIT + COPIES * size


def test_what_else_lies_there_does_not(file):
    before = memory_limit(file)
    make_hole(file.parent / "decoy", 2**40)
    assert memory_limit(file) == before


def test_weights_that_are_a_hole_do_not_lift_it_for_ever(file):
    make_hole(file.parent / "weights", 2**40)
    assert memory_limit(file) == MEMORY_LIMIT + MOST_WEIGHTS
