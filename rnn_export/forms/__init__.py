"""The forms: ways to draw one network as an ONNX graph. A form is one file in this folder.

Contract. Every form of a sequence has one signature, so that forms are interchangeable:

    input (T, B, I), h_0 (L*D, B, H)  ->  output (T, B, D*H), h_n (L*D, B, H)

T and B are dynamic. ``batch_first`` turns input and output to (B, T, ...) by a Transpose in the graph, never
by ``layout=1``, which ONNX Runtime refuses and OpenVINO ignores. The number of nodes does not depend on T.

With ``lengths`` there is a third input, int64 (B,), each in 1..T: output is 0 past a sequence's end, h_n is the
state at its end, the reverse direction starts there, and what stands in the padding, even NaN, changes nothing.
A head adds the output ``prediction`` (T, B, O), whatever the form.

A form whose ``length`` is "fixed" has as many steps as ``Drawing.steps`` says. One whose ``length`` is "step" is a
single step, input (B, I), h_0 (L, B, H) -> h_n (L, B, H) and prediction (B, O), and its user holds the loop: it knows
no lengths, no reverse direction and no ``batch_first``.

How to add a form: write ``forms/NAME.py`` with one function ``build(weights, drawing) -> onnx.ModelProto`` under
``@form(NAME, ...)``. ``constants`` tells which float tensors the file must hold, by name, as a stated
transformation of the weights; the verdict reads them back bit for bit. ``product`` names the operator that
multiplies, so that ``export`` can say which runtime lacks its kernel for a type. ``quantised`` gives the network that
the file computes, where the form makes another of it. Nothing else is edited: the folder is the registry, and the
contract tests find the form there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rnn_export.element_types import BFLOAT16
from rnn_export.errors import UsageError
from rnn_export.registry import Registry
from rnn_export.spec import RNNSpec
from rnn_export.weights import Head, Weights

if TYPE_CHECKING:
    import onnx

# Bytes of weights in one file, half of what a protobuf message can be: room for what others add to a model.
EXTERNAL_ABOVE = 2**30
MOST_STEPS = 10_000  # of a fixed length: each is some five nodes of every layer, and loading takes time with them
Length = Literal["dynamic", "fixed", "step"]
Build = Callable[[Weights, "Drawing"], "onnx.ModelProto"]
Constants = Callable[[Weights], Mapping[str, Any]]


@dataclass(frozen=True)
class Drawing:
    """How to draw.

    Attributes:
        opset: the version of ONNX's operators.
        lengths: the file takes ``lengths`` (B,), the steps of each sequence.
        external: the weights lie beside the model.
        steps: T, for a form of fixed length.
    """

    opset: int = 18
    lengths: bool = False
    external: bool = False
    steps: int | None = None


@dataclass(frozen=True)
class Form:
    """A way to draw a network as an ONNX graph."""

    name: str
    summary: str
    min_opset: int
    build: Build
    constants: Constants  # initializer name -> the array that it must hold, bit for bit
    product: str  # the operator that multiplies: it decides which runtime has a kernel for which type
    bfloat16_opset: int  # the first in which its operators take bfloat16
    rank: int  # where nothing was measured of a runtime, the fastest first: docs/decisions/0012
    merges_constants: bool = False  # its exporter leaves out a bias of zeros, and writes equal tensors once
    length: Length = "dynamic"
    block: int = 1  # steps that are computed at once: the length is filled up to a multiple of it
    # The network that the file computes, where that is another than it is drawn from: such a form is never chosen
    # unnamed, and is verified against that network, with its distance from the checkpoint's as a row of its own.
    quantised: Callable[[Weights], Weights] | None = None


FORMS: Registry[Form] = Registry("form", __name__)


def form(
    name: str,
    *,
    summary: str,
    min_opset: int,
    constants: Constants,
    product: str,
    bfloat16_opset: int,
    rank: int,
    merges_constants: bool = False,
    length: Length = "dynamic",
    block: int = 1,
    quantised: Callable[[Weights], Weights] | None = None,
) -> Callable[[Build], Build]:
    """Register the function under it as the form ``name``; the options are ``Form``'s attributes."""

    def register(build: Build) -> Build:
        options = (constants, product, bfloat16_opset, rank, merges_constants, length, block, quantised)
        FORMS.add(Form(name, summary, min_opset, build, *options))
        return build

    return register


