"""What a server is held against: the bundle that it serves, or the artifact that what it serves was made from."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export.artifact import Artifact
from rnn_export.bundle import Bundle
from rnn_export.forms import network_of
from rnn_export.forms._external import DATA
from rnn_export.golden import Golden, make_golden
from rnn_export.inspection import load_model
from rnn_export.live_server.endpoint import Description
from rnn_export.serving import Interface, check_shippable, interface_of, served_model
from rnn_export.subject import Served, Subject, subject_of_bundle, subject_of_served


@dataclass(frozen=True)
class Held:
    """What a server is held against.

    Attributes:
        subject: the network, as the server's clients see it.
        interface: what clients and server exchange.
        start: (L*D, H), where a sequence starts that sends no state.
        golden: requests whose answers are known.
        max_batch: the most rows of one request.
        origin: what it was made from, in a word or two.
    """

    subject: Subject
    interface: Interface
    start: NDArray[Any]
    golden: Sequence[Golden]
    max_batch: int
    origin: str


def held_of_bundle(folder: Path, scratch: Path) -> Held:
    """A bundle says all of it.

    Raises:
        ArtifactError: it is not whole.
    """
    bundle = Bundle.load(folder)
    subject = subject_of_bundle(folder, scratch, on_server=True)
    return Held(
        subject,
        bundle.facts.interface,
        bundle.initial_state,
        bundle.golden,
        bundle.facts.max_batch,
        f"shipped for {bundle.facts.target}",
    )


def held_of_artifact(folder: Path, scratch: Path, said: Description) -> Held:
    """An artifact says the network; who holds the state is what the server says. The initial state is zeros.

    Args:
        folder: the artifact.
        scratch: a folder where nobody else writes.
        said: what the server says of the model.

    Raises:
        ArtifactError: it is no artifact, or not whole.
        UsageError: its network cannot be served that way.
    """
    artifact = Artifact.load(folder)
    state = _state(said)
    check_shippable(artifact.form, artifact.spec, state)
    checkpoint = artifact.checkpoint()
    weights, spec = checkpoint.weights, artifact.spec
    start = np.zeros((spec.num_layers * spec.num_directions, spec.hidden_size), weights.dtype)
    served = served_model(load_model(artifact.model_path, in_place=True), spec, state, start)
    interface = interface_of(served, state)
    (scratch / "turned").mkdir()
    file = scratch / "turned" / "model.onnx"
    file.write_bytes(served.SerializeToString())
    if (artifact.path / DATA).exists():
        shutil.copyfile(artifact.path / DATA, file.with_name(DATA))
    most = int((said.config or {}).get("max_batch_size") or 0) or 8  # as many as the usual cases have
    how = Served(interface, start, most, on_server=True)
    subject = subject_of_served(folder.resolve().name, artifact.form, file, artifact.path, how, scratch)
    golden = make_golden(network_of(artifact.form, weights), checkpoint.head, interface, start, artifact.steps, most)
    return Held(subject, interface, start, golden, most, "an artifact")


def _state(said: Description) -> str:
    inputs: Sequence[Mapping[str, Any]] = (said.metadata or {}).get("inputs") or ()
    if (said.config or {}).get("sequence_batching") is not None:
        return "server"
    return "client" if any(one.get("name") == "h_0" for one in inputs) else "none"
