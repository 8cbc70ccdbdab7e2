"""The bundle: the folder that `ship` makes, with what a server reads and what proves what the server answers.

README.md               the card: what it is, how to run it, how it was verified
models/, ...            what the target's server reads
proof/weights.safetensors   the weights under torch's names, and the spec
proof/golden/N.npz      golden requests and answers; N.json the same request for curl, where JSON has its type
manifest.json           what is served, how it was verified, and the sha256 of every other file
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnn_export.artifact import MANIFEST, check_files, is_artifact, read_manifest, sealed, sha256_of
from rnn_export.checkpoint import Checkpoint, load_checkpoint, save_weights
from rnn_export.documents import from_document, to_document
from rnn_export.element_types import from_bits
from rnn_export.errors import ArtifactError
from rnn_export.folder import heal, replace_folder
from rnn_export.golden import Golden, write_golden
from rnn_export.serving import Interface
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights

BUNDLE = "bundle"  # the kind in the manifest
SCHEMA = 1
PROOF, CARD = "proof", "README.md"
_AGAIN = "Ship it again with rnn-export ship"


@dataclass(frozen=True)
class Proof:
    """How the shipped graph itself was verified.

    Attributes:
        runtime, version: on which engine.
        cases: how many inputs it computed rightly.
        residual: the largest step residual; up to 4 it is this network.
        artifact: the sha256 of the manifest of the artifact that it was made from.
        verified_on: runtime -> version, where that artifact had been verified; empty where it was shipped unverified.
    """

    runtime: str
    version: str
    cases: int
    residual: float
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
    """A bundle that was read and found whole."""

    path: Path
    facts: Facts
    spec: RNNSpec

    @property
    def model_path(self) -> Path:
        return self.path / self.facts.model

    def checkpoint(self) -> Checkpoint:
        """The weights that the graph was made from, and the head where there is one."""
        has_head = any(tensor.name == "prediction" for tensor in self.facts.interface.outputs)
        return load_checkpoint(self.path / PROOF / "weights.safetensors", head="head" if has_head else None)

    def initial_state(self) -> NDArray[np.floating]:
        """(L*D, H), what every sequence starts from."""
        with np.load(self.path / PROOF / "initial_state.npz") as stored:
            return np.asarray(from_bits(stored["h_0"]))

    def golden(self) -> list[Golden]:
        """The golden requests, in their order."""
        return [Golden.read(file) for file in sorted((self.path / PROOF / "golden").glob("*.npz"))]

    @classmethod
    def load(cls, path: str | Path) -> "Bundle":
        """Read a folder and check every file against the manifest.

        Raises:
            ArtifactError: it is no bundle, or a file is changed, missing, added or not a plain file.
        """
        path = Path(path)
        heal(path, sweep=False)
        manifest = read_manifest(path)
        if manifest.get("kind") != BUNDLE:
            raise ArtifactError(f"{path} is no bundle", "Make one with rnn-export ship ARTIFACT --target NAME -o DIR")
        check_files(path, manifest)
        try:
            facts, spec = from_document(Facts, manifest["facts"]), RNNSpec.from_dict(manifest["spec"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(f"the manifest of {path} is damaged: {error}", _AGAIN) from None
        return cls(path, facts, spec)


def is_bundle(path: Path) -> bool:
    """Whether a folder's manifest says that it is a bundle, whole or damaged."""
    try:
        return read_manifest(path).get("kind") == BUNDLE
    except ArtifactError:
        return False


@dataclass(frozen=True)
class Content:
    """What goes into a bundle beside what its server reads."""

    weights: Weights
    head: Head | None
    initial_state: NDArray[np.floating]  # (L*D, H)
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
        np.savez(proof / "initial_state.npz", h_0=content.initial_state)
        for number, golden in enumerate(content.golden):
            write_golden(golden, proof / "golden", number, content.interface)
        facts = prove(folder, model)
        (folder / CARD).write_text(card(facts), encoding="utf-8")
        manifest = {
            "schema": SCHEMA,
            "kind": BUNDLE,
            "spec": content.weights.spec.to_dict(),
            "facts": to_document(facts),
            "files": {file.relative_to(folder).as_posix(): sha256_of(file) for file in _plain_files(folder)},
        }
        (folder / MANIFEST).write_bytes(sealed(manifest))

    place = Path(os.path.realpath(path))
    replace_folder(place, fill, lambda folder: is_bundle(folder) and is_artifact(folder))
    return Bundle.load(place)


def _plain_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
