"""Which runtimes are here, whether they work, and what to type next."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from rnn_export import canary
from rnn_export.child import Child, Failure
from rnn_export.environments import how_to_install, installed_version, interpreter_of
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES, Absent, Runtime
from rnn_export.runtimes._cuda import need_cuda_device

CANARY_TIMEOUT = 60.0
_NO_DEVICE = (Status.ABSENT, Status.FALLBACK)  # the package is whole, the machine lacks what it runs on


@dataclass(frozen=True)
class Entry:
    """One runtime on this machine.

    Attributes:
        runtime: which.
        installed: whether its packages are here.
        version: of its package; empty where it is not installed.
        canary: PASS where it computes the canary, otherwise how that failed; None where it was not asked.
        detail: why, in its own words.
        next: what to type; empty where no command helps.
    """

    runtime: Runtime
    installed: bool
    version: str = ""
    canary: Status | None = None
    detail: str = ""
    next: str = ""

    @property
    def whole(self) -> bool:
        """Whether its packages are here and, as far as they were asked, in order."""
        return self.installed and (self.canary in (None, Status.PASS) or self.canary in _NO_DEVICE)

    @property
    def state(self) -> str:
        """In a word or two."""
        if not self.installed:
            return "missing"
        if self.canary is None:
            return "installed"
        if self.canary is Status.ABSENT and self.runtime.reads == "server":
            return "needs --url"
        return {Status.PASS: "works", Status.ABSENT: "no device"}.get(self.canary, self.canary.value)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.runtime.name,
            "summary": self.runtime.summary,
            "package": self.runtime.distribution,
            "device": self.runtime.device,
            "installed": self.installed,
            "version": self.version,
            "state": self.state,
            "canary": self.canary.value if self.canary else None,
            "detail": self.detail,
            "next": self.next,
        }


def take_inventory(*, sing: bool = True) -> list[Entry]:
    """Every runtime of the folder, in the order of their names; their canaries sing side by side."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(partial(examine, sing=sing), RUNTIMES))


def lacking_device(runtime: Runtime) -> str:
    """Which device of the runtime this machine lacks, in words; empty where it has all."""
    if runtime.device == "CPU":
        return ""
    try:
        need_cuda_device()
    except Absent as absent:
        return str(absent)
    return ""


def examine(runtime: Runtime, *, sing: bool = True) -> Entry:
    """What is said of one runtime.

    Args:
        runtime: which.
        sing: also let it compute the canary, in a process of its own.
    """
    interpreter = interpreter_of(runtime)
    if interpreter is None:
        return Entry(runtime, False, next=how_to_install(runtime))
    version, use = installed_version(runtime), f"rnn-export verify DIR --runtime {runtime.name}"
    if not sing:
        return Entry(runtime, True, version, next=use)
    try:
        with Child(runtime, interpreter, CANARY_TIMEOUT) as child:
            child.wait_until_ready()
            canary.sing(child, runtime.reads)
            return Entry(runtime, True, child.version or version, Status.PASS, next=use)
    except Failure as failure:
        repair = "" if failure.status in _NO_DEVICE else _how_to_repair(runtime)
        return Entry(runtime, True, version, failure.status, failure.detail, repair)


def _how_to_repair(runtime: Runtime) -> str:
    return how_to_install(runtime).replace("pip install", "pip install --force-reinstall")
