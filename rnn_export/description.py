"""What a checkpoint holds, before anything is exported: recurrent parts, the parts around them, what is open."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rnn_export.checkpoint import heads_of, weights_of
from rnn_export.contents import Contents, read_contents
from rnn_export.errors import SourceError
from rnn_export.recurrent_parts import GATED, Part, find_parts
from rnn_export.spec import suffix
from rnn_export.spectrum import meaning, spectral_radius

SCHEMA = 1
MOST_RADII = 64  # of one file: eigenvalues cost time, and a small file can name many parts
# What torch.save writes for plain tensors; whatever else a pickle names, an unpickler imports for somebody's class.
_PLAIN = re.compile(
    r"torch\.\w*Storage|torch\._utils\._rebuild_\w+|torch\.(Size|device)|torch\.nn\.parameter\.Parameter"
    r"|torch\.autograd\.variable\.Variable|collections\.OrderedDict"
    r"|(__builtin__|builtins)\.(set|frozenset|complex|bytearray|slice|range|object|list|dict|tuple|bytes)"
)
# What honest checkpoints name of torch and of Python's standard library; anything else of them is there to be run.
_HONEST = re.compile(
    r"torch\.(nn\.(modules|backends|quantized|intrinsic|qat|utils)(\.\w+)+|nn\.functional\.\w+|optim(\.\w+)+|_tensor\.\w+"
    r"|storage\.(Typed|Untyped)Storage|dtype|layout|float\d*|bfloat16|int\d+|strided|memory_format|tanh|relu|sigmoid)"
    r"|collections\.(defaultdict|Counter|deque)|(copy_reg|copyreg)\._reconstructor|_codecs\.encode"
    r"|datetime\.(datetime|date|time|timedelta|timezone)|argparse\.Namespace|types\.SimpleNamespace|decimal\.Decimal"
    r"|pathlib\.(Pure)?(Posix|Windows)?Path|uuid\.UUID|fractions\.Fraction"
)


@dataclass(frozen=True)
class Recurrence:
    """One recurrent weight: its name, its spectral radius, whether that is exact, and what it means."""

    weight: str
    spectral_radius: float | None
    exact: bool
    meaning: str

    @classmethod
    def of(cls, weight: str, matrix: Any, nonlinearity: str | None) -> Self:
        """Of W_hh (H, H) under that name."""
        radius = spectral_radius(matrix)
        return cls(weight, radius.value, radius.exact, meaning(radius.value, nonlinearity))

    def __str__(self) -> str:
        if self.spectral_radius is None:
            return f"{self.weight}: spectral radius {self.meaning}"
        sign = "" if self.exact else "about "
        return f"{self.weight}: spectral radius {sign}{self.spectral_radius:.3g}, {self.meaning}"


@dataclass(frozen=True)
class RecurrentPart:
    """One recurrent network of the file.

    Attributes:
        name: what ``--prefix`` takes; empty at the top.
        kind: RNN, LSTM or GRU.
        network: its spec in words.
        parameters: how many numbers it has.
        spec: the arguments of ``torch.nn.RNN``; None where it cannot be exported.
        recurrences: one per layer and direction.
        heads: the Linears that ``--head`` takes.
        notes: what was assumed, and who said what.
        problem: why it cannot be exported; empty where it can.
    """

    name: str
    kind: str
    network: str
    dtype: str
    parameters: int
    spec: Mapping[str, Any] | None = None
    recurrences: tuple[Recurrence, ...] = ()
    heads: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class OtherPart:
    """A part without recurrence: what it looks like by its shapes."""

    name: str
    looks_like: str
    parameters: int


@dataclass(frozen=True)
class CheckpointDescription:
    """A whole checkpoint file; ``security`` says what others would run to read it."""

    file: str
    format: str
    size: int
    recurrent: tuple[RecurrentPart, ...]
    others: tuple[OtherPart, ...]
    unread: Mapping[str, str]
    notes: tuple[str, ...]
    security: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Schema 1, ready for JSON."""
        return {"schema": SCHEMA, "kind": "checkpoint", **asdict(self)}

    def lines(self) -> Iterator[str]:
        """What a person reads."""
        linears = {other.name for other in self.others if other.looks_like.startswith("Linear")}
        yield f"{self.file}   {self.format}, {self.size:,} bytes"
        for part in self.recurrent:
            yield f"recurrent   {part.name or '(top)'}   {part.network}   {part.parameters:,} parameters, {part.dtype}"
            yield from (f"    {recurrence}" for recurrence in part.recurrences)
            for head in part.heads:
                unsure = "" if head in linears else "   if it is a Linear without bias, and no Embedding"
                yield f"    --head {head}{unsure}"
            yield from (f"    {note}" for note in part.notes)
            if part.problem:
                yield f"    not exported: {part.problem}"
        if not self.recurrent:
            yield "recurrent   none; name the Linear of a cell of your own with --prefix"
        yield from (f"other       {other.name}   {other.looks_like}" for other in self.others)
        yield from (f"not read    {name}: {reason}" for name, reason in self.unread.items())
        yield from (f"note        {note}" for note in self.notes)
        yield from (f"security    {line}" for line in self.security)


