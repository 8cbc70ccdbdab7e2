"""docs/ci.md is true: its file is read, its workflow is YAML, and the commands in it exist and run."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from rnn_export.cli import COMMANDS
from rnn_export.configuration import read_configuration
from rnn_export.environments import interpreter_of
from rnn_export.runtimes import RUNTIMES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "ci.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


@pytest.fixture
def project(tmp_path) -> Path:
    """The page's file beside the checkpoint that it names."""
    (tmp_path / "models").mkdir()
    model = "models/digits-rows.safetensors"
    (tmp_path / model).write_bytes((ROOT / model).read_bytes())
    (tmp_path / "rnn-export.toml").write_text(block("toml"))
    return tmp_path


def steps() -> list[dict[str, object]]:
    (job,) = yaml.safe_load(block("yaml"))["jobs"].values()
    return job["steps"]


def ours() -> list[list[str]]:
    """The workflow's own commands, without the program."""
    lines = [str(step["run"]).split() for step in steps() if "run" in step]
    return [words[1:] for words in lines if words[0] == "rnn-export"]


def test_the_file_is_read(project):
    found = read_configuration(project / "rnn-export.toml")
    assert [network.name for network in found.networks] == ["digits-rows", "with-lengths"]
    assert [known.code for known in found.known] == ["padding"]
    assert all(name in PAGE for network in found.networks for name in network.reading if name != "batch_first")


def test_the_workflow_uses_actions_by_their_major_version_and_commands_that_exist():
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", str(step["uses"])) for step in steps() if "uses" in step)
    assert {words[0] for words in ours()} <= set(COMMANDS)
    installed = {words[2] for words in ours() if words[:2] == ["runtimes", "install"]}
    required = tomllib.loads(block("toml"))["runtimes"]
    assert installed == {name for name in required if RUNTIMES.get(name).own_environment}
    assert ["check"] in ours()


@pytest.mark.parametrize("words", [words for words in ours() if words[0] == "check"], ids=" ".join)
def test_its_commands_run(project, words):
    line = [sys.executable, "-m", "rnn_export", *words]
    done = subprocess.run(line, cwd=project, capture_output=True, text=True, check=False)
    installed = interpreter_of(RUNTIMES.get("openvino")) is not None
    assert done.returncode == (0 if installed or "--dry-run" in words else 4), done.stdout + done.stderr
    assert ("is missing: rnn-export runtimes install openvino" in done.stdout) == (not installed and len(words) > 1)
