"""A pickle as an inert tree: every opcode is read, and nothing that it names is imported, called or built.

``pickletools`` splits the bytes into opcodes, and the machine below keeps their stack. Where an unpickler would
import, it writes down a Global; where it would call, a Made; where it would ask its owner, a Persistent. No value
that comes from the file is ever called, and no attribute of anything but these records is ever set, so there is
no list of dangerous names to keep and none to forget.

Time and memory grow with the bytes that are read: each opcode adds at most one record, an index of the memo is a
key and not the size of a table, and nothing is hashed but short strings.
"""

import io
import pickletools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rnn_export.errors import SourceError


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A name that an unpickler would import, made printable, such as ``torch.nn.modules.rnn.RNN``."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Persistent:
    """A reference out of the pickle, to a storage or a tensor of the file."""

    id: Any


@dataclass(slots=True, eq=False)
class Made:
    """What a call would have made: by which name, from what, and what would have been put into it."""

    maker: str  # the qualified name that would have been called; empty where it is no plain name
    args: tuple[Any, ...]
    state: Any = None  # what BUILD would have handed to it
    items: list[Any] | None = None  # what would have been appended or added
    entries: dict[str, Any] | None = None  # what would have been set by key


class Pickle(NamedTuple):
    """One pickle: its root, and in the order of the file every reference out of it, everything made, every name."""

    root: Any
    references: list[Persistent]
    made: list[Made]
    names: list[str]  # what an unpickler would import


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_RECONSTRUCTORS = ("copy_reg._reconstructor", "copyreg._reconstructor")  # protocols 0 and 1 name the class inside
_MEMO = 2**32  # LONG_BINPUT's own range; PUT could spell integers that are slow to hash


def read_pickle(stream: io.BytesIO) -> Pickle:
    """The next pickle of a stream; the stream is left behind its STOP.

    Containers come back as list, tuple and dict (sets as list), with dict keys as printable str: a key that is
    neither str nor int names no tensor, and its entry is dropped.

    Raises:
        SourceError: the bytes are no complete pickle, or use the extension registry or out-of-band buffers.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        return Pickle(machine.stack.pop(), machine.references, machine.made, list(machine.names))
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, Warning) as error:
        # What a stack of unforeseen types can raise, and what codecs warns of in a damaged string.
        reason = str(error) or type(error).__name__
        raise SourceError(f"its pickle is damaged before byte {stream.tell()}: {reason[:200]}") from None


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each MARK
        self.memo: dict[int, Any] = {}
        self.references: list[Persistent] = []
        self.made: list[Made] = []
        self.names: dict[str, None] = {}  # a set that keeps its order

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
            return
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
            return
        match name:
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT" if 0 <= argument < _MEMO:
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "POP_MARK":
                self.since_mark()
            case "POP" if stack:
                stack.pop()
            case "POP":
                self.since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.popped(_TUPLES[name])))
            case "TUPLE":
                self.push(tuple(self.since_mark()))
            case "LIST" | "FROZENSET":
                self.push(self.since_mark())
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                self.push(_set({}, self.since_mark()))
            case "APPEND":
                _add(stack[-2], self.popped(1))
            case "APPENDS" | "ADDITEMS":
                items = self.since_mark()
                _add(self.stack[-1], items)
            case "SETITEM":
                _set(stack[-3], self.popped(2))
            case "SETITEMS":
                items = self.since_mark()
                _set(self.stack[-1], items)
            case "GLOBAL":
                stack.append(self.named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                module, qualified = self.popped(2)
                if not isinstance(module, str) or not isinstance(qualified, str):
                    raise ValueError("a name is no text")
                stack.append(self.named(module, qualified))
            case "REDUCE" | "NEWOBJ":
                maker, args = self.popped(2)
                self.make(maker, args)
            case "NEWOBJ_EX":
                maker, args, _ = self.popped(3)
                self.make(maker, args)
            case "INST":
                self.make(self.named(*argument.split(" ", 1)), tuple(self.since_mark()))
            case "OBJ":
                maker, *rest = self.since_mark()
                self.make(maker, tuple(rest))
            case "BUILD":
                (state,) = self.popped(1)
                if not isinstance(stack[-1], Made):
                    raise ValueError(f"BUILD would change a {type(stack[-1]).__name__}")
                stack[-1].state = state
            case "PERSID":
                self.refer(argument)
            case "BINPERSID":
                self.refer(*self.popped(1))
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise ValueError(f"{name} is not read: no checkpoint needs it")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def popped(self, count: int) -> list[Any]:
        """The topmost values, in the order in which they were pushed."""
        if len(self.stack) < count:
            raise ValueError("its stack is empty")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def refer(self, target: Any) -> None:
        self.references.append(Persistent(target))
        self.push(self.references[-1])

    def named(self, module: str, name: str) -> Global:
        found = Global(printable(f"{module}.{name}"))
        self.names[found.name] = None
        return found

    def make(self, maker: Any, args: Any) -> None:
        if not isinstance(args, tuple):
            raise ValueError("it calls without a tuple of arguments")
        self.made.append(Made(_maker_name(maker, args), args))
        self.push(self.made[-1])


def printable(name: str) -> str:
    """A name that may be shown on a terminal: no control characters and no half of a surrogate pair."""
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


def _maker_name(maker: Any, args: tuple[Any, ...]) -> str:
    if isinstance(maker, Persistent) and isinstance(maker.id, tuple):
        # The legacy formats hand out a class as a reference that carries the class's source text.
        maker = next((part for part in maker.id[:2] if isinstance(part, Global)), None)
    if isinstance(maker, Global) and maker.name in _RECONSTRUCTORS and args:
        maker = args[0]
    return maker.name if isinstance(maker, Global) else ""


def _add(target: Any, items: Sequence[Any]) -> None:
    if isinstance(target, Made):
        target.items = target.items or []
        target = target.items
    if not isinstance(target, list):
        raise ValueError(f"it appends to a {type(target).__name__}")
    target.extend(items)


def _set(target: Any, items: Sequence[Any]) -> Any:
    """Set keys and values that alternate in ``items``."""
    if len(items) % 2:
        raise ValueError("a key lacks its value")
    if isinstance(target, Made):
        target.entries = target.entries or {}
        target = target.entries
    if not isinstance(target, dict):
        raise ValueError(f"it sets keys of a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str | int):  # to hash tuples that share their parts takes exponential time
            target[printable(str(key))] = value
    return target