def describe_checkpoint(path: Path) -> CheckpointDescription:
    """Describe a ``.safetensors``, ``.pt``, ``.pth`` or ``.npz`` file, without running anything of it.

    Raises:
        SourceError: the file is missing, damaged, or of another kind.
    """
    contents = read_contents(path)
    parts = find_parts(contents.tensors)
    inside = frozenset().union(*(part.sources for part in parts.values()))
    outside = {name: tensor for name, tensor in contents.tensors.items() if name not in inside}
    budget = iter(range(MOST_RADII))
    return CheckpointDescription(
        path.name,
        contents.format,
        path.stat().st_size,
        tuple(_recurrent_part(path.name, contents, part, outside, budget) for part in parts.values()),
        tuple(_other_parts(outside)),
        dict(contents.refused),
        contents.notes,
        tuple(_security(contents.format, contents.names)),
    )


def _recurrent_part(
    file: str, contents: Contents, part: Part, outside: Mapping[str, Any], budget: Iterator[int]
) -> RecurrentPart:
    parameters = sum(tensor.size for tensor in part.tensors.values())
    dtype = str(next(iter(part.tensors.values())).dtype.name)
    if part.kind != "RNN":
        return RecurrentPart(part.name, part.kind, _gated(part), dtype, parameters, problem="only RNN is exported")
    try:
        weights, notes = weights_of(file, contents, part)
    except SourceError as error:
        return RecurrentPart(part.name, part.kind, "RNN", dtype, parameters, problem=str(error))
    spec = weights.spec
    recurrences = []
    for cell, _ in zip(spec.cells(), budget, strict=False):  # the shorter one ends it
        weight = weights.cell(*cell).weight_hh
        recurrences.append(Recurrence.of(f"weight_hh{suffix(*cell)}", weight, spec.nonlinearity))
    if len(recurrences) < len(spec.cells()):
        notes = (*notes, f"no more spectral radii: {MOST_RADII} of one file are computed")
    return RecurrentPart(
        part.name,
        part.kind,
        str(spec),
        dtype,
        parameters,
        spec.to_dict(),
        tuple(recurrences),
        tuple(heads_of(outside, spec, weights.dtype)),
        (part.remark, *notes) if part.remark else notes,
    )


def _gated(part: Part) -> str:
    """An LSTM or GRU in words, as far as its shapes tell."""
    weight_ih, weight_hh = part.tensors.get("weight_ih_l0"), part.tensors["weight_hh_l0"]
    width = weight_ih.shape[1] if weight_ih is not None and weight_ih.ndim == 2 else "?"
    gates = next(rows for rows, kind in GATED.items() if kind == part.kind)
    options = [f"{width} -> {weight_hh.shape[0] // gates}"]
    names = [name for name in part.tensors if name.startswith("weight_hh_l")]
    if (layers := sum(not name.endswith("_reverse") for name in names)) > 1:
        options.append(f"{layers} layers")
    if any(name.endswith("_reverse") for name in names):
        options.append("bidirectional")
    return f"{part.kind}({', '.join(options)})"


def _linears(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, weight) of every Linear with a bias; without one it could as well be an Embedding."""
    for name, weight in tensors.items():
        module, _, kind = name.rpartition(".")
        bias = tensors.get(f"{module}.bias")
        if kind == "weight" and weight.ndim == 2 and bias is not None and bias.shape == weight.shape[:1]:
            yield module, weight


def _other_parts(tensors: Mapping[str, Any]) -> Iterator[OtherPart]:
    linears = dict(_linears(tensors))
    modules: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        modules.setdefault(module, {})[kind] = tensor
    for module, inside in modules.items():
        looks_like = ", ".join(f"{kind} {list(tensor.shape)}" for kind, tensor in inside.items())
        if module in linears and len(inside) == 2:
            O, width = linears[module].shape  # noqa: E741
            looks_like = f"Linear {width} -> {O}"
        yield OtherPart(module or "(top)", looks_like, sum(tensor.size for tensor in inside.values()))


def _security(format_name: str, names: tuple[str, ...]) -> Iterator[str]:
    """What reading the file with an unpickler would mean; this package imports none of it."""
    if not format_name.startswith("torch"):
        yield f"{format_name} cannot hold code"
        return
    foreign = [name for name in names if not _PLAIN.fullmatch(name)]
    hostile = [name for name in foreign if _is_hostile(name)]
    for name in hostile:
        yield f"names {name}, which belongs in no checkpoint: torch.load could run it. Do not load this file elsewhere"
    if classes := [name for name in foreign if name not in hostile]:
        yield f"torch.load needs weights_only=False and imports {', '.join(classes)}; nothing of it was imported here"
    if not foreign:
        yield "tensors and containers only; nothing to import"


def _is_hostile(name: str) -> bool:
    top = name.partition(".")[0]
    known = {*sys.stdlib_module_names, "torch", "posix", "nt", "__builtin__", "builtins"} - {"__main__"}
    return top in known and not _HONEST.fullmatch(name)
