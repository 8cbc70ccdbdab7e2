"""Which recurrent networks a file's tensors make up, by their names and shapes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_export.errors import SourceError

PARAMETER = re.compile(
    r"(?P<prefix>(?:.*\.)?)(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh|matrix|bias)"
    r"(?:_l(?P<layer>[0-9]{1,4})(?P<reverse>_reverse)?)?"
)
GATED = {4: "LSTM", 3: "GRU"}  # rows of weight_hh / hidden_size
CLASSIC = "i2h"  # what the tutorials of PyTorch call the Linear of a hand-written cell


@dataclass(frozen=True)
class Part:
    """The tensors of one recurrent network.

    Attributes:
        name: where it is in the file, such as ``encoder.rnn``; empty at the top.
        kind: RNN, LSTM or GRU.
        tensors: by torch's names (``weight_ih_l0``, ...) or by the single-matrix ones (``matrix_l0``, ``bias_l0``).
        sources: the names that they have in the file.
        nonlinearity: what such a network has where nothing says it.
        remark: what was taken for granted because of the names.
    """

    name: str
    kind: str
    tensors: Mapping[str, Any]
    sources: frozenset[str]
    nonlinearity: str = "tanh"
    remark: str = ""


def find_parts(tensors: Mapping[str, Any]) -> dict[str, Part]:
    """Every recurrent part by its name: torch's modules, single-matrix ones, and the classic ``i2h`` cell."""
    kinds = _prefixes(tensors)
    inside: dict[str, dict[str, Any]] = {prefix: {} for prefix in kinds}
    for name, tensor in tensors.items():
        if (match := PARAMETER.fullmatch(name)) and match["prefix"] in kinds:
            inside[match["prefix"]][name.removeprefix(match["prefix"])] = tensor
    parts = {}
    for prefix, kind in kinds.items():
        name, sources = prefix.removesuffix("."), frozenset(f"{prefix}{inner}" for inner in inside[prefix])
        parts[name] = Part(name, kind, _with_layers(inside[prefix]), sources)
    for name in tensors:
        linear = name.removesuffix(".weight")
        if linear != name and linear.rpartition(".")[2] == CLASSIC and (cell := cell_of_linear(tensors, linear)):
            parts[linear] = cell
    return parts


def cell_of_linear(tensors: Mapping[str, Any], name: str) -> Part | None:
    """A hand-written cell by its Linear: on cat(x, h), or on x alone with ``h2h`` beside it; None for others.

    With a Linear of its own for h, the tutorial's cell ends in a tanh; with one Linear for both it has none.
    """
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if weight is None or weight.ndim != 2:
        return None
    beside = name.removesuffix(CLASSIC) + "h2h"
    sources = frozenset(f"{linear}.{kind}" for linear in (name, beside) for kind in ("weight", "bias"))
    weight_hh = tensors.get(f"{beside}.weight") if name.endswith(CLASSIC) else None
    if weight_hh is not None and weight_hh.ndim == 2:
        found = {"weight_ih_l0": weight, "weight_hh_l0": weight_hh}
        biases = {"bias_ih_l0": bias, "bias_hh_l0": tensors.get(f"{beside}.bias")}
        if any(array is not None for array in biases.values()):
            zeros = np.zeros(weight.shape[0], weight.dtype)
            found |= {key: zeros if array is None else array for key, array in biases.items()}
        return Part(name, _kind(weight_hh), found, sources, "tanh", f"h' = {name}(x) + {beside}(h)")
    if weight.shape[1] <= weight.shape[0]:
        return None
    found = {"matrix_l0": weight} | ({} if bias is None else {"bias_l0": bias})
    sources = frozenset({f"{name}.weight", f"{name}.bias"})
    return Part(name, "RNN", found, sources, "identity", f"h' = {name}(cat(x, h))")


def choose_part(file: str, tensors: Mapping[str, Any], name: str | None) -> Part:
    """The part of that name, or the only RNN.

    Args:
        file: the file's name, for messages.
        tensors: all tensors of the file.
        name: of a recurrent part, or of the Linear of a hand-written cell; None where there is one RNN.

    Raises:
        SourceError: there is no such part, or none, or several, or it is an LSTM or a GRU.
    """
    parts = find_parts(tensors)
    if name is not None:
        name = name.strip(".")
        part = parts.get(name) or cell_of_linear(tensors, name)
        if part is None:
            near = [whole for whole in parts if whole.endswith(f".{name}")]
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise SourceError(f"{file} has no recurrent part {name!r}", f"{hint}{_listed(parts)}")
        if part.kind != "RNN":
            raise SourceError(f"{name!r} in {file} is {_article(part.kind)}", "Only RNN is exported")
        return part
    networks = [part for part in parts.values() if part.kind == "RNN"]
    if len(networks) == 1:
        return networks[0]
    if networks:
        raise SourceError(f"{file} has {len(networks)} recurrent parts", f"Choose with --prefix. {_listed(parts)}")
    if parts:
        kind = next(iter(parts.values())).kind
        raise SourceError(f"{file} holds {_article(kind)}, by the rows of its weight_hh", "Only RNN is exported")
    raise SourceError(
        f"{file} holds no recurrent weights",
        "An RNN has weight_ih_l0 and weight_hh_l0, or matrix_l0; name the Linear of a cell of your own with --prefix",
    )


def _prefixes(tensors: Mapping[str, Any]) -> dict[str, str]:
    """prefix -> kind, by the rows of weight_hh."""
    parts = {}
    matches = [(match, tensor) for name, tensor in tensors.items() if (match := PARAMETER.fullmatch(name))]
    projected = {match["prefix"] for match, _ in matches if match["kind"] == "weight_hr"}
    for match, tensor in matches:
        if match["layer"] not in (None, "0") or match["reverse"] or tensor.ndim != 2:
            continue
        if match["kind"] == "matrix":
            parts[match["prefix"]] = "RNN"
        elif match["kind"] == "weight_hh":
            parts[match["prefix"]] = "LSTM" if match["prefix"] in projected else _kind(tensor)
    return parts


def _kind(weight_hh: Any) -> str:
    rows, columns = weight_hh.shape
    return GATED.get(rows // columns if columns else 0, "RNN")


def _with_layers(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one module; a cell's names lack the layer."""
    return {
        name if "_l" in name else f"{name}_l0": tensor
        for name, tensor in tensors.items()
        if (match := PARAMETER.fullmatch(name)) and not match["prefix"]
    }


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "LSTM" else f"a {kind}"


def _listed(parts: Mapping[str, Part]) -> str:
    names = [
        (part.name or "''") + ("" if part.kind == "RNN" else f" ({_article(part.kind)})") for part in parts.values()
    ]
    return f"There are: {', '.join(names)}" if names else "It has none"
