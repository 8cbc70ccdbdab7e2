"""Folders that a process holds by a lock, so that after a kill the next one can tell that nobody uses them any more.

A lock ends with its process, in whichever container that ran; a pid is another process's in another container.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def new_name(prefix: str) -> str:
    """A name that nobody else has."""
    return prefix + secrets.token_hex(8)


@contextmanager
def held_folder(folder: Path) -> Iterator[Path]:
    """A new folder of this process's own, held while the context lasts and removed at its end."""
    descriptor = _made(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def dead_folders(parent: Path, prefix: str) -> Iterator[Path]:
    """This user's folders that nobody holds; each is held here until the next is asked for, to be removed meanwhile."""
    for folder in sorted(path for path in parent.iterdir() if path.name.startswith(prefix)):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # no folder, somebody else's, or removed meanwhile
            continue
        try:
            if os.fstat(descriptor).st_uid == os.geteuid() and _locked(descriptor):
                yield folder
        finally:
            os.close(descriptor)


def _made(folder: Path) -> int:
    """Make and lock it; again where one that sweeps came in between and removed it."""
    while True:
        folder.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return descriptor
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
