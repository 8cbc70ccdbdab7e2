"""What a verification ran on, without saying whose machine it is: no names of users, hosts or folders."""

import os
import platform
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("rnn-export", "numpy", "onnx")


@dataclass(frozen=True)
class Environment:
    """What a verification ran on.

    Attributes:
        python: the interpreter and its version.
        platform: the operating system and the kind of processor.
        cpu: the processor's model, as the system names it.
        cores: how many the system has.
        threads: how many each runtime may use.
        packages: name -> version, of what judges; the runtimes' own versions are in their records.
    """

    python: str
    platform: str
    cpu: str
    cores: int
    threads: int
    packages: Mapping[str, str]


def this_environment(threads: int) -> Environment:
    """The machine that this process runs on."""
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        threads=threads,
        packages={name: version(name) for name in PACKAGES},
    )


def utc_now() -> str:
    """Now as in 2026-01-31T12:00:00Z; $SOURCE_DATE_EPOCH where it is set, as reproducible builds ask for."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(given) if re.fullmatch(r"\d{1,11}", given) else time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _cpu() -> str:
    with suppress(OSError):  # Linux only; elsewhere the platform module knows
        if found := re.search(r"^model name\s*: *(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()
