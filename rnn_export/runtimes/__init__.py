"""The runtimes: programs that execute the network. A runtime is one file in this folder.

Contract. ``prepare(folder)`` makes the network ready and returns ``run``, which maps named arrays to named
arrays; most read ``folder/model.onnx``, the reference rows read ``folder/weights.safetensors``. Both run in a
child process, perhaps in an environment of their own, where only the standard library, numpy and what the
runtime ``requires`` can be imported: a module here imports its runtime inside ``prepare``. It pins the
precision that it asks for, raises ``Absent`` where the machine lacks what it needs, and lets every other
exception out: the verdict reports them. Where the runtime can say which provider got which node, ``run`` is
``Placed``, and a ``Fallback`` carries the same. A bfloat16 array comes as its bits, of numpy's type V2, and goes as
them or as ml_dtypes has it. Both use as many threads as ``thread_limit()`` says; what is timed is ``run.lean``, where
there is one.

How to add a runtime: write ``runtimes/NAME.py`` with ``prepare`` under ``@runtime(NAME, ...)``. Nothing else
is edited: the folder is the registry, and the contract tests find the runtime there.
"""

import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rnn_export.errors import UsageError
from rnn_export.registry import Registry

Arrays = Mapping[str, Any]  # name -> numpy array
Run = Callable[[Arrays], Arrays]
Prepare = Callable[[Path], Run]
THREADS_VARIABLE = "RNN_EXPORT_THREADS"  # its parent sets it for a child process


class Absent(Exception):  # noqa: N818
    """This machine lacks what the runtime needs, such as a GPU; the message says what."""


class Fallback(Exception):  # noqa: N818
    """Part of the network is not placed where it was asked to be; the message names the nodes."""

    def __init__(self, message: str, placement: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.placement = placement


@dataclass(frozen=True)
class Placed:
    """A ``run`` that also says where its nodes are: the fields of ``record.Placement``, as JSON has them."""

    run: Run
    placement: Mapping[str, Any]
    lean: Run | None = None

    def __call__(self, inputs: Arrays) -> Arrays:
        return self.run(inputs)


@dataclass(frozen=True)
class Slimmed:
    """A ``run`` that does more than compute the network, for the verdict, and ``lean``, which does not.

    ``lean`` gives output and h_n, as numpy arrays that the next run may write again.
    """

    run: Run
    lean: Run

    def __call__(self, inputs: Arrays) -> Arrays:
        return self.run(inputs)


def thread_limit() -> int:
    """How many threads a runtime may compute with: one, unless the process was started for more."""
    return int(os.environ.get(THREADS_VARIABLE, "1"))


@dataclass(frozen=True)
class Runtime:
    """A program that executes the network.

    Attributes:
        requires: pip requirements. With ``own_environment`` they are pins, installed into an environment of
            the runtime's own; otherwise they must be importable beside rnn-export.
        npm: packages of npm, such as ``onnxruntime-node@1.30.0``, that the own environment holds too; the first is
            the runtime's, and ``requires`` then brings node.
        device: what it computes on: "CPU" or "CUDA"; a cluster runs it where there is one.
        reads: the file that ``prepare`` reads, or "server": a live server is asked about a model of its own, and the
            folder is passed over.
        precision: what the row asks for and a float32 network is judged in; others are judged in their own type.
        environ: variables that the child process gets.
        lacks: (operator, type) without a kernel in it: it refuses files with them.
        limit_address_space: False where address space says nothing about memory, as under CUDA.
        snippet: lines of Python that make ``found`` (name -> array) from model.onnx, ``inputs`` and the names in
            ``expected``, for `reproduce`.
        slow_to_compile: it compiles anew for every shape of the inputs, in a second or so: a verification runs at two.
        by_default: False where it runs only when it is named: what is known to differ, or takes minutes.
        single_threaded: it computes with one thread, whatever ``thread_limit()`` says.
    """

    name: str
    summary: str
    requires: tuple[str, ...]
    prepare: Prepare
    own_environment: bool = False
    npm: tuple[str, ...] = ()
    device: str = "CPU"
    reads: str = "model.onnx"
    precision: str = "float32"
    environ: Mapping[str, str] = field(default_factory=dict)
    lacks: frozenset[tuple[str, str]] = frozenset()
    limit_address_space: bool = True
    snippet: str = ""
    slow_to_compile: bool = False
    by_default: bool = True
    single_threaded: bool = False

    @property
    def file(self) -> Path:
        """The file that defines ``prepare``: the child process loads it by path."""
        return Path(inspect.getfile(self.prepare))

    @property
    def distribution(self) -> str:
        """The name of the package whose version is the runtime's."""
        return distribution_name((*self.npm, *self.requires)[0])


def distribution_name(requirement: str) -> str:
    """The name in a pip requirement, without extras, versions and markers."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement  # an adapter's own line
    return name[0]


class Runtimes(Registry[Runtime]):
    """The folder's runtimes, and by ``NAME@VERSION`` each of them in another version of its package."""

    def get(self, name: str) -> Runtime:
        """The runtime of that name; before the ``@`` its package's name will do, such as ``onnxruntime@1.24.1``.

        Raises:
            UsageError: there is none, or what is after the ``@`` is no version.
        """
        base, at, version = name.partition("@")
        if not at:
            return super().get(name)
        if not re.fullmatch(r"[0-9][0-9A-Za-z.+!-]*", version):
            raise UsageError(f"{version!r} in {name!r} is no version", "Write it as in onnxruntime@1.24.1")
        owners = [runtime for runtime in self if base in (runtime.name, runtime.distribution)]
        runtime = owners[0] if owners else super().get(base)
        if runtime.npm:
            return replace(runtime, name=name, npm=(f"{runtime.distribution}@{version}", *runtime.npm[1:]))
        pins = [pin for pin in runtime.requires[1:] if distribution_name(pin) != "numpy"]
        package = re.split(r"[=<>!~]", runtime.requires[0])[0]
        # No pin of numpy: an older package may need an older one.
        return replace(runtime, name=name, requires=(f"{package}=={version}", *pins), own_environment=True)


RUNTIMES = Runtimes("runtime", __name__)


def runtime(name: str, *, requires: tuple[str, ...], summary: str, **options: Any) -> Callable[[Prepare], Prepare]:
    """Register the function under it as the runtime ``name``; the options are ``Runtime``'s attributes."""

    def register(prepare: Prepare) -> Prepare:
        RUNTIMES.add(Runtime(name, summary, requires, prepare, **options))
        return prepare

    return register
