"""Cells on the machines of a Ray cluster: each where its runtime is installed; a machine that dies loses none."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from rnn_export.cells import Cell, Parcel, lost, run_cell
from rnn_export.environments import interpreter_of
from rnn_export.errors import ClusterError
from rnn_export.record import Record
from rnn_export.result import Result, Stage, Status, without_paths
from rnn_export.runtimes import RUNTIMES
from rnn_export.verification import Progress, Verified

CELLS_PER_CHUNK = 4  # about 140 cases: what a task costs, a few milliseconds, is nothing beside it
TRIES = 3  # of a chunk, on machines that died under it
CONNECT_SECONDS = 5.0
PATIENCE = 60.0  # seconds for a machine to say what it has: it starts a Python for that


@dataclass
class _Node:
    """A machine of the cluster: how many chunks it takes at once, and what it has."""

    name: str
    slots: int
    gpus: float
    runtimes: frozenset[str]
    running: int = 0


@dataclass
class _Chunk:
    """Cells of one runtime, by their numbers."""

    runtime: str
    numbers: list[int]
    failures: list[str] = field(default_factory=list)


def run_on_ray(cells: Sequence[Cell], progress: Progress | None = None, *, address: str) -> list[Verified]:
    """What each cell showed, in the order of the cells.

    Args:
        cells: what to run.
        progress: told when a cell is finished.
        address: of the cluster: HOST:PORT, ``auto``, or ``ray://HOST:PORT`` from outside of it.

    Raises:
        ClusterError: Ray is not installed, no cluster answers there, or its machines have another rnn-export.
    """
    with _connected(address) as ray:
        found: dict[int, Verified] = {}
        nodes = _nodes(ray, sorted({cell.runtime for cell in cells}))
        waiting = list(_chunks(cells, sum(node.slots for node in nodes.values())))
        parcels = {id(cell.subject): None for cell in cells}
        for cell in cells:
            if parcels[id(cell.subject)] is None:
                parcels[id(cell.subject)] = ray.put(Parcel.pack(cell.subject))
        running: dict[Any, tuple[_Chunk, _Node]] = {}
        while waiting or running:
            _retire_dead(ray, nodes)
            waiting = [chunk for chunk in waiting if not _settled(chunk, cells, nodes, found)]
            for chunk in list(waiting):
                if (node := _free_node(chunk.runtime, nodes)) is not None:
                    work = [(parcels[id(cells[n].subject)], _without_subject(cells[n])) for n in chunk.numbers]
                    running[_submit(ray, node, chunk.runtime, work)] = chunk, node
                    node.running += 1
                    waiting.remove(chunk)
            done, _ = ray.wait(list(running), num_returns=1, timeout=1.0) if running else ([], [])
            for reference in done:
                chunk, node = running.pop(reference)
                node.running -= 1
                try:
                    shown = ray.get(reference)
                except ray.exceptions.RayTaskError as error:  # what our own code raised there
                    raise error.as_instanceof_cause() from None
                except ray.exceptions.RayError as error:  # the machine or its worker is gone
                    chunk.failures.append(type(error).__name__)
                    waiting.append(chunk)
                    continue
                for number, result in zip(chunk.numbers, shown, strict=True):
                    found[number] = result
                    if progress is not None:
                        total = len(cells[number].subject.cases)
                        progress(chunk.runtime, total, total)
        return [found[number] for number in range(len(cells))]


@contextmanager
def _connected(address: str) -> Iterator[ModuleType]:
    try:
        import ray
    except ImportError:
        raise ClusterError("Ray is not installed here", "Run: pip install 'rnn-export[cluster]'") from None
    _check_address(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default, which it warns of
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and its own
        raise _no_cluster(address, error) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Ray itself looks for a minute before it says that nothing is there."""
    if address == "auto":
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        if not parts.hostname or not parts.port:
            raise ValueError("it has no host and port")
        socket.create_connection((parts.hostname, parts.port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> ClusterError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ClusterError(f"no Ray cluster answers at {address}: {first}", "Start one: ray start --head --port=6379")


def _nodes(ray: ModuleType, runtimes: list[str]) -> dict[str, _Node]:
    """The machines that are alive, and which of the runtimes each of them has."""
    here = version("rnn-export")
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    ask = ray.remote(max_retries=0)(_what_is_here)
    # Asking takes no processor: a machine that is busy with others' work answers too.
    asked = {node["NodeID"]: ask.options(**_on(ray, node["NodeID"]), num_cpus=0).remote(runtimes) for node in alive}
    nodes = {}
    for node in alive:
        name, resources = node["NodeID"], node["Resources"]
        try:
            there, has = ray.get(asked[name], timeout=PATIENCE)
        except ray.exceptions.RayTaskError as error:
            reason = str(error.cause)
            raise ClusterError(
                f"a machine of the cluster cannot run rnn-export: {reason}", "Install it there"
            ) from None
        except ray.exceptions.RayError:
            continue  # it died meanwhile, or does not answer
        if there != here:
            raise ClusterError(f"a machine of the cluster has rnn-export {there}, not {here}", "Install the same there")
        nodes[name] = _Node(name, int(resources["CPU"]), resources.get("GPU", 0.0), has)
    if not nodes:
        raise ClusterError("no machine of the cluster answers", "See: ray status")
    return nodes


def _what_is_here(runtimes: list[str]) -> tuple[str, frozenset[str]]:
    return version("rnn-export"), frozenset(name for name in runtimes if interpreter_of(RUNTIMES.get(name)) is not None)


def _on(ray: ModuleType, node: str) -> dict[str, Any]:
    strategies = ray.util.scheduling_strategies
    return {"scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)}


def _chunks(cells: Sequence[Cell], slots: int) -> Iterator[_Chunk]:
    """Cells of one runtime together, few enough that every processor gets some."""
    size = max(1, min(CELLS_PER_CHUNK, len(cells) // max(1, 2 * slots)))
    by_runtime: dict[str, list[int]] = {}
    for number, cell in enumerate(cells):
        by_runtime.setdefault(cell.runtime, []).append(number)
    for runtime, numbers in by_runtime.items():
        for start in range(0, len(numbers), size):
            yield _Chunk(runtime, numbers[start : start + size])


def _retire_dead(ray: ModuleType, nodes: dict[str, _Node]) -> None:
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    for name in set(nodes) - alive:
        del nodes[name]


def _settled(chunk: _Chunk, cells: Sequence[Cell], nodes: dict[str, _Node], found: dict[int, Verified]) -> bool:
    """Whether there is nothing more to wait for: no machine has the runtime, or it died too often."""
    if len(chunk.failures) >= TRIES:
        detail = f"the machines that it ran on died under it: {', '.join(chunk.failures)}"
        found.update({number: lost(cells[number], detail) for number in chunk.numbers})
        return True
    if any(chunk.runtime in node.runtimes for node in nodes.values()):
        return False
    detail = "no machine of the cluster has it"
    row = Result(chunk.runtime, "", "", Stage.FIND, Status.ABSENT, "absent", detail=detail)
    found.update({number: Verified([row], Record(chunk.runtime)) for number in chunk.numbers})
    return True


def _free_node(runtime: str, nodes: dict[str, _Node]) -> _Node | None:
    """The least busy machine that has the runtime; one with a GPU where the runtime is for it."""
    able = [node for node in nodes.values() if runtime in node.runtimes and node.running < node.slots]
    if RUNTIMES.get(runtime).device != "CPU":
        able = [node for node in able if node.gpus >= 1] or able  # without one it is ABSENT, and says so
    return min(able, key=lambda node: node.running / node.slots, default=None)


def _without_subject(cell: Cell) -> tuple[str, float, dict[str, float]]:
    return cell.runtime, cell.timeout, dict(cell.torch_errors)


def _submit(ray: ModuleType, node: _Node, runtime: str, work: Sequence[Any]) -> Any:
    gpus = 1 if RUNTIMES.get(runtime).device != "CPU" and node.gpus >= 1 else 0
    task = ray.remote(max_retries=0)(_run_chunk)  # a try is counted here: another machine may have to take it
    return task.options(**_on(ray, node.name), num_cpus=1, num_gpus=gpus).remote(work)


def _run_chunk(work: Sequence[Any]) -> list[Verified]:
    """On the machine: unpack each subject and run its cell."""
    import ray

    shown = []
    for reference, (runtime, timeout, errors) in work:
        parcel: Parcel = ray.get(reference)
        with parcel.unpacked() as subject:
            rows, record = run_cell(Cell(subject, runtime, timeout, errors))
            shown.append(Verified([without_paths(row, str(subject.folder.parent)) for row in rows], record))
    return shown
