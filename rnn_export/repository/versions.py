"""Which versions of a model Triton serves: what its folders are called, and what the configuration chooses of them."""

import re
from pathlib import Path

from rnn_export.model_config import Config

_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")  # Triton reads a number from the start of a name, whatever follows
DATA_FOLDERS = ("warmup", "initial_state")  # which a model may have beside its versions
_LARGEST = 2**63 - 1


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in a model's folder, in Triton's order."""
    return sorted(inner.name for inner in folder.iterdir() if inner.is_dir())


def versions_in(folder: Path) -> list[int]:
    """The versions that Triton sees, the newest last. It takes a folder 9x for version 9, and then looks in 9."""
    names = [name for name in folders_in(folder) if name not in DATA_FOLDERS and not (name[0] == "0" and len(name) > 1)]
    numbers = {int(found[1]) for name in names if (found := _NUMBER.match(name))}
    return sorted(number for number in numbers if abs(number) <= _LARGEST)


def served_versions(folder: Path, config: Config | None) -> list[int]:
    """The versions that are served, the newest last; also those that are named and not there."""
    present = versions_in(folder)
    if config is None or not config.HasField("version_policy"):
        return present[-1:]
    policy = config.version_policy
    if policy.HasField("specific"):
        return sorted(set(policy.specific.versions))
    if policy.HasField("latest"):
        return present[max(0, len(present) - policy.latest.num_versions) :]
    return present
