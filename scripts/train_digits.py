"""Train the two stored checkpoints on scikit-learn's handwritten digits and write them to models/.

``digits-rows`` reads an 8x8 image row by row (T = 8, I = 8, tanh); ``digits-pixels`` reads it pixel by pixel
(T = 64, I = 1, relu, recurrence started at the identity). Each is one SingleMatrixRNN and a linear head on
its last state.

    python scripts/train_digits.py [--only NAME] [-o FOLDER]     train and write (needs scikit-learn)
    python scripts/train_digits.py --check                       measure what is stored, without training
"""

import argparse
import copy
import hashlib
import io
import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from rnn_export.errors import OutputError, RnnExportError, SourceError, UsageError
from rnn_export.module import SingleMatrixRNN
from rnn_export.spec import RNNSpec

PIXELS, LARGEST, CLASSES = 64, 16, 10  # an image is 8x8 integers in 0..16
TEST_SIZE, VALIDATION_SIZE, SPLIT_SEED = 0.25, 0.15, 0  # validation is a share of the training part
BATCH_SIZE = 32
MAX_NORM = 1.0  # gradients are clipped to it, as the IRNN paper does
METADATA_KEY = "rnn_export"
TEST_SET = "digits-test.npz"


@dataclass(frozen=True)
class Recipe:
    """One network and how it is trained; the numbers were chosen on the validation part."""

    name: str
    reading: str
    spec: RNNSpec
    bar: float  # the least accuracy on the test set, 0 to 1
    epochs: int
    learning_rate: float  # the peak of the one-cycle schedule
    weight_decay: float
    input_std: float | None = None  # makes it an IRNN: W_hh = I, W_ih normal with this std, bias 0
    seed: int = 0


RECIPES = (
    Recipe("digits-rows", "row by row", RNNSpec(8, 64), 0.95, 100, 1e-2, 0.1),
    Recipe(
        "digits-pixels",
        "pixel by pixel",
        RNNSpec(1, 96, nonlinearity="relu"),
        0.85,
        400,
        1e-3,
        0.01,
        input_std=0.3,  # validation accuracy 97.0 %; the paper's 0.001 gave 90.6 %
    ),
)


class Digits(NamedTuple):
    """Images (N, 64) uint8 in 0..16 and their labels (N,) uint8."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class Split(NamedTuple):
    training: Digits
    validation: Digits
    test: Digits


class Score(NamedTuple):
    correct: int
    total: int
    loss: float  # mean cross-entropy

    def __str__(self) -> str:
        return f"{self.correct}/{self.total} correct, {self.correct / self.total:.2%}"


class DigitsClassifier(nn.Module):
    """A SingleMatrixRNN and a linear head on its last hidden state."""

    def __init__(self, spec: RNNSpec) -> None:
        super().__init__()
        self.rnn = SingleMatrixRNN(**spec.to_dict())
        self.head = nn.Linear(spec.hidden_size, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """x (T, B, I) to logits (B, 10)."""
        _, h_n = self.rnn(x)
        return self.head(h_n[-1])  # type: ignore[no-any-return]  # nn.Module's call is untyped


def sequences(images: NDArray[np.uint8], input_size: int) -> Tensor:
    """Images (N, 64) as float32 (T, N, I) in [0, 1], with T = 64 / I."""
    scaled = torch.from_numpy(images.astype(np.float32) / LARGEST)
    return scaled.reshape(len(images), PIXELS // input_size, input_size).transpose(0, 1).contiguous()


def load_split() -> Split:
    """scikit-learn's digits, split twice, each time stratified by label and with a fixed seed.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
        from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError("Training needs scikit-learn", "Run: pip install 'rnn-export[train]'") from error

    def divide(data: Digits, share: float) -> tuple[Digits, Digits]:
        first, second = train_test_split(
            np.arange(len(data.labels)), test_size=share, random_state=SPLIT_SEED, stratify=data.labels
        )
        return Digits(*(a[first] for a in data)), Digits(*(a[second] for a in data))

    images, labels = load_digits(return_X_y=True)
    rest, test = divide(Digits(images.astype(np.uint8), labels.astype(np.uint8)), TEST_SIZE)
    return Split(*divide(rest, VALIDATION_SIZE), test)


