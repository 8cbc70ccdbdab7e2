"""A real server for a bundle or a model repository: what is refused, how it starts, how it ends and what it leaves."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnn_export.bundle import Bundle
from rnn_export.environments import environment_of
from rnn_export.errors import InstallationError, OutputError, ServingError, UsageError
from rnn_export.pipeline import export
from rnn_export.runtimes import RUNTIMES, Absent, _triton
from rnn_export.runtimes._held_folders import dead_folders, held_folder, new_name
from rnn_export.runtimes._launching import (
    HOST,
    ServerDied,
    free_ports,
    has_ended,
    is_free,
    last_words,
    launched,
    stop,
    wait_ready,
)
from rnn_export.runtimes._mlserver import start_mlserver
from rnn_export.runtimes._triton import _folder_of, held_regions, new_regions
from rnn_export.server import run_server
from rnn_export.shipping import Order
from tests.servers import need, serving
from tests.shipped import shipped
from tests.subjects import descendants, ends_within
from tests.triton_models import add_model, add_network, in_shared_memory, regions_of

FAULTY = 'raise ValueError("no such weights")\n'
SMALL = """backend: "python"
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
IDLE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return shipped("rnn:3,4", tmp_path_factory.mktemp("shipped"), Order("triton-python", name="rnn"))


class TestRefusals:
    def test_a_port_that_is_taken_is_said_with_the_option(self, tmp_path):
        need("triton")
        add_model(tmp_path, "a", SMALL)
        with socket.socket() as taken:
            taken.bind((HOST, 0))
            taken.listen()
            port = taken.getsockname()[1]
            assert not is_free(port)
            with pytest.raises(UsageError, match=rf"port {port} of 127.0.0.1 is taken. .*--http-port"):
                run_server(tmp_path, http_port=port, grpc_port=0).__enter__()
            with pytest.raises(UsageError, match=r"taken.*--grpc-port"):
                run_server(tmp_path, http_port=0, grpc_port=port).__enter__()
        with pytest.raises(UsageError, match="cannot share port 8123"):
            run_server(tmp_path, http_port=8123, grpc_port=8123).__enter__()

    def test_a_server_that_is_not_installed_is_said_with_what_to_type(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "cache"))
        add_model(tmp_path / "repository", "a", SMALL)
        with pytest.raises(InstallationError, match="Run: rnn-export runtimes install triton"):
            run_server(tmp_path / "repository").__enter__()

    def test_a_log_that_cannot_be_written_is_said(self, tmp_path):
        need("triton")
        add_model(tmp_path / "repository", "a", SMALL)
        with pytest.raises(OutputError, match=r"nowhere/log cannot be written.*--log FILE"):
            serving(tmp_path / "repository", log=tmp_path / "nowhere" / "log").__enter__()

    def test_a_server_that_cannot_be_started_is_said(self, tmp_path, monkeypatch):
        need("triton")  # whose Python has the shared library that is asked for before
        monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "cache"))
        python = environment_of(RUNTIMES.get("triton")) / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        add_model(tmp_path / "repository", "a", SMALL)
        with pytest.raises(ServingError, match=r"triton cannot be started: .*tritonserver.*runtimes install triton"):
            serving(tmp_path / "repository").__enter__()

    def test_only_triton_has_an_explicit_mode(self, tmp_path):
        bundle = shipped("rnn:3,4", tmp_path, Order("mlserver"))
        with pytest.raises(UsageError, match="mlserver has no explicit mode"):
            run_server(bundle.path, explicit=True).__enter__()


def start(script: str, folder: Path, **options):
    """A process that is no server of ours, as ``launched`` starts them."""
    log = folder / "log"
    return launched([sys.executable, "-c", script], log, {}, leads=True, cwd=folder, **options), log