def usual_forms() -> list[Form]:
    """Every form of any length, by rank; not those of torch's exporter, which draws another one's graph."""
    usual = [form for form in FORMS if form.length == "dynamic" and not form.merges_constants]
    return sorted(usual, key=lambda form: form.rank)


def constants_of(name: str, weights: Weights, head: Head | None = None) -> dict[str, Any]:
    """Every float tensor that the file holds, by name: the form's own, and the head's as (D*H, O)."""
    own = dict(FORMS.get(name).constants(weights))
    if head is not None:
        own |= {"head_matrix": np.ascontiguousarray(head.weight.T), "head_bias": head.bias}
    return own


def network_of(name: str, weights: Weights) -> Weights:
    """The network that a file of this form computes: the weights', unless the form quantises them."""
    quantised = FORMS.get(name).quantised
    return weights if quantised is None else quantised(weights)


def check_length(form: Form, spec: RNNSpec, steps: int | None, lengths: bool) -> None:
    """Raises UsageError where a form cannot be drawn for these lengths, or is not told its own."""
    if form.length == "fixed" and steps is None:
        raise UsageError(f"form {form.name!r} has a fixed length", "Give it with --steps, such as --steps 20")
    if form.length != "fixed" and steps is not None:
        fixed = ", ".join(other.name for other in FORMS if other.length == "fixed")
        takes = "any length" if form.length == "dynamic" else "one step at a time"
        raise UsageError(f"form {form.name!r} takes {takes}", f"Leave --steps out, or choose --form {fixed}")
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"{steps} steps cannot be drawn one by one", f"Choose 1 to {MOST_STEPS:,}, or --form scan")
    if form.length == "step" and (spec.bidirectional or lengths):
        why = (
            "the reverse direction starts at the end" if spec.bidirectional else "the loop around it knows the lengths"
        )
        raise UsageError(f"form {form.name!r} is one step: {why}", "Choose another form, such as --form scan")


def draw(
    name: str,
    weights: Weights,
    opset: int,
    *,
    lengths: bool = False,
    head: Head | None = None,
    steps: int | None = None,
) -> "onnx.ModelProto":
    """The network in that form: tidied, its Scan bodies linted, checked with the ONNX checker in full.

    Above ``EXTERNAL_ABOVE`` the weights are only declared, with their places in a data file beside the model, and
    the check waits until that is written: the checker looks for it.

    Raises:
        UsageError: no such form, an opset or a type that the form or the installed onnx does not have, lengths that
            the form cannot have, or more weights than its exporter can handle.
    """
    import onnx

    from rnn_export.forms._external import lay_out
    from rnn_export.forms._head import add_head
    from rnn_export.forms._tidy import tidy

    chosen = FORMS.get(name)
    check_length(chosen, weights.spec, steps, lengths)
    if chosen.quantised is not None and weights.dtype != np.float32:
        what = f"form {name!r} quantises networks in float32, and this one is in {weights.dtype}"
        raise UsageError(what, "Add --dtype float32, or choose another form, such as --form scan")
    newest = onnx.defs.onnx_opset_version()
    least = max(chosen.min_opset, chosen.bfloat16_opset if weights.dtype == BFLOAT16 else 0)
    if not least <= opset <= newest:
        kind = "" if opset < chosen.min_opset else f" in {weights.dtype}"
        raise UsageError(f"form {name!r} cannot be drawn in opset {opset}{kind}", f"Choose {least} to {newest}")
    constants = constants_of(name, weights, head)
    size = sum(array.nbytes for array in constants.values())
    drawing = Drawing(opset, lengths, external=size > EXTERNAL_ABOVE, steps=steps)
    if drawing.external and chosen.merges_constants:
        limit = f"{EXTERNAL_ABOVE / 2**30:.2g} GiB"
        raise UsageError(
            f"form {name!r} cannot be drawn with {size / 2**30:.2g} GiB of weights: beyond {limit} its exporter "
            "holds too many copies of them",
            "Choose --form scan, which draws the same network",
        )
    model = chosen.build(weights, drawing)
    if head is not None:
        add_head(model, constants, weights.spec, drawing)
    tidy(model)
    if drawing.external:
        lay_out(model)
    else:
        onnx.checker.check_model(model, full_check=True)
    return model
