"""The child process: it loads one runtime's adapter, and prepares and runs networks for its parent.

It is run by path, in whatever environment the runtime lives, so only the standard library and numpy can be
imported here. Parent and child exchange messages: a length, a JSON header, and the arrays that it announces
as .npy, never as pickle; bfloat16, which numpy lacks, goes as its bits, of the type V2. What a runtime prints
goes to stderr and cannot reach the messages.
"""

import importlib.util
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy

# C++, ONNX Runtime, torch, and what the system says where a file cannot be mapped
OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "can't allocate memory", "Cannot allocate memory")
HEADER_LIMIT = 2**24  # a longer header is not one of ours
SMALL = 2**16  # bytes, what a pipe of Linux holds: a message of that size goes at once and wakes its reader once
KNOWN_HEADS = 256  # of .npy, by their bytes: the shapes of a verification are few, and numpy takes 40 us to parse one
LEAST_RUNS = 3  # of what is timed: a median needs them


class Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Writer(Protocol):
    def write(self, data: bytes | memoryview, /) -> object: ...
    def flush(self) -> object: ...


def send(stream: Writer, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write one message."""
    whole = {name: _plain(array) for name, array in arrays.items()}
    heads = {name: _npy_header(array) for name, array in whole.items()}
    sizes = {name: len(heads[name]) + array.nbytes for name, array in whole.items()}
    text = json.dumps({**header, "arrays": sizes}).encode()
    pieces: list[Any] = [len(text).to_bytes(8, "big"), text]
    for name, array in whole.items():
        pieces += [heads[name], array.reshape(-1).view(np.uint8).data]  # where it lies: it may be all that fits
    if sum(sizes.values()) <= SMALL:
        pieces = [b"".join(pieces)]
    for piece in pieces:
        stream.write(piece)
    stream.flush()


def _plain(array: Any) -> Any:
    """In C order; bfloat16 as its bits, which is how numpy would write them too."""
    plain = np.asarray(array, order="C")
    return plain.view("V2") if plain.dtype.kind == "V" and plain.dtype.name == "bfloat16" else plain


def _npy_header(array: Any) -> bytes:
    if array.dtype.hasobject:
        raise ValueError("an array of objects would need allow_pickle")
    return _written_head(array.shape, array.dtype)


@lru_cache(KNOWN_HEADS)
def _written_head(shape: tuple[int, ...], dtype: Any) -> bytes:
    buffer, described = io.BytesIO(), npy.dtype_to_descr(dtype)
    npy.write_array_header_1_0(buffer, {"descr": described, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def receive(stream: Reader) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read one message.

    Raises:
        EOFError: the other side is gone.
        ValueError: what was read is not a message.
    """
    length = int.from_bytes(_read(stream, 8), "big")
    if length > HEADER_LIMIT:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(_read(stream, length))
    sizes = header.pop("arrays", None) if isinstance(header, dict) else None
    if not isinstance(sizes, dict) or not all(isinstance(size, int) and size >= 0 for size in sizes.values()):
        raise ValueError("a header that announces no arrays")
    return header, {name: _receive_array(_Announced(stream, size)) for name, size in sizes.items()}


class _Announced:
    """So many bytes of a stream and no more: numpy reads them straight into the array."""

    def __init__(self, stream: Reader, size: int) -> None:
        self.stream, self.left = stream, size

    def read(self, size: int = -1, /) -> bytes:
        data = _read(self.stream, min(size, self.left) if size >= 0 else self.left)
        self.left -= len(data)
        return data


def _receive_array(announced: _Announced) -> Any:
    if announced.left <= SMALL:
        return _small_array(announced.read())
    array = npy.read_array(announced, allow_pickle=False)
    if announced.left:
        raise ValueError(f"{announced.left} bytes behind an array")
    return array


def _small_array(data: bytes) -> Any:
    """An array from a whole .npy file of version 1.0, the one that ``send`` writes."""
    start = len(npy.magic(1, 0)) + 2 + int.from_bytes(data[8:10], "little")
    shape, fortran_order, dtype = _read_head(data[:start])
    if (behind := len(data) - start - math.prod(shape) * dtype.itemsize) != 0:
        raise ValueError(f"{behind} bytes behind an array")
    return np.ndarray(shape, dtype, bytearray(data), start, order="F" if fortran_order else "C")


@lru_cache(KNOWN_HEADS)
def _read_head(head: bytes) -> tuple[tuple[int, ...], bool, Any]:
    file = io.BytesIO(head)
    if npy.read_magic(file) != (1, 0):
        raise ValueError("an array of another version of .npy")
    try:
        shape, fortran_order, dtype = npy.read_array_header_1_0(file)
    except Exception as error:  # it is parsed as Python, and noise makes any of the parser's errors
        raise ValueError(f"a head of .npy that cannot be read: {error}") from None
    if dtype.hasobject:
        raise ValueError("an array of objects would need allow_pickle")
    return shape, fortran_order, dtype


def _read(stream: Reader, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main() -> None:
    adapter, distribution, memory_limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
    die_with_parent()
    if memory_limit:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = memory_limit if hard == resource.RLIM_INFINITY else min(memory_limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    requests, answers = _private_pipes()
    prepare = _load(Path(adapter))
    send(answers, {"version": _version(distribution)}, {})
    prepared: list[Any] = []
    while True:
        try:
            request, inputs = receive(requests)
        except EOFError:
            return
        try:
            outputs: Mapping[str, Any] = {}
            said: dict[str, Any] = {}
            if request["do"] == "prepare":
                started = time.perf_counter()
                prepared.append(prepare(Path(request["folder"])))
                said["seconds"] = time.perf_counter() - started
                said["placement"] = getattr(prepared[-1], "placement", None)
            elif request["do"] == "time":
                outputs = {"seconds": _durations(prepared[request["network"]], inputs, request["seconds"])}
                said["peak_bytes"] = peak_bytes()
            else:
                outputs = prepared[request["network"]](inputs)
            send(answers, {"status": "PASS", **said}, outputs)
        except MemoryError as error:
            send(answers, {"status": "MEMORY", "detail": f"MemoryError {error}"}, {})
        except Exception as error:  # whatever a runtime raises is a result, not an accident
            placement = getattr(error, "placement", None)
            send(answers, {"status": _status_of(error), "detail": _one_line(error), "placement": placement}, {})
        del inputs, outputs  # before the next arrive: of long ones there is room for one set


def _durations(run: Any, inputs: Mapping[str, Any], seconds: float) -> Any:
    """Seconds of each run, one after another, for about so many; what is timed is ``lean`` where there is one."""
    timed: Callable[[Mapping[str, Any]], Any] = getattr(run, "lean", None) or run
    durations: list[float] = []
    now = time.perf_counter()
    end = now + seconds
    while now < end or len(durations) < LEAST_RUNS:
        started = time.perf_counter()
        timed(inputs)
        now = time.perf_counter()
        durations.append(now - started)
    return np.array(durations)


def peak_bytes() -> int:
    """The most memory that this process ever had resident."""
    status = Path("/proc/self/status")
    found = status.read_text().partition("VmHWM:")[2].split() if status.exists() else []
    if found:  # on Linux, where ru_maxrss survives exec: a child would begin with its parent's
        return 1024 * int(found[0])
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # macOS counts bytes


def _status_of(error: Exception) -> str:
    from rnn_export.runtimes import Absent, Fallback

    if isinstance(error, Absent):
        return "ABSENT"
    if isinstance(error, Fallback):
        return "FALLBACK"
    return "MEMORY" if any(words in str(error) for words in OUT_OF_MEMORY) else "REFUSED"


def _one_line(error: Exception) -> str:
    from rnn_export.runtimes import Absent, Fallback

    ours = isinstance(error, Absent | Fallback)  # their messages are sentences already
    return " ".join((str(error) if ours else f"{type(error).__name__}: {error}").split())[:2000]


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The parent's pipes under new numbers; what prints to stdout from now on prints to stderr."""
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def die_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes
        import signal

        PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        manifest = Path(sys.prefix) / "node_modules" / distribution / "package.json"  # a package of npm
        return str(json.loads(manifest.read_bytes())["version"]) if manifest.is_file() else ""


def _load(adapter: Path) -> Any:
    """The adapter's ``prepare``, with this package importable and nothing else of the parent's environment."""
    package = Path(__file__).resolve().parent
    _import_from("rnn_export", package / "__init__.py", [str(package)])
    return _import_from("adapter", adapter, None).prepare


def _import_from(name: str, file: Path, search: list[str] | None) -> Any:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
