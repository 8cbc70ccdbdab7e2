"""The stored checkpoints are what their cards say, and the float64 oracle reads digits with them."""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from rnn_export.oracle import run_oracle
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

MODELS = Path(__file__).parent.parent / "models"
BARS = {"digits-rows": 0.95, "digits-pixels": 0.85}
SEQUENCE_LENGTHS = {"digits-rows": 8, "digits-pixels": 64}


class Checkpoint(NamedTuple):
    name: str
    metadata: dict[str, str]
    tensors: dict[str, NDArray[np.float32]]
    card: str

    @property
    def spec(self) -> RNNSpec:
        return RNNSpec.from_dict(json.loads(self.metadata["rnn_export"]))


@pytest.fixture(params=BARS)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    path = MODELS / f"{request.param}.safetensors"
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    return Checkpoint(request.param, metadata, load_file(path), path.with_suffix(".md").read_text("utf-8"))


@pytest.fixture(scope="module")
def test_set() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, 64) in 0..16 and labels (N,)."""
    with np.load(MODELS / "digits-test.npz") as stored:
        return stored["images"], stored["labels"]


def count_correct(checkpoint: Checkpoint, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> int:
    """How many digits the float64 oracle and the head in numpy get right."""
    spec, tensors = checkpoint.spec, checkpoint.tensors
    arrays = {name.removeprefix("rnn."): array for name, array in tensors.items() if name.startswith("rnn.")}
    weights = Weights.from_single_matrix(spec, arrays)
    x = (images / 16).reshape(len(images), -1, spec.input_size).transpose(1, 0, 2)  # (T, N, I)
    last = run_oracle(weights, x, np.zeros((1, len(images), spec.hidden_size))).h_n[-1]  # (N, H)
    logits = last @ tensors["head.weight"].astype(np.float64).T + tensors["head.bias"]  # (N, 10)
    return int((logits.argmax(axis=1) == labels).sum())


def test_tensors_have_the_shapes_of_the_metadata(checkpoint: Checkpoint) -> None:
    spec, H = checkpoint.spec, checkpoint.spec.hidden_size
    assert {name: array.shape for name, array in checkpoint.tensors.items()} == {
        "rnn.matrix_l0": (H, spec.input_size + H),
        "rnn.bias_l0": (H,),
        "head.weight": (10, H),
        "head.bias": (10,),
    }
    assert {array.dtype.name for array in checkpoint.tensors.values()} == {"float32"}
    assert SEQUENCE_LENGTHS[checkpoint.name] * spec.input_size == 64


def test_the_metadata_is_one_key_with_sorted_json(checkpoint: Checkpoint) -> None:
    text = json.dumps(checkpoint.spec.to_dict(), sort_keys=True)
    assert checkpoint.metadata == {"rnn_export": text}


def test_the_card_names_the_checkpoint_bytes(checkpoint: Checkpoint) -> None:
    content = (MODELS / f"{checkpoint.name}.safetensors").read_bytes()
    assert re.findall(r"sha256: `(\w+)`", checkpoint.card) == [hashlib.sha256(content).hexdigest()]


def test_the_test_set_is_small_and_whole(test_set: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    images, labels = test_set
    assert (images.shape, images.dtype.name) == ((450, 64), "uint8")
    assert (labels.shape, labels.dtype.name) == ((450,), "uint8")
    assert images.max() == 16
    assert set(labels.tolist()) == set(range(10))
    assert (MODELS / "digits-test.npz").stat().st_size < 40_000


def test_the_oracle_reaches_the_bar_and_the_card_says_so(
    checkpoint: Checkpoint, test_set: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    images, labels = test_set
    correct = count_correct(checkpoint, images, labels)
    assert correct >= BARS[checkpoint.name] * len(labels)
    assert f"accuracy: {correct}/{len(labels)} correct" in checkpoint.card


def test_other_labels_are_not_reached(
    checkpoint: Checkpoint, test_set: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    """A count that cannot fail would prove nothing."""
    images, labels = test_set
    assert count_correct(checkpoint, images, (labels + 1) % 10) < 0.1 * len(labels)
