"""Files -> Weights: .safetensors, .pt, .pth and .npz, read without running their code, or a spec string."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from rnn_export.element_types import FLOATS
from rnn_export.errors import RnnExportError, SourceError
from rnn_export.numpy_files import read_npz
from rnn_export.spec import SPEC_SYNTAX, RNNSpec, parse_spec
from rnn_export.torch_files import SAVE_AGAIN, read_torch_file
from rnn_export.torch_tree import RecurrentModule
from rnn_export.weights import Head, Weights

METADATA_KEY = "rnn_export"  # one key only: safetensors does not keep the order of several
_PARAMETER = re.compile(
    r"(?P<prefix>(?:.*\.)?)(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh|matrix|bias)"
    r"(?:_l(?P<layer>[0-9]{1,4})(?P<reverse>_reverse)?)?"
)
_NOT_FLOAT = f"is not {', '.join(FLOATS[:-1])} or {FLOATS[-1]}"
_SAFETENSORS_FLOATS = ("F32", "F64", "F16", "BF16")
_UNSEEN = ("nonlinearity", "batch_first")  # what no shape shows
_GATES = {4: "an LSTM", 3: "a GRU"}  # rows of weight_hh / hidden_size


@dataclass(frozen=True)
class Checkpoint:
    """What a source gave: the weights, what had to be assumed, and what identifies the source."""

    weights: Weights
    notes: tuple[str, ...]
    source: Mapping[str, str]  # name, and sha256 where it is a file; dtype where it was converted
    head: Head | None = None

    def converted(self, dtype: str | None) -> "Checkpoint":
        """The network in another type, every weight rounded to nearest; itself where that is its type or None.

        Raises:
            SourceError: no such type, or a weight is too large for it.
        """
        own = self.weights.dtype.name
        if dtype in (None, own):
            return self
        if dtype not in FLOATS:
            raise SourceError(f"{dtype!r} is no type of a network", f"Choose {', '.join(FLOATS)}")
        weights, head = self.weights.converted(dtype), self.head and self.head.converted(dtype)
        how = "exactly" if np.can_cast(own, dtype) else "each rounded to nearest"
        note = f"{own} weights converted to {dtype}, {how}"
        return Checkpoint(weights, (*self.notes, note), {**self.source, "dtype": own}, head)


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
        source: a ``.safetensors``, ``.pt``, ``.pth`` or ``.npz`` file, or a spec string such as ``rnn:4,8,relu``,
            whose weights are random.
        prefix: which recurrent part, where there are several, such as ``encoder.rnn``.
        nonlinearity: tanh or relu; a pickled module says which, a state_dict does not.
        batch_first: whether input is (B, T, I); a state_dict does not say so either.
        head: the name of a Linear in the same file, such as ``output_layer``, which reads every output.

    Raises:
        SourceError: the source is missing, damaged, of another kind, or holds no RNN or several.
    """
    if isinstance(source, str) and source.startswith("rnn:") and not os.path.exists(source):  # noqa: PTH110  # any string may be asked
        if head is not None:
            raise SourceError(f"{source} has no part {head!r}", "A head is read from a file")
        spec, seed = parse_spec(source)
        spec = _adjusted(spec, nonlinearity, batch_first)
        return Checkpoint(Weights.random(spec, seed), (f"random weights, seed {seed}",), {"name": source})
    path = Path(source)
    contents = _read(path)
    chosen = _choose(path, _recurrent_parts(contents.tensors), prefix)
    part = {name.removeprefix(chosen): tensor for name, tensor in contents.tensors.items() if name.startswith(chosen)}
    said = _said(path, contents, chosen)
    spec, notes = _spec_of(path, part, said, nonlinearity, batch_first)
    if chosen:
        notes = (f"recurrent part {chosen.rstrip('.')!r}", *notes)
    try:
        weights = _weights_of(spec, part)
    except SourceError as error:
        raise SourceError(f"{path.name}: {error.args[0]}", error.hint) from None
    linear = _head(path, contents.tensors, head, weights) if head is not None else None
    if linear is not None:
        notes = (*notes, f"head {head!r}, {linear.weight.shape[1]} -> {len(linear.weight)}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    notes = (*notes, *contents.notes)
    return Checkpoint(weights, notes, {"name": path.name, "sha256": digest}, linear)


def save_weights(path: Path, weights: Weights, head: Head | None = None) -> None:
    """Write a .safetensors file that says which network it is; deterministic. The head is called ``head``."""
    from safetensors.numpy import save

    metadata = {METADATA_KEY: json.dumps(weights.spec.to_dict(), sort_keys=True)}
    tensors = dict(weights) | ({f"head.{name}": array for name, array in head._asdict().items()} if head else {})
    path.write_bytes(save(tensors, metadata))  # save_file would make it readable for its owner alone


class _Contents(NamedTuple):
    """What a file holds: what can be exported, and why the rest of its tensors cannot."""

    tensors: Mapping[str, Any]
    refused: Mapping[str, str] = MappingProxyType({})
    metadata: Mapping[str, str] = MappingProxyType({})
    modules: Mapping[str, RecurrentModule] = MappingProxyType({})
    notes: tuple[str, ...] = ()


def _read(path: Path) -> _Contents:
    if not os.path.exists(path):  # noqa: PTH110  # pathlib raises for a name that is too long
        hint = "A random network is written " + SPEC_SYNTAX if ":" in str(path) else "Check the path"
        raise SourceError(f"{path} does not exist", hint)
    if path.is_dir():
        raise SourceError(f"{path} is a folder", "Name the checkpoint file inside it")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty", "Save the checkpoint again")
    readers = {".safetensors": _read_safetensors, ".pt": _read_torch, ".pth": _read_torch, ".npz": _read_npz}
    if path.suffix not in readers:
        raise SourceError(
            f"{path} is not a .safetensors, .pt, .pth or .npz file", f"A random network is written {SPEC_SYNTAX}"
        )
    contents = readers[path.suffix](path)
    named = {name: match for name in (*contents.tensors, *contents.refused) if (match := _PARAMETER.fullmatch(name))}
    recurrent = {match["prefix"] for match in named.values() if match["kind"] in ("weight_hh", "matrix")}
    for name, reason in contents.refused.items():
        if name in named and named[name]["prefix"] in recurrent:
            raise SourceError(f"{path.name}: {name} {reason}", "Convert it: tensor.float()")
    return contents


def _read_safetensors(path: Path) -> _Contents:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name, kind in kinds.items() if kind in _SAFETENSORS_FLOATS}
            refused = {name: _NOT_FLOAT for name in kinds if name not in tensors}
            return _Contents(tensors, refused, file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}", "It is damaged or incomplete; copy it again") from None


