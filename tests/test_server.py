"""A real server for a bundle or a model repository: what is refused, how it starts, how it ends and what it leaves."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_export.bundle import Bundle
from rnn_export.environments import environment_of
from rnn_export.errors import ArtifactError, InstallationError, OutputError, UsageError
from rnn_export.pipeline import export
from rnn_export.runtimes import RUNTIMES, Absent, _triton
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
from rnn_export.runtimes._triton import _folder_of
from rnn_export.server import read_served, run_server
from rnn_export.shipping import Order
from tests.servers import need, serving
from tests.shipped import shipped
from tests.subjects import descendants, ends_within
from tests.triton_models import add_model, add_network

FAULTY = 'raise ValueError("no such weights")\n'
SMALL = """backend: "python"
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
IDLE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return shipped("rnn:3,4", tmp_path_factory.mktemp("shipped"), Order("triton-python", name="rnn"))


class TestWhatIsServed:
    def test_a_bundle_is_for_the_server_of_its_target(self, bundle):
        served = read_served(bundle.path)
        assert (served.server, served.names, served.bundle) == ("triton", ("rnn",), True)
        assert served.folder == bundle.path / "models"

    def test_a_bundle_of_another_target_is_refused_with_what_runs_here(self, tmp_path):
        other = shipped("rnn:3,4", tmp_path, Order("triton"))
        with pytest.raises(UsageError, match=r"has the python backend alone\. Ship it with --target triton-python"):
            read_served(other.path)

    def test_a_bundle_that_was_changed_is_not_served(self, bundle, tmp_path):
        shutil.copytree(bundle.path, tmp_path / "bundle")
        code = tmp_path / "bundle" / "models" / "rnn" / "1" / "model.py"
        code.write_text(code.read_text() + "import os\n")
        with pytest.raises(ArtifactError, match=r"model\.py"):
            read_served(tmp_path / "bundle")

    def test_a_model_repository_is_for_triton(self, tmp_path):
        add_model(tmp_path, "a", SMALL)
        (tmp_path / "b" / "1").mkdir(parents=True)
        (tmp_path / "notes").mkdir()
        (tmp_path / "README.md").write_text("")
        assert read_served(tmp_path).names == ("a", "b")

    @pytest.mark.parametrize(
        ("config", "file"),
        [
            ('backend: "onnxruntime"\n', "model.onnx"),
            ('name: "a"\n  platform : "onnxruntime_onnx"\n', "model.onnx"),
            ("max_batch_size: 0\n", "model.onnx"),
        ],
        ids=["backend", "platform", "as Triton guesses"],
    )
    def test_the_backend_that_this_triton_lacks_is_refused_by_name(self, config, file, tmp_path):
        folder = add_model(tmp_path, "a", config)
        (folder / "1" / "model.py").rename(folder / "1" / file)
        with pytest.raises(UsageError, match=r"/a is for the backend onnxruntime.*python backend alone.*triton-python"):
            read_served(tmp_path)

    def test_what_is_neither_is_refused_with_what_to_type(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"does not exist\. Make a bundle with rnn-export ship"):
            read_served(tmp_path / "nothing")
        with pytest.raises(ArtifactError, match="neither a bundle nor a model repository"):
            read_served(tmp_path)
        assert read_served(tmp_path, maybe_empty=True).names == ()


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
        with pytest.raises(OutputError, match="nowhere"):
            serving(tmp_path / "repository", log=tmp_path / "nowhere" / "log").__enter__()

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

    def test_what_killed_servers_left_is_swept_and_what_runs_is_not(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_triton, "SHARED_MEMORY", tmp_path)
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        for name in (f"rnn-export-{gone.pid}-8000-a", f"rnn-export-{os.getpid()}-8000-a", "another-1-b"):
            (tmp_path / name).write_bytes(b"")
        _triton.sweep_shared_memory()
        assert {path.name for path in tmp_path.iterdir()} == {f"rnn-export-{os.getpid()}-8000-a", "another-1-b"}
        _triton.forget_shared_memory(8001)
        assert len(list(tmp_path.iterdir())) == 2
        _triton.forget_shared_memory(8000)
        assert [path.name for path in tmp_path.iterdir()] == ["another-1-b"]


@pytest.mark.slow
class TestRunning:
    def test_it_is_ready_on_this_machine_alone_and_leaves_nothing(self, bundle):
        need("triton")
        before = descendants()
        with serving(bundle.path) as server:
            ports = [int(url.rpartition(":")[2]) for url in (server.url, server.grpc_url)]
            assert listening(server.process.pid) == {(HOST, port) for port in ports}
            started = descendants() - before
            Bundle.load(bundle.path)  # no bytecode, no file more
        assert len(started) >= 2
        assert all(ends_within(pid, 1.0) for pid in started)
        assert all(is_free(port) for port in ports)
        assert not list(Path("/dev/shm").glob(f"rnn-export-{os.getpid()}-*"))  # noqa: S108
        Bundle.load(bundle.path)

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
                assert ends_within(server.process.pid, 5.0)
                assert server.ended

    def test_a_model_that_cannot_be_loaded_is_the_reason_that_is_given(self, tmp_path):
        need("triton")
        add_model(tmp_path, "a", SMALL, FAULTY)
        before = descendants()
        with pytest.raises(ArtifactError, match=r"failed to load 'a' .*ValueError: no such weights.*--log FILE"):
            serving(tmp_path).__enter__()
        assert descendants() <= before

    def test_one_of_several_that_cannot_be_loaded_is_a_reason_too(self, tmp_path):
        need("triton")
        add_model(tmp_path, "a", SMALL, FAULTY)
        add_model(tmp_path, "b", SMALL, IDLE)
        with pytest.raises(ArtifactError, match="no such weights"):
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
