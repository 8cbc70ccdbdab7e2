"""The genuine tritonserver that nvidia-pytriton brings, started directly.

It has the ``python`` backend alone. Its wheel keeps the backend's stub, one for each version of Python, in another
folder than the backend, which looks for it at its side; and the stub is linked to the shared library of that Python.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rnn_export.runtimes import Absent
from rnn_export.runtimes._held_folders import dead_folders, held_folder, new_name
from rnn_export.runtimes._launching import HOST, Process, launched

STUB = "triton_python_backend_stub"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where POSIX puts it on Linux
PREFIX = "rnn-export-"
_ASK = "import sys, sysconfig; print(*sys.version_info[:2], *sysconfig.get_config_vars('LIBDIR', 'INSTSONAME'))"


def start_triton(
    environment: Path,
    repository: Path,
    *,
    http: int,
    grpc: int,
    regions: str,
    explicit: bool = False,
    leads: bool = True,
    scratch: Path,
    log: Path,
) -> Process:
    """Start Triton on this machine's own address.

    Args:
        environment: the prefix of the virtual environment that holds nvidia-pytriton.
        repository: a model repository.
        http, grpc: the ports.
        regions: how its names in shared memory begin, held while it loads models: see ``held_regions``.
        explicit: models are loaded and unloaded by requests too, with code in them: whoever reaches the port runs it.
        leads: it leads a process group of its own.
        scratch: an empty folder that lasts as long as the server.
        log: where its output goes.

    Raises:
        Absent: the environment's Python has no shared library.
    """
    major, minor, libraries, library = _python_of(environment)
    packages = environment / "lib" / f"python{major}.{minor}" / "site-packages"
    wheel = packages / "pytriton" / "tritonserver"
    sweep_shared_memory()
    line = [
        str(wheel / "bin" / "tritonserver"),
        f"--model-repository={repository.resolve()}",
        f"--backend-directory={_backends(scratch, wheel, f'{major}.{minor}')}",
        f"--http-address={HOST}",
        f"--http-port={http}",
        f"--grpc-address={HOST}",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        f"--backend-config=python,shm-region-prefix-name={regions}",
    ]
    line += ["--model-control-mode=explicit", "--load-model=*"] if explicit else []
    environ = {
        # The stub's Python finds its packages by the first python3 here; it passes over variables of Python's own.
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        # First that of the running Python: another build of the same version does not fit its modules.
        "LD_LIBRARY_PATH": f"{_folder_of(library, libraries)}:{packages / 'nvidia_pytriton.libs'}",
    }
    return launched(line, log, environ, leads=leads, cwd=scratch)


def new_regions() -> str:
    """How the names of a server's regions in shared memory begin, other than any other server's."""
    return f"{new_name(PREFIX)}-"


@contextmanager
def held_regions(regions: str) -> Iterator[None]:
    """While a server loads models. At the end the names are removed.

    Its models have their regions open once they are loaded, and nothing is left then, however it ends.
    """
    with held_folder(SHARED_MEMORY / regions.removesuffix("-")):
        try:
            yield
        finally:
            _forget(regions)


def sweep_shared_memory() -> None:
    """Remove what servers left whose process was killed while they loaded: one megabyte or more for each model.

    Containers can share this memory: what has no folder beside it, held or not, is not known to be dead, and stays.
    """
    for folder in dead_folders(SHARED_MEMORY, PREFIX):
        with suppress(OSError):  # it cannot be removed: the next one tries again
            _forget(f"{folder.name}-")
            folder.rmdir()


def _forget(regions: str) -> None:
    for region in SHARED_MEMORY.iterdir():
        if region.name.startswith(regions):
            region.unlink(missing_ok=True)


def _python_of(environment: Path) -> tuple[str, str, str, str]:
    """Its version, and where its shared library should be: the folder and the name."""
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-I", "-c", _ASK], capture_output=True, text=True, check=True
    )
    major, minor, libraries, library = done.stdout.split()
    return major, minor, libraries, library


def _folder_of(library: str, folder: str) -> str:
    """Raises Absent where this Python was built without a shared library."""
    places = [Path(folder), *Path(folder).glob("*-linux-gnu")]  # Debian's are a folder deeper
    for place in places:
        if (place / library).exists() and ".so" in library:
            return str(place)
    raise Absent(
        f"Triton's python backend needs the shared library of Python, and {library} is not in {folder}: install it, "
        "or use a Python that was built with --enable-shared"
    )


def _backends(scratch: Path, wheel: Path, version: str) -> Path:
    """A folder with the backend and its stub side by side."""
    python = scratch / "backends" / "python"
    python.mkdir(parents=True)
    for file in (*(wheel / "backends" / "python").glob("*.*"), wheel / "python_backend_stubs" / version / STUB):
        (python / file.name).symlink_to(file)
    return python.parent
