"""``rnn-export.toml``: which networks a project exports, which runtimes have to compute them, what is known to fail."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rnn_export.element_types import FLOATS
from rnn_export.errors import UsageError
from rnn_export.findings import FINDINGS
from rnn_export.forms import FORMS
from rnn_export.known_failures import KnownFailure
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import NONLINEARITIES

FILE, PYPROJECT, SECTION = "rnn-export.toml", "pyproject.toml", "rnn-export"
TIMEOUT, OPSET = 60.0, 18  # as `verify` and `export` have them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # what is also the name of a folder
SEE = "docs/ci.md has an example"


@dataclass(frozen=True)
class Network:
    """One network of the file.

    Attributes:
        name: of its artifacts and in what is printed.
        source: a checkpoint's path, or a spec of random weights.
        forms: the forms that it is exported in.
        steps: the length of a form that has a fixed one.
        runtimes: which have to compute it.
        reading: prefix, nonlinearity, batch_first, head and dtype, as ``export`` takes them.
        opset, lengths: as ``export`` takes them.
    """

    name: str
    source: str | Path
    forms: tuple[str, ...]
    steps: int | None
    runtimes: tuple[str, ...]
    reading: Mapping[str, Any]
    opset: int
    lengths: bool


@dataclass(frozen=True)
class Configuration:
    """A whole file; see ``docs/ci.md`` for its keys."""

    file: Path
    networks: tuple[Network, ...]
    known: tuple[KnownFailure, ...]
    timeout: float
    strict: bool


def find_configuration(folder: Path) -> Path:
    """``rnn-export.toml`` in a folder, or the ``pyproject.toml`` there that has a section for it.

    Raises:
        UsageError: neither is there.
    """
    if (folder / FILE).is_file():
        return folder / FILE
    project = folder / PYPROJECT
    if project.is_file() and SECTION in _parsed(project).get("tool", {}):
        return project
    raise UsageError(f"there is no {FILE} here, and no [tool.{SECTION}] in {PYPROJECT}", f"Write one: {SEE}")


def read_configuration(file: Path) -> Configuration:
    """Read and check a file; sources are relative to its folder.

    Raises:
        UsageError: it cannot be read, or a key or value means nothing; the message names the line.
    """
    data = _parsed(file)
    section = ""
    if file.name == PYPROJECT:
        section = f"tool.{SECTION}."
        data = data.get("tool", {}).get(SECTION, {})
        if not isinstance(data, dict):
            raise UsageError(f"{file}: tool.{SECTION} is no table", SEE)
    top = _Table(file, section.rstrip("."), 0, data)
    runtimes = top.names("runtimes", RUNTIMES.get)
    timeout, strict = top.number("timeout", float), top.flag("strict")
    networks = [_network(table, runtimes) for table in top.tables("network", section)]
    if not networks:
        raise UsageError(f"{file} names no network", f"Begin one with [[{section}network]]: {SEE}")
    known = [_known_failure(table, networks) for table in top.tables("known-failure", section)]
    top.close()
    for name in {network.name for network in networks}:
        if sum(network.name == name for network in networks) > 1:
            raise UsageError(f"{file}: two networks are called {name!r}", 'Say name = "..." in one of them')
    return Configuration(file, tuple(networks), tuple(known), timeout or TIMEOUT, bool(strict))


def _network(table: "_Table", runtimes: tuple[str, ...]) -> Network:
    source = table.text("source", needed=True)
    is_spec = source.startswith("rnn:")
    name = table.text("name") or ("" if is_spec else Path(source).stem)
    if not NAME.fullmatch(name):
        what = f"{name!r} is no name" if name else "random weights have no name"
        raise table.error("name", what, 'Say name = "..." with letters, digits, dots, - and _')
    forms = table.names("forms", FORMS.get) or ("scan",)
    steps = table.number("steps", int)
    fixed = [form for form in forms if FORMS.get(form).length == "fixed"]
    if bool(fixed) != (steps is not None):
        what = f"form {fixed[0]!r} has a fixed length" if fixed else "no form of this network has a fixed length"
        raise table.error("steps", what, "Give it: steps = 20" if fixed else "Leave steps out")
    network = Network(
        name,
        source if is_spec else table.file.parent / source,
        forms,
        steps,
        table.names("runtimes", RUNTIMES.get) or runtimes,
        {
            "prefix": table.text("prefix"),
            "nonlinearity": table.text("nonlinearity", NONLINEARITIES),
            "batch_first": table.flag("batch-first"),
            "head": table.text("head"),
            "dtype": table.text("dtype", FLOATS),
        },
        table.number("opset", int) or OPSET,
        bool(table.flag("lengths")),
    )
    if not network.runtimes:
        raise table.error("runtimes", "no runtime has to compute it", 'Say runtimes = ["onnxruntime-cpu"]')
    table.close()
    return network


def _known_failure(table: "_Table", networks: list[Network]) -> KnownFailure:
    runtime = table.text("runtime", {name for network in networks for name in network.runtimes}, needed=True)
    known = KnownFailure(
        table.place(),
        runtime,
        table.text("reason", needed=True),
        table.text("case"),
        table.text("code", FINDINGS),
        table.text("network", [network.name for network in networks]),
        table.text("form", {form for network in networks for form in network.forms}),
    )
    if known.case is None and known.code is None:
        raise table.error("", "says neither case nor code", 'Say which: code = "padding" or case = "T=0 B=3"')
    table.close()
    if not any(runtime in one.runtimes and known.covers(one.name, form) for one in networks for form in one.forms):
        raise table.error("", "is about nothing that is checked", "Compare its network, form and runtime with the rest")
    return known


class _Table:
    """One table of the file, asked key by key; what nobody asked for is a mistake."""

    def __init__(self, file: Path, name: str, index: int, values: Mapping[str, Any]) -> None:
        self.file, self.name, self.index = file, name, index
        self._values, self._asked = dict(values), set[str]()

    def place(self, key: str = "") -> str:
        """Such as ``network 2 in rnn-export.toml, line 14``: the line of the key, or where the table begins."""
        what = f"{self.name.rpartition('.')[2]} {self.index} in " if self.index else ""
        line = (key and self._line(key)) or self._line("")
        return f"{what}{self.file}" + (f", line {line}" if line else "")

    def text(self, key: str, allowed: Iterable[str] | None = None, *, needed: bool = False) -> Any:
        """A string, one of those that are allowed; None where the key is not there, unless it is needed."""
        value = self._get(key, str, "a string")
        if value is None and needed:
            raise self.error("", f"lacks {key}", f"Say {key} = ...: {SEE}")
        if value is not None and allowed is not None and value not in (choices := sorted(allowed)):
            raise self.error(key, f"{key} is {value!r}", _which(value, choices))
        return value

    def flag(self, key: str) -> bool | None:
        value: bool | None = self._get(key, bool, "true or false")
        return value

    def number(self, key: str, kind: type) -> Any:
        """A number above 0; None where the key is not there."""
        value = self._get(key, (int, float) if kind is float else int, "a number")
        if value is not None and not 0 < value < 10**6:
            raise self.error(key, f"{key} is {value}", "It has to be above 0, and below a million")
        return value

    def names(self, key: str, get: Any) -> tuple[str, ...]:
        """A list of names, each of which ``get`` knows; empty where the key is not there."""
        values = self._get(key, list, "a list of names") or []
        for value in values:
            if not isinstance(value, str):
                raise self.error(key, f"{key} holds {value!r}", "Write names in quotes")
            try:
                get(value)
            except UsageError as error:
                raise self.error(key, str(error.args[0]), error.hint) from None
        return tuple(dict.fromkeys(values))

    def tables(self, key: str, section: str) -> list["_Table"]:
        """The tables of a list of them, ``[[key]]``."""
        values = self._get(key, list, f"written as [[{section}{key}]]") or []
        if not all(isinstance(value, dict) for value in values):
            raise self.error(key, f"{key} is no table", f"Begin each with [[{section}{key}]]")
        return [_Table(self.file, section + key, index, value) for index, value in enumerate(values, 1)]

    def close(self) -> None:
        """Raises UsageError where a key is left over."""
        for key in self._values:
            if key not in self._asked:
                raise self.error(key, f"the key {key!r} is not known", _which(key, sorted(self._asked)))

    def error(self, key: str, what: str, hint: str) -> UsageError:
        return UsageError(f"{self.place(key)}: {what}", hint)

    def _get(self, key: str, kind: Any, words: str) -> Any:
        self._asked.add(key)
        value = self._values.get(key)
        if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
            return value
        raise self.error(key, f"{key} is {value!r}", f"It has to be {words}")

    def _line(self, key: str) -> int:
        """The line of a key, or of the table's own heading; 0 where it is written in another way."""
        headings, inside = 0, not self.name
        for number, line in enumerate(self.file.read_text("utf-8").splitlines(), 1):
            if (heading := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)) is not None:
                headings += heading[1] == self.name
                inside = heading[1] == self.name and headings == max(1, self.index)
                if inside and not key:
                    return number
            elif key and inside and re.match(rf'\s*"?{re.escape(key)}"?\s*=', line):
                return number
        return 0


def _which(value: str, choices: list[str]) -> str:
    close = get_close_matches(value, choices, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(choices)}"


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "Check the path after --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is no TOML: {error}", SEE) from None
