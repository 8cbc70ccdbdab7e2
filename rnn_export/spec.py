"""RNNSpec: which recurrent network it is, in the words of ``torch.nn.RNN``.

Shape letters, everywhere in this package: T sequence length, B batch size, D directions, L layers,
I input_size, H hidden_size.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from rnn_export.errors import SourceError

# identity is the linear recurrence of the classic i2h cell; torch.nn.RNN does not have it
NONLINEARITIES = ("tanh", "relu", "identity")
SPEC_SYNTAX = "rnn:INPUT,HIDDEN[,tanh|relu|identity][,layers=N][,bidirectional][,batch-first][,no-bias][,seed=N]"


def suffix(layer: int, direction: int) -> str:
    """How torch's names end: ``_l0``, ``_l0_reverse``, ``_l1``, ..."""
    return f"_l{layer}" + ("_reverse" if direction else "")


@dataclass(frozen=True)
class RNNSpec:
    """The arguments of ``torch.nn.RNN`` that decide what the network computes.

    ``dropout`` is not among them: it acts in training only and is off in what is exported.

    Raises:
        SourceError: a size below 1, or a nonlinearity that is not one of ``NONLINEARITIES``.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    nonlinearity: str = "tanh"
    bias: bool = True
    batch_first: bool = False
    bidirectional: bool = False

    def __post_init__(self) -> None:
        for name in ("input_size", "hidden_size", "num_layers"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise SourceError(f"{name} must be an integer of at least 1, not {size!r}")
        if self.nonlinearity not in NONLINEARITIES:
            raise SourceError(f"nonlinearity must be one of {', '.join(NONLINEARITIES)}, not {self.nonlinearity!r}")

    @property
    def num_directions(self) -> int:
        """D: 2 when bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def layer_input_size(self, layer: int) -> int:
        """I for the first layer, D*H for those above it."""
        return self.input_size if layer == 0 else self.num_directions * self.hidden_size

    def cells(self) -> list[tuple[int, int]]:
        """(layer, direction) in torch's order, which is also the order of h_0's first axis."""
        return [(layer, d) for layer in range(self.num_layers) for d in range(self.num_directions)]

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """torch's parameter names and shapes, in torch's order."""
        shapes: dict[str, tuple[int, ...]] = {}
        H = self.hidden_size
        for layer, direction in self.cells():
            end = suffix(layer, direction)
            shapes[f"weight_ih{end}"] = (H, self.layer_input_size(layer))
            shapes[f"weight_hh{end}"] = (H, H)
            if self.bias:
                shapes[f"bias_ih{end}"] = (H,)
                shapes[f"bias_hh{end}"] = (H,)
        return shapes

    def to_dict(self) -> dict[str, Any]:
        """The keyword arguments that make ``torch.nn.RNN``, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RNNSpec":
        """The inverse of ``to_dict``.

        Raises:
            SourceError: a key is missing, unknown or holds a value that no RNN has.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise SourceError(f"a spec needs the keys {', '.join(sorted(names))}, not {sorted(values)}")
        for name in ("bias", "batch_first", "bidirectional"):
            if not isinstance(values[name], bool):
                raise SourceError(f"{name} must be true or false, not {values[name]!r}")
        return cls(**values)

    def __str__(self) -> str:
        options = [f"{self.input_size} -> {self.hidden_size}", self.nonlinearity]
        if self.num_layers > 1:
            options.append(f"{self.num_layers} layers")
        if self.bidirectional:
            options.append("bidirectional")
        if not self.bias:
            options.append("no bias")
        if self.batch_first:
            options.append("batch first")
        return f"RNN({', '.join(options)})"


def parse_spec(text: str) -> tuple[RNNSpec, int]:
    """A spec string such as ``rnn:4,8,relu,layers=2`` as (spec, seed of its random weights).

    Raises:
        SourceError: the string does not follow ``SPEC_SYNTAX``; the message names the part.
    """
    head, _, rest = text.partition(":")
    parts = [part.strip() for part in rest.split(",")]
    if head != "rnn" or len(parts) < 2:
        raise SourceError(f"{text!r} is not a spec", f"Write {SPEC_SYNTAX}")
    options: dict[str, Any] = {"input_size": _integer(text, parts[0]), "hidden_size": _integer(text, parts[1])}
    seed = 0
    for part in parts[2:]:
        key, _, value = part.partition("=")
        if part in NONLINEARITIES and "nonlinearity" in options:
            raise SourceError(f"the spec {text!r} names two nonlinearities", f"Write {SPEC_SYNTAX}")
        if part in NONLINEARITIES:
            options["nonlinearity"] = part
        elif part in ("bidirectional", "batch-first"):
            options[part.replace("-", "_")] = True
        elif part == "no-bias":
            options["bias"] = False
        elif key == "layers":
            options["num_layers"] = _integer(text, value)
        elif key == "seed":
            seed = _integer(text, value)
            if seed < 0:
                raise SourceError(f"the seed {seed} in the spec {text!r} is negative", f"Write {SPEC_SYNTAX}")
        else:
            raise SourceError(f"{part!r} in the spec {text!r} is not understood", f"Write {SPEC_SYNTAX}")
    return RNNSpec(**options), seed


def _integer(text: str, part: str) -> int:
    try:
        return int(part)
    except ValueError:
        raise SourceError(f"{part!r} in the spec {text!r} is not a number", f"Write {SPEC_SYNTAX}") from None