class TestLaunching:
    def test_ports_are_different_and_free(self):
        ports = free_ports(20)
        assert len(set(ports)) == 20
        assert all(is_free(port) for port in ports)

    def test_one_that_ends_says_why(self, tmp_path):
        server, log = start("raise OSError('no room')", tmp_path)
        with pytest.raises(ServerDied, match="ended before it was ready: OSError: no room"):
            wait_ready(f"http://{HOST}:{free_ports(1)[0]}", server, 10.0, log)
        stop(server)

    def test_one_that_is_not_ready_in_time_says_so(self, tmp_path):
        server, log = start("import time; print('warming up', flush=True); time.sleep(60)", tmp_path)
        with pytest.raises(ServerDied, match=r"not ready after 0\.5 s: "):
            wait_ready(f"http://{HOST}:{free_ports(1)[0]}", server, 0.5, log)
        assert not has_ended(server)
        stop(server)
        assert has_ended(server)

    def test_one_that_does_not_end_when_asked_is_killed_with_all_that_it_started(self, tmp_path):
        script = (
            "import signal, subprocess, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        server, log = start(script, tmp_path)
        while not log.read_text().endswith("\n"):
            assert not has_ended(server)
        stop(server, seconds=0.2)
        assert server.returncode == -signal.SIGKILL
        assert ends_within(int(log.read_text()), 5.0)
        stop(server)  # again, which does nothing

    def test_variables_that_would_mix_packages_do_not_reach_it(self, tmp_path, monkeypatch):
        for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "MLSERVER_HOST", "KEPT"):
            monkeypatch.setenv(name, "somewhere")
        server, log = start("import os; print(*os.environ)", tmp_path, without=("MLSERVER_",))
        server.wait(20)
        assert {"PYTHONPATH", "LD_LIBRARY_PATH", "MLSERVER_HOST", "KEPT"} & set(log.read_text().split()) == {"KEPT"}

    @pytest.mark.parametrize(
        ("log", "words"),
        [
            ("", "it said nothing"),
            ("starting\n\nlistening\n", "listening"),
            ("+---+\nerror: creating server: Internal - failed\n", "error: creating server: Internal - failed"),
            (
                "E1128 17:14:44.902086 8187 model_lifecycle.cc:642] \"failed to load 'a': ValueError: no\\n\\nAt:\"\n"
                "I1128 17:14:44.902113 8187 server.cc:604] all is said\nerror: creating server\n",
                "failed to load 'a': ValueError: no At:",
            ),
            (
                "Traceback (most recent call last):\nModuleNotFoundError: No module named 'a'\nbye\n",
                "ModuleNotFoundError",
            ),
        ],
        ids=["nothing", "the last line", "an error", "Triton's", "a traceback"],
    )
    def test_last_words_are_those_of_the_error(self, log, words, tmp_path):
        (tmp_path / "log").write_text(log)
        assert last_words(tmp_path / "log").startswith(words)


