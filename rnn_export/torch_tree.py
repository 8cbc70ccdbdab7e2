"""What ``torch.save`` was given, as an inert tree -> tensors by dotted name, and what recurrent modules say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rnn_export.errors import SourceError
from rnn_export.torch_tensors import Tensor, TensorReader
from rnn_export.unpickling import Made, Persistent

_DEPTH = 100  # of containers in containers; networks have ten or so
_WORK = 64  # characters of names per byte of the file: an honest name costs less than one
_ORDERED_DICT = "collections.OrderedDict"
_CELLS = {"RNNCell": "RNN", "LSTMCell": "LSTM", "GRUCell": "GRU"}


@dataclass(frozen=True)
class RecurrentModule:
    """What a pickled recurrent module says about itself, in torch's words; None where it does not say."""

    maker: str  # its class, such as torch.nn.modules.rnn.RNN
    kind: str  # RNN, LSTM or GRU
    nonlinearity: str | None = None
    input_size: int | None = None
    hidden_size: int | None = None
    num_layers: int | None = None
    bias: bool | None = None
    batch_first: bool | None = None
    bidirectional: bool | None = None


class TreeReader:
    """Walks one tree. ``tensors`` and ``modules`` are named as ``state_dict`` would name them.

    Dicts, lists and the attributes of pickled objects are followed; a module by its parameters, buffers (those
    that ``state_dict`` leaves out too) and modules only. The state of an optimizer is passed over: it may be keyed
    like the weights that it moves.
    """

    def __init__(self, reader: TensorReader, size: int) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.modules: dict[str, RecurrentModule] = {}
        self.too_deep = False
        self._reader = reader
        self._left = _WORK * size
        self._path: set[int] = set()

    def read(self, value: Any, name: str = "") -> None:
        """Collect what is below a value.

        Raises:
            SourceError: two tensors have one name, or so many names share their parts that the walk would not end.
        """
        if (tensor := self._reader.tensor(value)) is not None:
            if name in self.tensors:
                raise SourceError(f"two of its tensors are named {name!r}")
            self.tensors[name] = tensor
            return
        if id(value) in self._path:
            return  # an object that is inside itself is not there a second time
        if len(self._path) == _DEPTH:
            self.too_deep = True
            return
        self._path.add(id(value))
        if (module := _recurrent(value)) is not None:
            self.modules[name] = module
        for key, child in _children(value):
            self._left -= 1
            if isinstance(child, dict | list | tuple | Made | Persistent):
                inner = f"{name}.{key}" if name else key
                self._left -= len(inner)
                self.read(child, inner)
            if self._left < 0:
                raise SourceError("its parts repeat each other without an end in sight")
        self._path.discard(id(value))


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        yield from ((str(place), child) for place, child in enumerate(value))
    elif (entries := _entries(value)) is not None:
        yield from entries.items()
    elif isinstance(value, Made) and (state := _state(value)) is not None:
        if _is_module(state):
            yield from _mapping(state["_parameters"]).items()
            yield from _mapping(state.get("_buffers")).items()
            yield from _mapping(state["_modules"]).items()
        elif not _is_optimizer(state):
            yield from state.items()
    elif isinstance(value, Made):
        yield from ((str(place), child) for place, child in enumerate(value.items or ()))


def _entries(value: Any) -> Mapping[str, Any] | None:
    """What is set by key in a dict, an OrderedDict or a class derived from them; None in anything else."""
    if isinstance(value, Made):
        value = _pairs(value.args) if value.entries is None and value.maker == _ORDERED_DICT else value.entries
    if not isinstance(value, dict):
        return None
    return {} if _is_optimizer(value) else value


def _pairs(args: tuple[Any, ...]) -> dict[str, Any]:
    """An OrderedDict of Python 2, which was made from a list of pairs."""
    pairs = args[0] if args and isinstance(args[0], list) else []
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and isinstance(pair[0], str)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return _entries(value) or {}


def _state(value: Made) -> Mapping[str, Any] | None:
    """The attributes of a pickled object; a class with slots keeps its dict first of two."""
    state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
    return state if isinstance(state, dict) else None


def _is_module(state: Mapping[str, Any]) -> bool:
    return "_parameters" in state and "_modules" in state


def _is_optimizer(state: Mapping[str, Any]) -> bool:
    return "param_groups" in state and "state" in state


def _recurrent(value: Any) -> RecurrentModule | None:
    """What a module says, if it is a recurrent one of torch, of this package, or derived from them."""
    if not isinstance(value, Made) or (state := _state(value)) is None or not _is_module(state):
        return None
    spec = state.get("spec")  # this package's own modules keep everything there
    said = (_state(spec) if isinstance(spec, Made) else None) or state
    mode, nonlinearity = said.get("mode"), said.get("nonlinearity")
    kind = _CELLS.get(value.maker.rpartition(".")[2]) if value.maker.startswith("torch.nn.") else None
    if isinstance(mode, str):  # what nn.RNN computes by; its nonlinearity is a newer, second word for it
        kind, _, activation = mode.partition("_")
        nonlinearity = activation.lower() or None
    elif kind is None and any(name.startswith(("weight_hh", "matrix")) for name in _mapping(state["_parameters"])):
        kind = "RNN" if isinstance(nonlinearity, str) else None
    if kind is None or kind not in _CELLS.values():
        return None
    return RecurrentModule(
        value.maker,
        kind,
        nonlinearity if isinstance(nonlinearity, str) else None,
        *(_typed(said.get(name), int) for name in ("input_size", "hidden_size", "num_layers")),
        *(_typed(said.get(name), bool) for name in ("bias", "batch_first", "bidirectional")),
    )


def _typed(value: Any, kind: type) -> Any:
    return value if type(value) is kind else None
