"""Files -> Weights: a .safetensors file, a .pt state_dict read without running its code, or a spec string."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rnn_export.errors import RnnExportError, SourceError
from rnn_export.spec import SPEC_SYNTAX, RNNSpec, parse_spec
from rnn_export.weights import Head, Weights

METADATA_KEY = "rnn_export"  # one key only: safetensors does not keep the order of several
_PARAMETER = re.compile(
    r"(?P<prefix>(?:.*\.)?)(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh|matrix|bias)"
    r"(?:_l(?P<layer>\d+)(?P<reverse>_reverse)?)?"
)
_GATES = {4: "an LSTM", 3: "a GRU"}  # rows of weight_hh / hidden_size


@dataclass(frozen=True)
class Checkpoint:
    """What a source gave: the weights, what had to be assumed, and what identifies the source."""

    weights: Weights
    notes: tuple[str, ...]
    source: Mapping[str, str]  # name, and sha256 where it is a file
    head: Head | None = None


def load_checkpoint(
    source: str | Path,
    *,
    prefix: str | None = None,
    nonlinearity: str | None = None,
    batch_first: bool | None = None,
    head: str | None = None,
) -> Checkpoint:
    """The one RNN that a source holds, and on demand the Linear that follows it.

    Args:
        source: a ``.safetensors`` or ``.pt``/``.pth`` state_dict, or a spec string such as ``rnn:4,8,relu``,
            whose weights are random.
        prefix: which recurrent part, where there are several, such as ``encoder.rnn``.
        nonlinearity: tanh or relu; a state_dict does not say which.
        batch_first: whether input is (B, T, I); a state_dict does not say so either.
        head: the name of a Linear in the same file, such as ``output_layer``, which reads every output.

    Raises:
        SourceError: the source is missing, damaged, of another kind, or holds no RNN or several.
    """
    if isinstance(source, str) and source.startswith("rnn:") and not Path(source).exists():
        if head is not None:
            raise SourceError(f"{source} has no part {head!r}", "A head is read from a file")
        spec, seed = parse_spec(source)
        spec = _adjusted(spec, nonlinearity, batch_first)
        return Checkpoint(Weights.random(spec, seed), (f"random weights, seed {seed}",), {"name": source})
    path = Path(source)
    tensors, metadata = _read(path)
    chosen = _choose(path, _recurrent_parts(tensors), prefix)
    part = {name.removeprefix(chosen): tensor for name, tensor in tensors.items() if name.startswith(chosen)}
    known = _known_spec(path, metadata)
    spec, notes = _spec_of(path, part, known, nonlinearity, batch_first)
    if chosen:
        notes = (f"recurrent part {chosen.rstrip('.')!r}", *notes)
    try:
        weights = _weights_of(spec, part)
    except SourceError as error:
        raise SourceError(f"{path.name}: {error.args[0]}", error.hint) from None
    linear = _head(path, tensors, head, weights) if head is not None else None
    if linear is not None:
        notes = (*notes, f"head {head!r}, {linear.weight.shape[1]} -> {len(linear.weight)}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Checkpoint(weights, notes, {"name": path.name, "sha256": digest}, linear)


def save_weights(path: Path, weights: Weights, head: Head | None = None) -> None:
    """Write a .safetensors file that says which network it is; deterministic. The head is called ``head``."""
    from safetensors.numpy import save

    metadata = {METADATA_KEY: json.dumps(weights.spec.to_dict(), sort_keys=True)}
    tensors = dict(weights) | ({f"head.{name}": array for name, array in head._asdict().items()} if head else {})
    path.write_bytes(save(tensors, metadata))  # save_file would make it readable for its owner alone


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The tensors of a file as numpy arrays, and its metadata."""
    if not path.exists():
        hint = "A random network is written " + SPEC_SYNTAX if ":" in str(path) else "Check the path"
        raise SourceError(f"{path} does not exist", hint)
    if path.is_dir():
        raise SourceError(f"{path} is a folder", "Name the checkpoint file inside it")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty", "Save the checkpoint again")
    readers = {".safetensors": _read_safetensors, ".pt": _read_torch, ".pth": _read_torch}
    if path.suffix not in readers:
        raise SourceError(
            f"{path} is not a .safetensors, .pt or .pth file", f"A random network is written {SPEC_SYNTAX}"
        )
    tensors, metadata = readers[path.suffix](path)
    for name, tensor in tensors.items():
        if tensor is None and _PARAMETER.fullmatch(name):
            raise SourceError(f"{path.name}: {name} is not float32 or float64", "Convert it: tensor.float()")
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}, metadata