def _read_torch(path: Path) -> _Contents:
    file = read_torch_file(path)
    if not file.tensors and not file.remarks:
        raise SourceError(f"{path} holds no tensors", SAVE_AGAIN)
    contents = _floats(file.tensors)
    return _Contents(contents.tensors, {**contents.refused, **file.remarks}, modules=file.modules, notes=file.notes)


def _read_npz(path: Path) -> _Contents:
    return _floats(read_npz(path))


def _floats(arrays: Mapping[str, Any]) -> _Contents:
    tensors = {name: array for name, array in arrays.items() if array is not None and array.dtype.name in FLOATS}
    return _Contents(tensors, {name: _NOT_FLOAT for name in arrays if name not in tensors})


def _recurrent_parts(tensors: Mapping[str, Any]) -> dict[str, str]:
    """prefix -> "RNN", or "an LSTM" and "a GRU" by the rows of their weight_hh."""
    parts = {}
    matches = [(match, tensor) for name, tensor in tensors.items() if (match := _PARAMETER.fullmatch(name))]
    projected = {match["prefix"] for match, _ in matches if match["kind"] == "weight_hr"}
    for match, tensor in matches:
        if match["layer"] not in (None, "0") or match["reverse"] or tensor.ndim != 2:
            continue
        if match["kind"] == "matrix":
            parts[match["prefix"]] = "RNN"
        elif match["kind"] == "weight_hh":
            gates = tensor.shape[0] // tensor.shape[1] if tensor.shape[1] else 0
            parts[match["prefix"]] = "an LSTM" if match["prefix"] in projected else _GATES.get(gates, "RNN")
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