class TestTritonsNeeds:
    def test_a_python_without_a_shared_library_is_said(self, tmp_path):
        (tmp_path / "libpython3.11.a").write_bytes(b"")
        with pytest.raises(Absent, match=r"libpython3\.11\.a is not in .*--enable-shared"):
            _folder_of("libpython3.11.a", str(tmp_path))
        below = tmp_path / "x86_64-linux-gnu"
        below.mkdir()
        (below / "libpython3.11.so.1.0").write_bytes(b"")
        assert _folder_of("libpython3.11.so.1.0", str(tmp_path)) == str(below)

    def test_in_shared_memory_what_nobody_holds_is_swept_and_what_somebody_does_is_not(self, tmp_path, monkeypatch):
        """Held by another process, whose number would mean nothing here if it were in another container."""
        monkeypatch.setattr(_triton, "SHARED_MEMORY", tmp_path)
        live, dead = new_regions(), new_regions()
        unknown = {"rnn-export-4194303-8000-a", "another-1-b"}  # nothing beside them says whose they are
        for name in (f"{live}a", f"{dead}a", f"{dead}b", *unknown):
            (tmp_path / name).write_bytes(b"")
        (tmp_path / dead[:-1]).mkdir()
        with holding(tmp_path / live[:-1]):
            _triton.sweep_shared_memory()
            assert {path.name for path in tmp_path.iterdir()} == {live[:-1], f"{live}a", *unknown}
        _triton.sweep_shared_memory()
        assert {path.name for path in tmp_path.iterdir()} == unknown

    def test_names_in_shared_memory_are_gone_once_models_are_loaded(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_triton, "SHARED_MEMORY", tmp_path)
        regions, other = new_regions(), new_regions()
        assert regions != other
        (tmp_path / f"{other}a").write_bytes(b"")
        for _ in range(2):  # one load after the other
            with held_regions(regions):
                (tmp_path / f"{regions}a").write_bytes(b"")
                _triton.sweep_shared_memory()
                assert (tmp_path / f"{regions}a").exists()
            assert [path.name for path in tmp_path.iterdir()] == [f"{other}a"]


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Another process holds the folder, and is killed at the end."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom rnn_export.runtimes._held_folders import held_folder\n"
        "with held_folder(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    with other.stdout as said:
        assert said.readline() == b"held\n"
        try:
            yield
        finally:
            other.kill()
            other.wait()


