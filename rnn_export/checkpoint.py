"""Files -> Weights: .safetensors, .pt, .pth and .npz, read without running their code, or a spec string."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_export.contents import Contents, read_contents
from rnn_export.element_types import FLOATS
from rnn_export.errors import RnnExportError, SourceError
from rnn_export.recurrent_parts import PARAMETER, Part, choose_part
from rnn_export.safetensors_files import write_safetensors
from rnn_export.spec import RNNSpec, parse_spec
from rnn_export.weights import Head, Weights

METADATA_KEY = "rnn_export"  # one key only: safetensors does not keep the order of several
_UNSEEN = ("nonlinearity", "batch_first")  # what no shape shows


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
    contents = read_contents(path)
    _refuse_unread(path, contents)
    part = choose_part(path.name, contents.tensors, prefix)
    weights, notes = weights_of(path.name, contents, part, nonlinearity, batch_first)
    if part.name:
        notes = (f"recurrent part {part.name!r}" + (f": {part.remark}" if part.remark else ""), *notes)
    linear = _head(path, contents.tensors, head, weights) if head is not None else None
    if linear is not None:
        width = weights.spec.num_directions * weights.spec.hidden_size
        read = "the output" if linear.weight.shape[1] == width else "cat(x, h)"
        notes = (*notes, f"head {head!r}, {linear.weight.shape[1]} -> {len(linear.weight)}, reads {read}")
    notes = (*notes, *_unused_states(contents.tensors, weights.spec))
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    notes = (*notes, *contents.notes)
    return Checkpoint(weights, notes, {"name": path.name, "sha256": digest}, linear)


def initial_state_of(path: Path, spec: RNNSpec) -> NDArray[Any]:
    """A learned initial state (L*D, H) out of any checkpoint file: h_0, or else the one tensor of that shape.

    Raises:
        SourceError: the file cannot be read, or holds none, or several.
    """
    found = _states(read_contents(path).tensors, spec)
    named = [name for name in found if name.rpartition(".")[2] == "h_0"] or list(found)
    rows, H = spec.num_layers * spec.num_directions, spec.hidden_size
    if len(named) != 1:
        what = f"several tensors of that shape: {', '.join(named)}" if named else "no tensor of that shape"
        raise SourceError(f"{path.name} holds {what}", f"A file with one array h_0 ({rows}, {H}) says it: numpy.savez")
    return np.asarray(found[named[0]]).reshape(rows, H)


def _states(tensors: Mapping[str, Any], spec: RNNSpec) -> dict[str, Any]:
    """The tensors that have the shape of an initial state, by name: (L*D, H), as torch has it (L*D, 1, H), or (H,)."""
    rows, H = spec.num_layers * spec.num_directions, spec.hidden_size
    shapes = {(rows, H), (rows, 1, H)} | ({(H,)} if rows == 1 else set())
    recurrent = set(spec.weight_shapes())
    return {
        name: tensor
        for name, tensor in tensors.items()
        if tuple(tensor.shape) in shapes and name.rpartition(".")[2] not in recurrent
    }


def _unused_states(tensors: Mapping[str, Any], spec: RNNSpec) -> list[str]:
    """A state that was learned is not of the recurrence: who serves the network has to name it."""
    likely = [name for name in _states(tensors, spec) if re.search(r"h_?0|init|state", name.rpartition(".")[2], re.I)]
    return [
        f"{name!r} may be a learned initial state, which is an input here: ship it with --initial-state"
        for name in likely
    ]


def weights_of(
    file: str,
    contents: Contents,
    part: Part,
    nonlinearity: str | None = None,
    batch_first: bool | None = None,
) -> tuple[Weights, tuple[str, ...]]:
    """The weights of a part, and what had to be assumed of the network or taken on somebody's word.

    Args:
        file: the file's name, for messages.
        contents: what the file holds.
        part: one of its recurrent parts, an RNN.
        nonlinearity, batch_first: what the user says.

    Raises:
        SourceError: the shapes make no network, or not the one that the file says, or a value is not finite.
    """
    spec, notes = _spec_of(file, contents, part, nonlinearity, batch_first)
    try:
        if "matrix_l0" in part.tensors:
            return Weights.from_single_matrix(spec, part.tensors), notes
        return Weights(spec, part.tensors), notes
    except SourceError as error:
        raise SourceError(f"{file}: {error.args[0]}", error.hint) from None


def head_widths(spec: RNNSpec) -> tuple[int, ...]:
    """What a head can read: D*H for the output, and with a single cell I+H for [x_t, h_(t-1)]."""
    width = spec.num_directions * spec.hidden_size
    return (width, spec.input_size + spec.hidden_size) if len(spec.cells()) == 1 else (width,)


def save_weights(path: Path, weights: Weights, head: Head | None = None) -> None:
    """Write a .safetensors file that says which network it is; deterministic. The head is called ``head``."""
    metadata = {METADATA_KEY: json.dumps(weights.spec.to_dict(), sort_keys=True)}
    tensors = dict(weights) | ({f"head.{name}": array for name, array in head._asdict().items()} if head else {})
    write_safetensors(path, tensors, metadata)


def _spec_of(
    file: str, contents: Contents, part: Part, nonlinearity: str | None, batch_first: bool | None
) -> tuple[RNNSpec, tuple[str, ...]]:
    said = _said(file, contents, part)
    tensors = part.tensors
    matches = [match for match in map(PARAMETER.fullmatch, tensors) if match]
    kinds = {match["kind"] for match in matches}
    layers = 1 + max(int(match["layer"] or 0) for match in matches)
    if layers > len(matches):  # or a name could ask for a billion layers
        raise SourceError(f"{file}: a weight of layer {layers - 1} is there, but not those of every layer below")
    single = "matrix" in kinds
    first = next((tensors[name] for name in ("matrix_l0", "weight_ih_l0") if name in tensors), None)
    if first is None:
        raise SourceError(f"{file} has weight_hh but no weight_ih")
    if first.ndim != 2:
        raise SourceError(f"{file}: the weights of the first layer have {first.ndim} axes, not 2")
    width = first.shape[1] - first.shape[0] if single else first.shape[1]
    if width < 1:
        raise SourceError(f"{file}: matrix_l0 has shape {first.shape}, which leaves no input columns")
    spec = RNNSpec(
        width,
        first.shape[0],
        layers,
        said.fields.get("nonlinearity", part.nonlinearity),
        bool(kinds & {"bias", "bias_ih"}),
        said.fields.get("batch_first", False),
        any(match["reverse"] for match in matches),
    )
    for name, value in said.fields.items():
        if getattr(spec, name) != value:
            claim = f"its {name} is {value}" if said.by else f"it holds {RNNSpec(**said.fields)}"
            raise SourceError(f"{file} says that {claim}, but its tensors make {spec}")
    notes = []
    if said.by and (told := [f"{name} {said.fields[name]}" for name in _UNSEEN if name in said.fields]):
        notes.append(f"{' and '.join(told)}: the pickled {said.by} says so")
    activation = "no activation" if part.nonlinearity == "identity" else part.nonlinearity
    answers = (nonlinearity or said.fields.get("nonlinearity"), said.fields.get("batch_first", batch_first))
    questions = (("--nonlinearity", activation, answers[0]), ("--batch-first", "time first", answers[1]))
    if unsaid := [(option, word) for option, word, answer in questions if answer is None]:
        options, guesses = (" and ".join(each) for each in zip(*unsaid, strict=True))
        notes.append(f"assumed {guesses}, which the file does not say; else {options}")
    for name, asked in zip(_UNSEEN, (nonlinearity, batch_first), strict=True):
        if asked is not None and said.fields.get(name, asked) != asked:
            wanted = asked if isinstance(asked, str) else f"{name} {asked}"
            notes.append(f"{wanted} as asked, although {file} says {said.fields[name]}")
    return _adjusted(spec, nonlinearity, batch_first), tuple(notes)


def _refuse_unread(path: Path, contents: Contents) -> None:
    """A recurrent part with a tensor of another type is not exported without that tensor."""
    named = {name: match for name in (*contents.tensors, *contents.refused) if (match := PARAMETER.fullmatch(name))}
    recurrent = {match["prefix"] for match in named.values() if match["kind"] in ("weight_hh", "matrix")}
    for name, reason in contents.refused.items():
        if name in named and named[name]["prefix"] in recurrent:
            raise SourceError(f"{path.name}: {name} {reason}", "Convert it: tensor.float()")


def heads_of(tensors: Mapping[str, Any], spec: RNNSpec, dtype: np.dtype[np.floating]) -> list[str]:
    """The names of the Linears that can be the network's head."""
    names = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    return [name for name in names if not _why_no_head(name, tensors, spec, dtype)]


