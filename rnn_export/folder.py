"""Putting a whole folder in place by rename, or one file into it, so that no reader ever sees half of it."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    try:
        heal(final)
        if final.exists() and not (final.is_dir() and (is_ours(final) or not any(final.iterdir()))):
            raise OutputError(
                f"{final} exists and is nothing that this command made, or holds other files",
                "Choose another -o; it was kept",
            )
        final.parent.mkdir(parents=True, exist_ok=True)
        with _new_folder(final) as new:
            fill(new)
            _sync(new)
            _swap(new, final)
    except OSError as error:
        why = error.strerror or str(error)
        raise OutputError(f"{final} cannot be written: {why}", "Nothing was changed there") from None


def put_file(folder: Path, name: str, content: Callable[[], bytes | None]) -> bool:
    """Put one file into a folder of ours; it is written beside the folder, which never holds half a file or a stray.

    Args:
        folder: which.
        name: of the file in it; what stood there is replaced.
        content: asked for its bytes while no other process puts a file there; None where it shall stay as it is.

    Returns:
        Whether it was put there.

    Raises:
        OSError: it cannot be written; the folder is as it was.
    """
    final = Path(os.path.realpath(folder))
    descriptor = os.open(final, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        data = content()
        if data is None:
            return False
        with _new_folder(final) as new:
            (new / name).write_bytes(data)
            _sync(new)
            # Into the folder that was opened, also where another one was put in its place meanwhile.
            os.rename(new / name, name, dst_dir_fd=descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def heal(final: Path, *, sweep: bool = True) -> None:
    """Undo what a kill left behind: an old folder that was moved aside, new ones that never came into place.

    Args:
        final: where the folder shall stand.
        sweep: also remove the new ones; who only reads does not, lest it meet one that is not locked yet.

    Raises:
        OSError: the place cannot be looked at.
    """
    final = Path(os.path.realpath(final))
    if not final.name or not final.parent.is_dir():
        return
    old = _aside(final)
    # no pattern: the name may hold brackets
    strays = [path for path in final.parent.iterdir() if path.name.startswith(_beside(final, "new-"))]
    dead = [stray for stray in strays if not _in_use(stray)]
    # While somebody writes, the old folder may be aside for the moment between the two renames.
    if old.exists() and len(dead) == len(strays):
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(final)
    for stray in dead if sweep else []:
        shutil.rmtree(stray, ignore_errors=True)


@contextmanager
def _new_folder(final: Path) -> Iterator[Path]:
    """An empty folder beside the final one; locked while it is written, so that nobody takes it for a stray."""
    new = final.with_name(_beside(final, f"new-{secrets.token_hex(4)}"))
    new.mkdir()
    descriptor = os.open(new, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield new
    finally:
        os.close(descriptor)
        shutil.rmtree(new, ignore_errors=True)


def _in_use(stray: Path) -> bool:
    """Whether somebody holds its lock: unlike a pid, a lock ends with its process, in every container."""
    try:
        descriptor = os.open(stray, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


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
    with suppress(OSError):  # the folder is in place; a disk that will not confirm it changes nothing
        _sync_directory(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _beside(final: Path, what: str) -> str:
    return f".{final.name}.rnn-export-{what}"


def _aside(final: Path) -> Path:
    return final.with_name(_beside(final, "old"))


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
