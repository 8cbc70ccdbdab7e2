"""How fast the tool itself is: starting, exporting, judging, and beside what others check of the same file.

    PYTHONPATH=scripts python -m speed.own          # two minutes, and a package index for Polygraphy

prints the section of docs/performance.md. Everything runs on one core, child processes too.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from speed import drawing, judging, neighbours, starting

PARTS: dict[str, tuple[str, ModuleType]] = {
    "starting": ("Starting", starting),
    "drawing": ("Exporting, beside `torch.onnx.export`", drawing),
    "judging": ("Judging", judging),
    "neighbours": ("The same file checked by others", neighbours),
}
THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}


def measure() -> dict[str, Any]:
    """What each part found, by its name."""
    with _on_one_core():
        return {name: part.measure() for name, (_, part) in PARTS.items()}


def section(data: Mapping[str, Any]) -> str:
    """Markdown: a heading and its tables for every part."""
    return "\n\n".join(f"### {title}\n\n{part.section(data[name])}" for name, (title, part) in PARTS.items())


@contextmanager
def _on_one_core() -> Iterator[None]:
    """This thread on one core, and what it starts: a rate is per core then, and nobody gains by more threads."""
    cores, variables = os.sched_getaffinity(0), {name: os.environ.get(name) for name in THREADS}
    os.sched_setaffinity(0, {max(cores)})  # the first is where a system's own work goes
    os.environ.update(THREADS)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        for name, value in variables.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


if __name__ == "__main__":
    print(section(measure()))
