"""``rnn-export serve``: what it says once it is ready, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnn_export.runtimes._launching import is_free
from rnn_export.shipping import Order
from tests.servers import need
from tests.shipped import shipped
from tests.subjects import PATIENCE, descendants, ends_within
from tests.triton_models import add_model

READY = r"triton serves rnn at (http://127\.0\.0\.1:(\d+)) and grpc://127\.0\.0\.1:(\d+), ready after [\d.]+ s\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return shipped("rnn:3,4", tmp_path_factory.mktemp("shipped"), Order("triton-python", name="rnn")).path


@pytest.fixture
def temporary(tmp_path) -> Path:
    """Where it puts what is temporary."""
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


@contextmanager
def started(folder: Path, temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """``rnn-export serve`` in a process of its own."""
    line = [sys.executable, "-m", "rnn_export", "serve", str(folder), "--http-port", "0", "--grpc-port", "0"]
    environ = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def served(bundle, temporary):
    """It is ready: the process, its line, and the server's own process."""
    need("triton")
    with started(bundle, temporary) as process:
        ready = re.fullmatch(READY, process.stdout.readline())
        assert ready is not None
        (server,) = [pid for pid in descendants() if "tritonserver" in _command(pid)]
        yield process, ready, server


def folders(temporary: Path) -> list[Path]:
    """Those of servers."""
    return list(temporary.glob("rnn-export-*"))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:  # it ended meanwhile
        return ""


@pytest.mark.slow
class TestServing:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
    def test_it_says_where_and_what_to_type_next_and_stops_cleanly(self, served, bundle, number):
        process, ready, server = served
        process.send_signal(number)
        _, said = process.communicate(timeout=40)
        assert process.returncode == 0
        assert f"next: rnn-export probe {ready[1]} --model rnn --artifact {bundle}" in said
        assert "error" not in said
        assert ends_within(server, 1.0)
        assert is_free(int(ready[2]))
        assert is_free(int(ready[3]))

    def test_after_its_own_kill_9_the_server_ends_too_and_the_next_one_tidies_up(self, served, temporary, bundle):
        process, ready, server = served
        process.kill()
        process.wait()
        assert ends_within(server, 15.0)
        assert is_free(int(ready[2]))
        (left,) = folders(temporary)
        with started(bundle, temporary) as another:
            assert re.fullmatch(READY, another.stdout.readline())
            (own,) = folders(temporary)
            assert own != left
            with started(bundle, temporary) as third:
                assert re.fullmatch(READY, third.stdout.readline())
                assert own in folders(temporary)  # which is in use
                third.send_signal(signal.SIGINT)
                third.communicate(timeout=40)
            another.send_signal(signal.SIGTERM)
            another.communicate(timeout=40)
        assert folders(temporary) == []

    def test_a_server_that_dies_is_said_and_is_exit_code_4(self, served):
        process, _, server = served
        os.kill(server, signal.SIGKILL)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 4
        assert "rnn-export: error: the server ended" in said

    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
    )
    def test_told_to_end_while_it_starts_it_was_interrupted_or_terminated(self, temporary, tmp_path, number, code):
        need("triton")
        before = descendants()
        add_model(tmp_path / "slow", "a", 'backend: "python"\n', "import time\ntime.sleep(60)\n")
        with started(tmp_path / "slow", temporary) as process:
            deadline = time.monotonic() + PATIENCE
            while not any("triton_python_backend_stub" in _command(pid) for pid in descendants() - before):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            servers = descendants() - before - {process.pid}
            process.send_signal(number)
            out, _ = process.communicate(timeout=40)
        assert (process.returncode, out) == (code, "")
        assert all(ends_within(pid, 1.0) for pid in servers)
        assert folders(temporary) == []

    def test_what_the_server_cannot_load_is_said_and_is_exit_code_4(self, cli, tmp_path):
        need("triton")
        add_model(tmp_path, "a", 'backend: "python"\n', "import nothing_there\n")
        found = cli("serve", tmp_path, "--http-port", 0, "--grpc-port", 0)
        assert found.code == 4
        assert "nothing_there" in found.err


class TestRefusing:
    def test_a_folder_that_is_not_there(self, cli, tmp_path):
        found = cli("serve", tmp_path / "nothing")
        assert (found.code, found.out) == (3, "")
        assert "does not exist" in found.err

    def test_a_backend_that_this_triton_lacks(self, cli, tmp_path):
        add_model(tmp_path, "a", 'backend: "onnxruntime"\n')
        found = cli("serve", tmp_path)
        assert found.code == 2
        assert "python backend alone. Ship it with --target triton-python" in found.err

    @pytest.mark.parametrize("port", ["-1", "65536", "http"])
    def test_what_is_no_port(self, cli, tmp_path, port):
        found = cli("serve", tmp_path, "--http-port", port)
        assert found.code == 2
        assert "--http-port" in found.err

    def test_the_help_warns_of_what_explicit_lets_in(self, cli):
        said = " ".join(cli("serve", "--help").out.split())
        assert "whoever reaches the port can then load code" in said
        assert "A model.py in DIR is code" in said
