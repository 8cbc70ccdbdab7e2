"""The targets: layouts that inference servers read. A target is one file in this folder.

Contract. ``bundle(shipment, root)`` writes what its server reads into the empty folder ``root`` and returns the place
of the model file in it. Configuration is explicit: sizes are copied from the graph, and nothing is left for the server
to guess. What proves the bundle (weights, golden requests, manifest, card) is written around it for every target.

How to add a target: write ``targets/NAME.py`` with ``bundle`` under ``@target(NAME, ...)``. Nothing else is edited: the
folder is the registry, and the contract tests find the target there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_export.registry import Registry

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from rnn_export.serving import Interface


@dataclass(frozen=True)
class Shipment:
    """What is shipped.

    Attributes:
        name: of the model on the server.
        model: the graph, with the batch as axis 0 of everything.
        data: the weights that lie beside it, where they do.
        interface: what it takes and gives.
        max_batch: the most rows that the server may put into one run.
        initial_state: (L*D, H), what every sequence starts from.
    """

    name: str
    model: "onnx.ModelProto"
    data: Path | None
    interface: "Interface"
    max_batch: int
    initial_state: "NDArray[Any]"

    @property
    def learned(self) -> bool:
        """Whether the initial state is another than zeros."""
        return bool(self.initial_state.any())


Layout = Callable[[Shipment, Path], Path]


@dataclass(frozen=True)
class Target:
    """A layout that an inference server reads.

    Attributes:
        summary: which server, on one line.
        bundle: writes the layout.
        engine: the runtime that computes on that server, and has to pass before anything is shipped.
        holds_state: whether the server can carry the state from request to request; where it cannot, clients do.
        triton_release: whether its engine is the ONNX Runtime that a release of Triton was built with.
        open_inference: whether the server speaks the Open Inference Protocol, so that it can be probed.
        serve: what runs the bundle, in words or as a command with ``DIR`` in it.
    """

    name: str
    summary: str
    bundle: Layout
    engine: str = "onnxruntime-cpu"
    holds_state: bool = False
    triton_release: bool = False
    open_inference: bool = True
    serve: str = ""


TARGETS: Registry[Target] = Registry("target", __name__)


def target(name: str, *, summary: str, **options: Any) -> Callable[[Layout], Layout]:
    """Register the function under it as the target ``name``; the options are ``Target``'s attributes."""

    def register(bundle: Layout) -> Layout:
        TARGETS.add(Target(name, summary, bundle, **options))
        return bundle

    return register
