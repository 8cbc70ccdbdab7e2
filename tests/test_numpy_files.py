"""Arrays of .npz come back bit for bit; nothing is unpickled, and no header is believed."""

import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_export.errors import SourceError
from rnn_export.numpy_files import read_npz
from tests import hostile

REPEATABLE = settings(max_examples=400, deadline=None, derandomize=True, database=None)
ARRAYS = {
    "matrix": np.arange(12.0, dtype=np.float32).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(4, dtype=">f4"),
    "whole": np.arange(5),
    "scalar": np.float64(3),
    "empty": np.zeros((0, 3), np.float32),
}


def npy(shape: str, data: bytes, descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def saved(compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **ARRAYS)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_come_back(tmp_path: Path, compressed: bool) -> None:
    (tmp_path / "a.npz").write_bytes(saved(compressed))
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype.isnative
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_python_objects_are_never_made(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(canary),)

    np.savez(tmp_path / "a.npz", bad=np.array([Payload()], object), good=np.ones(2))
    found = read_npz(tmp_path / "a.npz")
    assert found["bad"] is None
    np.testing.assert_array_equal(found["good"], np.ones(2))
    assert not canary.exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)["bad"]  # the payload is a real one
    assert canary.exists()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"a.npy": npy("(4611686018427387904,)", b"1234")}, "reshape"),
        ({"a.npy": npy("(2, 3)", b"1234" * 5)}, "reshape"),
        ({"a.npy": npy("(3,)", b"1234567")}, "multiple of element size"),
        ({"a.npy": npy("(" * 3000, b"")}, "header of its member 'a.npy' is damaged"),
        ({"a.npy": npy("-" * 9000 + "1", b"")}, "header of its member 'a.npy' is damaged"),
        ({"a.npy": npy("(__import__('os').system('true'),)", b"")}, "header of its member 'a.npy' is damaged"),
        ({"a.npy": b"not an array"}, "magic"),
        ({"a.txt": b"x"}, "is no array"),
    ],
)
def test_headers_are_not_believed(tmp_path: Path, members: dict[str, bytes], reason: str) -> None:
    (tmp_path / "a.npz").write_bytes(hostile.zipped(members))
    with pytest.raises(SourceError, match=reason):
        read_npz(tmp_path / "a.npz")


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    bomb = hostile.zipped({"a.npy": npy("(16777216,)", bytes(2**26))}, zipfile.ZIP_DEFLATED)
    (tmp_path / "a.npz").write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(SourceError, match="grow more than 100 times"):
        read_npz(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_other_compressions_and_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(hostile.zipped({"a.npy": npy("(1,)", b"1234")}, zipfile.ZIP_BZIP2))
    with pytest.raises(SourceError, match="compressed in a way"):
        read_npz(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"no archive")
    with pytest.raises(SourceError, match="directory is damaged"):
        read_npz(tmp_path / "b.npz")
    with pytest.raises(SourceError, match="No such file"):
        read_npz(tmp_path / "c.npz")


@pytest.mark.parametrize("compressed", [False, True])
@given(data=st.data())
@REPEATABLE
def test_a_damaged_file_is_refused_or_unchanged(
    tmp_path_factory: pytest.TempPathFactory, compressed: bool, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.npz"
    content = bytearray(saved(compressed))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        found = read_npz(path)
    except SourceError:
        return
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
