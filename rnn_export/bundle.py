"""The bundle: the folder that `ship` makes, with what a server reads and what proves what the server answers.

README.md               the card: what it is, how to run it, how it was verified
models/, ...            what the target's server reads
proof/weights.safetensors   the weights under torch's names, and the spec
proof/golden/N.npz      golden requests and answers; N.json the same request for curl, where JSON has its type
manifest.json           what is served, how it was verified, and the sha256 of every other file
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from rnn_export.artifact import is_artifact
from rnn_export.checkpoint import Checkpoint, load_checkpoint, save_weights
from rnn_export.differences import check_files, file_digests
from rnn_export.documents import from_document, to_document
from rnn_export.element_types import from_bits
from rnn_export.errors import ArtifactError, SourceError, UsageError
from rnn_export.folder import heal, replace_folder
from rnn_export.forms import FORMS
from rnn_export.golden import Golden, write_golden
from rnn_export.manifest import BUNDLE, MANIFEST, read_manifest, sealed
from rnn_export.serving import Interface
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights

SCHEMA = 1
PROOF, CARD, STATE = "proof", "README.md", "initial_state.npz"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a model: it becomes a folder, and part of addresses
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, BadZipFile, EOFError)  # what reading it may raise
_AGAIN = "Ship it again with rnn-export ship"


@dataclass(frozen=True)
class Proof:
    """How the shipped graph itself was verified.

    Attributes:
        runtime, version: on which engine.
        cases: how many inputs it computed rightly.
        residual: the largest step residual; up to 4 it is this network; null where none was measured.
        artifact: the sha256 of the manifest of the artifact that it was made from.
        verified_on: runtime -> version, where that artifact had been verified; empty where it was shipped unverified.
    """

    runtime: str
    version: str
    cases: int
    residual: float | None
    artifact: str
    verified_on: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What a bundle's manifest says, beside the digests of its files.

    Attributes:
        target: the layout, one of `rnn-export ship --help`.
        name: of the model on the server.
        model: the place of the model file in the bundle.
        form, opset, ir_version, dtype, network: of the graph.
        steps: T, where the form has a fixed length; null where it is dynamic.
        interface: what clients and server exchange.
        max_batch: the most rows in one run.
        learned_state: whether sequences start from another state than zeros.
        release: of the server that it was made for; null where none was named.
        proof: how it was verified.
    """

    target: str
    name: str
    model: str
    form: str
    opset: int
    ir_version: int
    dtype: str
    network: str
    steps: int | None
    interface: Interface
    max_batch: int
    learned_state: bool
    release: str | None
    proof: Proof


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole.

    Attributes:
        path: the folder.
        facts: what its manifest says.
        checkpoint: the weights that the graph was made from, and the head where there is one.
        initial_state: (L*D, H), what every sequence starts from.
        golden: the golden requests, in their order.
    """

    path: Path
    facts: Facts
    checkpoint: Checkpoint
    initial_state: NDArray[np.floating]
    golden: tuple[Golden, ...]

    @property
    def model_path(self) -> Path:
        return self.path / self.facts.model

    @property
    def spec(self) -> RNNSpec:
        return self.checkpoint.weights.spec

    @classmethod
    def load(cls, path: str | Path) -> "Bundle":
        """Read a folder, check every file against the manifest, and that they belong together.

        Raises:
            ArtifactError: it is no bundle, a file is changed, missing, added or not a plain file, or they do not fit.
        """
        path = Path(path)
        with suppress(OSError):  # a place that cannot be looked at is not healed, and then not found either
            heal(path, sweep=False)
        manifest = read_manifest(path)
        if manifest.get("kind") != BUNDLE:
            raise ArtifactError(f"{path} is no bundle", "Make one with rnn-export ship ARTIFACT --target NAME -o DIR")
        try:
            check_files(path, manifest)
        except FileNotFoundError:
            raise ArtifactError(f"{path} was replaced while it was read", "Run it again") from None
        try:
            return _read(path, from_document(Facts, manifest["facts"]), manifest["files"])
        except (*_DAMAGE, SourceError, UsageError) as error:
            raise ArtifactError(f"{path} is damaged: {error}", _AGAIN) from None


def _read(path: Path, facts: Facts, files: Mapping[str, str]) -> Bundle:
    """What the files hold; raises ValueError where they do not fit what the manifest says, and what reading raises."""
    if not re.fullmatch(NAME, facts.name):
        raise ValueError(f"{facts.name!r} is no name of a model")
    FORMS.get(facts.form)
    served, alone = f"models/{facts.name}/1/model.onnx", "model/model.onnx"
    if facts.model != (served if served in files else alone) or facts.model not in files:
        raise ValueError(f"the model that it names, {facts.model!r}, is not the one that is served")
    has_head = any(tensor.name == "prediction" for tensor in facts.interface.outputs)
    checkpoint = load_checkpoint(path / PROOF / "weights.safetensors", head="head" if has_head else None)
    spec = checkpoint.weights.spec
    with np.load(path / PROOF / STATE, allow_pickle=False) as stored:
        state = np.asarray(from_bits(stored["h_0"]))
    if state.shape != (spec.num_layers * spec.num_directions, spec.hidden_size):
        raise ValueError(f"its initial state has shape {state.shape}, and not that of {spec}")
    names = {"inputs": facts.interface.sent, "outputs": facts.interface.outputs}
    golden = tuple(Golden.read(file) for file in sorted((path / PROOF / "golden").glob("*.npz")))
    for one in golden:
        for side, tensors in names.items():
            if set(getattr(one, side)) != {tensor.name for tensor in tensors}:
                raise ValueError(f"a golden request has the {side} {', '.join(getattr(one, side))}")
    return Bundle(path, facts, checkpoint, state, golden)


def is_bundle(path: Path) -> bool:
    """Whether a folder's manifest says that it is a bundle, whole or damaged."""
    try:
        return read_manifest(path).get("kind") == BUNDLE
    except ArtifactError:
        return False


