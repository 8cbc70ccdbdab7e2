"""Members of uncompressed zip and tar archives where they lie: nothing is extracted, so nothing outgrows the file."""

import io
import math
import struct
import zipfile
import zlib

from rnn_export.errors import SourceError

_BLOCK = 512  # of a tar file


def open_zip(data: bytes) -> zipfile.ZipFile:
    """A zip archive whose directory is whole.

    Raises:
        SourceError: the directory is damaged or cut off.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise SourceError(f"its zip directory is damaged: {error}") from None
    entries = archive.infolist()
    if len({entry.filename for entry in entries}) != len(entries):
        raise SourceError("it has two members of one name")
    (count,) = struct.unpack_from("<H", data, data.rfind(b"PK\x05\x06") + 10)
    if count not in (len(entries), 0xFFFF):  # zipfile does not look; 0xFFFF says that zip64 counts
        raise SourceError(f"its zip directory lists {len(entries)} members, but should list {count}")
    return archive


def stored_members(data: bytes, entries: list[zipfile.ZipInfo]) -> tuple[dict[str, memoryview], bool]:
    """Name -> bytes where they lie, and whether the archive has checksums; if so they are verified.

    Raises:
        SourceError: a member is damaged, compressed or encrypted, or they claim more bytes than the file has.
    """
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise SourceError(f"its member {entry.filename!r} is compressed or encrypted", "torch.save does neither")
    if sum(entry.file_size for entry in entries) > len(data):
        raise SourceError("its members claim more bytes than the file has")
    # torch.serialization.set_crc32_options(False) writes zeros; damage does not turn every checksum into zero.
    checked = any(entry.CRC for entry in entries)
    members: dict[str, memoryview] = {}
    for entry in entries:
        raw = _stored(data, entry)
        if checked and zlib.crc32(raw) != entry.CRC:
            raise SourceError(f"its member {entry.filename!r} is damaged: the checksum does not fit")
        members[entry.filename] = raw
    return members, checked


def _stored(data: bytes, entry: zipfile.ZipInfo) -> memoryview:
    start = entry.header_offset
    if not 0 <= start <= len(data) - 30:
        raise SourceError(f"its member {entry.filename!r} lies outside the file")
    signature, name, extra = struct.unpack_from("<4s22xHH", data, start)
    begin = start + 30 + name + extra
    raw = memoryview(data)[begin : begin + entry.file_size]
    if signature != b"PK\x03\x04" or len(raw) != entry.file_size:
        raise SourceError(f"its member {entry.filename!r} is cut off or not where the directory says")
    encoding = "utf-8" if entry.flag_bits & 0x800 else "cp437"
    if data[start + 30 : start + 30 + name] != entry.orig_filename.encode(encoding):
        raise SourceError(f"its member {entry.filename!r} has two names")
    return raw


def tar_members(data: bytes) -> dict[str, memoryview]:
    """Name -> bytes where they lie.

    By hand, because Python's tarfile loops for ever on a negative size (CVE-2025-8194), and links, sparse files
    and everything else that it knows have no place here.

    Raises:
        SourceError: the archive is damaged.
    """
    members: dict[str, memoryview] = {}
    position = 0
    while header := data[position : position + _BLOCK].rstrip(b"\0"):
        block = data[position : position + _BLOCK]
        size, checksum = (int(block[slice(*place)].strip(b"\0 ") or b"0", 8) for place in ((124, 136), (148, 156)))
        if sum(block) - sum(block[148:156]) + 8 * ord(" ") != checksum:
            raise SourceError(f"a header of its tar archive is damaged, at byte {position}")
        begin = position + _BLOCK
        raw = memoryview(data)[begin : begin + size]
        if size < 0 or len(raw) != size:
            raise SourceError("its tar archive is cut off")
        if block[156:157] in (b"0", b"\0"):
            name = header[:100].rstrip(b"\0").decode("ascii")
            if name in members:
                raise SourceError(f"it has two members named {name!r}")
            members[name] = raw
        position = begin + math.ceil(size / _BLOCK) * _BLOCK
    if len(data) < position + 2 * _BLOCK:
        raise SourceError("its tar archive is cut off")
    return members