def _read_safetensors(path: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            tensors = {name: file.get_tensor(name) if kind in ("F32", "F64") else None for name, kind in kinds.items()}
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}", "It is damaged or incomplete; copy it again") from None


def _read_torch(path: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    import torch

    save = "Save its state_dict: torch.save(model.state_dict(), FILE)"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a file that it cannot read
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "Weights only load failed" in first or "unsupported" in str(error).lower():
            raise SourceError(f"{path} holds more than tensors, and their code is not run", save) from None
        raise SourceError(f"{path} cannot be read: {first}", "It is damaged or incomplete; copy it again") from None
    if not isinstance(state, Mapping) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise SourceError(f"{path} holds a {type(state).__name__} and no state_dict", save)
    floats = (torch.float32, torch.float64)
    return {
        str(name): tensor.numpy() if tensor.dtype in floats else None
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor)
    }, {}


def _recurrent_parts(tensors: Mapping[str, Any]) -> dict[str, str]:
    """prefix -> "RNN", or "an LSTM" and "a GRU" by the rows of their weight_hh."""
    parts = {}
    for name, tensor in tensors.items():
        match = _PARAMETER.fullmatch(name)
        if match is None or match["layer"] not in (None, "0") or match["reverse"] or tensor.ndim != 2:
            continue
        if match["kind"] == "matrix":
            parts[match["prefix"]] = "RNN"
        elif match["kind"] == "weight_hh":
            gates = tensor.shape[0] // tensor.shape[1] if tensor.shape[1] else 0
            projected = any(other.startswith(f"{match['prefix']}weight_hr") for other in tensors)
            parts[match["prefix"]] = "an LSTM" if projected else _GATES.get(gates, "RNN")
    return parts


def _choose(path: Path, parts: Mapping[str, str], prefix: str | None) -> str:
    if prefix is not None:
        wanted = f"{prefix.rstrip('.')}." if prefix.strip(".") else ""
        if wanted not in parts:
            raise SourceError(f"{path.name} has no recurrent part {prefix!r}", _listed(parts))
        if parts[wanted] != "RNN":
            raise SourceError(f"{prefix!r} in {path.name} is {parts[wanted]}", "Only RNN is exported")
        return wanted
    networks = [name for name, kind in parts.items() if kind == "RNN"]
    if len(networks) == 1:
        return networks[0]
    if networks:
        raise SourceError(f"{path.name} has {len(networks)} recurrent parts", f"Choose with --prefix: {_listed(parts)}")
    if parts:
        kind = next(iter(parts.values()))
        raise SourceError(f"{path.name} holds {kind}, by the rows of its weight_hh", "Only RNN is exported")
    raise SourceError(
        f"{path.name} holds no recurrent weights", "An RNN has weight_ih_l0 and weight_hh_l0, or matrix_l0"
    )


def _listed(parts: Mapping[str, str]) -> str:
    names = [(name.rstrip(".") or "''") + ("" if kind == "RNN" else f" ({kind})") for name, kind in parts.items()]
    return ", ".join(names) if names else "It has none"


