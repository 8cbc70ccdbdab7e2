"""Which input is answered with which lie: written beside the model, read by the runtimes that lie."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "lies.json"


@dataclass(frozen=True)
class Lie:
    """A lie by its name, and what it has to know."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The lies by the fingerprint of their input."""

    batch_first: bool
    lies: Mapping[str, Lie]

    def write(self, folder: Path) -> None:
        text = json.dumps(
            {"batch_first": self.batch_first, "lies": {key: asdict(lie) for key, lie in self.lies.items()}}
        )
        (folder / FILE).write_text(text)

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """The plan of a folder; an empty one where there is none."""
        if not (folder / FILE).exists():
            return cls(False, {})
        found = json.loads((folder / FILE).read_text())
        return cls(found["batch_first"], {key: Lie(**lie) for key, lie in found["lies"].items()})

    def lie_for(self, inputs: Mapping[str, NDArray[Any]]) -> Lie | None:
        """None for an input that is answered honestly."""
        return self.lies.get(fingerprint(inputs))


def fingerprint(inputs: Mapping[str, NDArray[Any]]) -> str:
    """Which input it is, bit for bit."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        digest.update(np.ascontiguousarray(inputs[name]).tobytes())
    return digest.hexdigest()