def _why_no_head(key: str, tensors: Mapping[str, Any], spec: RNNSpec, dtype: np.dtype[np.floating]) -> str:
    weight, bias = tensors[f"{key}.weight"], tensors.get(f"{key}.bias")
    widths = head_widths(spec)
    if weight.ndim != 2:
        return f"{key}.weight has {weight.ndim} axes, not 2"
    if weight.shape[1] not in widths:
        also = f", or {widths[1]} on cat(x, h)" if len(widths) > 1 else ""
        return f"{key}.weight reads {weight.shape[1]} values, but {spec} gives {widths[0]}{also}"
    if bias is not None and bias.shape != weight.shape[:1]:
        return f"{key!r} is not a whole Linear: its bias has shape {bias.shape}"
    if weight.dtype != dtype or (bias is not None and bias.dtype != dtype):
        return f"{key!r} is {weight.dtype}, but the network is {dtype}"
    return ""


def _head(path: Path, tensors: Mapping[str, Any], key: str, weights: Weights) -> Head:
    if f"{key}.weight" not in tensors:
        linear = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
        near = [name for name in linear if name.endswith(f".{key}")]
        hint = f"Did you mean {near[0]!r}? " if near else ""
        hint += f"There are: {', '.join(linear)}" if linear else "The file has no Linear"
        raise SourceError(f"{path.name} has no Linear {key!r}", hint)
    fitting = heads_of(tensors, weights.spec, weights.dtype)
    if why := _why_no_head(key, tensors, weights.spec, weights.dtype):
        hint = f"Those that fit: {', '.join(fitting)}" if fitting else "No Linear of the file fits"
        raise SourceError(f"{path.name}: {why}", hint)
    weight = np.array(tensors[f"{key}.weight"], order="C")
    stored = tensors.get(f"{key}.bias")
    bias = np.zeros(len(weight), weight.dtype) if stored is None else np.array(stored, order="C")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise SourceError(f"{key!r} in {path.name} holds NaN or infinity", "A head that diverged is not exported")
    return Head(weight, bias)


class _Said(NamedTuple):
    """What the file itself says of its network: some of RNNSpec's fields, and who says it."""

    fields: Mapping[str, Any]
    by: str


def _said(file: str, contents: Contents, part: Part) -> _Said:
    if METADATA_KEY in contents.metadata:  # written by this package
        try:
            known = RNNSpec.from_dict(json.loads(contents.metadata[METADATA_KEY]))
        except (ValueError, TypeError, RecursionError, RnnExportError) as error:
            raise SourceError(f"the {METADATA_KEY} metadata of {file} is not a spec: {error}") from None
        return _Said(known.to_dict(), "")
    module = contents.modules.get(part.name)
    if module is None:
        return _Said({}, "")
    names = (field.name for field in fields(RNNSpec))
    return _Said({name: value for name in names if (value := getattr(module, name)) is not None}, module.maker)


def _adjusted(spec: RNNSpec, nonlinearity: str | None, batch_first: bool | None) -> RNNSpec:
    if nonlinearity is not None:
        spec = replace(spec, nonlinearity=nonlinearity)
    return spec if batch_first is None else replace(spec, batch_first=batch_first)