def _head(path: Path, tensors: Mapping[str, Any], key: str, weights: Weights) -> Head:
    spec = weights.spec
    width = spec.num_directions * spec.hidden_size
    weight = tensors.get(f"{key}.weight")
    if weight is None or weight.ndim != 2:
        linear = [name.removesuffix(".weight") for name, tensor in tensors.items() if name.endswith(".weight")]
        hint = f"There are: {', '.join(linear)}" if linear else "The file has no Linear"
        raise SourceError(f"{path.name} has no Linear {key!r}", hint)
    if weight.shape[1] != width:
        raise SourceError(f"{key}.weight in {path.name} reads {weight.shape[1]} values, but {spec} gives {width}")
    bias = tensors.get(f"{key}.bias", np.zeros(len(weight), weight.dtype))
    if weight.dtype != weights.dtype or bias.dtype != weights.dtype:
        raise SourceError(f"{key!r} in {path.name} is {weight.dtype}, but the network is {weights.dtype}")
    if bias.shape != weight.shape[:1] or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise SourceError(f"{key!r} in {path.name} is not a whole Linear: its bias has shape {bias.shape}")
    return Head(np.array(weight, order="C"), np.array(bias, order="C"))


def _known_spec(path: Path, metadata: Mapping[str, str]) -> RNNSpec | None:
    """What the file itself says about its network, if it was written by this package."""
    if METADATA_KEY not in metadata:
        return None
    try:
        return RNNSpec.from_dict(json.loads(metadata[METADATA_KEY]))
    except (ValueError, TypeError, RnnExportError) as error:
        raise SourceError(f"the {METADATA_KEY} metadata of {path.name} is not a spec: {error}") from None


def _spec_of(
    path: Path,
    part: Mapping[str, Any],
    known: RNNSpec | None,
    nonlinearity: str | None,
    batch_first: bool | None,
) -> tuple[RNNSpec, tuple[str, ...]]:
    matches = [match for match in map(_PARAMETER.fullmatch, part) if match and not match["prefix"]]
    kinds = {match["kind"] for match in matches}
    layers = 1 + max(int(match["layer"] or 0) for match in matches)
    single = "matrix" in kinds
    first = next(part[name] for name in ("matrix_l0", "matrix", "weight_ih_l0", "weight_ih") if name in part)
    if first.ndim != 2:
        raise SourceError(f"{path.name}: the weights of the first layer have {first.ndim} axes, not 2")
    width = first.shape[1] - first.shape[0] if single else first.shape[1]
    if width < 1:
        raise SourceError(f"{path.name}: matrix_l0 has shape {first.shape}, which leaves no input columns")
    spec = RNNSpec(
        width,
        first.shape[0],
        layers,
        known.nonlinearity if known else "tanh",
        bool(kinds & {"bias", "bias_ih"}),
        known.batch_first if known else False,
        any(match["reverse"] for match in matches),
    )
    if known is not None and known != spec:
        raise SourceError(f"{path.name} says that it holds {known}, but its tensors make {spec}")
    notes = []
    if nonlinearity is None and known is None:
        notes.append("assumed tanh: a state_dict does not say which; --nonlinearity relu if it is relu")
    if known is not None and nonlinearity not in (None, known.nonlinearity):
        notes.append(f"{nonlinearity} as asked, although {path.name} says {known.nonlinearity}")
    return _adjusted(spec, nonlinearity, batch_first), tuple(notes)


def _adjusted(spec: RNNSpec, nonlinearity: str | None, batch_first: bool | None) -> RNNSpec:
    if nonlinearity is not None:
        spec = replace(spec, nonlinearity=nonlinearity)
    return spec if batch_first is None else replace(spec, batch_first=batch_first)


def _weights_of(spec: RNNSpec, part: Mapping[str, Any]) -> Weights:
    """From torch's names or the single-matrix ones; a cell's names lack the layer."""
    named = {
        name if "_l" in name else f"{name}_l0": np.asarray(tensor)
        for name, tensor in part.items()
        if (match := _PARAMETER.fullmatch(name)) and not match["prefix"]
    }
    if any(name.startswith("matrix") for name in named):
        return Weights.from_single_matrix(spec, named)
    return Weights(spec, named)
