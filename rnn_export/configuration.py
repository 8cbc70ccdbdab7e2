"""``rnn-export.toml``: which networks a project exports, which runtimes have to compute them, what is known to fail."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_export.element_types import FLOATS
from rnn_export.errors import UsageError
from rnn_export.findings import FINDINGS
from rnn_export.forms import FORMS
from rnn_export.known_failures import KnownFailure
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import NONLINEARITIES
from rnn_export.toml_tables import SEE, Table, read_toml

FILE, PYPROJECT, SECTION = "rnn-export.toml", "pyproject.toml", "rnn-export"
TIMEOUT, OPSET = 60.0, 18  # as `verify` and `export` have them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # what is also the name of a folder


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
    if project.is_file() and SECTION in _tools(project, read_toml(project)):
        return project
    raise UsageError(f"there is no {FILE} here, and no [tool.{SECTION}] in {PYPROJECT}", f"Write one: {SEE}")


def read_configuration(file: Path) -> Configuration:
    """Read and check a file; sources are relative to its folder.

    Raises:
        UsageError: it cannot be read, or a key or value means nothing; the message names the line.
    """
    data = read_toml(file)
    section = ""
    if file.name == PYPROJECT:
        section = f"tool.{SECTION}."
        data = _tools(file, data).get(SECTION, {})
        if not isinstance(data, dict):
            raise UsageError(f"{file}: tool.{SECTION} is no table", SEE)
    top = Table(file, section.rstrip("."), 0, data)
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


def _tools(file: Path, data: dict[str, Any]) -> dict[str, Any]:
    tools = data.get("tool", {})
    if not isinstance(tools, dict):
        raise UsageError(f"{file}: tool is no table", SEE)
    return tools


def _network(table: Table, runtimes: tuple[str, ...]) -> Network:
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


def _known_failure(table: Table, networks: list[Network]) -> KnownFailure:
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
    if known.code == "absent":
        raise table.error("code", "an absent runtime is no failure of it", "Install it, or leave it out of runtimes")
    if known.case is None and known.code is None:
        raise table.error("", "says neither case nor code", 'Say which: code = "padding" or case = "T=0 B=3"')
    table.close()
    if not any(runtime in one.runtimes and known.covers(one.name, form) for one in networks for form in one.forms):
        raise table.error("", "is about nothing that is checked", "Compare its network, form and runtime with the rest")
    return known
