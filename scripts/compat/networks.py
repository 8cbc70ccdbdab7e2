"""The files of the table: every form of every network, and the ones drawn by hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat.by_hand import BY_HAND
from rnn_export import Weights, export
from rnn_export.checkpoint import load_checkpoint
from rnn_export.forms import FORMS

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> (spec, options of export)
    "tanh": ("rnn:4,8", {}),
    "relu": ("rnn:4,8,relu", {}),
    "linear": ("rnn:4,8,identity", {}),
    "two layers": ("rnn:4,8,layers=2", {}),
    "bidirectional": ("rnn:4,8,bidirectional", {}),
    "relu, bidirectional": ("rnn:4,8,relu,bidirectional", {}),
    "batch first": ("rnn:4,8,batch-first", {}),
    "no bias": ("rnn:4,8,no-bias", {}),
    "lengths": ("rnn:4,8", {"lengths": True}),
    "lengths, bidirectional": ("rnn:4,8,bidirectional", {"lengths": True}),
    "float64": ("rnn:4,8", {"dtype": "float64"}),
    "float16": ("rnn:4,8", {"dtype": "float16"}),
    "bfloat16": ("rnn:4,8", {"dtype": "bfloat16", "opset": 22}),  # RNN has it since 22
}
STEPS = 10  # of the form of fixed length: one of the lengths that the other forms are run at too
HAND = "by hand"


@dataclass(frozen=True)
class Entry:
    """One line of the table: a file, and against what it is judged where it is no artifact of ours."""

    form: str
    network: str
    path: Path
    against: Weights | None = None


def entries(folder: Path) -> Iterator[Entry]:
    """Every line; the files are made in the folder."""
    for form in FORMS:
        for network, (spec, options) in NETWORKS.items():
            if form.length == "step" and ("bidirectional" in network or "lengths" in network):
                continue  # one step has neither
            if form.quantised is not None and "dtype" in options:
                continue  # it takes float32 alone
            steps = STEPS if form.length == "fixed" else None
            artifact = export(spec, folder / f"{form.name} {network}", form=form.name, steps=steps, **options)
            yield Entry(form.name, network, artifact.path)
    for name, file in BY_HAND.items():
        weights = load_checkpoint(file.spec).weights
        path = folder / f"{name.replace(' ', '-').replace('/', '-')}.onnx"
        file.write(weights, path)
        yield Entry(HAND, name, path, weights)


def weights_of(network: str) -> str:
    """Which of the networks a line's weights are: torch's own errors on them are the same in every form."""
    return (
        next(name for name, (spec, _) in NETWORKS.items() if spec == BY_HAND[network].spec)
        if network in BY_HAND
        else network
    )
