"""Putting a whole folder in place by rename, so that no reader ever sees half of it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from rnn_export.errors import OutputError


def replace_folder(final: Path, fill: Callable[[Path], None], is_ours: Callable[[Path], bool]) -> None:
    """Write a folder beside ``final`` and put it there; what stood there is replaced as a whole.

    Args:
        final: where the folder shall stand.
        fill: writes the content into the empty folder that it is given.
        is_ours: whether an existing folder may be replaced.

    Raises:
        OutputError: ``final`` exists and is not ours, or cannot be written; it is left as it was.
    """
    final = Path(os.path.realpath(final))
    heal(final)
    if final.exists() and not (final.is_dir() and (is_ours(final) or not any(final.iterdir()))):
        raise OutputError(f"{final} exists and is not an artifact of rnn-export", "Choose another -o; it was kept")
    new = final.with_name(f".{final.name}.rnn-export-new-{os.getpid()}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        fill(new)
        _sync(new)
        _swap(new, final)
    except OSError as error:
        raise OutputError(
            f"{final} cannot be written: {error.strerror or error}", "Nothing was changed there"
        ) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def heal(final: Path) -> None:
    """Undo what a kill left behind: an old folder that was moved aside, new ones that never came into place."""
    final = Path(os.path.realpath(final))
    old = _aside(final)
    if old.exists():
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(final)
    for stray in final.parent.glob(f".{final.name}.rnn-export-new-*"):
        if not _alive(stray.name.rpartition("-")[2]):
            shutil.rmtree(stray, ignore_errors=True)


def _swap(new: Path, final: Path) -> None:
    old = _aside(final)
    if final.exists():
        final.rename(old)
    try:
        new.rename(final)
    except OSError:
        if old.exists():
            old.rename(final)
        raise
    _sync_directory(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.rnn-export-old")


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _sync(folder: Path) -> None:
    """To the disk, files first: a rename must not survive a power cut that its content did not."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    for inner in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        _sync_directory(inner)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