class _Said(NamedTuple):
    """What the file itself says of its network: some of RNNSpec's fields, and who says it."""

    fields: Mapping[str, Any]
    by: str


def _said(path: Path, contents: _Contents, chosen: str) -> _Said:
    if METADATA_KEY in contents.metadata:  # written by this package
        try:
            known = RNNSpec.from_dict(json.loads(contents.metadata[METADATA_KEY]))
        except (ValueError, TypeError, RecursionError, RnnExportError) as error:
            raise SourceError(f"the {METADATA_KEY} metadata of {path.name} is not a spec: {error}") from None
        return _Said(known.to_dict(), "")
    module = contents.modules.get(chosen.removesuffix("."))
    if module is None:
        return _Said({}, "")
    names = (field.name for field in fields(RNNSpec))
    return _Said({name: value for name in names if (value := getattr(module, name)) is not None}, module.maker)


def _spec_of(
    path: Path,
    part: Mapping[str, Any],
    said: _Said,
    nonlinearity: str | None,
    batch_first: bool | None,
) -> tuple[RNNSpec, tuple[str, ...]]:
    matches = [match for match in map(_PARAMETER.fullmatch, part) if match and not match["prefix"]]
    kinds = {match["kind"] for match in matches}
    layers = 1 + max(int(match["layer"] or 0) for match in matches)
    if layers > len(matches):  # or a name could ask for a billion layers
        raise SourceError(f"{path.name}: a weight of layer {layers - 1} is there, but not those of every layer below")
    single = "matrix" in kinds
    first = next((part[name] for name in ("matrix_l0", "matrix", "weight_ih_l0", "weight_ih") if name in part), None)
    if first is None:
        raise SourceError(f"{path.name} has weight_hh but no weight_ih")
    if first.ndim != 2:
        raise SourceError(f"{path.name}: the weights of the first layer have {first.ndim} axes, not 2")
    width = first.shape[1] - first.shape[0] if single else first.shape[1]
    if width < 1:
        raise SourceError(f"{path.name}: matrix_l0 has shape {first.shape}, which leaves no input columns")
    spec = RNNSpec(
        width,
        first.shape[0],
        layers,
        said.fields.get("nonlinearity", "tanh"),
        bool(kinds & {"bias", "bias_ih"}),
        said.fields.get("batch_first", False),
        any(match["reverse"] for match in matches),
    )
    for name, value in said.fields.items():
        if getattr(spec, name) != value:
            claim = f"its {name} is {value}" if said.by else f"it holds {RNNSpec(**said.fields)}"
            raise SourceError(f"{path.name} says that {claim}, but its tensors make {spec}")
    notes = []
    if said.by and (told := [f"{name} {said.fields[name]}" for name in _UNSEEN if name in said.fields]):
        notes.append(f"{' and '.join(told)}: the pickled {said.by} says so")
    if nonlinearity is None and "nonlinearity" not in said.fields:
        notes.append("assumed tanh: a state_dict does not say which; --nonlinearity relu if it is relu")
    for name, asked in zip(_UNSEEN, (nonlinearity, batch_first), strict=True):
        if asked is not None and said.fields.get(name, asked) != asked:
            wanted = asked if isinstance(asked, str) else f"{name} {asked}"
            notes.append(f"{wanted} as asked, although {path.name} says {said.fields[name]}")
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
