"""Two nodes of a Ray cluster, started here: the rows of one process, and a node that dies loses none."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnn_export.cells import Cell, run_here
from rnn_export.cluster import run_on_ray
from rnn_export.errors import ClusterError
from rnn_export.result import Status
from tests.subjects import PATIENCE, drawn_subject, only

# Nodes on 127.0.0.1: Ray otherwise puts the machine's own address for it
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'rnn-export[cluster]'")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]
MEMORY = {"object_store_memory": 100 * 2**20, "node_ip_address": "127.0.0.1"}


class Cluster:
    """A head without processors and workers with one each, all on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        head = {"num_cpus": 0, "include_dashboard": False, **MEMORY}
        self.nodes = Nodes(initialize_head=True, head_node_args=head)
        self.workers = [self.nodes.add_node(num_cpus=1, **MEMORY) for _ in range(2)]
        self.address: str = self.nodes.address

    def kill_one(self) -> None:
        self.nodes.remove_node(self.workers.pop(), allow_graceful=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One for all tests, in the order in which they stand: Ray's does not come up twice in a process."""
    cluster = Cluster()
    yield cluster
    cluster.nodes.shutdown()


def cells_in(folder: Path) -> list[Cell]:
    subjects = [
        only(drawn_subject(spec, folder / str(number)), "T=5 B=3", "T=400 B=8", "NaN T=5 B=3")
        for number, spec in enumerate(("rnn:3,4,layers=2", "rnn:3,4,relu", "rnn:3,4,bidirectional", "rnn:3,4,no-bias"))
    ]
    runtimes = ("onnxruntime-cpu", "onnx-reference", "torch")
    return [Cell(subject, name, PATIENCE, {"T=5 B=3": 1e-7}) for subject in subjects for name in runtimes]


def test_a_runtime_that_no_node_has_is_absent(cluster, tmp_path):
    (cell, *_) = cells_in(tmp_path)
    (found,) = run_on_ray([Cell(cell.subject, "onnxruntime@0.0.1", PATIENCE, {})], address=cluster.address)
    assert [(row.status, row.detail) for row in found.rows] == [(Status.ABSENT, "no machine of the cluster has it")]


def test_no_cluster_at_the_address_is_said(tmp_path):
    (cell, *_) = cells_in(tmp_path)
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1.*ray start --head"):
        run_on_ray([cell], address="127.0.0.1:1")


def test_the_command_line_takes_the_address(cluster, tmp_path):
    commands = [["export", "rnn:3,4", "-o", "net"], ["verify", "net", "--runtime", "onnxruntime-cpu"]]
    outputs = []
    for words in (*commands, [*commands[1], "--ray", cluster.address]):
        line = [sys.executable, "-m", "rnn_export", *words]
        outputs.append(subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert outputs[1] == outputs[2]


def test_the_rows_are_those_of_one_process_also_where_a_node_dies_in_the_middle(cluster, tmp_path):
    cells = cells_in(tmp_path)
    expected = run_here(cells)
    assert run_on_ray(cells, address=cluster.address) == expected
    killed: list[str] = []

    def kill(*_: object) -> None:
        if not killed:
            cluster.kill_one()
            killed.append("once")

    assert run_on_ray(cells, kill, address=cluster.address) == expected
    assert killed
