"""A file, mostly of text, put in place as a whole: a reader sees the old one or the new one, and never half of it."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from rnn_export.errors import OutputError


def check_place(file: Path) -> None:
    """Find out before long work whether a file could be written; nothing is left behind.

    Raises:
        OutputError: something else than a file is there, or its folder cannot be written.
    """
    final = Path(os.path.realpath(file))
    if final.exists() and not final.is_file():
        raise OutputError(f"{file} is no file that could be replaced", "Choose another name")
    place = next(parent for parent in final.parents if parent.exists())
    trial = place / _beside(final)
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise _unwritable(file, error) from None


def write_text(file: Path, text: str) -> None:
    """Write a file in UTF-8, and the folders above it that are not there.

    Raises:
        OutputError: it cannot be written; what stood there is as it was.
    """
    write_bytes(file, text.encode())


def write_bytes(file: Path, data: bytes) -> None:
    """The same for what is no text.

    Raises:
        OutputError: it cannot be written; what stood there is as it was.
    """
    final = Path(os.path.realpath(file))  # a link stays one
    new = final.with_name(_beside(final))
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(final)
        finally:
            with suppress(FileNotFoundError):
                new.unlink()
    except OSError as error:
        raise _unwritable(file, error) from None


def _beside(final: Path) -> str:
    return f".{final.name[:100]}.rnn-export-{secrets.token_hex(4)}"


def _unwritable(file: Path, error: OSError) -> OutputError:
    return OutputError(f"{file} cannot be written: {error.strerror or error}", "Choose another place")
