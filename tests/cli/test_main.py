"""The command line as a whole: it starts at once, forgives a typing error, and ends with the right code."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import rnn_export
from rnn_export import cli as command_line
from rnn_export.errors import InstallationError, OutputError, RnnExportError, SourceError, UsageError
from tests.cli.conftest import run_cli
from tests.subjects import descendants, ends_within

ROOT = Path(rnn_export.__file__).parent
COMMANDS = [
    "demo",
    "inspect",
    "export",
    "verify",
    "ship",
    "serve",
    "probe",
    "check",
    "sign",
    "bench",
    "report",
    "ci",
    "reproduce",
    "explain",
    "list",
    "runtimes",
    "doctor",
]
HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "rich", "safetensors")


def processor_seconds_of_children() -> float:
    """What they computed, and not what they waited for on a busy machine."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class TestHelp:
    def test_it_loads_nothing_heavy_and_takes_no_time(self):
        script = (
            "import sys, json, atexit\n"
            f"atexit.register(lambda: print(json.dumps([n for n in {HEAVY} if n in sys.modules]), file=sys.stderr))\n"
            "sys.argv = ['rnn-export', '--help']\n"
            "from rnn_export.cli import main; main()\n"
        )
        took = []
        for _ in range(3):
            started = processor_seconds_of_children()
            line = [sys.executable, "-c", script]
            done = subprocess.run(line, capture_output=True, text=True, check=True)
            took.append(processor_seconds_of_children() - started)
        assert json.loads(done.stderr) == []
        assert min(took) < 0.3
        assert all(f"  {name}" in done.stdout for name in COMMANDS)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_its_own(self, cli, command):
        found = cli(command, "--help")
        assert (found.code, found.err) == (0, "")
        assert found.out.startswith(f"Usage: rnn-export {command}")

    @pytest.mark.parametrize("command", ["inspect", "export", "verify"])
    def test_a_commands_help_needs_no_torch(self, command):
        script = (
            f"import sys; sys.argv = ['rnn-export', {command!r}, '-h']\n"
            "from rnn_export.cli import main\n"
            "try: main()\n"
            "except SystemExit: sys.exit(any(n in sys.modules for n in ('torch', 'onnx', 'onnxruntime')))\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)

    def test_the_commands_are_the_ones_that_there_are_files_for(self):
        files = {path.stem.partition("_")[0] for path in (ROOT / "cli").glob("[a-z]*.py")}
        assert files == set(COMMANDS) == set(command_line.COMMANDS)

    def test_versions_are_printed_as_data(self, cli):
        found = cli("--version")
        lines = dict(line.split(" ", 1) for line in found.out.splitlines())
        assert (found.code, found.err) == (0, "")
        assert lines["rnn-export"] == rnn_export.__version__
        assert list(lines) == ["rnn-export", "torch", "onnx", "onnxruntime", "numpy"]

    def test_python_dash_m_is_the_command(self):
        assert run_cli("--version").out.startswith(f"rnn-export {rnn_export.__version__}\n")


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["exprot"], "No such command 'exprot'. Did you mean 'export'?"),
            (["veryfi", "out"], "Did you mean 'verify'?"),
            (["xyzzy"], "No such command 'xyzzy'"),
            (["export", "rnn:3,4", "-o", "OUT", "--form", "scna"], "unknown form 'scna'. Did you mean 'scan'?"),
            (["verify", "out", "--runtime", "onnxruntime-cup"], "Did you mean 'onnxruntime-cpu'?"),
            (["verify", "out", "--require", "cuda-graphs"], "unknown runtime 'cuda-graphs'"),
            (["runtimes", "install", "onnxruntime-cud"], "Did you mean 'onnxruntime-cuda'?"),
            (["runtimes", "install", "torch"], "torch lives beside rnn-export. Run: pip install torch safetensors"),
            (["export", "rnn:3,4"], "Missing option '-o'"),
            (["export", "rnn:3,4", "-o", "OUT", "--opset", "12"], "Choose 13 to"),
            (["export", "rnn:3,4", "-o", "OUT", "--opset", "new"], "is not a valid integer"),
            (["export", "rnn:3,4", "-o", "OUT", "--nonlinearity", "gelu"], "'gelu' is not one of 'tanh', 'relu'"),
            (["verify", "out", "--format", "xml"], "'xml' is not one of"),
            (["verify", "out", "--timeout", "0"], "0.0 is not in the range x>0"),
            (["verify", "out", "--prefix", "rnn"], "need --against SOURCE"),
            (["verify"], "Missing argument 'ARTIFACT'"),
            (["list", "nothing"], "'nothing' is not 'forms'"),
        ],
        ids=" ".join,
    )
    def test_a_wrong_call_ends_with_2_and_says_what_to_do(self, cli, artifact, tmp_path, arguments, words):
        arguments = [str({"out": artifact, "OUT": tmp_path / "OUT"}.get(word, word)) for word in arguments]
        found = cli(*arguments)
        assert (found.code, found.out) == (2, "")
        assert words in found.err
        assert "Traceback" not in found.err
        assert not (tmp_path / "OUT").exists()

    @pytest.mark.parametrize("value", ["nan", "inf"])
    def test_a_time_limit_that_is_none_is_a_wrong_call(self, cli, artifact, value):
        """A timer that cannot be set is no limit: the child could hang for ever."""
        found = cli("verify", artifact, "--runtime", "onnx-reference", "--timeout", value)
        assert found.code == 2

    def test_no_command_is_a_wrong_call_that_shows_the_help(self, cli):
        found = cli()
        assert found.code == 2
        assert "Commands:" in found.err