class TestHeldFolders:
    def test_one_is_dead_when_its_process_is_and_not_before(self, tmp_path):
        (tmp_path / "of-somebody").mkdir()
        (tmp_path / "ours-file").write_bytes(b"")
        (tmp_path / "ours-link").symlink_to(tmp_path / "of-somebody")
        with holding(tmp_path / "ours-1"):
            assert list(dead_folders(tmp_path, "ours-")) == []
        assert list(dead_folders(tmp_path, "ours-")) == [tmp_path / "ours-1"]

    def test_one_is_gone_at_its_end_with_what_is_in_it(self, tmp_path):
        with held_folder(tmp_path / new_name("ours-")) as folder:
            (folder / "file").write_bytes(b"")
            assert folder.stat().st_mode & 0o777 == 0o700
        assert list(tmp_path.iterdir()) == []

    def test_one_that_is_swept_while_it_is_made_is_made_again(self, tmp_path, monkeypatch):
        swept, lock = [], fcntl.flock

        def late(descriptor, how):
            if not swept:
                swept.append(True)
                (tmp_path / "ours-1").rmdir()
            lock(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", late)
        with held_folder(tmp_path / "ours-1") as folder:
            assert list(dead_folders(tmp_path, "ours-")) == []
            assert folder.is_dir()


@pytest.mark.slow
class TestRunning:
    def test_it_is_ready_on_this_machine_alone_and_leaves_nothing(self, bundle):
        need("triton")
        before = descendants()
        with serving(bundle.path) as server:
            ports = [int(url.rpartition(":")[2]) for url in (server.url, server.grpc_url)]
            assert listening(server.process.pid) == {(HOST, port) for port in ports}
            started = descendants() - before
            assert in_shared_memory(regions_of(server.process.pid)) == []  # nothing that kill -9 could leave
            Bundle.load(bundle.path)  # no bytecode, no file more
        assert len(started) >= 2
        assert all(ends_within(pid, 1.0) for pid in started)
        assert all(is_free(port) for port in ports)
        Bundle.load(bundle.path)

    def test_one_that_takes_models_holds_its_names_in_shared_memory_until_its_end(self, tmp_path):
        need("triton")
        with serving(tmp_path, explicit=True) as server:
            regions = regions_of(server.process.pid)
            assert in_shared_memory(regions)
        assert in_shared_memory(regions) == []

    def test_a_bundle_for_mlserver_is_served_by_it(self, tmp_path):
        need("mlserver")
        bundle = shipped("rnn:3,4", tmp_path, Order("mlserver", name="rnn"))
        with serving(bundle.path) as server:
            assert server.served.server == "mlserver"
            ports = [int(url.rpartition(":")[2]) for url in (server.url, server.grpc_url)]
            assert listening(server.process.pid) == {(HOST, port) for port in ports}
        assert server.ended
        Bundle.load(bundle.path)

    def test_after_kill_9_it_starts_again_at_the_same_ports(self, bundle):
        need("triton")
        http, grpc = free_ports(2)
        for _ in range(2):
            with run_server(bundle.path, http_port=http, grpc_port=grpc) as server:
                assert not server.ended
                os.kill(server.process.pid, signal.SIGKILL)
                with pytest.raises(ServingError, match="the server ended: "):
                    server.wait()

    def test_a_model_that_cannot_be_loaded_is_the_reason_that_is_given(self, tmp_path):
        need("triton")
        add_model(tmp_path, "a", SMALL, FAULTY)
        before = descendants()
        with pytest.raises(ServingError, match=r"failed to load 'a' .*ValueError: no such weights.*--log FILE"):
            serving(tmp_path).__enter__()
        assert descendants() <= before

    def test_one_of_several_that_cannot_be_loaded_is_a_reason_too(self, tmp_path):
        need("triton")
        add_model(tmp_path, "a", SMALL, FAULTY)
        add_model(tmp_path, "b", SMALL, IDLE)
        with pytest.raises(ServingError, match="no such weights"):
            serving(tmp_path).__enter__()

    def test_mlserver_says_why_too(self, tmp_path):
        need("mlserver")
        bundle = shipped("rnn:3,4", tmp_path, Order("mlserver", name="rnn"))
        served = tmp_path / "changed"
        shutil.copytree(bundle.path / "models", served)
        (served / "rnn" / "1" / "model.onnx").write_bytes(b"nothing")
        (http, grpc), scratch = free_ports(2), tmp_path / "scratch"
        scratch.mkdir()
        environment = environment_of(RUNTIMES.get("mlserver"))
        server = start_mlserver(environment, served, http=http, grpc=grpc, scratch=scratch, log=scratch / "log")
        try:
            with pytest.raises(ServerDied, match="INVALID_PROTOBUF"):
                wait_ready(f"http://{HOST}:{http}", server, 30.0, scratch / "log", ["rnn"])
        finally:
            stop(server)

    def test_the_log_is_kept_where_it_is_asked_for(self, tmp_path):
        need("triton")
        add_model(tmp_path / "repository", "a", SMALL, IDLE)
        with serving(tmp_path / "repository", log=tmp_path / "server.log"):
            pass
        assert "Started HTTPService at 127.0.0.1" in (tmp_path / "server.log").read_text()

    def test_a_file_of_the_users_is_no_module_of_the_server(self, tmp_path, monkeypatch):
        """Triton's Python looks for modules in its working folder first."""
        need("triton")
        add_network(tmp_path / "repository", export("rnn:3,4", tmp_path / "network").path / "model.onnx")
        (tmp_path / "onnxruntime.py").write_text("raise SystemExit('imported from where the user stands')")
        monkeypatch.chdir(tmp_path)
        with serving(Path("repository")) as server:
            assert not server.ended


def listening(pid: int) -> set[tuple[str, int]]:
    """The addresses at which a process listens over TCP."""
    sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:  # TCP_LISTEN
                address, port = fields[1].split(":")
                mapped = address.removeprefix("0000000000000000FFFF0000")  # an IPv4 address in a socket of IPv6
                name = ".".join(str(byte) for byte in reversed(bytes.fromhex(mapped)))
                found.add((name, int(port, 16)))
    return found


def test_one_that_is_started_ends_with_the_process_that_started_it(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom rnn_export.runtimes._launching import launched\n"
        "line = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "server = launched(line, Path('log'), {}, leads=True, cwd=Path('.'))\n"
        "print(server.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=tmp_path)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert ends_within(pid, 5.0)