def start(recipe: Recipe) -> DigitsClassifier:
    """The untrained network: torch's own start, or an IRNN (Le, Jaitly, Hinton 2015, arXiv:1504.00941)."""
    torch.manual_seed(recipe.seed)
    model = DigitsClassifier(recipe.spec)
    if recipe.input_std is not None:
        matrix = model.rnn.get_parameter("matrix_l0")  # (H, I+H) = [W_ih | W_hh]
        with torch.no_grad():
            nn.init.normal_(matrix[:, : recipe.spec.input_size], std=recipe.input_std)
            nn.init.eye_(matrix[:, recipe.spec.input_size :])
            nn.init.zeros_(model.rnn.get_parameter("bias_l0"))
    return model


def evaluate(model: DigitsClassifier, data: Digits) -> Score:
    labels = torch.from_numpy(data.labels.astype(np.int64))
    model.eval()
    with torch.no_grad():
        logits = model(sequences(data.images, model.rnn.spec.input_size))
    correct = int((logits.argmax(dim=1) == labels).sum())
    return Score(correct, len(labels), float(functional.cross_entropy(logits, labels)))


def train(recipe: Recipe, split: Split) -> DigitsClassifier:
    """The network of the epoch with the least loss on the validation part."""
    model = start(recipe)
    x = sequences(split.training.images, recipe.spec.input_size)
    labels = torch.from_numpy(split.training.labels.astype(np.int64))
    batches = -(-len(labels) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.epochs * batches)
    best, best_loss = copy.deepcopy(model.state_dict()), float("inf")
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        for batch in torch.split(torch.randperm(len(labels)), BATCH_SIZE):
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(model(x[:, batch]), labels[batch]))
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            schedule.step()
        score = evaluate(model, split.validation)
        if score.loss < best_loss:
            best, best_loss = copy.deepcopy(model.state_dict()), score.loss
        if epoch % 20 == 0:
            print(f"{recipe.name} epoch {epoch}: validation {score}, loss {score.loss:.4f}", file=sys.stderr)
    model.load_state_dict(best)
    return model


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    beside = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}", "Choose another folder with -o") from error


def checkpoint_bytes(model: DigitsClassifier) -> bytes:
    # One metadata key: with several, safetensors writes them in an order that changes from run to run.
    return save(model.state_dict(), {METADATA_KEY: json.dumps(model.rnn.spec.to_dict(), sort_keys=True)})


def npz_bytes(data: Digits) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=data.images, labels=data.labels)
    return buffer.getvalue()


def load_checkpoint(path: Path) -> DigitsClassifier:
    """The inverse of ``checkpoint_bytes``.

    Raises:
        SourceError: the file is missing, damaged, or holds another network than its metadata says.
    """
    try:
        with safe_open(path, framework="pt") as file:
            model = DigitsClassifier(RNNSpec.from_dict(json.loads(file.metadata()[METADATA_KEY])))
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SourceError(f"{path} cannot be loaded: {error}", "Train it again, without --check") from error
    return model


def load_test_set(path: Path) -> Digits:
    """The inverse of ``npz_bytes``.

    Raises:
        SourceError: the file is missing or damaged.
    """
    try:
        with np.load(path) as stored:
            return Digits(stored["images"], stored["labels"])
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise SourceError(f"{path} cannot be loaded: {error}", "Train again, without --check") from error