@dataclass(frozen=True)
class Content:
    """What goes into a bundle beside what its server reads.

    Attributes:
        weights, head: of the network.
        initial_state: (L*D, H), what every sequence starts from.
        interface: what clients and server exchange.
        golden: requests and answers.
    """

    weights: Weights
    head: Head | None
    initial_state: NDArray[np.floating]
    interface: Interface
    golden: list[Golden]


def write_bundle(
    path: Path,
    content: Content,
    layout: Callable[[Path], Path],
    prove: Callable[[Path, Path], Facts],
    card: Callable[[Facts], str],
) -> Bundle:
    """Write a bundle beside ``path`` and put it in place as a whole.

    Args:
        path: the folder to make, or the bundle to replace.
        content: what proves it.
        layout: writes what the server reads into the folder, and returns the place of the model file.
        prove: verifies the model file in the folder, and says what the manifest shall hold.
        card: the text of the card.

    Raises:
        OutputError: the folder exists and is no bundle, or cannot be written.
    """

    def fill(folder: Path) -> None:
        model = layout(folder)
        proof = folder / PROOF
        (proof / "golden").mkdir(parents=True)
        save_weights(proof / "weights.safetensors", content.weights, content.head)
        np.savez(proof / STATE, h_0=content.initial_state)
        for number, golden in enumerate(content.golden):
            write_golden(golden, proof / "golden", number, content.interface)
        facts = prove(folder, model)
        (folder / CARD).write_text(card(facts), encoding="utf-8")
        manifest = {
            "schema": SCHEMA,
            "kind": BUNDLE,
            "facts": to_document(facts),
            "files": file_digests(folder),
        }
        (folder / MANIFEST).write_bytes(sealed(manifest))

    place = Path(os.path.realpath(path))
    replace_folder(place, fill, lambda folder: is_bundle(folder) and is_artifact(folder))
    return Bundle.load(place)