class TestErrors:
    """How main() translates what goes wrong, with one command that does."""

    @pytest.fixture
    def ends(self, cli, monkeypatch):
        def ends(error: BaseException):
            def fail(*_, **__):
                raise error

            monkeypatch.setattr(command_line.group, "main", fail)
            return cli()

        return ends

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (UsageError("no", "Do that"), 2),
            (OutputError("no", "Do that"), 2),
            (SourceError("no", "Do that"), 3),
            (InstallationError("no", "Do that"), 4),
            (RnnExportError("no", "Do that"), 70),
        ],
    )
    def test_each_of_our_errors_is_one_line_with_its_code_and_its_hint(self, ends, error, code):
        assert ends(error) == (code, "", "rnn-export: error: no. Do that\n")

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
    def test_an_interruption_is_130(self, ends, error):
        assert ends(error) == (130, "", "rnn-export: error: interrupted\n")

    def test_an_accident_is_70_and_says_how_to_report_it(self, ends):
        found = ends(ZeroDivisionError("division by zero"))
        assert (found.code, found.out) == (70, "")
        assert "ZeroDivisionError: division by zero" in found.err
        assert "this is a bug. Please report the lines above with `rnn-export doctor`" in found.err

    def test_a_reader_that_goes_away_is_no_accident(self):
        line = [sys.executable, "-m", "rnn_export", "runtimes", "list"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            process.stdout.close()
            assert "Traceback" not in process.stderr.read()
            assert process.wait() == 0

    def test_an_interrupted_verification_ends_at_once_with_130_and_leaves_nothing(self, artifact, tmp_path):
        before = descendants()
        line = [sys.executable, "-m", "rnn_export", "verify", str(artifact)]
        environment = {"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
            while not any(tmp_path.iterdir()):
                time.sleep(0.02)
            time.sleep(0.5)  # somewhere in the first runtime
            started = descendants() - before - {process.pid}
            process.send_signal(signal.SIGINT)
            assert process.stderr.read().strip() == "rnn-export: error: interrupted"
            assert process.wait() == 130
        assert all(ends_within(pid, 5) for pid in started)
        assert list(tmp_path.iterdir()) == []
