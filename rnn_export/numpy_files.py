"""``.npz`` archives of arrays, read without unpickling and without trusting what a header claims."""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rnn_export.archives import open_zip
from rnn_export.errors import SourceError

_COPY_AGAIN = "It is damaged or incomplete; copy it again"
_GROWTH = 100  # trained weights deflate to no less than a half; DEFLATE could make a thousandfold of nothing
_ANYWAY = 2**24  # bytes that a small file may grow to, since zeros deflate well
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path) -> dict[str, NDArray[Any] | None]:
    """The arrays of a file of ``numpy.savez`` or ``savez_compressed``, by name; None for one of Python objects.

    Raises:
        SourceError: the file is missing, damaged or no .npz, or inflates to more than 100 times its size.
    """
    try:
        data = path.read_bytes()
        archive = open_zip(data)
        if sum(entry.file_size for entry in archive.infolist()) > max(_ANYWAY, _GROWTH * len(data)):
            raise SourceError(f"it would grow more than {_GROWTH} times", "Save it again with numpy.savez")
        return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in archive.infolist()}
    except SourceError as error:
        raise SourceError(f"{path} cannot be read: {error.args[0]}", error.hint or _COPY_AGAIN) from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError) as error:
        raise SourceError(f"{path} cannot be read: {str(error)[:200]}", _COPY_AGAIN) from None


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any] | None:
    if not entry.filename.endswith(".npy"):
        raise SourceError(f"its member {entry.filename!r} is no array", "Save it again with numpy.savez")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SourceError(f"its member {entry.filename!r} is compressed in a way that numpy does not write")
    data = archive.read(entry)
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        return None  # 3.0 is for the field names of structured types
    try:
        shape, fortran, dtype = _HEADERS[version](stream)
    except Exception:  # whatever ast and tokenize, which numpy reads it with, make of damaged text
        raise SourceError(f"the header of its member {entry.filename!r} is damaged") from None
    if dtype.hasobject:
        return None
    # numpy itself would reserve whatever the header claims before it looks for the bytes.
    array = np.frombuffer(data, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="), copy=False)