def card(recipe: Recipe, split: Split, score: Score, checkpoint: bytes) -> str:
    """What a reader must know before using the checkpoint, in Markdown; the same bytes from the same run."""
    spec = recipe.spec
    steps = PIXELS // spec.input_size
    training, validation, test = (len(part.labels) for part in split)
    sizes = f"{training} for training, {validation} for validation, {test} for the test"
    beginning = "torch's own, uniform in ±1/sqrt(H)"
    if recipe.input_std is not None:
        beginning = (
            "IRNN (Le, Jaitly, Hinton 2015, arXiv:1504.00941), W_hh = I, bias 0, "
            f"W_ih normal with standard deviation {recipe.input_std}"
        )
    return f"""# {recipe.name}

Reads an 8x8 image of a handwritten digit {recipe.reading} and tells which digit it is.
Written by `scripts/train_digits.py`; do not edit.

- accuracy: {score} (test set, torch, float32)
- sha256: `{hashlib.sha256(checkpoint).hexdigest()}` (`{recipe.name}.safetensors`)
- made with: `python scripts/train_digits.py --only {recipe.name}`
- versions: torch {torch.__version__}, numpy {np.__version__}, scikit-learn {version("scikit-learn")}

## Network

{spec} as one matrix [W_ih | W_hh] and one bias, then a linear head {spec.hidden_size} -> {CLASSES}
on the last state. The input is (T, B, I) = ({steps}, B, {spec.input_size}), pixels / {LARGEST}; h_0 is zero.
The largest logit is the digit.

| tensor | shape |
|---|---|
| `rnn.matrix_l0` | ({spec.hidden_size}, {spec.input_size + spec.hidden_size}) |
| `rnn.bias_l0` | ({spec.hidden_size},) |
| `head.weight` | ({CLASSES}, {spec.hidden_size}) |
| `head.bias` | ({CLASSES},) |

All are float32. The metadata key `{METADATA_KEY}` holds the network's spec as JSON.

## Data

The 1,797 images of scikit-learn's `load_digits`, 8x8 pixels in 0..{LARGEST}: the test part of *Optical
Recognition of Handwritten Digits*, E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning Repository,
<https://doi.org/10.24432/C50P49>, licence CC BY 4.0. `{TEST_SET}` holds the test images and labels of
our split, unchanged.

Split, stratified by label, `random_state={SPLIT_SEED}`: {sizes}.

## Training

- AdamW, weight decay {recipe.weight_decay:g}, one-cycle learning rate with peak {recipe.learning_rate:g}
- {recipe.epochs} epochs in batches of {BATCH_SIZE}, gradient norm at most {MAX_NORM:g}, seed {recipe.seed}, one thread
- start: {beginning}
- kept: the epoch with the least loss on the validation part; the test part had no say
"""


def train_and_store(recipe: Recipe, folder: Path) -> bool:
    """Whether the network reached its bar; below it, what is stored stays as it was."""
    split = load_split()
    model = train(recipe, split)
    score = evaluate(model, split.test)
    if not report(recipe, score):
        return False
    checkpoint = checkpoint_bytes(model)
    replace(folder / TEST_SET, npz_bytes(split.test))
    replace(folder / f"{recipe.name}.safetensors", checkpoint)
    replace(folder / f"{recipe.name}.md", card(recipe, split, score, checkpoint).encode())
    return True


def check(recipe: Recipe, folder: Path) -> bool:
    """Whether the stored checkpoint reaches its bar on the stored test set."""
    model = load_checkpoint(folder / f"{recipe.name}.safetensors")
    return report(recipe, evaluate(model, load_test_set(folder / TEST_SET)))


def report(recipe: Recipe, score: Score) -> bool:
    passed = score.correct >= recipe.bar * score.total
    print(f"{recipe.name}: {score}" + ("" if passed else f", below the bar of {recipe.bar:.0%}"))
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description="Train and store the networks that read handwritten digits.")
    parser.add_argument("--only", choices=[recipe.name for recipe in RECIPES], help="this network alone")
    parser.add_argument(
        "-o", dest="folder", metavar="FOLDER", type=Path, default=Path("models"), help="default: models"
    )
    parser.add_argument("--check", action="store_true", help="measure what is stored, without training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums are split by thread, so their number changes the trained weights
    action = check if arguments.check else train_and_store
    chosen = [recipe for recipe in RECIPES if arguments.only in (None, recipe.name)]
    try:
        passed = [action(recipe, arguments.folder) for recipe in chosen]
    except RnnExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
