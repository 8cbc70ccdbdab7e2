"""The bytes are those of the safetensors package, and a tensor is read when it is asked for."""

import json
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

from rnn_export.element_types import FLOATS
from rnn_export.errors import SourceError
from rnn_export.safetensors_files import read_safetensors, write_safetensors

METADATA = {"rnn_export": json.dumps({"é": 'quo"ted'}, ensure_ascii=False)}
TENSORS = {"weight_l0": np.arange(6.0).reshape(2, 3), "bias": np.array([0.5, -0.0]), "head.weight": np.ones((1, 5))}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("metadata", [{}, METADATA], ids=["", "metadata"])
def test_what_is_written_is_what_the_package_writes(tmp_path, dtype, metadata):
    tensors = {name: array.astype(dtype) for name, array in TENSORS.items()}
    write_safetensors(tmp_path / "ours", tensors, metadata)
    if metadata:
        assert (tmp_path / "ours").read_bytes() == safetensors.numpy.save(tensors, metadata)
    assert all(np.array_equal(safetensors.numpy.load_file(tmp_path / "ours")[name], tensors[name]) for name in tensors)


def test_what_the_package_writes_is_read_bit_for_bit(tmp_path):
    others = {"eighth": np.ones(3, "float8_e5m2"), "whole": np.arange(3)}
    single = {dtype: np.array([[np.nan, -0.0]], dtype) for dtype in ("float32", "float16", "bfloat16")}
    safetensors.numpy.save_file({**TENSORS, **others, **single}, tmp_path / "theirs", METADATA)
    found = read_safetensors(tmp_path / "theirs")
    assert (found.metadata, found.others) == (METADATA, {"eighth": "F8_E5M2", "whole": "I64"})
    assert list(found.tensors) == sorted({**TENSORS, **single})
    for name, array in {**TENSORS, **single}.items():
        tensor = found.tensors[name]
        assert (tensor.shape, tensor.ndim, tensor.dtype) == (array.shape, array.ndim, array.dtype)
        assert np.asarray(tensor).tobytes() == array.tobytes()
        assert not np.asarray(tensor).flags.writeable
        assert (len(tensor), tensor.size, tensor[:1].tobytes()) == (len(array), array.size, array[:1].tobytes())
        assert np.asarray(tensor, np.float64).dtype == np.float64


def test_a_tensor_that_nobody_asks_for_is_not_read(tmp_path):
    large = np.zeros((2**21, 4), np.float32)  # 32 MiB
    safetensors.numpy.save_file({"large": large, "small": np.ones(3, np.float32)}, tmp_path / "file")
    tracemalloc.start()
    small = np.asarray(read_safetensors(tmp_path / "file").tensors["small"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert small.tolist() == [1, 1, 1]
    assert peak < 2**20


def test_a_large_tensor_is_written_without_a_second_one(tmp_path):
    large = np.zeros((2**22, 4), np.float32)  # 64 MiB
    tracemalloc.start()
    write_safetensors(tmp_path / "file", {"large": large}, METADATA)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    "damage", [b"", b"\x00", b"\xff" * 100, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{}x"]
)
def test_a_file_that_is_none_is_said_so(tmp_path, damage):
    (tmp_path / "file").write_bytes(damage)
    with pytest.raises(SourceError, match=r"file cannot be read: .*copy it again"):
        read_safetensors(tmp_path / "file")


def test_a_file_that_shrinks_meanwhile_is_said_so(tmp_path):
    write_safetensors(tmp_path / "file", TENSORS, METADATA)
    tensors = read_safetensors(tmp_path / "file").tensors
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-8])
    with pytest.raises(SourceError, match="was changed while it was read"):
        np.asarray(tensors["weight_l0"])
